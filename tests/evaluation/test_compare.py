import json

import geopandas as gpd
import numpy as np
import pytest

from pipeline.errors import EvaluationError
from pipeline.evaluation.compare import compare_runs, find_evaluations
from tests.evaluation.landcover.test_labels import write_raster
from tests.evaluation.trucks.test_scores import boxes, labels
from tests.report.test_evaluation import write_truck_evaluation


def two_runs(tmp_path):
    """Two runs as they lie on disk: of four trucks one finds the first two, the other the last three."""
    labels((0, 0), (1000, 0), (2000, 0), (3000, 0)).to_file(tmp_path / "labels.gpkg")
    truth = write_raster(tmp_path / "labels.tif", np.full((4, 6), 4, np.uint8))
    for name, places, value in (("now", (0, 1000), 1), ("new", (1000, 2000, 3000, 9000), 4)):
        run = tmp_path / name / "SCENE"
        run.mkdir(parents=True)
        boxes(*((x, 0) for x in places), score=[0.8] * len(places)).to_file(
            run / "trucks.gpkg", layer="trucks"
        )
        write_raster(run / "landcover.tif", np.full((4, 6), value, np.uint8))
        metrics = write_truck_evaluation(run / "trucks.gpkg", tmp_path / "labels.gpkg", run / "evaluation")
        metrics["landcover"] = {"labels": str(truth)}
        (run / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
        record = {"scene": "SCENE", "models": {"detection": f"trucks-{name}"}, "score_threshold": 0.4}
        (run / "run.json").write_text(json.dumps(record))
    return tmp_path


@pytest.fixture
def runs(tmp_path):
    return two_runs(tmp_path)


def test_runs_of_other_scenes_are_refused(runs):
    record = runs / "new" / "SCENE" / "run.json"
    record.write_text(record.read_text().replace("SCENE", "OTHER"))
    with pytest.raises(EvaluationError, match="these are of SCENE and OTHER"):
        compare_runs(runs / "now", runs / "new")


def test_evaluations_against_other_labels_are_refused(runs):
    run = runs / "new" / "SCENE"
    labels((0, 0), (1000, 0)).to_file(runs / "fewer.gpkg")
    write_truck_evaluation(run / "trucks.gpkg", runs / "fewer.gpkg", run / "evaluation")
    with pytest.raises(EvaluationError, match="same labels"):
        compare_runs(runs / "now", runs / "new")


def test_a_folder_without_an_evaluation_is_told(tmp_path):
    with pytest.raises(EvaluationError, match="No evaluation in"):
        find_evaluations(tmp_path)


def test_labels_of_land_cover_that_are_gone_are_noted(runs):
    (runs / "labels.tif").unlink()
    record = compare_runs(runs / "now", runs / "new").record
    assert "landcover" not in record
    assert "no longer at" in record["notes"][0]


def test_cases_of_an_older_version_are_refused(runs):
    path = runs / "new" / "SCENE" / "evaluation" / "confusion_cases.gpkg"
    cases = gpd.read_file(path, layer="trucks").drop(columns="id")
    path.unlink()
    cases.to_file(path, layer="trucks")
    with pytest.raises(EvaluationError, match="lack id"):
        compare_runs(runs / "now", runs / "new")
