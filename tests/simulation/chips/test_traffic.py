"""Vehicles of chips: contrast, confidence, side of the road."""

import numpy as np
import pytest

from pipeline.simulation.chips import streets, traffic
from pipeline.simulation.chips.palette import CHIP_BANDS, any_world
from pipeline.simulation.rendering import Vehicle
from tests.simulation.chips.test_lookalikes import grey

SIZE = 64


def white_truck(**other) -> Vehicle:
    values = {"x": 32.0, "y": 32.0, "heading_deg": 90.0, "speed_kmh": 80.0, "length_m": 16.5, "width_m": 2.5}
    return Vehicle(**values | {"reflectance": dict.fromkeys(CHIP_BANDS, 0.6)} | other)


def test_a_truck_stands_out_by_its_area_and_colour():
    under = np.full(4, 0.1, np.float32)
    shown = traffic.contrast(white_truck(), under, 0.01)
    assert shown == pytest.approx(0.5 * 16.5 * 2.5 / 100 * 0.75 / 0.01, rel=1e-3)
    assert traffic.contrast(white_truck(reflectance=dict.fromkeys(CHIP_BANDS, 0.1)), under, 0.01) < 1e-6


@pytest.mark.parametrize(
    ("speed", "contrast", "light", "opacity", "certain"),
    [
        (80, 2, 1, 0, True),
        (80, 0.9, 1, 0, False),
        (80, 2, 0.4, 0, False),
        (80, 9, 1, 0.5, False),
        (20, 9, 1, 0, False),
    ],
)
def test_a_fast_visible_truck_is_certain(speed, contrast, light, opacity, certain):
    one = traffic.Moving(white_truck(speed_kmh=speed), contrast, truck=True)
    assert one.certain(light, opacity) is certain
    assert one.ambiguous


def test_a_faint_car_and_a_standing_truck_are_ground():
    assert not traffic.Moving(white_truck(length_m=4.5), 0.3, truck=False).ambiguous
    assert traffic.Moving(white_truck(length_m=4.5), 1.5, truck=False).ambiguous
    assert not traffic.Moving(white_truck(speed_kmh=0), 5, truck=True).ambiguous


def test_vehicles_drive_on_the_side_of_their_world():
    rng = np.random.default_rng(4)
    for _ in range(20):
        world, street = any_world(rng), streets.any_street(rng, SIZE)
        for one in traffic.add_traffic(rng, grey(), world, street):
            x, y = one.vehicle.x, one.vehicle.y
            if 0 <= x < SIZE and 0 <= y < SIZE:
                along, across = street.arc.coordinates(SIZE)
                here = np.deg2rad(
                    street.arc.heading_deg + np.rad2deg(street.arc.curvature * along[int(y), int(x)])
                )
                forward = np.cos(here - np.deg2rad(one.vehicle.heading_deg)) > 0
                if abs(across[int(y), int(x)]) > 1:
                    assert (across[int(y), int(x)] > 0) == (forward == (world.driving_side > 0))
