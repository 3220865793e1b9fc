"""The model atmosphere adds what it says, and takes off what it added."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.scenes.atmosphere import (
    HAZE,
    PATH_RADIANCE,
    TRANSMITTANCE,
    haze_of,
    surface,
    top_of_atmosphere,
)
from pipeline.scenes.scene import BAND_NAMES, BANDS_10M, BANDS_20M

BANDS = (*BANDS_10M, *BANDS_20M)


def test_every_band_of_a_network_has_coefficients():
    assert set(PATH_RADIANCE) == set(TRANSMITTANCE) == set(BAND_NAMES) - {"B10"}
    assert set(BANDS) <= set(PATH_RADIANCE)


def test_blue_is_hazier_than_red_and_shortwave_infrared_is_clear():
    ground = np.full((3, 2, 2), 0.1, np.float32)
    got = top_of_atmosphere(ground, ("B02", "B04", "B12"))
    np.testing.assert_allclose(got[:, 0, 0], [0.1 * 0.83 + 0.075, 0.1 * 0.91 + 0.028, 0.1 * 0.96 + 0.001])


def test_half_the_haze_takes_half_and_none_takes_nothing():
    ground = np.full((1, 1), 0.2, np.float32)
    assert top_of_atmosphere(ground, ("B02",), 0.5)[0, 0] == pytest.approx(0.2 * (1 - 0.085) + 0.0375)
    np.testing.assert_array_equal(top_of_atmosphere(ground, ("B02",), 0.0), ground)


@given(st.floats(0, 1.2), st.floats(*HAZE))
def test_what_was_added_is_taken_off(value, haze):
    ground = np.full((len(BANDS), 1, 1), value, np.float32)
    back = surface(top_of_atmosphere(ground, BANDS, haze), BANDS, haze)
    np.testing.assert_allclose(back, ground, atol=1e-5)


@pytest.mark.parametrize("haze", [0.6, 1.0, 1.4])
def test_haze_is_found_from_dark_pixels(haze):
    rng = np.random.default_rng(0)
    ground = rng.uniform(0.02, 0.3, (2, 10_000)).astype(np.float32)
    ground[:, :200] = 0.02
    seen = top_of_atmosphere(ground, ("B08", "B02"), haze)
    seen[1, :5] = np.nan
    assert haze_of(seen, ("B08", "B02")) == pytest.approx(haze, abs=0.02)


def test_haze_stays_in_its_range():
    for value, expected in ((0.0, HAZE[0]), (0.5, HAZE[1])):
        assert haze_of(np.full((1, 50), value, np.float32), ("B02",)) == expected
