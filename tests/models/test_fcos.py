"""The single-stage detector: FCOS whose every box depends on a bounded neighbourhood only."""

import pytest
import torch
from torch import nn

from pipeline.errors import BundleError
from pipeline.models.bundle import Card
from pipeline.models.fcos import SingleStageDetector
from pipeline.models.halo import card_anatomy
from pipeline.models.legend import LegendClass
from pipeline.models.registry import build_network

SMALL = {"channels": [4, 4, 4], "features": 4, "convolutions": 1}


def card(**changes) -> Card:
    values = {
        "id": "d",
        "version": "1",
        "task": "detection",
        "architecture": "fcos",
        "arguments": SMALL,
        "bands": ("B02", "B03", "B04", "B08"),
        "mean": (0.1,) * 4,
        "std": (0.1,) * 4,
        "classes": (LegendClass(value=1, name="truck", colour="#FF00FF"),),
        "halo": 48,
        "stride": 4,
    }
    return Card(**(values | changes))


@pytest.fixture
def detector() -> SingleStageDetector:
    torch.manual_seed(3)
    return build_network(card())


def target(*boxes, ignored=()) -> list[dict[str, torch.Tensor]]:
    return [
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.ones(len(boxes), dtype=torch.int64),
            "ignored": torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
        }
    ]


def test_training_gives_three_losses(detector):
    losses = detector.train()(torch.randn(1, 4, 32, 32), target((10, 10, 14, 13)))
    assert sorted(losses) == ["bbox_ctrness", "bbox_regression", "classification"]
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_an_image_without_trucks_can_be_trained_on(detector):
    images = torch.randn(2, 4, 32, 32)
    losses = detector.train()(images, [*target(), *target((10, 10, 14, 13))])
    assert torch.isfinite(sum(losses.values()))
    assert torch.isfinite(sum(detector(images, [*target(), *target()]).values()))


def test_ignored_boxes_may_be_left_out(detector):
    (given,) = target((10, 10, 14, 13))
    del given["ignored"]
    assert torch.isfinite(sum(detector.train()(torch.randn(1, 4, 32, 32), [given]).values()))


def test_training_without_targets_is_refused(detector):
    with pytest.raises(ValueError, match="needs targets"):
        detector.train()(torch.randn(1, 4, 32, 32))


def test_what_lies_in_an_ignored_box_counts_neither_way(detector):
    """Where all is ignored, the loss of an empty image is nothing, and so is its gradient."""
    image = torch.randn(1, 4, 32, 32)
    losses = detector.train()(image, target(ignored=[(0, 0, 32, 32)]))
    assert losses["classification"].item() == pytest.approx(0, abs=1e-6)
    losses["classification"].backward()
    assert all(part.grad is None or not part.grad.any() for part in detector.head.parameters())


def test_an_ignored_box_silences_its_own_pixels_only(detector):
    """Background loss by pixel: of 32 x 32 equally unsure pixels, 4 x 8 are left out."""
    for part in detector.head.classification_head.cls_logits.parameters():
        nn.init.zeros_(part)
    image = torch.randn(1, 4, 32, 32)
    everywhere = detector.train()(image, target())["classification"].item()
    some = detector(image, target(ignored=[(8, 4, 12, 12)]))["classification"].item()
    assert some / everywhere == pytest.approx(1 - 32 / 1024, rel=1e-4)


def test_a_truck_within_an_ignored_box_is_still_a_truck(detector):
    image = torch.randn(1, 4, 32, 32)
    plain = detector.train()(image, target((10, 10, 14, 13)))
    inside = detector(image, target((10, 10, 14, 13), ignored=[(10, 10, 14, 13)]))
    assert inside["bbox_regression"].item() == pytest.approx(plain["bbox_regression"].item(), rel=1e-5)


def test_it_learns_one_image_by_heart(detector):
    torch.manual_seed(0)
    image = torch.randn(1, 4, 32, 32) * 0.1
    image[:, :, 10:13, 20:24] += 3.0
    image[:, :, 22:26, 6:9] += 3.0
    truth = target((20, 10, 24, 13), (6, 22, 9, 26))
    optimiser = torch.optim.Adam(detector.train().parameters(), 0.03)
    for _ in range(60):
        optimiser.zero_grad()
        sum(detector(image, truth).values()).backward()
        optimiser.step()
    with torch.inference_mode():
        (found,) = detector.eval()(image)
    best = found["boxes"][found["scores"] > 0.4]
    assert len(best) == 2
    for box in truth[0]["boxes"]:
        assert (best - box).abs().amax(1).min() < 1.0


def say_something(detector: SingleStageDetector) -> SingleStageDetector:
    """Untrained, but different things at different places, as trained ones do."""
    detector.eval()
    with torch.no_grad():
        logit = detector.head.classification_head.cls_logits
        example = torch.randn(1, 4, 96, 96)
        logits = detector.head.maps(detector.backbone(example)["0"])[0]
        logit.weight.mul_(3 / logits.std())
        logits = detector.head.maps(detector.backbone(example)["0"])[0]
        logit.bias.sub_(logits.quantile(0.97))
    return detector


def test_all_boxes_above_the_score_are_given_and_none_below(detector):
    with torch.inference_mode():
        (found,) = say_something(detector)(torch.randn(1, 4, 192, 192))
    assert len(found["scores"]) > 100  # where torchvision stops
    assert found["scores"].min() > detector.score_thresh
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert (found["labels"] == 1).all()


def test_images_of_a_batch_do_not_matter_to_each_other(detector):
    images = [torch.randn(4, 48, 48), torch.randn(4, 48, 48)]
    say_something(detector)
    with torch.inference_mode():
        together = detector(images)
        alone = [detector([image])[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one["boxes"], other["boxes"], atol=1e-3, rtol=0)
        torch.testing.assert_close(one["scores"], other["scores"], atol=1e-4, rtol=0)


def test_half_precision_still_gives_float32(detector):
    say_something(detector).half_precision = True
    with torch.inference_mode():
        (found,) = detector(torch.randn(1, 4, 48, 48))
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32


def test_nothing_looks_at_the_whole_image():
    found = card_anatomy(card(arguments={}), 128)
    assert found.unbounded == ()
    assert found.halo + 8 <= 48
    assert found.stride == 4


def test_no_pixel_beyond_the_reach_moves_a_logit(detector):
    reach = max(card_anatomy(card(), 128).reach)
    image = torch.randn(1, 4, 96, 96)
    changed = image.clone()
    changed[..., 48 + reach + 1 :] += 1
    with torch.inference_mode():
        before, after = (
            detector.eval().head.maps(detector.backbone(one)["0"])[0][0, 0, :, 48] for one in (image, changed)
        )
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)


def test_unknown_arguments_are_refused():
    with pytest.raises(BundleError, match="fcos can't be built with"):
        build_network(card(arguments={"anchor_sizes": [4.0]}))
