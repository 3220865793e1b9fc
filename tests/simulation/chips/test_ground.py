"""Ground of chips: turned, cut, clipped."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulation.chips.ground import (
    HEAVY,
    LIGHT,
    LabelledImage,
    any_ground,
    cut,
    inside,
    near_a_vehicle,
    patchwork,
    strips,
    turned,
)

SIZE = 64


def grey(level=0.1, size=SIZE):
    return np.full((4, size, size), level, np.float32)


def test_a_patchwork_has_parcels_of_many_spectra():
    image = patchwork(np.random.default_rng(0), SIZE)
    assert image.shape == (4, SIZE, SIZE)
    assert image[3].std() > 0.02


@given(st.integers(0, 200))
def test_vehicles_turn_with_their_ground(seed):
    rng = np.random.default_rng(seed)
    image = np.zeros((4, 16, 16), np.float32)
    row, col = rng.integers(0, 16, 2)
    image[:, row, col] = 1
    box = np.array([[col, row, col + 1, row + 1]], np.float32)
    found = turned(rng, LabelledImage(image, box, np.array([LIGHT]), box))
    x, y = found.boxes[0, :2].astype(int)
    assert found.reflectance[0, y, x] == 1
    np.testing.assert_array_equal(found.boxes, found.ambiguous)
    assert found.labels.tolist() == [LIGHT]


def test_a_cut_keeps_the_vehicles_whose_centre_is_in_it():
    boxes = np.array([[30, 30, 33, 33], [9, 9, 13, 13]], np.float32)
    part = cut(LabelledImage(grey(), boxes, np.array([HEAVY, LIGHT]), boxes), 10, 10, 16)
    np.testing.assert_array_equal(part.boxes, [[0, 0, 3, 3]])
    assert part.labels.tolist() == [LIGHT]
    np.testing.assert_array_equal(part.ambiguous, part.boxes)


def test_boxes_are_clipped_to_the_chip():
    np.testing.assert_array_equal(
        inside(np.array([[-1, 2, 3, 5], [-3, 2, 1, 5]], np.float32), 8), [[0, 2, 3, 5]]
    )


def test_strips_are_bright_and_broken():
    image = grey(0.02)
    for seed in range(5):
        strips(np.random.default_rng(seed), image)
    assert 0.05 < (image[0] > 0.03).mean() < 0.9


def test_drawn_ground_is_a_part_of_a_ground_or_a_patchwork_and_leaves_the_ground_as_it_is():
    ground = LabelledImage(grey(size=100) * np.array([1, 1, 1, 2], np.float32)[:, None, None])
    before = ground.reflectance.copy()
    drawn = [any_ground(np.random.default_rng(seed), [ground], SIZE) for seed in range(20)]
    flat = sum(float(one.reflectance[0].std()) < 1e-6 for one in drawn)
    assert 5 < flat < 20
    np.testing.assert_array_equal(ground.reflectance, before)


def test_half_of_the_vehicles_that_chips_are_cut_around_are_heavy():
    """One heavy vehicle far from many light ones."""
    light = np.array([[10 + 4 * i, 10, 13 + 4 * i, 13] for i in range(9)], np.float32)
    boxes = np.concatenate([light, [[280, 280, 283, 283]]]).astype(np.float32)
    scene = LabelledImage(grey(size=300), boxes, np.array([LIGHT] * 9 + [HEAVY]))
    cuts = [near_a_vehicle(np.random.default_rng(seed), scene, SIZE) for seed in range(100)]
    heavy = sum(HEAVY in one.labels for one in cuts)
    assert 20 < heavy < 50
    assert 20 < sum(LIGHT in one.labels for one in cuts) < 60


def test_half_of_the_parts_of_a_ground_with_look_alikes_show_one():
    """A bright pixel in 400 x 400 px: by chance three parts in a hundred would show it."""
    image = grey(size=400)
    image[3] = 0.3  # land
    image[:, 300, 120] = 1.0
    ground = LabelledImage(image, look_alikes=np.array([[120.5, 300.5]], np.float32))
    rng = np.random.default_rng(3)
    parts = [any_ground(rng, [ground], SIZE).reflectance for _ in range(400)]
    real = [part for part in parts if np.unique(np.round(part[3], 4)).size <= 2]
    shown = [part[3].max() > 2 * np.median(part[3]) for part in real]
    assert len(real) > 200
    assert 0.4 < np.mean(shown) < 0.65
