"""Traffic is that counted on real roads: heavy and light vehicles, platoons, jams."""

from dataclasses import replace
from datetime import date, datetime
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import Point

from pipeline.simulation.world.buildings import make_roofs
from pipeline.simulation.world.demand import ROAD_CLASSES, Demand, Flow
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.network import Road
from pipeline.simulation.world.overpass import on_date
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.stage import SLOW_KMH, Stage
from pipeline.simulation.world.traffic import Jam, drive, flow_at, make_traffic, passing

SEEDS = range(16)
STRAIGHT = Road(np.array([[0.0, 0.0], [10_000.0, 0.0]]), "motorway", "A 1", 2, 4.0, 3.0)
"""100 km, to the east."""


def flow(heavy=300.0, light=1500.0):
    """Vehicles an hour on a motorway."""
    motorway = ROAD_CLASSES["motorway"]
    return Flow(heavy, light, motorway.heavy_kmh, motorway.light_kmh, motorway.heavy_kinds)


@pytest.fixture(scope="module")
def worlds():
    return [plan_world(600, seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def traffic(worlds):
    return [make_traffic(world) for world in worlds]


def test_same_world_same_traffic(worlds, traffic):
    assert make_traffic(worlds[3]) == traffic[3]


def test_another_date_has_other_traffic_on_the_same_roads(worlds, traffic):
    later = [on_date(worlds[3], date(2023, 6, day)) for day in (6, 7)]
    first, second = (make_traffic(world) for world in later)
    assert first != second and traffic[3] not in (first, second)
    assert make_traffic(later[0]) == first
    assert later[0].roads == worlds[3].roads


def test_a_date_is_as_busy_in_all_its_hours(worlds):
    world, plain = on_date(worlds[3], date(2023, 6, 6)), Demand()
    morning, again, evening = (
        flow_at(world, 0, datetime(2023, 6, 6, hour), plain, np.random.default_rng(seed))
        for hour, seed in ((8, 1), (8, 2), (20, 1))
    )
    assert morning == again
    assert evening.heavy_per_h / morning.heavy_per_h == pytest.approx(2.7 / 5.8)


def test_vehicles_that_pass_are_the_density_times_the_speed():
    mine = flow(300.0, 900.0)
    passed = np.mean([passing(STRAIGHT, mine, np.random.default_rng(seed)) for seed in range(60)], axis=0)
    driven = drive(STRAIGHT, False, mine, np.random.default_rng(1))
    driven += drive(STRAIGHT, False, mine, np.random.default_rng(2))
    heavy = [one for one in driven if one.length_m >= 8]
    for count, vehicles in zip(passed, (driven, heavy), strict=True):
        assert count == pytest.approx(sum(one.speed_kmh for one in vehicles) / 200, rel=0.08)


@pytest.mark.parametrize("kind", ["heavy", "light", "parts", "wagons", "aircraft"])
def test_every_group_appears(traffic, kind):
    having = [each for each in traffic if getattr(each, kind)]
    # trains and aircraft are rare, cars are everywhere
    assert len(having) >= {"aircraft": 3, "wagons": 2, "parts": 12}.get(kind, len(SEEDS))


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


def test_heavy_vehicles_have_real_sizes_and_speeds(traffic):
    heavy = [one for each in traffic for one in each.heavy]
    assert all(8 <= one.length_m <= 18.75 and 2.3 <= one.width_m <= 2.6 for one in heavy)
    assert all(one.speed_kmh <= 100 for one in heavy)
    speeds = np.array([one.speed_kmh for one in heavy if one.speed_kmh > SLOW_KMH])
    assert 76 < np.median(speeds) < 88
    assert len({tuple(one.reflectance.values()) for one in heavy}) == len(heavy)
    assert all(one.length_m < 8 for each in traffic for one in each.light)


def test_light_vehicles_are_as_frequent_as_they_are(traffic):
    """3 to 35 % of the vehicles are heavy ones; short lorries are light."""
    heavy, light = (np.array([len(getattr(each, one)) for each in traffic]) for one in ("heavy", "light"))
    share = heavy.sum() / (heavy + light).sum()
    assert 0.05 < share < 0.25
    assert 3 < np.median(light / heavy) < 20


def test_no_traffic_to_dense_traffic(worlds):
    """The factor changes heavy vehicles only; the ratio sets the light ones."""
    workday = worlds[13]
    none = make_traffic(workday, Demand(heavy=0))
    # only cars and vans are left
    assert not none.heavy and len(none.light) > 100
    counts = [len(make_traffic(workday, Demand(heavy=factor)).heavy) for factor in (1, 4)]
    assert 2.5 < counts[1] / counts[0] < 5.5
    ratio = [make_traffic(workday, Demand(light_per_heavy=wanted)) for wanted in (3, 15)]
    light = [len(each.light) for each in ratio]
    assert 3.5 < light[1] / light[0] < 7


def test_the_flow_of_a_road_is_the_one_asked_for():
    """Density is flow over speed: on 100 km at 84 km/h, 300 lorries an hour are 357."""
    found = drive(STRAIGHT, False, flow(), np.random.default_rng(0))
    lorries = [one for one in found if one.kind not in {"car", "van"}]
    assert len(lorries) == pytest.approx(300 * 100 / 90, rel=0.15)
    assert len(found) - len(lorries) == pytest.approx(1500 * 100 * (0.4 / 90 + 0.6 / 118), rel=0.1)
    vans = sum(one.kind == "van" for one in found)
    assert vans / (len(found) - len(lorries)) == pytest.approx(0.14, abs=0.03)


def test_convoys_are_dense_and_none_is_nearer_than_its_headway():
    found = drive(STRAIGHT, False, flow(), np.random.default_rng(1))
    outer = sorted((one for one in found if one.y > 0.6), key=lambda one: one.x)
    gaps = 10 * np.diff([one.x for one in outer])
    # the follower is the one behind, and has the headway
    heavy = np.array([one.kind not in {"car", "van"} for one in outer])
    metres = 90 / 3.6
    assert gaps[heavy[:-1]].min() >= 2.0 * metres - 1e-6
    assert gaps.min() >= 1.2 * metres - 1e-6
    assert 0.25 < (gaps[heavy[:-1]] < 3.2 * metres).mean() < 0.5
    after_heavy = heavy[:-1][heavy[1:]]
    assert after_heavy.mean() > heavy.mean() + 0.15


@given(st.floats(0, 30), st.integers(0, 99))
def test_in_a_jam_all_creep_and_are_near_each_other(speed, seed):
    jam = Jam(100, 400, speed)
    found = drive(STRAIGHT, False, flow(600, 1400), np.random.default_rng(seed), jam)
    inside = sorted((one for one in found if 101 < one.x < 399 and one.y > 0.6), key=lambda one: one.x)
    assert len(inside) > 40
    assert max(one.speed_kmh for one in inside) <= speed + 2
    assert np.diff([one.x for one in inside]).max() < 45 / 10 + 1


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("backwards", [False, True])
def test_vehicles_drive_on_the_side_of_their_world(side, backwards):
    road = replace(STRAIGHT, driving_side=side)
    for one in drive(road, backwards, flow(30, 30), np.random.default_rng(2)):
        assert one.heading_deg == pytest.approx(270 if backwards else 90)
        dx, _ = one.direction
        # the road is the line y = 0, and y points down: right of the direction of travel
        assert one.y * dx * side > 0.2


def test_jams_are_rare(traffic):
    slow = [[one for one in each.heavy if one.speed_kmh <= SLOW_KMH] for each in traffic]
    assert sum(bool(each) for each in slow) <= len(SEEDS) // 2


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


def test_only_vehicles_of_roads_are_in_the_truth():
    weights = set()
    for seed in (1, 4):
        stage = Stage.of(300, seed)
        truth = stage.vehicles()
        on_roads = (*stage.traffic.heavy, *stage.traffic.light)
        assert {id(one.vehicle) for one in truth} <= {id(vehicle) for vehicle in on_roads}
        assert all(one.vehicle.speed_kmh >= SLOW_KMH for one in truth if one.confidence == "high")
        weights |= {one.weight for one in truth}
    assert weights == {"heavy", "light"}
