"""Training chips: random worlds in which boxes hold moving vehicles, and nothing else does."""

import time

import numpy as np
import pytest

from pipeline.simulation.chips.chip import CHIP_BANDS, HEAVY, LIGHT, LabelledImage, draw_chip, judged
from pipeline.simulation.rendering import Vehicle
from pipeline.simulation.world.traffic import Vehicles

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
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.ambiguous, other.ambiguous)


def test_chips_are_reflectance_of_the_four_bands():
    for chip in chips(20):
        assert chip.reflectance.shape == (len(CHIP_BANDS), 64, 64)
        assert chip.reflectance.dtype == np.float32
        assert np.isfinite(chip.reflectance).all()
        assert chip.reflectance.min() >= 0
        assert chip.reflectance.max() <= 1.5


def test_boxes_lie_in_the_chip_and_have_the_size_of_vehicles():
    drawn = chips(60)
    boxes = np.concatenate([chip.boxes for chip in drawn])
    heavy = np.concatenate([chip.labels for chip in drawn]) == HEAVY
    assert boxes.min() >= 0
    assert boxes.max() <= 64
    sides = boxes[:, 2:] - boxes[:, :2]
    assert np.median(sides[heavy]) == pytest.approx(3.5, abs=0.6)
    assert np.median(sides[~heavy]) == pytest.approx(3.3, abs=0.5)
    assert sides.max() < 9


def test_chips_have_no_vehicles_to_many_of_both_kinds():
    drawn = chips(80)
    for label in (HEAVY, LIGHT):
        counts = [int((chip.labels == label).sum()) for chip in drawn]
        assert sum(counts) > 100
        assert counts.count(0) > 10
        assert max(counts) > 8
    assert 0 < sum(len(chip.ambiguous) for chip in drawn) < sum(len(chip.boxes) for chip in drawn)


def test_chips_are_cut_from_scenes_with_their_vehicles_and_ambiguous_ones():
    image = GROUND.reflectance.copy()
    image[:, 100, 70] = 0.9
    light, other = np.array([[69, 99, 72, 102]], np.float32), np.array([[79, 99, 82, 102]], np.float32)
    rng = np.random.default_rng(1)
    scene = LabelledImage(image, light, np.array([LIGHT]), other)
    cut = [chip for chip in (draw_chip(rng, [GROUND], [scene]) for _ in range(100)) if len(chip.boxes) == 1]
    on_vehicle = 0
    for chip in cut:
        x0, y0, x1, y1 = chip.boxes[0]
        row, col = np.unravel_index(chip.reflectance.sum(0).argmax(), (64, 64))
        if chip.labels[0] == LIGHT and x0 - 1 <= col <= x1 + 1 and y0 - 1 <= row <= y1 + 1:
            on_vehicle += any(
                np.hypot(*(box[:2] - chip.boxes[0][:2])) == pytest.approx(10) for box in chip.ambiguous
            )
    assert on_vehicle >= 5


def test_vehicles_known_in_real_ground_stay_in_the_truth():
    boxes = np.array([[x, y, x + 3, y + 3] for x in range(0, 147, 10) for y in range(0, 197, 10)], np.float32)
    ground = LabelledImage(GROUND.reflectance, boxes[::2], np.full(len(boxes[::2]), HEAVY), boxes[1::2])
    rng = np.random.default_rng(2)
    drawn = [draw_chip(rng, [ground]) for _ in range(20)]
    assert sum(len(chip.ambiguous) > 12 and (chip.labels == HEAVY).sum() > 12 for chip in drawn) > 10


def vehicle(length=16.5, speed=80.0, level=0.6, x=32.0):
    return Vehicle(x, 32.0, 90.0, speed, length, 2.5, dict.fromkeys(CHIP_BANDS, level), "x")


def judge(one, light=1.0, opacity=0.0, noise=0.001):
    """The label of a vehicle on grey ground; `ambiguous`, or `ground`."""
    full = np.ones((64, 64), np.float32)
    group = "heavy" if one.length_m >= 8 else "light"
    traffic = Vehicles(**{group: (one,)})
    road = np.full((4, 64, 64), 0.1, np.float32)
    boxes, labels, ambiguous = judged(traffic, 1, road, light * full, opacity * full, noise)
    assert len(boxes) == len(labels)
    return labels[0] if len(labels) else "ambiguous" if len(ambiguous) else "ground"


@pytest.mark.parametrize(
    ("one", "conditions", "label"),
    [
        (vehicle(), {}, HEAVY),
        (vehicle(length=7.9), {}, LIGHT),
        (vehicle(length=4.5), {}, LIGHT),
        (vehicle(length=4.5, level=0.3), {}, LIGHT),
        (vehicle(length=4.5, level=0.22), {}, "ambiguous"),
        (vehicle(length=4.5, level=0.15), {}, "ground"),
        (vehicle(level=0.12), {}, "ambiguous"),  # a dark lorry on its road
        (vehicle(length=4.5, level=0.3), {"noise": 0.02}, "ground"),
        (vehicle(level=0.2), {"light": 0.3}, "ambiguous"),
        (vehicle(), {"opacity": 0.5}, "ambiguous"),
        (vehicle(), {"opacity": 0.95}, "ground"),
        (vehicle(speed=30), {}, "ambiguous"),
        (vehicle(speed=5), {}, "ground"),  # looks as if it were parked
        (vehicle(x=-1.0), {}, "ground"),
    ],
)
def test_moving_vehicles_that_stand_out_are_learned(one, conditions, label):
    assert judge(one, **conditions) == label


@pytest.mark.longer
def test_chips_are_drawn_fast():
    """A training on two cores takes some 60 chips a second; measured on one core: 72."""
    start = time.process_time()
    chips(60)
    assert time.process_time() - start < 60 / 25
