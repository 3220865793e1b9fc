"""The summary of a place: shares, series and comparisons that can be checked by hand."""

import numpy as np
import pandas as pd
import pytest
import shapely

from pipeline.layers.expected import Recall
from pipeline.traffic.days import Days
from pipeline.traffic.rates import compare
from pipeline.traffic.summary import summary_of
from pipeline.traffic.table import ACQUISITION_FIELDS, traffic_of
from tests.traffic.finished_runs import write_run
from tests.traffic.test_table import A2, FOUND

DATES = ("2023-06-01", "2023-06-03", "2023-06-06")
"""Thursday, Saturday, Tuesday."""


def runs(folder, dates=DATES):
    for date in dates:
        write_run(
            folder / date, A2, FOUND, acquired=f"{date}T10:20:31+00:00", recall=Recall(0.8, 0.0),
            unseen=[1500, 0, 0], cloud=[600, 0, 0],
        )  # fmt: skip
    return traffic_of([folder])


def test_shares_of_the_length_of_roads(tmp_path):
    """Of 6 km, 1.5 km are not searched: 0.6 km are cloud, 0.9 km have no data."""
    found = runs(tmp_path)
    assert tuple(found.acquisitions.columns) == tuple(ACQUISITION_FIELDS)
    each = summary_of(found).acquisitions
    assert each["searched"].tolist() == pytest.approx([0.75] * 3)
    assert each["cloud"].tolist() == pytest.approx([0.1] * 3)
    assert each["no_data"].tolist() == pytest.approx([0.15] * 3)
    assert each["weekday"].tolist() == ["Thursday", "Saturday", "Tuesday"]
    assert each["trucks"].tolist() == [4, 4, 4]
    assert each["expected"].tolist() == pytest.approx([5, 5, 5])
    assert (each["expected_low"] < 5).all() and (each["expected_high"] > 5).all()


def test_detections_that_are_left_out_are_counted(tmp_path):
    write_run(tmp_path / "a", A2, FOUND)
    found = traffic_of([tmp_path], lambda run: np.arange(len(run.detections)) == 0)
    assert found.acquisitions[["recurring", "trucks"]].to_numpy().tolist() == [[1, 3]]


def test_series_and_roads(tmp_path):
    summary = summary_of(runs(tmp_path))
    table = traffic_of([tmp_path]).table
    assert len(summary.series) == 2 * len(DATES)
    np.testing.assert_allclose(summary.series["flow"], table["flow_per_hour"])
    (road,) = summary.roads.to_dict("records")
    both = table[table["date"] == table["date"].iloc[0]]["flow_per_hour"].sum()
    assert road["flow_per_hour"] == pytest.approx(both, abs=0.2)
    assert len(shapely.get_parts(road["geometry"])) == 2


def test_two_scenes_of_a_date_are_one_point(tmp_path):
    write_run(tmp_path / "a", A2, FOUND, acquired="2023-06-01T10:20:31+00:00")
    write_run(tmp_path / "b", A2, FOUND[:0], acquired="2023-06-01T10:20:45+00:00")
    series = summary_of(traffic_of([tmp_path])).series.set_index("direction")
    assert series["trucks"].to_dict() == {"E": 3, "W": 1}
    assert series["km"].to_dict() == {"E": 6, "W": 6}
    table = traffic_of([tmp_path]).table
    assert series.loc["E", "flow"] == pytest.approx(table[table["direction"] == "E"]["flow_per_hour"].mean())


def test_comparisons_are_those_of_rates(tmp_path):
    summary = summary_of(runs(tmp_path))
    named = [(each.first, each.second) for each in summary.comparisons]
    assert named == [
        ("2023-06-01", "2023-06-03 to 2023-06-06"),
        ("Monday to Friday", "Saturday and Sunday"),
        *(("all other dates", date) for date in reversed(DATES)),
    ]
    expected = compare(summary.series, Days.parse("Mon-Fri"), Days.parse("Sat,Sun"))
    pd.testing.assert_frame_equal(summary.comparisons[1].rates, expected)


def test_two_dates_or_two_detectors_are_not_compared(tmp_path):
    assert summary_of(runs(tmp_path / "two", DATES[:2])).comparisons == ()
    found = runs(tmp_path / "three")
    found.table.loc[0, "model"] = "other"
    summary = summary_of(found)
    assert summary.comparisons == ()
    assert summary.models == ("other", "trucks-2")
