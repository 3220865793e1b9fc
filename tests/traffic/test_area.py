"""The summary of runs without roads: shares of ground, and trucks on searched area."""

import pandas as pd
import pytest
import shapely

from pipeline.traffic.area import AREA_FIELDS
from pipeline.traffic.place import read_place
from tests.traffic.finished_runs import write_run
from tests.traffic.test_table import A2, FOUND

DATES = ("2023-06-01", "2023-06-03", "2023-06-06", "2023-06-11")
"""Thursday, Saturday, Tuesday, Sunday."""


def without_roads(folder, found=(FOUND,) * 4):
    """Write a run for each date. A fifth of the ground is cloud."""
    for date, trucks in zip(DATES, found, strict=True):
        write_run(
            folder / date, A2, trucks, acquired=f"{date}T10:20:31+00:00", counts={"trucks": len(trucks)},
            recall=None,
        )  # fmt: skip
    return folder


def test_shares_of_ground_and_trucks_by_date(tmp_path):
    place = read_place([without_roads(tmp_path, [FOUND.iloc[:n] for n in (1, 2, 3, 4)])], keep_recurring=True)
    assert place.by_road is None
    assert "without roads" in place.without_roads
    summary = place.summary()
    each = summary.acquisitions
    assert set(AREA_FIELDS) <= set(each)
    assert each["searched"].tolist() == pytest.approx([0.8] * 4)
    assert each["cloud"].tolist() == pytest.approx([0.2] * 4)
    assert each["no_data"].tolist() == [0] * 4
    assert each["weekday"].tolist() == ["Thursday", "Saturday", "Tuesday", "Sunday"]
    assert each["trucks"].tolist() == [1, 2, 3, 4]
    assert each["expected"].tolist() == pytest.approx([1.25, 2.5, 3.75, 5])
    west, south, east, north = A2.total_bounds
    ground = shapely.box(west, south, east, north).buffer(500).area * 1e-6
    assert summary.totals["km"].tolist() == pytest.approx([ground] * 4)
    assert summary.by_area
    assert [len(each.rates) for each in summary.comparisons] == [1] * 6


def test_recurring_trucks_do_not_count_unless_asked_for(tmp_path):
    """One of one to four trucks a date is at the same place on all dates."""
    folder = without_roads(tmp_path, [FOUND.iloc[:n] for n in (1, 1, 1, 4)])
    each = read_place([folder]).summary().acquisitions
    assert each["recurring"].tolist() == [1, 1, 1, 1]
    assert each["trucks"].tolist() == [0, 0, 0, 3]
    assert each["expected"].tolist() == pytest.approx([0, 0, 0, 3.75])
    kept = read_place([folder], keep_recurring=True).summary().acquisitions
    assert kept["trucks"].tolist() == [1, 1, 1, 4]
    assert kept["recurring"].tolist() == [0] * 4


def test_clouds_that_are_not_known_are_no_zero(tmp_path):
    write_run(tmp_path / "a", A2, FOUND, counts={"trucks": 4}, clouds="none", expected=None)
    (row,) = read_place([tmp_path]).summary().acquisitions.to_dict("records")
    assert pd.isna(row["cloud"]) and pd.isna(row["expected"])
    assert row["searched"] == 1
