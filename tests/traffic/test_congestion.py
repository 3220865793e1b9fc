"""Congestion: slow trucks, standing rows, and what can't be said."""

import numpy as np
import pandas as pd
import pytest

from pipeline.layers.flow import observe_directions
from pipeline.roads.segments import split_roads
from pipeline.traffic.congestion import congested, free_speeds
from tests.layers.test_snapping import snap, trucks
from tests.layers.test_traffic import counts
from tests.roads.test_segments import line, roads

TWO_WAY = split_roads(roads(line((0, 0), (3000, 0))), max_m=1e4)


def flags(found, segments=TWO_WAY, free=84.0):
    """Congestion along the line and against it."""
    known = counts(snap(found, segments), segments)
    metres = segments.length.to_numpy()
    rows = observe_directions(known, segments["road_class"], {1: metres, -1: metres})
    return [None if pd.isna(flag) else bool(flag) for flag in congested(known, rows, np.array([free]))]


def test_slow_trucks_are_congestion_and_fast_ones_are_none():
    places = [(500, -8), (900, -8), (1500, -8), (700, 8)]
    assert flags(trucks(places, heading=[90, 90, 90, 270], speed=[28, 35, 30, 82])) == [True, False]


def test_few_trucks_near_the_limit_say_nothing():
    """0.6 x 84 = 50 km/h; a truck has +- 1.96 x 9.4 km/h."""
    assert flags(trucks([(500, -8)], heading=90, speed=55.0)) == [None, None]
    assert flags(trucks([(500, -8)], heading=90, speed=70.0)) == [False, None]
    assert flags(trucks([(500, -8)], heading=90, speed=25.0)) == [True, None]


def test_an_empty_road_is_unknown_not_free():
    assert flags(trucks([])) == [None, None]


FAST = [(1000 + 120 * number, -8) for number in range(15)]


@pytest.mark.parametrize(
    ("standing", "apart_m", "sigma", "jam"),
    [(5, 140, 8, True), (4, 140, 8, False), (5, 160, 8, False), (5, 140, 40, False)],
)
def test_a_row_of_standing_trucks_is_a_jam_on_a_road_that_is_fast_elsewhere(standing, apart_m, sigma, jam):
    """Five of them, each within 150 m of the next, and all of them surely slow."""
    row = [(100 + apart_m * number, -8) for number in range(standing)]
    found = trucks(
        row + FAST,
        heading=[np.nan] * standing + [90] * 15,
        speed=[6.0] * standing + [84.0] * 15,
        sigma=[float(sigma)] * standing + [5.0] * 15,
    )
    assert flags(found)[0] is jam


def test_a_row_of_uncertain_direction_is_of_both():
    row = [(100 + 140 * number, 0) for number in range(5)]
    assert flags(trucks(row, speed=6.0, sigma=8.0)) == [True, True]


def test_without_speeds_nothing_can_be_said():
    row = [(100 + 140 * number, 0) for number in range(5)]
    assert flags(trucks(row, speed=np.nan, sigma=np.nan)) == [None, None]


@pytest.mark.parametrize(
    ("road_class", "limit", "expected"),
    [
        ("motorway", None, 84), ("motorway", "120", 84), ("motorway", "60", 60),
        ("secondary", "30 mph", 48.3),
        ("secondary", "DE:urban", 66), ("bridleway", None, np.nan), ("bridleway", "50", 50),
        (None, None, np.nan),
    ],
)  # fmt: skip
def test_free_speeds(road_class, limit, expected):
    segments = TWO_WAY.assign(road_class=road_class, maxspeed=limit)
    assert free_speeds(segments, np.array([0]), 1)[0] == pytest.approx(expected, abs=0.05, nan_ok=True)


def test_the_free_speed_of_a_road_is_a_mean_by_length():
    segments = split_roads(roads(line((0, 0), (3000, 0)), line((3000, 0), (4000, 0))), max_m=1e4)
    segments["maxspeed"] = ["80", "40"]
    assert free_speeds(segments, np.array([0, 0]), 2).tolist()[0] == 70
    assert np.isnan(free_speeds(segments, np.array([-1, 0]), 2)[1])
