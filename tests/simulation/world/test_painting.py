"""Roofs and vehicles are painted with the blur of each band, and keep their energy."""

import numpy as np
import pytest

from pipeline.simulation.rendering import Vehicle, band_times
from pipeline.simulation.world.buildings import Roof
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.painting import VEHICLE_HEIGHT_M, paint_roofs, paint_vehicles
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.traffic import Vehicles

FOUR = ("B02", "B03", "B04", "B08")
SIGMA = {"B02": 0.5, "B03": 0.5, "B04": 0.6, "B08": 0.6}


def ground(level=0.1):
    return np.full((4, 40, 40), level, np.float32)


def centroid(band):
    rows, cols = np.mgrid[:40, :40] + 0.5
    return np.array([(cols * band).sum(), (rows * band).sum()]) / band.sum()


def test_a_roof_is_at_one_place_in_every_band_and_in_its_colour():
    reflectance = tuple(np.linspace(0.2, 0.9, len(BANDS)).tolist())
    image = ground()
    built = paint_roofs(
        image, FOUR, [Roof(120.2, 80.7, 40.0, 5.0, 3.0, reflectance)], 160.0, SIGMA, (100, 60)
    )
    assert built.sum() == pytest.approx(15, rel=0.01)
    for channel, band in enumerate(FOUR):
        added = image[channel] - 0.1
        assert added.sum() == pytest.approx(15 * (reflectance[BANDS.index(band)] - 0.1), rel=0.01)
        assert centroid(added) == pytest.approx([20.2, 20.7], abs=0.01)


def test_the_shadow_of_a_roof_is_away_from_the_sun():
    image = ground()
    paint_roofs(image, FOUR, [Roof(20, 20, 0, 3, 3, (0.1,) * len(BANDS), 4.0)], 180.0, SIGMA)
    dark = 0.1 - image[0]
    # the sun is in the south, below; the roof covers the part of its shadow that is under it
    assert centroid(dark)[1] < 19
    assert dark.min() > -1e-6


@pytest.mark.parametrize("order", [1, -1])
def test_heavy_vehicles_have_a_shadow_and_light_ones_none(order):
    world = plan_world(66, 1)
    world = type(world)(
        **{
            **vars(world),
            "first_detector": 5 if order > 0 else 6,
            "detector_start": 0.0,
            "detector_width": 1e6,
        }
    )
    grey = dict.fromkeys(BANDS, 0.1)
    lorry = Vehicle(20, 20, 90, 80, 16, 2.5, grey, "rigid lorry")
    car = Vehicle(20, 20, 90, 80, 4.4, 1.8, grey, "car")
    image = ground()
    paint_vehicles(image, FOUR, world, Vehicles(light=(car,)), SIGMA)
    assert image == pytest.approx(ground())
    paint_vehicles(image, FOUR, world, Vehicles(heavy=(lorry,)), SIGMA)
    dark = 0.1 - image
    assert dark.max() > 0.005
    # it moves with the lorry
    moved = centroid(dark[2]) - centroid(dark[0])
    expected = 80 / 36 * (band_times(order)["B04"] - band_times(order)["B02"])
    assert moved == pytest.approx([expected, 0], abs=0.1)
    assert VEHICLE_HEIGHT_M < 4
