"""Runs of one place: by road where there are roads, and by area without."""

import numpy as np
import pytest

from pipeline.errors import RunsError
from pipeline.safe_json import read_json_object as original
from pipeline.traffic import runs
from pipeline.traffic.agreement import Correction
from pipeline.traffic.place import read_place
from tests.traffic.finished_runs import write_run
from tests.traffic.test_area import without_roads
from tests.traffic.test_table import A2, FOUND


def test_recurring_detections_do_not_count(tmp_path):
    for day in range(1, 6):
        write_run(tmp_path / str(day), A2, FOUND.iloc[:1], acquired=f"2023-06-0{day}T10:20:31+00:00")
    said = []
    assert read_place([tmp_path], say=said.append).by_road.table["trucks"].sum() == 0
    assert read_place([tmp_path], keep_recurring=True).by_road.table["trucks"].sum() == 5
    assert len(said) == 10
    assert not read_place([tmp_path]).summary().by_area


def test_each_record_is_read_once(tmp_path, monkeypatch):
    for name in "ab":
        write_run(tmp_path / name, A2, FOUND)
    read = []
    monkeypatch.setattr(
        runs, "read_json_object", lambda path, most: read.append(path) or original(path, most)
    )
    assert len(read_place([tmp_path]).every.acquisitions) == 2
    assert sorted(path.parent.name for path in read) == ["a", "b"]


def test_a_correction_changes_flows_of_roads_only(tmp_path):
    made = Correction(2.0, 1.8, 2.2, 9, "heavy", "trucks-2", 80.0, 40.0)
    write_run(tmp_path / "with" / "a", A2, FOUND)
    place = read_place([tmp_path / "with"])
    flows = [each.by_road.table["flow_per_hour"] for each in (place, place.corrected(made))]
    np.testing.assert_allclose(flows[1], flows[0] * 2, atol=0.2)
    other = read_place([without_roads(tmp_path / "without")])
    assert other.corrected(made) is other


def test_no_run_has_trucks(tmp_path):
    write_run(tmp_path / "a", A2, FOUND, counts={})
    with pytest.raises(RunsError, match="No run has trucks"):
        read_place([tmp_path])
