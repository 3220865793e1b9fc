"""What is high is seen elsewhere by each band; what drifts, later further on."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import shift
from scipy.optimize import minimize

from pipeline.scenes.msi import BAND_DELAYS_S
from pipeline.simulation.world import atmosphere
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.objects import Contrail

CLEAR = dataclasses.replace(
    plan_world(96, 1), cloud_cover=1e-9, haze=0.0, contrails=(), detector_start=0.0, detector_width=1e6
)
"""Nothing in the air, and one MSI detector sees all."""
GRID = np.arange(0.5, 96)
orders = st.sampled_from([1, -1])
heights = st.floats(0, 12000)


def of_order(world, order):
    return dataclasses.replace(world, first_detector=5 if order == 1 else 6)


def seen(world, bands=("B02", "B04"), ground=0.0):
    """What bands see above a flat ground of one reflectance, (C, H, W)."""
    image = np.full((len(bands), len(GRID), len(GRID)), ground, np.float32)
    atmosphere.add_sky(image, bands, world, GRID, GRID, atmosphere.sky(world, GRID, GRID))
    return image


def centroid(band):
    rows, cols = np.mgrid[: band.shape[0], : band.shape[1]] + 0.5
    return np.array([(cols * band).sum(), (rows * band).sum()]) / band.sum()


@given(heights, orders)
def test_parallax_grows_with_height_and_turns_with_the_detector(height, order):
    right, down = atmosphere.parallax("B04", order, height)
    # 7.28 km of flight at 786 km: 9.26 px for a contrail at 10 km
    assert down == pytest.approx(-order * 7.28 / 786 * height / 10)
    assert right == pytest.approx(-0.22 * down)
    assert atmosphere.parallax("B02", order, height) == pytest.approx((0, 0))


@given(orders)
def test_delays_are_those_of_the_detectors(order):
    for band, delay in BAND_DELAYS_S.items():
        assert atmosphere.delay_s(band, order) == pytest.approx(order * delay, abs=0.01)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_clouds_drift_at_most_a_pixel_besides_their_parallax(seed):
    world = plan_world(64, seed)
    assert np.hypot(*world.wind_ms) <= 10
    for order in (1, -1):
        moved = np.subtract(
            atmosphere.cloud_shift(world, "B04", order),
            atmosphere.parallax("B04", order, world.cloud_height_m),
        )
        assert moved * 10 == pytest.approx(np.array(world.wind_ms) * 1.005 * order)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("height", [8500.0, 11000.0])
def test_contrail_is_seen_apart_by_its_parallax(order, height):
    trail = Contrail(48.0, 48.0, 70.0, 14.0, 4.0, 0.4, height)
    blue, red = seen(of_order(dataclasses.replace(CLEAR, contrails=(trail,)), order))
    assert blue.max() > 0.1
    expected = atmosphere.parallax("B04", order, height)
    assert centroid(red) - centroid(blue) == pytest.approx(expected, abs=0.05)
    assert 7 < np.hypot(*expected) < 10.5


@pytest.mark.parametrize("order", [1, -1])
def test_clouds_are_seen_apart_by_parallax_and_drift(order):
    world = of_order(
        dataclasses.replace(CLEAR, cloud_cover=0.3, cloud_height_m=1700.0, wind_ms=(8.0, -5.0)), order
    )
    blue, red = seen(world)
    assert blue.max() > 0.3

    def difference(move):
        return float(((shift(blue, move[::-1], order=1) - red)[8:-8, 8:-8] ** 2).sum())

    found = minimize(difference, (0.0, 0.0), method="Nelder-Mead", options={"xatol": 0.02}).x
    expected = atmosphere.cloud_shift(world, "B04", order)
    assert np.hypot(*expected) > 1.5
    # the light and dark parts of a cloud stay where B02 sees them, which holds the fit back
    assert np.hypot(*(found - expected)) < 0.35 * np.hypot(*expected)


def test_clear_sky_leaves_the_ground_as_it_is():
    np.testing.assert_allclose(seen(CLEAR, ground=0.2), 0.2, atol=1e-6)
    np.testing.assert_allclose(atmosphere.light_left(CLEAR, GRID, GRID), 1.0, atol=1e-6)


def test_no_contrast_is_left_under_opaque_cloud():
    world = dataclasses.replace(CLEAR, cloud_cover=0.3)
    above = atmosphere.sky(world, GRID, GRID)
    left = atmosphere.light_left(world, GRID, GRID)
    assert (above.cloud == 1).any()
    assert (left[above.cloud == 1] == 0).all()
    assert (left[above.shadow > 0.5] < 0.7).all()
    assert ((left >= 0) & (left <= 1)).all()
