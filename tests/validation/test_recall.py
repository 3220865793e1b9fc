"""Recall of a card by groups, and its check."""

from dataclasses import replace

import numpy as np
import pytest
from shapely import LineString

from pipeline.layers.expected import LowSun, Recall
from pipeline.validation.recall import fit_low_sun, recall_table
from tests.validation.test_card_metrics import observed


def place(found, truth, shadow=None):
    """A place near a road, whose labels were measured as clear."""
    one = replace(observed(found, truth, side_m=1e6), shadow=shadow)
    columns = {"landcover": "built", "near_cloud": False}
    trucks = one.trucks.assign(speed_kmh_sigma=8.0, **columns)
    reference = one.reference.assign(moved=2.0, moved_sigma=0.2, **columns)
    return replace(one, trucks=trucks, reference=reference)


def test_trucks_are_counted_by_group_and_expected_numbers_are_checked():
    known = place({0: 0.9, 1000: 0.06, 3000: 0.04}, [0, 1000, 2000])  # 0.04 is too weak to count
    other = place({0: 1.0, 1000: 1.0}, [0, 1000, 2000])
    table = recall_table([known], [], [other], near_roads=True)
    assert table["score_from"] == 0.05
    assert table["rows"] == [["built", "clear", "away", 4, 6]]
    (row,) = table["check"]["rows"]
    assert row[:3] == ["place", 3, pytest.approx(2 / (2.5 / 4), abs=1e-3)]
    assert row[3] < 3 < row[4]
    assert table["dispersion"] == 1.0
    recall = Recall.of_card({"recall": {"near_roads": table}})
    assert recall.value == pytest.approx(4.5 / 7)


def test_expected_numbers_are_a_share_of_all_moving_heavy_vehicles():
    """Light, hidden and slow ones do not count: 5 of 8 vehicles do, and 4 of 4; 3 and 4 are found."""
    first = place(dict.fromkeys([0, 1000, 2000], 1.0), [1000 * n for n in range(8)])
    second = place(dict.fromkeys([0, 1000, 2000, 3000], 1.0), [1000 * n for n in range(4)])
    kinds = {
        "confidence": ["high", "medium", "low", "high", "low", "ignore", "low", "high"],
        "vehicle": ["heavy"] * 7 + ["light"],
        "speed_kmh": [80.0] * 6 + [20.0, 80.0],
    }
    moving = {"confidence": "high", "speed_kmh": 80.0}
    first = replace(first, reference=first.reference.assign(**kinds))
    second = replace(second, reference=second.reference.assign(**moving))
    table = recall_table([first], [], [second], near_roads=True)
    assert table["visible"] == pytest.approx(7 / (6.5 / 8) / 9, abs=1e-3)
    variance = 2 * (5 * (3 / 5 - 7 / 9) ** 2 + 4 * (1 - 7 / 9) ** 2) / 9
    assert table["visible_error"] == pytest.approx(variance**0.5 / (7 / 9), abs=1e-3)
    recall = Recall.of_card({"recall": {"near_roads": table}})
    assert (recall.visible, recall.visible_error) == (table["visible"], table["visible_error"])
    assert recall.shares(second.trucks, 0.5).visible == table["visible"]


def test_without_trucks_nothing_is_checked():
    table = recall_table([place({}, [])], [], [place({0: 1.0}, [0])], near_roads=True)
    assert (table["dispersion"], table["check"]["rows"]) == (1.0, [])


def test_recall_under_long_shadows():
    """Shadows of three heights: half of the trucks are found."""
    truth = [1000 * number for number in range(360)]
    places = [*truth[:180], *(x + 500 for x in truth[:20])]
    road = observed({}, []).roads.assign(geometry=[LineString([(-100, 0), (400_000, 0)])])
    winter = replace(place(dict.fromkeys(places, 0.8), truth, shadow=3.0), roads=road)
    known = Recall.of_table([["built", "clear", "away", 90, 100]], 0.05)
    low = fit_low_sun([winter], known, near_roads=True)
    assert known.value * np.exp(2 * low.recall) == pytest.approx(0.5, abs=0.001)
    assert low.recall_error == pytest.approx((4 * 360) ** -0.5, rel=0.01)  # of a share's logarithm


def test_without_long_shadows_they_change_nothing():
    known = Recall.of_table([["built", "clear", "away", 90, 100]], 0.05)
    for shadow in (None, 0.8):
        assert fit_low_sun([place({0: 0.9}, [0], shadow)], known, near_roads=True) == LowSun()
    assert fit_low_sun([], known, near_roads=True) == LowSun()


def test_the_share_is_that_of_the_scores_that_count():
    table = recall_table([place({0: 0.9, 1000: 0.3, 2000: 0.04}, [0])], [], [], near_roads=True)
    assert table["share"] == pytest.approx(0.6)
