import json
import sqlite3

import geopandas as gpd
import numpy as np
import pytest

from pipeline.errors import LabelsError
from pipeline.report.run_comparison import chance, find_evaluations, write_differences
from tests.evaluation.landcover.test_labels import write_raster
from tests.evaluation.trucks.test_scores import boxes, labels
from tests.report.test_evaluation import write_truck_evaluation


@pytest.fixture
def runs(tmp_path):
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


@pytest.mark.parametrize("depth", ["", "SCENE", "SCENE/evaluation"])
def test_two_runs_leave_a_layer_figures_and_a_page(runs, depth):
    out = runs / "out"
    record = write_differences(runs / "now" / depth, runs / "new" / depth, out)
    assert record == json.loads((out / "comparison.json").read_text())
    assert record["trucks"]["cases"]["truck"] == {
        "fixed": 2,
        "broken": 1,
        "still wrong": 0,
        "both right": 1,
        "not looked at": 0,
    }
    assert record["trucks"]["cases"]["false alarm"]["broken"] == 1
    assert record["trucks"]["differences"]["recall"]["before"] == 0.5
    assert record["landcover"]["differences"]["accuracy"]["change"] == 1
    layer = gpd.read_file(out / "comparison.gpkg", layer="trucks")
    assert layer["change"].value_counts().to_dict() == {"fixed": 2, "broken": 2, "both right": 1}
    with sqlite3.connect(out / "comparison.gpkg") as database:
        styled = database.execute("SELECT f_table_name FROM layer_styles ORDER BY 1").fetchall()
    assert styled == [("landcover",), ("trucks",)]
    page = (out / "comparison.html").read_text()
    assert "finds 2 that the first had missed" in page
    assert "trucks-new" in page
    assert "default-src 'none'" in page
    assert 'src="http' not in page


def test_runs_of_other_scenes_are_refused(runs):
    record = runs / "new" / "SCENE" / "run.json"
    record.write_text(record.read_text().replace("SCENE", "OTHER"))
    with pytest.raises(LabelsError, match="these are of SCENE and OTHER"):
        write_differences(runs / "now", runs / "new", runs / "out")
    assert not (runs / "out").exists()


def test_evaluations_against_other_labels_are_refused(runs):
    run = runs / "new" / "SCENE"
    labels((0, 0), (1000, 0)).to_file(runs / "fewer.gpkg")
    write_truck_evaluation(run / "trucks.gpkg", runs / "fewer.gpkg", run / "evaluation")
    with pytest.raises(LabelsError, match="same labels"):
        write_differences(runs / "now", runs / "new", runs / "out")


def test_a_folder_without_an_evaluation_is_told(tmp_path):
    with pytest.raises(LabelsError, match="No evaluation in"):
        find_evaluations(tmp_path)


def test_labels_of_land_cover_that_are_gone_are_noted(runs):
    (runs / "labels.tif").unlink()
    record = write_differences(runs / "now", runs / "new", runs / "out")
    assert "landcover" not in record
    assert "no longer at" in record["notes"][0]


def test_cases_of_an_older_version_are_refused(runs):
    path = runs / "new" / "SCENE" / "evaluation" / "confusion_cases.gpkg"
    cases = gpd.read_file(path, layer="trucks").drop(columns="id")
    path.unlink()
    cases.to_file(path, layer="trucks")
    with pytest.raises(LabelsError, match="lack id"):
        write_differences(runs / "now", runs / "new", runs / "out")


def test_p_values_as_people_write_them():
    assert [chance(None), chance(0.0004), chance(0.25)] == ["n/a", "< 0.001", "0.250"]
