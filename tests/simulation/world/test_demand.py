"""Flows are those counted by road class, weekday and hour."""

from datetime import datetime

import numpy as np
import pytest

from pipeline.simulation.world.demand import ROAD_CLASSES, Demand, counted
from pipeline.simulation.world.network import Road

POINTS = np.array([[0.0, 0.0], [100.0, 0.0]])
ROADS = {
    "motorway": Road(POINTS, "motorway", "A 1", 3, 4.0, 3.0),
    "secondary": Road(POINTS, "secondary", "L 1", 1),
    "tertiary": Road(POINTS, "tertiary", "K 1", 1),
}
PLAIN = Demand()
TUESDAY, SUNDAY = datetime(2023, 6, 13, 10, 30), datetime(2023, 6, 18, 10, 30)


def flows(name="motorway", local=TUESDAY, demand=PLAIN):
    """Heavy and light vehicles an hour on 300 roads, (300, 2)."""
    drawn = (
        counted(ROADS[name], local, demand, np.random.default_rng([seed, 1]), np.random.default_rng(seed))
        for seed in range(300)
    )
    return np.array([(flow.heavy_per_h, flow.light_per_h) for flow in drawn])


@pytest.mark.parametrize(
    ("name", "per_day"), [("motorway", 55_000), ("secondary", 6_500), ("tertiary", 1_800)]
)
def test_volumes_are_those_of_the_road_class(name, per_day):
    both = flows(name).sum(axis=1)
    # an hour of the morning has 5 to 6 % of a day, and one direction half
    assert np.median(both) == pytest.approx(0.055 * per_day / 2, rel=0.15)


@pytest.mark.parametrize("name", ROADS)
def test_shares_of_heavy_vehicles_are_3_to_35_percent(name):
    heavy, light = flows(name).T
    share = heavy / (heavy + light)
    assert share.min() >= 0.029 and share.max() < 0.45
    assert np.median(share) == pytest.approx(ROAD_CLASSES[name].heavy_share, abs=0.03)


def test_most_lorries_rest_on_sundays():
    workday, sunday = flows(), flows(local=SUNDAY)
    assert 0.1 < np.median(sunday[:, 0] / workday[:, 0]) < 0.3
    assert np.median(sunday[:, 1] / workday[:, 1]) > 0.8
    assert (sunday[:, 0] / sunday.sum(axis=1)).min() >= 0.029


def test_nights_have_few_cars_and_more_lorries():
    night, day = flows(local=datetime(2023, 6, 13, 2)), flows()
    assert np.median(night[:, 1] / day[:, 1]) < 0.15
    assert np.median(night[:, 0] / day[:, 0]) > 0.3


def test_knobs_set_heavy_and_light_apart():
    plain = flows()
    np.testing.assert_allclose(flows(demand=Demand(heavy=3.0)), plain * [3, 1])
    np.testing.assert_allclose(flows(demand=Demand(light_per_heavy=7.0))[:, 1], 7 * plain[:, 0])
    assert flows(demand=Demand(heavy=0.0))[:, 0].max() == 0
