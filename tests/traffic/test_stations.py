"""Flows at counters: the hour of the acquisition, directions, and what can't be compared."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import CountsError
from pipeline.input_warnings import collected_warnings
from pipeline.traffic.counters.counter_format import counts_of
from pipeline.traffic.runs import read_runs
from pipeline.traffic.stations import bearing_of, hour_of, pairs, stations_of
from tests.roads.test_segments import line, roads
from tests.traffic.finished_runs import named, trucks, write_run
from tests.traffic.test_stretch import place

A2 = named(roads(line((0, 0), (2000, 0)), line((2000, 20), (0, 20)), oneway=1), "A 2")
TWO = trucks([(500, 0), (900, 0), (900, 20)], heading=[90, 90, 270], speed=80)
AT = datetime(2023, 6, 13, 10, 20, 31, tzinfo=UTC)


def counts(minutes=60, start="2023-06-13T00:00Z", hours=24, **more):
    times = pd.date_range(start, periods=hours * 60 // minutes, freq=f"{minutes}min")
    numbers = np.arange(len(times), dtype=float)
    columns = {"start": times, "minutes": float(minutes), "vehicles": numbers * 10, "heavy": numbers}
    return counts_of(columns | more, pd.RangeIndex(len(times)))


def test_the_hour_of_the_acquisition():
    assert hour_of(counts(), AT, "heavy") == 10
    assert hour_of(counts(start="2023-06-14T00:00Z"), AT, "heavy") is None
    assert hour_of(counts()[lambda rows: rows["start"].dt.hour != 10], AT, "heavy") is None


def test_quarters_make_the_hour_around_the_acquisition():
    """10:20:31 is nearest to the middle of 9:45 to 10:45: quarters 39 to 42."""
    assert hour_of(counts(15), AT, "heavy") == 39 + 40 + 41 + 42
    lacking = counts(15)
    lacking.loc[40, "heavy"] = np.nan
    assert hour_of(lacking, AT, "heavy") is None


@pytest.mark.parametrize(
    ("name", "degrees"), [("N", 0), ("sw", 225), ("Westbound", 270), ("112.5", 112.5), ("-90", 270)]
)
def test_directions(name, degrees):
    assert bearing_of(name) == degrees


@pytest.mark.parametrize("name", ["", "R1", "nan", "1000"])
def test_other_directions_need_a_name(name):
    with pytest.raises(CountsError, match="--direction R1=N"):
        bearing_of(name)


def test_stations_of_a_file_with_places():
    both = pd.concat(
        [
            counts(station=name, lon=lon, lat=52.0, direction=way)
            for name, lon in (("a", 9.0), ("b", 9.1))
            for way in "EW"
        ]
    )
    assert [(each.name, each.bearing_deg) for each in stations_of(both, None, {})] == [
        ("a", 90), ("a", 270), ("b", 90), ("b", 270),
    ]  # fmt: skip
    assert [each.name for each in stations_of(both, (9.101, 52.0), {"E": "E"})] == ["b"]
    with pytest.raises(CountsError, match="nearest is 68"):
        stations_of(both, (10.1, 52.0), {})
    with pytest.raises(CountsError, match="no direction R1; it has 'E', 'W'"):
        stations_of(both, None, {"R1": "E"})


def test_a_file_without_places_needs_one():
    with pytest.raises(CountsError, match="--station LON,LAT"):
        stations_of(counts(), None, {"": "E"})
    two = pd.concat([counts(station="a"), counts(station="b")])
    with pytest.raises(CountsError, match=r"2 stations \(a, b\) without places"):
        stations_of(two, (9.0, 52.0), {"": "E"})
    (one,) = stations_of(counts(), (9.0, 52.0), {"": "E"})
    assert (one.lon, one.lat, one.bearing_deg) == (9.0, 52.0, 90)


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "a", A2, TWO)
    write_run(tmp_path / "b", A2, TWO, acquired="2023-06-14T10:20:31+00:00")
    return read_runs([tmp_path])


def at(runs):
    lon, lat = place(1000, 10, runs.network)
    return stations_of(
        pd.concat([counts(direction="R1"), counts(direction="R2")]), (lon, lat), {"R1": "E", "R2": "W"}
    )


def test_a_pair_is_the_flow_and_the_count_of_its_hour(runs):
    """Two trucks to the east on 2 km at 80 km/h are 80 an hour; the second date has no count."""
    said = []
    found = pairs(runs, at(runs), "heavy", say=said.append).set_index("direction")
    assert found["scene_id"].tolist() == ["a", "a"]
    assert found["counted_per_hour"].tolist() == [10, 10]
    np.testing.assert_allclose(found["flow_per_hour"][["R1", "R2"]], [80, 40], rtol=1e-3)
    np.testing.assert_allclose(found["hours"], 2 / 80, rtol=1e-3)
    assert found["road"].tolist() == ["A 2", "A 2"]
    assert (found["flow_low"] < found["flow_per_hour"]).all()
    assert "A 2 at 10 m, stretch of 2.0 km" in said[0]
    assert pairs(runs, at(runs), "all")["counted_per_hour"].tolist() == [100, 100]


def test_nothing_to_compare_is_an_error(runs):
    lon, lat = place(1000, 10, runs.network)
    late = stations_of(counts(start="2022-06-13T00:00Z"), (lon, lat), {"": "E"})
    with pytest.raises(CountsError, match="of 2 acquisitions the counter has no hour in 2"):
        pairs(runs, late, "heavy")
    light = stations_of(counts(heavy=np.nan), (lon, lat), {"": "E"})
    with pytest.raises(CountsError, match=r"no heavy vehicles\. Try --count all"):
        pairs(runs, light, "heavy")


def test_a_station_without_a_road_is_left_out_if_there_are_others(runs):
    lon, lat = place(1000, 10, runs.network)
    there = counts(station="a", lon=lon, lat=lat, direction="E")
    away = counts(station="b", lon=lon + 1, lat=lat, direction="E")
    with collected_warnings() as warnings:
        found = pairs(runs, stations_of(pd.concat([there, away]), None, {}), "heavy")
    assert found["station"].tolist() == ["a"]
    assert "Station b E is left out. No road within 150 m" in warnings[0]
    with pytest.raises(CountsError, match="No road within 150 m"):
        pairs(runs, stations_of(away, None, {}), "heavy")
