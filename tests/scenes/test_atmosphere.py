"""The model atmosphere adds what it says, and takes off what it added."""

import numpy as np
import pytest
import rasterio
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


def test_blue_is_hazier_than_red_and_shortwave_infrared_has_almost_no_path_radiance():
    ground = np.full((3, 2, 2), 0.1, np.float32)
    got = top_of_atmosphere(ground, ("B02", "B04", "B12"))
    again = [1 - 0.1 * 1.8 * path for path in (0.089, 0.035, 0.002)]
    once = [0.1 * 0.62, 0.1 * 0.77, 0.1 * 0.81]
    np.testing.assert_allclose(got[:, 0, 0], np.add(np.divide(once, again), (0.089, 0.035, 0.002)), rtol=1e-5)


def test_haze_scales_the_path_and_half_as_much_the_loss():
    ground = np.full((1, 1), 0.2, np.float32)
    thin = top_of_atmosphere(ground, ("B02",), 0.5)[0, 0]
    once = 0.2 * 0.62 * (1 + 0.25 * 0.38)
    assert thin == pytest.approx(once / (1 - 0.2 * 1.8 * 0.5 * 0.089) + 0.5 * 0.089)


@given(st.floats(0, 2), st.floats(*HAZE))
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


def test_it_turns_real_l2a_into_the_l1c_of_the_same_acquisition(shared_data):
    """Haze is found by trial; the medians of nine of ten bands differ by at most 0.01."""

    def read(level: str) -> np.ndarray:
        with rasterio.open(shared_data / f"scenes/pakistan_{level}_20200604.tif") as file:
            index = [file.descriptions.index(band) + 1 for band in BANDS]
            return file.read(index).astype(np.float32) * np.float32(file.scales[0]) + file.offsets[0]

    seen, ground = read("L1C"), read("L2A")
    differences = [
        np.abs(np.median(top_of_atmosphere(ground, BANDS, haze) - seen, axis=(1, 2)))
        for haze in np.linspace(*HAZE, 21)
    ]
    best = min(differences, key=np.sum)
    assert (best < 0.01).sum() >= 9
