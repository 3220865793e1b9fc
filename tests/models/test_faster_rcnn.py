"""The truck detector: torchvision's Faster R-CNN whose proposals depend on a bounded neighbourhood only."""

import pytest
import torch
from torchvision.ops import clip_boxes_to_image, roi_align

from pipeline.models.bundle import open_bundle
from pipeline.models.faster_rcnn import POOLED_PX, pool_boxes, without_ignored
from pipeline.models.registry import build_network
from pipeline.training.detector.train import blank_card

SMALL = {"channels": [4, 4, 4], "features": 4, "head": 8}


@pytest.fixture(scope="module")
def shipped():
    bundle = open_bundle("trucks")
    return bundle.load_into(build_network(bundle.card))


def truck_on_asphalt(x: float = 24.0, y: float = 20.0, speed_kmh: float = 85.0) -> torch.Tensor:
    """A white truck that drives east over asphalt, as the shipped detector is fed, (4, 48, 48)."""
    import numpy as np

    from pipeline.models.normalise import normalise
    from pipeline.simulation.rendering import Vehicle, add_vehicle

    card = open_bundle("trucks").card
    image = np.full((4, 48, 48), 0.05, np.float32)
    image[3] = 0.25
    image[:, 17:23] = np.array([0.07, 0.08, 0.09, 0.11], np.float32)[:, None, None]
    paint = dict.fromkeys(card.bands, 0.5)
    add_vehicle(
        image, card.bands, Vehicle(x, y, 90, speed_kmh, 16, 2.6, paint), 1, dict.fromkeys(card.bands, 0.5)
    )
    return normalise(image, np.ones((48, 48), bool), card)


def test_training_gives_four_losses():
    detector = build_network(
        blank_card(arguments=SMALL | {"anchor_sizes": [4.0], "anchor_ratios": [1.0]})
    ).train()
    targets = [{"boxes": torch.tensor([[10.0, 10.0, 14.0, 13.0]]), "labels": torch.tensor([1])}]
    losses = detector(torch.randn(1, 4, 32, 32), targets)
    assert sorted(losses) == ["loss_box_reg", "loss_classifier", "loss_objectness", "loss_rpn_box_reg"]
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_an_image_without_trucks_can_be_trained_on():
    detector = build_network(blank_card(arguments=SMALL)).train()
    nothing = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]
    assert torch.isfinite(sum(detector(torch.randn(1, 4, 32, 32), nothing).values()))


def test_anchors_keep_their_fractions_of_a_pixel():
    detector = build_network(blank_card(arguments=SMALL | {"anchor_sizes": [3.3], "anchor_ratios": [1.0]}))
    (cell,) = detector.rpn.anchor_generator.cell_anchors
    assert cell.tolist() == [pytest.approx([-1.15, -1.15, 2.15, 2.15])]


def test_a_moving_truck_is_found_where_it_is(shipped):
    with torch.inference_mode():
        (found,) = shipped([truck_on_asphalt()])
    best = found["boxes"][found["scores"].argmax()]
    assert found["scores"].max() > 0.8
    assert ((best[:2] + best[2:]) / 2).tolist() == pytest.approx([24, 20], abs=0.7)


def test_a_parked_truck_is_not(shipped):
    with torch.inference_mode():
        (found,) = shipped([truck_on_asphalt(speed_kmh=0.0)])
    assert not (found["scores"] > 0.5).any()


def test_a_truck_moves_with_the_image(shipped):
    with torch.inference_mode():
        first, second = shipped([truck_on_asphalt(24, 20), truck_on_asphalt(28, 20)])
    gap = second["boxes"][second["scores"].argmax()] - first["boxes"][first["scores"].argmax()]
    assert gap.tolist() == pytest.approx([4, 0, 4, 0], abs=0.02)


def test_images_of_a_batch_do_not_matter_to_each_other(shipped):
    images = [truck_on_asphalt(24, 20), truck_on_asphalt(15, 20)]
    with torch.inference_mode():
        together = shipped(images)
        alone = [shipped([image])[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one["boxes"], other["boxes"], atol=1e-3, rtol=0)
        torch.testing.assert_close(one["scores"], other["scores"], atol=1e-4, rtol=0)


def test_nothing_is_learnt_in_ignored_boxes():
    area = torch.tensor([[10.0, 10.0, 14.0, 14.0]])
    boxes = torch.tensor([[10.5, 10.5, 14.0, 14.0], [20.0, 20.0, 24.0, 24.0], [10.0, 10.0, 13.5, 14.0]])
    truck = {"boxes": torch.zeros(0, 4), "ignored": area}
    assert torch.equal(without_ignored(boxes, truck), boxes[1:2])
    assert torch.equal(without_ignored(boxes, truck | {"boxes": boxes[2:]}), boxes)
    assert torch.equal(without_ignored(boxes, {"boxes": boxes[:1]}), boxes)


def test_anchors_in_ignored_boxes_are_neither_truck_nor_ground():
    detector = build_network(blank_card(arguments=SMALL))
    ground = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    anchors = torch.tensor([[10.0, 10.0, 14.0, 14.0], [20.0, 20.0, 24.0, 24.0]])
    (labels,), _ = detector.rpn.assign_targets_to_anchors([anchors], [ground])
    assert labels.tolist() == [0, 0]
    (labels,), _ = detector.rpn.assign_targets_to_anchors([anchors], [ground | {"ignored": anchors[:1]}])
    assert labels.tolist() == [-1, 0]


def test_boxes_are_pooled_as_torchvision_pools_them():
    torch.manual_seed(0)
    features = torch.rand(30, 40, 6)
    corners = torch.rand(700, 2) * torch.tensor([40.0, 30.0])
    sides = torch.exp(torch.randn(700, 2)) * 4
    boxes = clip_boxes_to_image(torch.cat([corners - sides / 2, corners + sides / 2], dim=1), (30, 40))
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= 1]
    expected = roi_align(features.permute(2, 0, 1)[None].contiguous(), [boxes], POOLED_PX, sampling_ratio=2)
    torch.testing.assert_close(pool_boxes(features, boxes), expected, atol=1e-5, rtol=1e-5)
    assert pool_boxes(features, boxes[:0]).shape == (0, 6, POOLED_PX, POOLED_PX)
