"""YOLO: cells of a grid, each with a box for every anchor."""

import math

import pytest
import torch

from pipeline.errors import BundleError
from pipeline.models.boxes import HEAVY
from pipeline.models.halo import card_anatomy, halo_of
from pipeline.models.registry import build_network
from pipeline.models.yolo import GridDetector
from pipeline.training.detector.train import blank_card
from tests.models.vehicles import both_cores, learn, planted, target

SMALL = {"channels": [8, 8, 8], "features": 8}


@pytest.fixture
def detector() -> GridDetector:
    torch.manual_seed(3)
    return build_network(blank_card("yolo", SMALL))


def cells(detector, row: int, col: int, anchor: int, values) -> torch.Tensor:
    """Return a map (1, 8, 8, 18) in which one anchor of one cell has values, the others no vehicle."""
    grid = torch.zeros(1, 8, 8, 3, 6)
    grid[..., 4] = -9.0
    grid[0, row, col, anchor] = torch.tensor(values)
    return grid.view(1, 8, 8, 18)


def test_a_cell_places_its_box(detector):
    """Cell (3, 5) of 2 px, the square anchor of 4 px: half a cell right and down, twice as wide."""
    wide = 1.2 * math.atanh(math.log(2) / 1.2)
    (found,) = detector.detections(cells(detector, 3, 5, 1, [0.0, 0.0, wide, 0.0, 0.0, math.log(3)]))
    assert found["boxes"].tolist() == [pytest.approx([11 - 4, 7 - 2, 11 + 4, 7 + 2])]
    assert found["vehicle_scores"].tolist() == [pytest.approx(0.5)]
    assert found["scores"].tolist() == [pytest.approx(0.5 * 0.75)]


def test_the_cell_of_the_centre_and_the_most_alike_anchor_are_responsible(detector):
    boxes = torch.tensor([[10.0, 10.0, 15.0, 13.0], [4.0, 4.0, 7.0, 9.0]])
    index = detector._responsible(boxes, 16, 16)
    assert index.tolist() == [(5 * 16 + 6) * 3 + 0, (3 * 16 + 2) * 3 + 2]


def test_training_gives_three_losses(detector):
    losses = detector.train()(torch.randn(1, 4, 32, 32), target((10, 10, 14, 13)))
    assert sorted(losses) == ["boxes", "heavy", "vehicle"]
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_an_image_without_vehicles_can_be_trained_on(detector):
    losses = detector.train()(torch.randn(2, 4, 32, 32), [*target(), *target((10, 10, 14, 13))])
    assert torch.isfinite(sum(losses.values()))
    losses = detector(torch.randn(2, 4, 32, 32), [*target(), *target()])
    assert losses["boxes"].item() == losses["heavy"].item() == 0
    assert losses["vehicle"].item() > 0


def test_training_without_targets_is_refused(detector):
    with pytest.raises(ValueError, match="needs targets"):
        detector.train()(torch.randn(1, 4, 32, 32))


def test_nothing_is_learned_in_ignored_boxes(detector):
    losses = detector.train()(torch.randn(1, 4, 32, 32), target(ignored=[(0, 0, 32, 32)]))
    assert sum(losses.values()).item() == 0


def test_a_vehicle_within_an_ignored_box_is_still_one(detector):
    losses = detector.train()(torch.randn(1, 4, 32, 32), target((10, 10, 14, 13), ignored=[(0, 0, 32, 32)]))
    assert losses["vehicle"] > 1
    assert losses["boxes"] > 0


def test_losses_fall_and_both_kinds_are_learned(detector):
    image, truth = planted()
    course = learn(detector, image.repeat(2, 1, 1, 1), truth * 2, 150)
    assert course[19] < 0.6 * course[0]
    with torch.inference_mode():
        (found,) = detector(image)
    sure = found["vehicle_scores"] > 0.5
    assert sorted(found["scores"][sure].gt(0.5).tolist()) == [False, True]
    for box, heavy in zip(truth[0]["boxes"], truth[0]["labels"] == HEAVY, strict=True):
        mine = found["boxes"][sure][found["scores"][sure].gt(0.5) == heavy]
        assert (mine - box).abs().max() < 1.5


@pytest.mark.parametrize("half", [False, True])
def test_tiles_are_exact_within_the_halo(detector, half):
    card = blank_card("yolo", SMALL)
    with torch.no_grad():
        detector.predictor.weight.mul_(4)
        detector.predictor.bias.fill_(-1.0)
    detector.half_precision = half
    complete, tile = both_cores(detector, card.halo, card.stride)
    assert len(complete) > 5
    torch.testing.assert_close(complete, tile, atol=0.02 if half else 1e-3, rtol=0)


def test_no_layer_depends_on_the_complete_image():
    card = blank_card("yolo")
    found = card_anatomy(card, 128)
    assert found.unbounded == ()
    assert halo_of(card, found) <= card.halo <= 64
    assert found.stride == 4


def test_cells_of_an_odd_side_are_refused():
    with pytest.raises(BundleError, match=r"even number of pixels\. Received: 3"):
        build_network(blank_card("yolo", {"cell": 3}))
