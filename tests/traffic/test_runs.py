"""Finished runs: found in folders, each acquisition once, others named with the reason."""

import json
from dataclasses import replace

import numpy as np
import pytest
import shapely

from pipeline.errors import RunsError
from pipeline.layers.expected import Recall
from pipeline.scenes.acquisition import Acquisition
from pipeline.traffic.runs import Network, find_records, read_runs
from tests.roads.test_segments import line, roads
from tests.traffic.finished_runs import named, trucks, write_run

A2 = named(roads(line((0, 0), (2000, 0)), line((2000, 20), (0, 20)), oneway=1), "A 2")
TWO = trucks([(500, 0), (900, 20)], heading=[90, 270])


def test_runs_of_a_batch_are_ordered_by_time(tmp_path):
    write_run(tmp_path / "out" / "a", A2, TWO, acquired="2023-06-18T10:20:31+00:00")
    write_run(tmp_path / "out" / "b", A2, TWO, acquired="2023-06-13T12:20:31+02:00")
    write_run(tmp_path / "out" / "c", A2, TWO, acquired="2023-06-13")
    said = []
    found = read_runs([tmp_path, tmp_path / "out" / "a"], said.append)
    assert [run.scene_id for run in found.runs] == ["b", "c", "a"]
    assert [run.acquired and run.acquired.hour for run in found.runs] == [10, None, 10]
    assert len(found.network) == 2
    assert len(said) == 3
    assert not found.left_out


@pytest.mark.parametrize("share", [None, 0.6])
def test_what_runs_count_comes_back(tmp_path, share):
    """The shares of the detections, by which expected numbers and intervals are summed again."""
    table = [["unknown", "clear", "away", 30, 40], ["unknown", "weak", "away", 9, 30]]
    recall = replace(Recall.of_table(table, 0.05, 1.5), share=share)
    found = trucks([(500, 0), (900, 20), (1200, 0)], heading=[90, 270, 90], sigma=[5, 20, 20])
    found["score"] = [0.9, 0.3, 0.04]
    (run,) = read_runs([write_run(tmp_path / "a", A2, found, recall=recall)]).runs
    shares = run.shares()
    kept = recall.shares(found.assign(landcover=None, near_cloud=False), 0.5)
    assert shares.counted.tolist() == [True, False, False]
    assert shares.chance.tolist() == ([0.9, 0.3, 0] if share is None else kept.chance.tolist())
    np.testing.assert_allclose(shares.recall, kept.recall)
    np.testing.assert_allclose(shares.errors[shares.group], kept.errors[kept.group])
    assert (shares.missing, shares.dispersion, shares.known) == (recall.value, 1.5, True)
    assert shares.share_error == kept.share_error
    assert (share is None) == (kept.share_error == 0)
    unit = np.zeros(3, np.intp)
    assert shares.sums(unit, 1).interval == kept.sums(unit, 1).interval
    without = run.shares(np.array([True, False, False]))
    assert without.counted.tolist() == [False] * 3
    assert without.chance.tolist() == [0, *shares.chance[1:]]


def test_an_acquisition_counts_once_by_its_newest_baseline(tmp_path):
    where = shapely.box(10, 52, 11, 53)
    for name, baseline in (("old", "02.14"), ("new", "05.10"), ("elsewhere", "05.10")):
        there = shapely.affinity.translate(where, 5 * (name == "elsewhere"))
        moment = "2023-06-13T10:20:31+00:00"
        known = Acquisition.from_json({"acquired": moment, "baseline": baseline, "footprint": there.wkt})
        write_run(tmp_path / name, A2, TWO, acquisition=known.as_json())
    found = read_runs([tmp_path])
    assert {run.scene_id for run in found.runs} == {"new", "elsewhere"}
    assert found.left_out == (
        f"{tmp_path / 'old'}: the same acquisition as {tmp_path / 'new'}, which counts instead",
    )


def test_without_a_time_the_latest_run_of_a_scene_counts(tmp_path):
    for out, finished in (("x", "2026-01-02"), ("y", "2026-01-01")):
        write_run(tmp_path / out / "chip", A2, TWO, acquired=None, finished=finished)
    found = read_runs([tmp_path / "x", tmp_path / "y"])
    assert [run.folder for run in found.runs] == [tmp_path / "x" / "chip"]
    assert found.runs[0].day is None


def test_runs_that_do_not_fit_are_named(tmp_path):
    write_run(tmp_path / "good", A2, TWO)
    without = write_run(tmp_path / "without", A2, TWO, scene="w", counts={"trucks": 2})
    older = write_run(tmp_path / "older", A2, TWO, scene="o")
    (older / "detections.parquet").unlink()
    oldest = write_run(tmp_path / "oldest", A2, TWO, scene="p")
    record = json.loads((oldest / "run.json").read_text())
    (oldest / "run.json").write_text(json.dumps(record | {"recall": 0.8}))
    damaged = write_run(tmp_path / "damaged", A2, TWO, scene="d")
    (damaged / "trucks.gpkg").write_bytes(b"no layer")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "run.json").write_text("[1]")
    found = read_runs([tmp_path])
    assert [run.scene_id for run in found.runs] == ["good"]
    lines = dict.fromkeys(found.left_out)
    assert f"{without}: a run without roads (--roads) or without traffic" in lines
    for folder in (older, oldest):
        assert (
            f"{folder}: has no detections.parquet or no recall; run the scene again with this version"
            in lines
        )
    assert sum(str(damaged) in text for text in lines) == sum("odd" in text for text in lines) == 1


def test_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(RunsError, match="does not exist"):
        find_records(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(RunsError, match="is no folder"):
        find_records(tmp_path / "file")
    with pytest.raises(RunsError, match="no finished run"):
        read_runs([tmp_path])
    write_run(tmp_path / "a", A2, TWO, counts={})
    with pytest.raises(RunsError, match="--roads"):
        read_runs([tmp_path])


def test_hidden_folders_of_others_are_not_searched_but_a_given_one_is(tmp_path):
    folder = tmp_path / ".cache" / "a"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({}))
    assert find_records(tmp_path / ".cache") == [folder / "run.json"]
    with pytest.raises(RunsError):
        find_records(tmp_path)


def test_a_segment_of_another_line_is_another(tmp_path):
    write_run(tmp_path / "a", A2, TWO)
    (run,) = read_runs([tmp_path]).runs
    from pipeline.roads.segments import split_roads

    network, segments = Network(), split_roads(A2)
    assert network.add(segments).tolist() == [0, 1]
    assert network.add(segments.iloc[[1, 0]]).tolist() == [1, 0]
    moved = segments.set_geometry(segments.translate(5000))
    assert network.add(moved.to_crs("EPSG:32633")).tolist() == [2, 3]
    assert len(network.segments) == 4
    assert network.segments.crs == segments.crs
    np.testing.assert_allclose(network.segments.geometry[2].bounds, moved.geometry[0].bounds, atol=1e-3)
    assert run.in_network.tolist() == [0, 1]
