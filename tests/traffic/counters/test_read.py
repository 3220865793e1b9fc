"""Counter files: which format they have, and what is refused."""

from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from pipeline.errors import CountsError
from pipeline.traffic.counters.counter_format import CounterFormat, counts_of
from pipeline.traffic.counters.read import COUNTER_FORMATS, read_counter

PLAIN = "station,lon,lat,road,direction,start,minutes,vehicles,heavy\n"


def written(tmp_path, text):
    path = tmp_path / "counter.csv"
    path.write_text(text)
    return path


def test_the_simulator_s_table(tmp_path):
    row = "S1,9.1,52.3,A 2,E,2023-06-13T12:00:00+02:00,60,1500,210\n"
    counts, kind = read_counter(written(tmp_path, PLAIN + row))
    assert kind.name.startswith("table")
    assert counts.to_dict("records") == [
        {
            "station": "S1", "lon": 9.1, "lat": 52.3, "road": "A 2", "direction": "E",
            "start": pd.Timestamp("2023-06-13T10:00:00Z"), "minutes": 60, "vehicles": 1500, "heavy": 210,
        }
    ]  # fmt: skip


def test_named_columns_of_any_file(tmp_path):
    path = written(tmp_path, "Zeit;Anzahl;SV\n2023-06-13 12:00;1,500;\n2023-06-13 12:15;400;40\n")
    names = {"start": "Zeit", "vehicles": "Anzahl", "heavy": "SV"}
    counts, _ = read_counter(path, ZoneInfo("Europe/Berlin"), names)
    assert counts["start"].dt.hour.tolist() == [10, 10]
    assert counts["minutes"].tolist() == [15, 15]
    assert counts["vehicles"].tolist() == [1500, 400]
    assert counts["heavy"].isna().tolist() == [True, False]


def test_lines_above_the_header_are_skipped(tmp_path):
    text = "Counts of a station\n\nstart,heavy,minutes\n2023-06-13T10:00Z,20,60\n"
    counts, _ = read_counter(written(tmp_path, text))
    assert counts["heavy"].tolist() == [20]


def test_times_without_a_zone_are_refused_with_advice(tmp_path):
    path = written(tmp_path, "start,heavy,minutes\n2023-06-13T10:00,20,60\n")
    with pytest.raises(CountsError, match="--timezone Europe/Berlin"):
        read_counter(path)
    some = written(tmp_path, "start,heavy,minutes\n2023-06-13T10:00,20,60\n2023-06-13T11:00Z,20,60\n")
    with pytest.raises(CountsError, match=r"1 of 2 times .* have an offset"):
        read_counter(some, ZoneInfo("UTC"))


def test_the_hour_that_occurs_twice_is_left_out(tmp_path):
    path = written(tmp_path, "start,heavy,minutes\n2023-10-29T02:00,20,60\n2023-10-29T03:00,30,60\n")
    counts, _ = read_counter(path, ZoneInfo("Europe/Berlin"))
    assert counts["heavy"].tolist() == [30]
    assert counts["start"].tolist() == [pd.Timestamp("2023-10-29T02:00Z")]


def test_unknown_files_are_refused_with_their_columns(tmp_path):
    with pytest.raises(CountsError, match=r"time, volume. Name those that count, e.g. --columns start=time"):
        read_counter(written(tmp_path, "time,volume\n1,2\n"))
    with pytest.raises(CountsError, match="start=when does not fit"):
        read_counter(written(tmp_path, "time,volume\n1,2\n"), None, {"start": "when", "vehicles": "volume"})
    with pytest.raises(CountsError, match="can't be read"):
        read_counter(tmp_path / "none.csv")
    with pytest.raises(CountsError, match="no row with a time and a count"):
        read_counter(written(tmp_path, "start,heavy,minutes\nsoon,20,60\n"), ZoneInfo("UTC"))


def test_a_format_is_one_entry(tmp_path, monkeypatch):
    """The seam: a reader of another format is found by its columns."""

    def counts(rows, zone):
        start = pd.to_datetime(rows["t"], utc=True)
        return counts_of({"start": start, "minutes": 60.0, "vehicles": 1.0, "heavy": None}, rows.index)

    mine = CounterFormat("mine", lambda columns: "t" in columns, counts, "none")
    monkeypatch.setattr("pipeline.traffic.counters.read.COUNTER_FORMATS", (*COUNTER_FORMATS, mine))
    _, kind = read_counter(written(tmp_path, "t,u\n2023-06-13T10:00Z,1\n"))
    assert kind is mine
