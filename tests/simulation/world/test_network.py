"""Roads have two directions of traffic, a side it keeps to, and a surface of their own."""

import dataclasses

import numpy as np
import pytest

from pipeline.simulation.world.network import Road

EASTWARDS = Road(np.stack([np.linspace(0, 100, 21), np.full(21, 50.0)], axis=1), "motorway", "A 2", 2, 4.0)
MATERIALS = {
    name: np.float32([value, 2 * value])
    for name, value in (("asphalt", 0.08), ("worn", 0.1), ("ballast", 0.12), ("concrete", 0.2))
}


@pytest.mark.parametrize(("driving_side", "south"), [(1, 1), (-1, -1)])
def test_traffic_keeps_to_its_side(driving_side, south):
    road = dataclasses.replace(EASTWARDS, driving_side=driving_side)
    # y runs down: the right of an eastward road is south
    assert np.sign(road.lane_offset_m(0)) == south
    assert abs(road.lane_offset_m(1)) - abs(road.lane_offset_m(0)) == pytest.approx(3.75)
    there, back = road.carriageways()
    assert there.coords[-1][0] > there.coords[0][0]
    assert np.sign(there.centroid.y - 50) == south
    assert back.coords[-1][0] < back.coords[0][0]
    assert np.sign(back.centroid.y - 50) == -south


def test_surface_lies_between_its_materials():
    assert EASTWARDS.surface(MATERIALS) == pytest.approx([0.08, 0.16])
    half = dataclasses.replace(EASTWARDS, concrete=0.5, shade=1.1)
    assert half.surface(MATERIALS) == pytest.approx([0.14 * 1.1, 0.28 * 1.1])
    minor = dataclasses.replace(EASTWARDS, road_class="secondary")
    assert minor.surface(MATERIALS) == pytest.approx([0.1, 0.2])
    assert dataclasses.replace(EASTWARDS, road_class="railway").surface(MATERIALS)[0] == np.float32(0.12)
