"""Fast R-CNN and R-CNN: proposals from image features, and a head for each; they differ in the features."""

import pytest
import torch
from torchvision.ops import roi_align

from pipeline.models.boxes import HEAVY
from pipeline.models.fast_rcnn import ContextPool
from pipeline.models.faster_rcnn import pool_boxes
from pipeline.models.registry import build_network
from pipeline.training.detector.train import blank_card
from tests.models.vehicles import both_cores, learn, planted, target

SMALL = {
    "fast_rcnn": {"channels": [8, 8, 8], "features": 8, "head": 32},
    "rcnn": {"widths": [8, 16], "crop_px": 8, "head": 32},
}


@pytest.fixture(params=SMALL)
def family(request) -> str:
    return request.param


@pytest.fixture
def detector(family):
    torch.manual_seed(3)
    return build_network(blank_card(family, SMALL[family]))


def test_training_gives_two_losses(detector):
    image, truth = planted()
    losses = detector.train()(image, truth)
    assert sorted(losses) == ["loss_box_reg", "loss_classifier"]
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_images_without_vehicles_or_proposals_can_be_trained_on(detector):
    losses = detector.train()(torch.cat([planted()[0], torch.zeros(1, 4, 32, 32)]), [*target(), *target()])
    assert torch.isfinite(sum(losses.values()))


def test_training_without_targets_is_refused(detector):
    with pytest.raises(ValueError, match="needs targets"):
        detector.train()(torch.randn(1, 4, 32, 32))


def test_losses_fall_and_both_kinds_are_learned(detector):
    image, truth = planted()
    course = learn(detector, image.repeat(2, 1, 1, 1), truth * 2, 40)
    assert sum(course[15:20]) < 0.6 * sum(course[:5])
    with torch.inference_mode():
        (found,) = detector(image)
    sure = found["vehicle_scores"] > 0.5
    assert sorted(found["scores"][sure].gt(0.5).tolist()) == [False, True]
    for box, heavy in zip(truth[0]["boxes"], truth[0]["labels"] == HEAVY, strict=True):
        mine = found["boxes"][sure][found["scores"][sure].gt(0.5) == heavy]
        assert (mine - box).abs().max() < 1.5


def test_proposals_in_ignored_boxes_are_not_learned(detector):
    image, _ = planted()
    losses = detector.train()(image, target(ignored=[(0, 0, 32, 32)]))
    assert sum(losses.values()).nan_to_num().item() == 0


@pytest.mark.parametrize("half", [False, True])
def test_tiles_are_exact_within_the_halo(detector, family, half):
    card = blank_card(family, SMALL[family])
    detector.half_precision = half
    complete, tile = both_cores(detector, card.halo, card.stride)
    assert len(complete) > 5
    torch.testing.assert_close(complete, tile, atol=0.02 if half else 1e-3, rtol=0)


def test_an_image_without_proposals_has_no_detections(detector):
    with torch.inference_mode():
        (found,) = detector.eval()(torch.zeros(1, 4, 32, 32))
    assert found["boxes"].shape == (0, 4)
    assert found["scores"].shape == found["vehicle_scores"].shape == (0,)


def test_a_vehicle_is_at_least_as_likely_as_a_heavy_one(detector):
    with torch.inference_mode():
        (found,) = detector.eval()(torch.randn(1, 4, 64, 64))
    assert len(found["scores"]) > 5
    assert (found["vehicle_scores"] >= found["scores"]).all()


def test_training_and_inference_pool_the_same():
    torch.manual_seed(0)
    features, boxes = (
        torch.rand(1, 6, 30, 40),
        torch.tensor([[5.3, 7.1, 9.8, 10.2], [35.0, 25.5, 39.0, 30.0]]),
    )
    pool = ContextPool(8, 2.0)
    expected = pool({"0": features}, [boxes], [(30, 40)])
    found = pool_boxes(features[0].permute(1, 2, 0), pool.widened(boxes, (30, 40)), 8)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    wider = torch.tensor([[3.3, 5.1, 11.8, 12.2], [33.0, 23.5, 40.0, 30.0]])
    torch.testing.assert_close(expected, roi_align(features, [wider], 8, sampling_ratio=2))
