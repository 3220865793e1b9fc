"""Advice for values in another unit."""

import numpy as np
import pytest

from pipeline.scenes.scene import BandSource
from pipeline.scenes.units import units_advice


def advice(*numbers: float, scale: float = 1.0, offset: str = "") -> str:
    values = np.tile(np.array(numbers, np.float32), 100) * np.float32(scale)
    return units_advice({"B04": values}, {"B04": BandSource("B04", "", scale=scale)}, lambda _: offset)


@pytest.mark.parametrize(
    ("numbers", "looks"),
    [
        ((4.25, 9.5, 31.0), "per cent: give --scale 0.01."),
        ((4, 9, 200), "8-bit values: give --scale 0.00392157."),
        ((80, 90, 700), "reflectance x 1000: give --scale 0.001."),
        ((800, 900, 7000), "digital numbers (reflectance x 10000): give --scale 0.0001."),
        ((4, 9, 31), "per cent: give --scale 0.01; or like 8-bit values: give --scale 0.00392157."),
    ],
)
def test_units_that_fit_are_named_with_their_scales(numbers, looks):
    assert advice(*numbers).endswith(f"look like {looks}")


def test_the_present_scale_is_no_advice():
    assert "0.0001" not in advice(2500, 3000, 9000, scale=1e-4)


def test_a_single_bright_pixel_changes_no_unit():
    assert "per cent" in advice(*[5.5] * 2000, 160.5)


def test_an_offset_is_added_to_each_scale():
    assert advice(4.25, 9.5, 31.0, offset=" --offset -0.1").endswith("--scale 0.01 --offset -0.1.")


def test_numbers_in_no_unit_say_so():
    assert "in no known unit" in advice(1e5, 2e5, 3e5)
