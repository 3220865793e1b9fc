"""Recall of a card by groups, and its check."""

import pytest

from pipeline.layers.expected import Recall
from pipeline.validation.recall import recall_table
from tests.validation.test_card_metrics import observed


def place(found, truth):
    """A place near a road, whose labels were measured as clear."""
    from dataclasses import replace

    one = observed(found, truth)
    columns = {"landcover": "built", "near_cloud": False}
    trucks = one.trucks.assign(speed_kmh_sigma=8.0, **columns)
    reference = one.reference.assign(moved=2.0, moved_sigma=0.2, **columns)
    return replace(one, trucks=trucks, reference=reference)


def test_trucks_are_counted_by_group_and_expected_numbers_are_checked():
    known = place({0: 0.9, 1000: 0.06, 3000: 0.04}, [0, 1000, 2000])  # 0.04 is too weak to count
    other = place({0: 1.0, 1000: 1.0}, [0, 1000, 2000])
    table = recall_table([known], [other], near_roads=True)
    assert table["score_from"] == 0.05
    assert table["rows"] == [["built", "clear", "away", 4, 6]]
    (row,) = table["check"]["rows"]
    assert row[:3] == ["place", 3, pytest.approx(2 / (2.5 / 4), abs=1e-3)]
    assert row[3] < 3 < row[4]
    assert table["dispersion"] == 1.0
    recall = Recall.of_card({"recall": {"near_roads": table}})
    assert recall.value == pytest.approx(4.5 / 7)


def test_without_trucks_nothing_is_checked():
    table = recall_table([place({}, [])], [place({0: 1.0}, [0])], near_roads=True)
    assert (table["dispersion"], table["check"]["rows"]) == (1.0, [])
