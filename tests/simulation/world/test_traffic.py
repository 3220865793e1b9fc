"""Traffic is varied as real traffic is; only trucks that can be distinguished are certain."""

from itertools import chain

import numpy as np
import pytest
from shapely import Point

from pipeline.simulation.rendering import Vehicle
from pipeline.simulation.world.buildings import make_roofs
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.spectra import BANDS, MATERIALS, PAINTS
from pipeline.simulation.world.stage import SLOW_KMH, Stage
from pipeline.simulation.world.traffic import contrast, make_traffic

SEEDS = range(16)


@pytest.fixture(scope="module")
def worlds():
    return [plan_world(600, seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def traffic(worlds):
    return [make_traffic(world) for world in worlds]


def test_same_world_same_traffic(worlds, traffic):
    assert make_traffic(worlds[3]) == traffic[3]


@pytest.mark.parametrize("kind", ["trucks", "details", "buses", "vans", "cars", "wagons", "aircraft"])
def test_every_kind_appears(traffic, kind):
    having = [each for each in traffic if getattr(each, kind)]
    # trains and aircraft are rare, cars are everywhere
    assert len(having) >= {"aircraft": 3, "wagons": 3}.get(kind, len(SEEDS))


def test_worlds_differ_as_countries_and_days_do(worlds):
    assert {world.driving_side for world in worlds} == {1, -1}
    assert {2 * road.lanes for world in worlds for road in world.roads if not road.oneway} == {2, 4, 6}
    assert {world.first_detector % 2 for world in worlds} == {0, 1}
    assert any(world.contrails for world in worlds)
    assert any(road.concrete for world in worlds for road in world.roads)
    assert any(world.cloud_cover > 0.06 for world in worlds)
    assert {"industry", "rest_area", "greenhouses", "solar", "quarry"} == {
        zone.kind for world in worlds for zone in world.zones
    }


def test_trucks_have_real_sizes_and_speeds(traffic):
    trucks = [truck for each in traffic for truck in each.trucks]
    assert all(8 <= truck.length_m <= 19 and 2.4 <= truck.width_m <= 3.2 for truck in trucks)
    assert all(truck.speed_kmh <= 100 for truck in trucks)
    speeds = np.array([truck.speed_kmh for truck in trucks if truck.speed_kmh > SLOW_KMH])
    assert 76 < np.median(speeds) < 88
    assert len({tuple(truck.reflectance.values()) for truck in trucks}) == len(trucks)


def nearest_gaps(trucks):
    at = np.array([(truck.x, truck.y) for truck in trucks])
    way = np.array([truck.direction for truck in trucks])
    gaps = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1)) * 10
    return np.where((way @ way.T > 0.5) & ~np.eye(len(trucks), dtype=bool), gaps, np.inf).min(axis=1)


def test_convoys_are_dense_and_jams_denser(traffic):
    flowing = np.concatenate(
        [nearest_gaps([t for t in each.trucks if t.speed_kmh > SLOW_KMH]) for each in traffic]
    )
    assert flowing.min() > 50
    assert (flowing < 75).mean() > 0.1
    jammed = [[t for t in each.trucks if t.speed_kmh <= SLOW_KMH] for each in traffic]
    assert 1 <= sum(bool(each) for each in jammed) <= len(SEEDS) // 2
    assert min(nearest_gaps(each).min() for each in jammed if each) < 45


def test_what_stands_is_no_vehicle(worlds):
    """Parked lorries, greenhouses, solar tables, red and white roofs, bridges: drawn, but never in motion."""
    built = [make_roofs(world) for world in worlds[:3]]
    blocks = list(chain.from_iterable(built))
    lorries = [b for b in blocks if abs(b.length - 1.65) < 0.01 and abs(b.width - 0.25) < 0.01]
    assert len(lorries) > 50
    red, blue = BANDS.index("B04"), BANDS.index("B02")
    assert sum(b.reflectance[red] > 2.2 * b.reflectance[blue] and b.width > 0.7 for b in blocks) > 100
    assert sum(b.reflectance[red] > 0.5 and b.width > 1 for b in blocks) > 50
    on_motorways = [
        block
        for world, blocks in zip(worlds[:3], built, strict=True)
        for block in blocks
        if world.roads[0].line.distance(Point(block.x, block.y)) * 10 < world.roads[0].half_width_m
    ]
    assert {block.width > 0.8 for block in on_motorways} == {True, False}  # bridges, and what is parked


def test_only_trucks_that_can_be_distinguished_are_certain():
    for seed in (1, 4):
        stage = Stage.of(300, seed)
        truth = stage.trucks()
        certain = [truck for truck in truth if truck.confidence == "high"]
        assert {id(truck.vehicle) for truck in certain} <= {id(vehicle) for vehicle in stage.traffic.trucks}
        assert all(truck.vehicle.speed_kmh >= SLOW_KMH for truck in certain)
        in_air_or_on_rails = {id(wagon) for wagon in stage.traffic.wagons}
        in_air_or_on_rails |= {id(part) for plane in stage.traffic.aircraft for part in plane.parts}
        assert not in_air_or_on_rails & {id(truck.vehicle) for truck in truth}
        assert all(truck.confidence == "low" for truck in truth if truck.kind != "truck")


def test_contrast_is_that_of_the_second_best_band():
    def truck(paint):
        return Vehicle(0, 0, 0, 80, 16.0, 2.5, dict(zip(BANDS, PAINTS[paint], strict=True)))

    road = MATERIALS["asphalt"].spectrum
    assert contrast(truck("white"), road) == pytest.approx((0.75 - 0.08) * 0.4)
    # a red lorry shows in red only, which does not tell that it moves
    assert contrast(truck("red"), road) == pytest.approx((0.09 - 0.076) * 0.4)
