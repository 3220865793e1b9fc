"""Small worlds of chips vary as scenes do, and have what the scene simulator draws."""

import numpy as np
import pytest

from pipeline.simulation.chips.place import CLEAR, any_flow, any_place, any_road, any_traffic, paint_place

SIZE = 64


def places(count=120):
    return [any_place(np.random.default_rng(seed), SIZE) for seed in range(count)]


def test_places_vary_as_the_world_does():
    drawn = places()
    assert {len(one.roads) for one in drawn} == {0, 1, 2}
    assert {one.driving_side for one in drawn} == {1, -1}
    assert {one.order(0, 0) for one in drawn} == {1, -1}
    assert {bool(one.towns) for one in drawn} == {bool(one.zones) for one in drawn} == {True, False}
    assert 0.15 < np.mean([one.cloud_cover > CLEAR for one in drawn]) < 0.4
    assert any(one.railways for one in drawn) and any(one.flights for one in drawn)
    zeniths = [one.season.sun_zenith_deg for one in drawn]
    assert min(zeniths) < 25 and max(zeniths) > 60


def test_roads_cross_the_chip_in_every_direction():
    headings = []
    for seed in range(60):
        road = any_road(np.random.default_rng(seed), SIZE, 1)
        inside = ((road.points > 0) & (road.points < SIZE)).all(axis=1)
        assert inside.sum() >= 3
        assert not inside[0] and not inside[-1]
        way = np.diff(road.points[inside], axis=0)[0]
        headings.append(np.rad2deg(np.arctan2(way[0], -way[1])) % 360)
    assert np.histogram(headings, 6, (0, 360))[0].min() >= 3


def test_traffic_is_from_none_to_dense_on_roads():
    heavy, light = [], []
    for seed, place in enumerate(places()):
        traffic = any_traffic(np.random.default_rng(seed), place)
        heavy.append(len(traffic.heavy))
        light.append(len(traffic.light))
        if not place.roads:
            assert not traffic.heavy and not traffic.light
        for one in (*traffic.heavy, *traffic.light):
            apart = [np.hypot(*(road.points - [one.x, one.y]).T).min() for road in place.roads]
            assert min(apart) < 8
    for counts in (heavy, light):
        assert counts.count(0) > 10 and max(counts) > 15
    with_both = [(h, v) for h, v in zip(heavy, light, strict=True) if h and v]
    ratios = [v / h for h, v in with_both]
    assert np.percentile(ratios, 10) < 0.7 and np.percentile(ratios, 90) > 4


def test_flows_are_independent_of_each_other_and_some_are_none():
    rng = np.random.default_rng(0)
    road = any_road(rng, SIZE, 1)
    heavy, light = np.array(
        [(flow.heavy_per_h, flow.light_per_h) for flow in (any_flow(rng, road) for _ in range(200))]
    ).T
    assert 5 < (heavy == 0).sum() < 45 and 5 < (light == 0).sum() < 45
    assert abs(np.corrcoef(heavy, light)[0, 1]) < 0.2


def test_roads_and_roofs_are_painted_and_stand():
    changed = [0, 0]
    for seed, place in enumerate(places(40)):
        image = np.full((4, SIZE, SIZE), 0.15, np.float32)
        paint_place(np.random.default_rng(seed), image, place, 0.5)
        assert np.isfinite(image).all()
        different = np.abs(image - 0.15).max(axis=0) > 0.01
        if place.roads or place.towns or place.zones or place.railways:
            changed[bool(different.any())] += 1
        else:
            assert not different.any()
    assert changed[1] > 5 * changed[0]


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_gives_the_same_place(seed):
    one, other = (any_place(np.random.default_rng(seed), SIZE) for _ in range(2))
    assert one.season == other.season and one.seed == other.seed
    for road, same in zip(one.roads, other.roads, strict=True):
        np.testing.assert_array_equal(road.points, same.points)
