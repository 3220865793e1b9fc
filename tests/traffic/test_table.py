"""The table of traffic by road: figures that can be checked by hand, times on clocks, cloud."""

from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.layers.expected import Recall
from pipeline.layers.flow import RoadCounts, observe
from pipeline.roads.segments import split_roads
from pipeline.traffic.runs import read_runs
from pipeline.traffic.table import SUMMARY_FIELDS, TABLE_FIELDS, by_road, traffic_by_road, traffic_of
from tests.layers.test_snapping import snap
from tests.roads.test_segments import line, roads
from tests.traffic.finished_runs import named, trucks, write_run

DOCS = Path(__file__).resolve().parents[2] / "docs" / "layers.md"
LINES = line((0, 0), (2000, 0)), line((2000, 0), (3000, 0)), line((3000, 20), (0, 20))
A2 = named(roads(*LINES, oneway=1), "A 2")
FOUND = trucks(
    [(500, 0), (900, 0), (2500, 0), (900, 20)], heading=[90, 90, 90, 270], speed=[80, 90, 70, 85.0]
)


def one(table, direction, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    (row,) = table[table["direction"] == direction].to_dict("records")
    return row


def test_carriageways_and_segments_add_up_to_a_road(tmp_path):
    write_run(tmp_path / "a", A2, FOUND, recall=Recall(0.8, 0.0))
    found = traffic_of([tmp_path])
    assert tuple(found.table.columns) == tuple(TABLE_FIELDS)
    assert found.table[["road", "direction"]].to_numpy().tolist() == [["A 2", "E"], ["A 2", "W"]]
    east, west = one(found.table, "E"), one(found.table, "W")
    assert (east["trucks"], west["trucks"]) == (3, 1)
    assert (east["expected"], east["recall_used"]) == (pytest.approx(3 / 0.8, abs=1e-3), 0.8)
    assert (east["seen_km"], west["seen_km"]) == (3, 3)
    assert east["trucks_per_km"] == 1
    assert (east["mean_speed_kmh"], east["speed_se_kmh"]) == (80, pytest.approx((89 / 3) ** 0.5, abs=0.05))
    assert east["flow_per_hour"] == pytest.approx(3 / 0.8 / 3 * 80, abs=0.05)
    assert (east["bearing_deg"], west["bearing_deg"]) == (90, 270)
    assert (east["road_class"], east["model"], east["simulated"]) == ("motorway", "trucks-2", False)
    assert (east["congested"], west["congested"]) == (False, False)


def test_intervals_are_of_sums_not_means_of_segments(tmp_path):
    """The figures of a road in ten pieces are those of `layers.flow` for the road in one piece."""
    recall = Recall(0.7, 0.1)
    whole = named(roads(line((0, 0), (3000, 0)), oneway=1), "A 2")
    pieces = [line((300 * n, 0), (300 * n + 300, 0)) for n in range(10)]
    write_run(tmp_path / "a", named(roads(*pieces, oneway=1), "A 2"), FOUND.iloc[:3], recall=recall)
    (row,) = traffic_of([tmp_path]).table.to_dict("records")
    segments = split_roads(whole, max_m=1e5)
    snapped = snap(FOUND.iloc[:3], segments)
    counts = RoadCounts.of(snapped, 1, recall.shares(snapped.trucks, 0.5))
    (expected,) = observe(counts, segments, np.array([3000.0])).to_dict("records")
    for name in ("expected", "expected_low", "expected_high", "flow_per_hour", "flow_low", "flow_high"):
        assert row[name] == pytest.approx(expected[name], abs=0.06), name


def test_trucks_of_uncertain_direction_are_half_in_either(tmp_path):
    two_way = named(roads(line((0, 0), (2000, 0))), "B 1")
    found = trucks([(500, -9), (900, 0), (1300, 0)], heading=[90, np.nan, np.nan], axis=90)
    write_run(tmp_path / "a", two_way, found)
    table = traffic_of([tmp_path]).table
    assert table["trucks"].tolist() == [2, 1]
    assert table["expected"].tolist() == [2, 1]
    assert table["flow_low"].tolist()[1] == 0


def test_detections_that_are_left_out_do_not_count(tmp_path):
    write_run(tmp_path / "a", A2, FOUND)
    table = traffic_by_road(read_runs([tmp_path]), lambda run: run.detections["speed_kmh"] > 85).table
    assert table["trucks"].tolist() == [2, 1]
    assert table["expected"].tolist() == [2, 1]
    assert table["mean_speed_kmh"].tolist() == [75, 85]


def test_ramps_are_counted_apart(tmp_path):
    network = named(roads(*LINES, line((0, 200), (900, 200)), oneway=1), "A 2")
    network["road_class"] = ["motorway"] * 3 + ["motorway_link"]
    write_run(
        tmp_path / "a", network, pd.concat([FOUND, trucks([(300, 200)], heading=90)], ignore_index=True)
    )
    found = traffic_of([tmp_path])
    assert found.table["trucks"].tolist() == [3, 1]
    assert found.apart == 1


def test_cloud_and_what_was_not_searched(tmp_path):
    """1 km of the first carriageway under cloud, 500 m of it without data; the other is all under cloud."""
    write_run(tmp_path / "a", A2, FOUND.iloc[:2], unseen=[1000, 500, 3000], cloud=[1000, 0, 3000])
    table = traffic_of([tmp_path]).table
    east, west = one(table, "E"), one(table, "W")
    assert (east["seen_km"], east["cloud_share"]) == (1.5, 0.4)
    assert (west["seen_km"], west["cloud_share"]) == (0, 1)
    assert all(pd.isna(west[name]) for name in ("trucks", "expected", "flow_high", "congested"))
    write_run(tmp_path / "b", A2, FOUND.iloc[:2], unseen=[1000, 500, 3000], scene="b")
    unknown = traffic_of([tmp_path / "b"]).table
    assert unknown["direction"].tolist() == ["E"]  # nothing says that the image shows the other one
    assert unknown["cloud_share"].isna().all()


@pytest.mark.parametrize(
    ("crs", "acquired", "local", "weekday", "zone"),
    [
        ("EPSG:32632", "2023-06-13T10:20:31+00:00", "2023-06-13T12:20:31", "Tuesday", "Europe/Berlin"),
        ("EPSG:32632", "2023-12-13T10:20:31+00:00", "2023-12-13T11:20:31", "Wednesday", "Europe/Berlin"),
        ("EPSG:32760", "2023-06-12T22:20:31+00:00", "2023-06-13T10:20:31", "Tuesday", "Pacific/Auckland"),
    ],
)
def test_time_on_clocks_beside_the_road(tmp_path, crs, acquired, local, weekday, zone):
    """Also where the day there is another than in UTC."""
    network, found = A2, FOUND
    if zone == "Pacific/Auckland":
        network, found = (
            frame.set_geometry(frame.translate(-200_000)).set_crs(crs, allow_override=True)
            for frame in (A2, FOUND)
        )
    write_run(tmp_path / "a", network, found, acquired=acquired)
    row = one(traffic_of([tmp_path]).table, "E")
    assert row["local_time"] == datetime.fromisoformat(local)
    assert row["acquired"] == datetime.fromisoformat(acquired)
    assert row["date"] == date.fromisoformat(local[:10])
    assert (row["weekday"], row["time_zone"]) == (weekday, zone)


def test_a_date_without_a_time(tmp_path):
    write_run(tmp_path / "a", A2, FOUND, acquired="2023-06-13")
    row = one(traffic_of([tmp_path]).table, "E")
    assert (row["date"], row["weekday"]) == (date(2023, 6, 13), "Tuesday")
    assert pd.isna(row["local_time"])
    assert pd.isna(row["acquired"])


def test_the_same_road_on_many_dates_has_one_key(tmp_path):
    """Also where another scene shows another part of it, in another zone of UTM."""
    write_run(tmp_path / "a", A2, FOUND)
    write_run(tmp_path / "b", A2.iloc[:1], FOUND.iloc[:1], acquired="2023-06-18T10:20:31+00:00")
    moved = A2.set_geometry(A2.translate(20_000)).to_crs("EPSG:32633")
    write_run(
        tmp_path / "c", moved, FOUND.iloc[:0].to_crs("EPSG:32633"), acquired="2023-06-23T10:20:31+00:00"
    )
    found = traffic_of([tmp_path])
    east = found.table[found.table["direction"] == "E"]
    assert east["road"].tolist() == ["A 2"] * 3
    assert east["date"].astype(str).tolist() == ["2023-06-13", "2023-06-18", "2023-06-23"]
    assert east["trucks"].tolist() == [3, 1, 0]
    assert len(found.roads) == 2
    assert found.roads.crs == "EPSG:4326"


def test_summary_by_road(tmp_path):
    write_run(tmp_path / "a", A2, FOUND)
    write_run(tmp_path / "b", A2, FOUND.iloc[:2], acquired="2023-06-18T10:20:31+00:00",
              unseen=[0, 0, 3000], cloud=[0, 0, 3000])  # fmt: skip
    summary = by_road(traffic_of([tmp_path]).table)
    assert tuple(summary.columns) == tuple(SUMMARY_FIELDS)
    east, west = one(summary, "E"), one(summary, "W")
    assert [east[name] for name in ("acquisitions", "observed", "trucks", "seen_km")] == [2, 2, 5, 6]
    assert [west[name] for name in ("acquisitions", "observed", "trucks", "seen_km")] == [2, 1, 1, 3]
    assert east["trucks_per_km"] == pytest.approx(5 / 6, abs=1e-3)
    assert east["flow_per_hour"] == pytest.approx((3 / 3 * 80 + 2 / 3 * 85) / 2, abs=0.1)
    assert (west["first_date"], west["last_date"]) == (date(2023, 6, 13), date(2023, 6, 13))


def test_every_field_is_documented():
    text = DOCS.read_text()
    for name, (_, what) in TABLE_FIELDS.items():
        assert f"| `{name}` | {what} |" in text
