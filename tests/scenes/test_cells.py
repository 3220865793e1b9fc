import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window

from pipeline.scenes.cells import Cells, disk


def test_cells_are_counted_from_the_corner_of_the_scene():
    cells = Cells.around((20, 13), Window(5, 7, 2, 4), side_px=3, halo=1)
    assert (cells.top, cells.left) == (1, 0)  # rows 7 to 10 are in cells 2 and 3, columns 5 and 6 in 1 and 2
    assert cells.window == Window(0, 3, 12, 12)
    # The last column is a cell of its own, one pixel wide.
    assert Cells.around((20, 13), Window(12, 0, 1, 1), 3, 0).window == Window(12, 0, 1, 3)


def test_sums_and_places_of_cells():
    cells = Cells(2, 0, 0, Window(0, 0, 3, 4))
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert cells.sums(values).tolist() == [[0 + 1 + 3 + 4, 2 + 5], [6 + 7 + 9 + 10, 8 + 11]]
    assert cells.sums(values > 4).tolist() == [[0, 1], [4, 2]]
    mask = np.array([[True, False], [False, True]])
    assert cells.on_pixels(mask, Window(1, 1, 2, 2)).tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(("radius", "cells"), [(0, 1), (1, 5), (2, 13)])
def test_a_disk_has_the_cells_within_its_radius(radius, cells):
    assert disk(radius).sum() == cells


@given(
    start=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    side=st.integers(1, 9),
)
def test_a_pixel_has_the_same_cell_in_every_window(start, size, side):
    image = np.random.default_rng(0).normal(size=(70, 65)).astype(np.float32)
    shape = image.shape
    window = Window(
        min(start[1], 64), start[0], min(size[1], 65 - min(start[1], 64)), min(size[0], 70 - start[0])
    )

    def above_zero(window):
        cells = Cells.around(shape, window, side, 1)
        return cells.on_pixels(cells.sums(image[cells.window.toslices()]) > 0, window)

    whole = above_zero(Window(0, 0, shape[1], shape[0]))
    np.testing.assert_array_equal(above_zero(window), whole[window.toslices()])
