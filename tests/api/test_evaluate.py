"""Trucks against a reference, as frames and as files."""

import geopandas as gpd
import pytest

import truckscape as ts


def test_a_reference_agrees_with_itself(product):
    labels = gpd.read_file(product.trucks)
    score = ts.evaluate(labels[labels["confidence"] == "high"][["geometry"]], labels)
    figures = score.metrics["trucks"]["centres"]["20m"]
    assert figures["recall"] == 1
    assert "recall 1.000" in repr(score)
    assert set(score.cases["outcome"]) <= {"TP", "FP", "ignored"}


def test_frames_and_files_score_the_same(product, result):
    frames = ts.evaluate(result.layers["trucks"], gpd.read_file(product.trucks))
    files = ts.evaluate(result.files["trucks.geojson"].parent / "trucks.geojson", str(product.trucks))
    assert frames.metrics["trucks"]["centres"] == files.metrics["trucks"]["centres"]


def test_no_trucks_is_a_recall_of_zero(product, result):
    score = ts.evaluate(result.layers["trucks"][:0], product.trucks)
    assert score.metrics["trucks"]["centres"]["20m"]["recall"] == 0
    assert "FN" in set(score.cases["outcome"])


def test_causes_from_the_pixels_of_the_scene(scene, product, result):
    score = ts.evaluate(result.folder, product.trucks, roads=product.roads, scene=scene)
    assert score.cases["cause"].notna().any()


def test_what_cannot_be_scored(product):
    labels = gpd.read_file(product.trucks)
    with pytest.raises(ts.LabelsError, match=r"reference= is a path or a GeoDataFrame. Received: list"):
        ts.evaluate(labels, [])
    with pytest.raises(ts.LabelsError, match=r"trucks= has no coordinate reference system"):
        ts.evaluate(labels.set_crs(None, allow_override=True), labels)
