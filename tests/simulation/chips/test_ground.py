"""Ground of chips: turned, cut, clipped."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulation.chips.ground import LabelledImage, cut, inside, patchwork, turned
from tests.simulation.chips.test_lookalikes import grey

SIZE = 64


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
    found = turned(rng, LabelledImage(image, np.array([[col, row, col + 1, row + 1]], np.float32)))
    x, y = found.trucks[0, :2].astype(int)
    assert found.reflectance[0, y, x] == 1


def test_a_cut_keeps_the_vehicles_whose_centre_is_in_it():
    ground = LabelledImage(grey(), np.array([[9, 9, 13, 13], [30, 30, 33, 33]], np.float32))
    part = cut(ground, 10, 10, 16)
    np.testing.assert_array_equal(part.trucks, [[0, 0, 3, 3]])


def test_boxes_are_clipped_to_the_chip():
    np.testing.assert_array_equal(
        inside(np.array([[-1, 2, 3, 5], [-3, 2, 1, 5]], np.float32), 8), [[0, 2, 3, 5]]
    )
