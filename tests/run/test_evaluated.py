"""An evaluation of an earlier run in the folder of a scene."""

import json

import numpy as np
import pytest

from pipeline.config import load_config
from pipeline.errors import EvaluationError
from pipeline.evaluation.compare import compare_runs
from pipeline.evaluation.evaluate import check_measured
from pipeline.run import Request, prepare, run_directly
from tests.conftest import write_geotiff
from tests.run.conftest import FAST, request_for


def test_a_run_without_labels_keeps_the_evaluation_and_says_if_its_layers_have_changed(product, tmp_path):
    first = run_directly(request_for(product, tmp_path))
    assert first.run["evaluation"]["is_current"] is True
    assert set(first.run["evaluation"]["layers"]) == {"trucks.geojson", "landcover.tif", "vehicles"}
    files = {path: path.read_bytes() for path in (first.folder / "evaluation").rglob("*") if path.is_file()}
    unlabelled = {"truck_labels": None, "landcover_labels": None}

    again = run_directly(request_for(product, tmp_path, **unlabelled))
    assert {path: path.read_bytes() for path in files} == files
    assert again.run["evaluation"] == first.run["evaluation"]
    assert (again.run["warnings"], again.metrics) == ([], {})

    strict = load_config(None, [*FAST, "trucks.score_threshold=0.999"])
    other = run_directly(request_for(product, tmp_path, config=strict, **unlabelled))
    assert {path: path.read_bytes() for path in files} == files
    assert other.run["evaluation"] == {**first.run["evaluation"], "is_current": False}
    assert "evaluation/ is of an earlier run" in other.run["warnings"][0]
    notes = compare_runs(other.folder, other.folder).record["notes"]
    assert notes[0].endswith("evaluation have changed since they were evaluated.")

    fewer = load_config(None, [*FAST, "trucks.vehicle_threshold=1"])
    changed = run_directly(request_for(product, tmp_path, config=fewer, **unlabelled)).run["evaluation"]
    assert changed == {**first.run["evaluation"], "is_current": False}

    last = run_directly(request_for(product, tmp_path, **unlabelled))
    assert last.run["evaluation"] == first.run["evaluation"]
    assert json.loads((last.folder / "run.json").read_text())["evaluation"]["is_current"] is True


def test_a_run_without_labels_has_no_evaluation(product, tmp_path):
    result = run_directly(request_for(product, tmp_path, truck_labels=None, landcover_labels=None))
    assert result.run["evaluation"] is None
    check_measured(result.metrics)


def test_labels_of_a_layer_that_is_not_made_are_named(product, tmp_path):
    config = load_config(None, [*FAST, "landcover.enabled=false"])
    (warning,) = prepare(request_for(product, tmp_path, config=config)).warnings
    assert f"Labels {product.landcover} are not compared with anything" in warning


def test_a_scene_without_data_measures_nothing_and_says_so(product, tmp_path):
    scene = write_geotiff(tmp_path / "empty.tif", np.zeros((4, 64, 64), np.uint16))
    config = load_config(None, [*FAST, "landcover.enabled=false"])
    result = run_directly(Request(str(scene), tmp_path / "out", config, truck_labels=product.trucks))
    with pytest.raises(EvaluationError, match=r"Nothing was measured\. .*trucks\.gpkg: Nothing of the scene"):
        check_measured(result.metrics)
