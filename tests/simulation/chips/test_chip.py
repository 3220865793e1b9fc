"""Training chips: random worlds in which boxes hold moving trucks, and nothing else does."""

import numpy as np
import pytest

from pipeline.simulation.chips.chip import CHIP_BANDS, LabelledImage, draw_chip

GROUND = LabelledImage(
    np.full((4, 200, 150), 0.1, np.float32) * np.array([1, 1, 1, 2], np.float32)[:, None, None]
)


def chips(count: int, seed: int = 0, **options):
    rng = np.random.default_rng(seed)
    return [draw_chip(rng, [GROUND], **options) for _ in range(count)]


def test_the_same_seed_draws_the_same_chips():
    for one, other in zip(chips(5, 3), chips(5, 3), strict=True):
        np.testing.assert_array_equal(one.reflectance, other.reflectance)
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.ignored, other.ignored)


def test_chips_are_reflectance_of_the_four_bands():
    for chip in chips(20):
        assert chip.reflectance.shape == (len(CHIP_BANDS), 64, 64)
        assert chip.reflectance.dtype == np.float32
        assert np.isfinite(chip.reflectance).all()
        assert chip.reflectance.min() >= 0
        assert chip.reflectance.max() <= 1.5


def test_boxes_lie_in_the_chip_and_have_the_size_of_trucks():
    boxes = np.concatenate([chip.boxes for chip in chips(60)])
    assert len(boxes) > 60
    assert boxes.min() >= 0
    assert boxes.max() <= 64
    sides = boxes[:, 2:] - boxes[:, :2]
    assert np.median(sides) == pytest.approx(3.5, abs=0.6)
    assert sides.max() < 9


def test_some_chips_hold_no_truck_and_some_hold_what_counts_neither_way():
    drawn = chips(60)
    counts = [len(chip.boxes) for chip in drawn]
    assert 0 in counts
    assert max(counts) > 8
    assert 0 < sum(len(chip.ignored) for chip in drawn) < sum(counts)


def test_chips_are_cut_from_scenes_with_their_trucks_and_ambiguous_ones():
    image = GROUND.reflectance.copy()
    image[:, 100, 70] = 0.9
    truck, other = np.array([[69, 99, 72, 102]], np.float32), np.array([[79, 99, 82, 102]], np.float32)
    rng = np.random.default_rng(1)
    scene = LabelledImage(image, truck, other)
    cut = [chip for chip in (draw_chip(rng, [GROUND], [scene]) for _ in range(150)) if len(chip.boxes) == 1]
    on_truck = 0
    for chip in cut:
        x0, y0, x1, y1 = chip.boxes[0]
        row, col = np.unravel_index(chip.reflectance.sum(0).argmax(), (64, 64))
        if x0 - 1 <= col <= x1 + 1 and y0 - 1 <= row <= y1 + 1:
            on_truck += 1
            assert all(np.hypot(*(box[:2] - chip.boxes[0][:2])) == pytest.approx(10) for box in chip.ignored)
    assert on_truck >= 10


def test_vehicles_known_in_real_ground_stay_in_the_truth():
    image = GROUND.reflectance
    boxes = np.array([[x, y, x + 3, y + 3] for x in range(0, 147, 10) for y in range(0, 197, 10)], np.float32)
    rng = np.random.default_rng(2)
    most = [len(draw_chip(rng, [LabelledImage(image, ambiguous=boxes)]).ignored) for _ in range(30)]
    assert sum(count > 30 for count in most) > 15
