"""Tables of counted trucks: traffic.parquet of a batch, and plain tables."""

from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from pipeline.errors import CountsError
from pipeline.traffic.counted import read_counted, zone_of


def part(**changes):
    row = {
        "scene_id": "S",
        "acquired": pd.Timestamp("2023-06-04T22:30:00Z"),
        "acquired_date": "2023-06-04",
        "segment_id": "7-0",
        "road_id": "7",
        "road_class": "motorway",
        "direction": "forward",
        "count": 3,
        "count_unresolved": 1,
        "seen_km": 1.5,
        "expected": 5.0,
        "model": "m",
    }
    return pd.DataFrame([row | changes])


def written(folder, *parts):
    (folder / "traffic.parquet").mkdir(parents=True)
    for number, each in enumerate(parts):
        each.to_parquet(folder / "traffic.parquet" / f"{number}.parquet")
    return folder


def test_a_batch_is_a_table(tmp_path):
    found = read_counted(written(tmp_path, part(), part(segment_id="7-1", acquired=None)))
    assert found["road"].tolist() == ["7", "7"]
    assert found["trucks"].tolist() == [3.5, 3.5]
    assert found["km"].tolist() == [1.5, 1.5]
    assert found["date"].tolist() == [pd.Timestamp("2023-06-04")] * 2


def test_the_date_is_that_of_the_place(tmp_path):
    """22:30 UTC of a Sunday is Monday morning in New Zealand, when Sentinel-2 passes there."""
    written(tmp_path, part())
    there = read_counted(tmp_path / "traffic.parquet", ZoneInfo("Pacific/Auckland"))
    assert there["date"][0].day_name() == "Monday"
    assert read_counted(tmp_path)["date"][0].day_name() == "Sunday"


def test_a_segment_of_two_scenes_counts_once(tmp_path):
    found = read_counted(written(tmp_path, part(), part(scene_id="T", seen_km=2.0, expected=6.0)))
    assert found["expected"].tolist() == [6.0]


def test_results_of_two_detectors_are_not_added(tmp_path):
    with pytest.raises(CountsError, match=r"several detectors \(m, n\)"):
        read_counted(written(tmp_path, part(), part(model="n")))


def test_a_plain_table(tmp_path):
    plain = "road,direction,date,expected,trucks,km\nA1,north,2023-06-01,3.2,2,1\n"
    (tmp_path / "table.csv").write_text(plain)
    assert read_counted(tmp_path / "table.csv")["date"].tolist() == [pd.Timestamp("2023-06-01")]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(CountsError, match="does not exist"):
        read_counted(tmp_path / "no.csv")
    (tmp_path / "bad.parquet").write_text("x")
    with pytest.raises(CountsError, match="can't be read as a table"):
        read_counted(tmp_path / "bad.parquet")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CountsError, match="no column date or acquired"):
        read_counted(tmp_path / "bad.csv")
    (tmp_path / "undated.csv").write_text("date,km\nsoon,2\n")
    with pytest.raises(CountsError, match="1 rows have no date"):
        read_counted(tmp_path / "undated.csv")


def test_time_zones():
    assert zone_of("Europe/Berlin").key == "Europe/Berlin"
    for name in ("Berlin", "../etc/passwd", ""):
        with pytest.raises(CountsError, match="Europe/Berlin"):
            zone_of(name)


def test_the_table_by_road_is_preferred_and_its_dates_are_local(tmp_path):
    """As `truckscape traffic` writes it, with rows of roads that were not searched."""
    written(tmp_path, part())
    (tmp_path / "traffic.csv").write_text(
        "\ufeffroad,direction,acquired,date,trucks,expected,seen_km,model\n"
        "A 2,E,2023-06-04T22:30:00+00:00,2023-06-05,3,4.5,12,m\n"
        "A 7,N,2023-06-04T22:30:00+00:00,2023-06-05,,,,m\n",
        encoding="utf-8",
    )
    found = read_counted(tmp_path)
    assert found[["road", "km", "expected"]].to_numpy().tolist() == [["A 2", 12, 4.5]]
    assert found["date"].tolist() == [pd.Timestamp("2023-06-05")]
