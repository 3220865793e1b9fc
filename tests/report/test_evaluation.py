import json
import sqlite3

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import LineString, box

from pipeline.errors import LabelsError, OutputError
from pipeline.evaluation.evaluate import evaluate, evaluate_truck_file
from pipeline.report.evaluation import file_context, write_evaluation
from pipeline.report.page import ReportContext
from tests.evaluation.landcover.test_labels import write_raster
from tests.evaluation.trucks.test_scores import UTM, X, Y, boxes, labels


def write_truck_evaluation(predicted, reference, out, roads=None):
    evaluation = evaluate_truck_file(predicted, reference, roads)
    return write_evaluation(out, evaluation, file_context(evaluation, predicted, reference))


@pytest.fixture
def files(tmp_path):
    """Three trucks, two of them found, and a false alarm, as a run and a labeller would leave them."""
    labels((0, 0), (1000, 0), (2000, 0)).to_file(tmp_path / "labels.gpkg")
    found = boxes((0, 0), (1000, 0), (1000, 300), id=["a", "b", "c"], score=[0.9, 0.8, 0.7])
    found.to_crs(4326).to_file(tmp_path / "trucks.geojson")
    found.to_file(tmp_path / "trucks.gpkg", layer="trucks")
    seen = gpd.GeoDataFrame(geometry=[box(X - 100, Y - 400, X + 1500, Y + 400)], crs=UTM)
    seen.to_file(tmp_path / "trucks.gpkg", layer="seen")
    return tmp_path


@pytest.mark.parametrize("predicted", ["trucks.geojson", "trucks.gpkg"])
def test_trucks_leave_metrics_cases_and_a_report(files, predicted):
    out = files / "new" / "evaluation"
    metrics = write_truck_evaluation(files / predicted, files / "labels.gpkg", out)
    assert metrics == json.loads((out / "metrics.json").read_text())
    counts = metrics["trucks"]["centres"]["20m"]
    assert [counts[key] for key in ("tp", "fp", "fn", "fn_not_seen")] == [2, 1, 0, 1]
    cases = gpd.read_file(out / "confusion_cases.gpkg", layer="trucks")
    assert sorted(cases["outcome"]) == ["FP", "TP", "TP", "not_seen"]
    assert cases.crs == UTM
    assert "2 were found" in (out / "report.html").read_text()
    assert sorted(path.name for path in out.iterdir()) == [
        "confusion_cases.geojson",
        "confusion_cases.gpkg",
        "metrics.json",
        "report.html",
    ]


def test_only_what_is_near_a_road_is_asked_for(files):
    road = gpd.GeoDataFrame(
        {"highway": ["motorway"]}, geometry=[LineString([(X, Y), (X + 3000, Y)])], crs=UTM
    )
    road.to_file(files / "roads.gpkg")
    metrics = write_truck_evaluation(
        files / "trucks.geojson", files / "labels.gpkg", files / "out", roads=files / "roads.gpkg"
    )
    assert metrics["trucks"]["off_road"] == 1
    assert metrics["trucks"]["centres"]["20m"]["f1"] == 1


def test_land_cover_leaves_metrics_cases_and_a_report(tmp_path):
    predicted = np.full((40, 30), 1, np.uint8)
    labelled = predicted.copy()
    labelled[:20] = 4
    write_raster(tmp_path / "p.tif", predicted)
    write_raster(tmp_path / "t.tif", labelled)
    evaluation = evaluate(landcover=tmp_path / "p.tif", landcover_labels=tmp_path / "t.tif")
    context = file_context(evaluation, tmp_path / "p.tif", tmp_path / "t.tif")
    metrics = write_evaluation(tmp_path / "out", evaluation, context)
    assert metrics["landcover"]["accuracy"] == 0.5
    cases = gpd.read_file(tmp_path / "out" / "confusion_cases.gpkg", layer="landcover")
    assert cases[["reference_class", "predicted_class", "area_ha"]].values.tolist() == [
        ["crops", "trees", 6.0]
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "agrees with the labels on 50.0 %" in page


def test_both_go_into_one_folder_with_their_styles(files):
    path = write_raster(files / "p.tif", np.ones((4, 6), np.uint8))
    evaluation = evaluate(
        trucks=gpd.read_file(files / "trucks.geojson"),
        truck_labels=files / "labels.gpkg",
        landcover=path,
        landcover_labels=path,
    )
    metrics = write_evaluation(files / "out", evaluation, ReportContext("both"))
    assert set(metrics) == {"trucks", "moving_vehicles", "landcover", "panoptic"}
    with sqlite3.connect(files / "out" / "confusion_cases.gpkg") as database:
        styled = database.execute("SELECT f_table_name, useAsDefault FROM layer_styles").fetchall()
    assert sorted(styled) == [("landcover", 1), ("trucks", 1)]


def test_unusable_labels_leave_nothing_behind(files):
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)]).to_file(files / "bare.gpkg")
    with pytest.raises(LabelsError, match="no CRS"):
        write_truck_evaluation(files / "trucks.geojson", files / "bare.gpkg", files / "out")
    assert not (files / "out").exists()


def test_a_folder_that_cannot_be_made_is_told(files):
    (files / "out").write_text("a file")
    with pytest.raises(OutputError, match="can't be created"):
        write_truck_evaluation(files / "trucks.geojson", files / "labels.gpkg", files / "out" / "here")
