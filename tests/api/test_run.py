"""A complete run from Python."""

import json

import pytest

import truckscape as ts
from pipeline.layers.columns import TRUCKS_AMONG_VEHICLES
from pipeline.run import Request, run_directly
from tests.api.conftest import FAST


def test_layers_files_and_record(result):
    assert json.loads((result.folder / "run.json").read_text())["counts"] == result.record["counts"]
    assert set(result.layers) == {"trucks", "vehicles", "road_segments", "seen", "not_seen", "landcover"}
    assert len(result.layers["landcover"]) == result.record["counts"]["landcover"]
    assert list(result.layers["trucks"].columns) == list(TRUCKS_AMONG_VEHICLES.names)
    assert result.files["landcover.tif"].is_file()
    assert result.metrics == {}
    assert f"{result.record['counts']['trucks']} trucks" in repr(result)
    assert "trucks" in repr(result.layers)
    with pytest.raises(KeyError):
        result.layers["nothing"]


def test_the_run_is_that_of_the_command(product, result, tmp_path):
    from pipeline.config import load_config

    config = load_config(None, ["engine.threads=1"])
    same = run_directly(Request(str(product.safe), tmp_path, config, roads=product.roads))
    assert same.run["counts"] == result.record["counts"]
    assert (same.folder / "trucks.geojson").read_bytes() == result.files["trucks.geojson"].read_bytes()


def test_a_repeated_run_with_a_frame_of_roads_finds_its_shards(scene, roads, tmp_path):
    steps = []

    def record(*call: object) -> None:
        steps.append(call)

    first = ts.run(scene, tmp_path, roads=roads, settings=FAST)
    again = ts.run(scene, str(tmp_path), roads=roads, settings=FAST, progress=record)
    assert again.record["shards"] == first.record["shards"]
    assert ("networks over tiles", 0, 0) in steps  # none is missing
    assert [path.suffix for path in (tmp_path / ".roads").iterdir()] == [".parquet"]


def test_labels_give_metrics(product, scene, tmp_path):
    result = ts.run(scene, tmp_path, roads=product.roads, truck_labels=product.trucks, settings=FAST)
    assert result.metrics["trucks"]["centres"]["20m"]["recall"] > 0.5
    assert (result.folder / "evaluation" / "report.html").is_file()


def test_settings_of_a_file_are_replaced_by_those_given(scene, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("trucks:\n  score_threshold: 0.2\n  min_speed_kmh: 5\n")
    changed = {**FAST, "trucks.score_threshold": 0.9}
    result = ts.run(scene, tmp_path / "out", config=file, settings=changed)
    trucks = result.record["parameters"]["trucks"]
    assert (trucks["score_threshold"], trucks["min_speed_kmh"]) == (0.9, 5)
    assert (result.layers["trucks"]["score"] >= 0.9).all()


def test_roads_that_are_none(scene, roads, tmp_path):
    with pytest.raises(ts.RoadsError, match=r"roads= is a path or a GeoDataFrame. Received: int"):
        ts.run(scene, tmp_path, roads=7)
    with pytest.raises(ts.RoadsError, match=r"roads= has no coordinate reference system"):
        ts.run(scene, tmp_path, roads=roads.set_crs(None, allow_override=True))
