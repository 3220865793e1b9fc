"""Columns of labels that are not used are named; those of any type are read."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from pipeline.errors import LabelsError
from pipeline.evaluation.columns import misspelt
from pipeline.evaluation.labels import checked_truck_labels, is_light
from pipeline.input_warnings import collected_warnings
from tests.evaluation.test_labels import UTM, pixels

KNOWN = ("id", "confidence", "travel_deg", "heading_deg", "speed_kmh", "scene_id")


def read(path, **columns):
    count = len(next(iter(columns.values())))
    shapes = [pixels(2 * number, 0) for number in range(count)]
    gpd.GeoDataFrame(columns, geometry=shapes, crs=UTM).to_file(path)
    with collected_warnings() as warnings:
        boxes, left_out = checked_truck_labels(path)
    assert [line.removeprefix(f"{path}: ") for line in warnings] == left_out.lines("Truck labels")
    return boxes, list(left_out.notes)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("confidense", "confidence"),
        ("Confidance", "confidence"),
        ("conf", "confidence"),
        ("heading", "heading_deg"),
        ("travel_dir", "travel_deg"),
        ("speed", "speed_kmh"),
        ("scene", "scene_id"),
        ("vehicles", "vehicle"),
    ],
)
def test_a_misspelt_column_is_named(tmp_path, name, meant):
    _, notes = read(tmp_path / "l.gpkg", **{name: ["low"]})
    assert notes == [f"column {name} is not read; if it is meant to be {meant}, rename it."]


def test_other_columns_are_no_cause_for_warnings():
    """Those of the simulator's truth, of the shared labels and usual ones."""
    others = [
        "kind",
        "length_m",
        "width_m",
        "msi_detector",
        "band_order",
        "note",
        "fid",
        "uid",
        "osm_id",
        "name",
    ]
    assert misspelt([*others, "score", "date", "source", "status", "comment", "geometry"], KNOWN) == []
    assert misspelt(["heading", "travel_deg", "confidense", "confidence"], KNOWN) == []


@pytest.mark.parametrize("name", ["l.gpkg", "l.shp"])
def test_columns_by_any_case_and_as_a_shapefile_cuts_them(tmp_path, name):
    heading = "heading_de" if name == "l.shp" else "HEADING_DEG"
    boxes, notes = read(tmp_path / name, **{"Confidence": ["Low ", None, ""], heading: ["45", "90.5", None]})
    assert boxes["confidence"].tolist() == ["low", "high", "high"]
    assert boxes["travel_deg"].tolist()[:2] == [45.0, 90.5]
    assert np.isnan(boxes["travel_deg"][2]) and notes == []


@pytest.mark.parametrize(
    ("values", "received"),
    [
        (["sure", "sure", "low"], "sure (2)"),
        ([0.9, 0.5, 0.9], "0.9 (2), 0.5 (1)"),
        ([3, 1, 3], "3 (2), 1 (1)"),
        ([True, False, True], "true (2), false (1)"),
    ],
)
def test_a_confidence_of_another_scale_is_refused_with_its_values(tmp_path, values, received):
    with pytest.raises(LabelsError) as caught:
        read(tmp_path / "l.gpkg", confidence=values)
    assert str(caught.value).endswith(f"is one of high, medium, low, ignore. Received: {received}")


def test_values_that_are_no_numbers_are_named(tmp_path):
    boxes, notes = read(tmp_path / "l.gpkg", travel_deg=["NE", "12,5", "90"], speed_kmh=["80", None, "inf"])
    assert boxes["travel_deg"].isna().tolist() == [True, True, False]
    assert notes == [
        "2 values of travel_deg are no numbers: NE (1), 12,5 (1).",
        "1 values of speed_kmh are no numbers: inf (1).",
    ]


def test_ids_of_any_type_are_text(tmp_path):
    frame = {"id": pd.array([7, None, 9], dtype="Int64")}
    assert read(tmp_path / "a.gpkg", **frame)[0]["id"].tolist() == ["7", "2", "9"]
    assert read(tmp_path / "b.gpkg", id=[7.0, 8.0])[0]["id"].tolist() == ["7", "8"]


def test_classes_that_count_as_trucks_are_named(tmp_path):
    counted = (
        "count as heavy vehicles. Say heavy or light in a column vehicle, or give those boxes the confidence "
        "ignore."
    )
    _, notes = read(tmp_path / "a.gpkg", **{"class": ["truck", "car", "Bus", "car"]})
    assert notes == [f"column class is not read, so car (2), Bus (1) {counted}"]
    _, notes = read(tmp_path / "b.gpkg", **{"class": ["truck", "car"], "confidence": ["high", "ignore"]})
    assert notes == []
    assert read(tmp_path / "c.gpkg", label=[1, 1])[1] == []
    assert read(tmp_path / "d.gpkg", label=[1, 2])[1] == [
        f"column label is not read, so 1 (1), 2 (1) {counted}"
    ]


@pytest.mark.parametrize("name", ["Label", "TYPE", "vehicle"])
def test_classes_in_other_columns_are_named_too(tmp_path, name):
    _, notes = read(tmp_path / "a.gpkg", **{name: ["truck", "car"]})
    assert [note.partition(",")[0] for note in notes] == [f"column {name} is not read"]


def test_heavy_and_light_vehicles(tmp_path):
    boxes, notes = read(tmp_path / "a.gpkg", VEHICLE=["heavy", "Light ", None, ""])
    assert boxes["vehicle"].tolist() == ["heavy", "light", "heavy", "heavy"]
    assert is_light(boxes).tolist() == [False, True, False, False] and notes == []
    blank, notes = read(tmp_path / "b.gpkg", vehicle=["", None])
    assert blank["vehicle"].tolist() == ["heavy", "heavy"] and notes == []


def test_without_the_column_all_are_heavy(tmp_path):
    boxes, notes = read(tmp_path / "a.gpkg", confidence=["high", "low"])
    assert "vehicle" not in boxes and not is_light(boxes).any() and notes == []
    old, notes = read(tmp_path / "b.gpkg", vehicle=["truck", "car"])
    assert "vehicle" not in old and len(notes) == 1


def test_other_values_beside_heavy_and_light_are_refused(tmp_path):
    with pytest.raises(LabelsError, match=r"is one of heavy, light\. Received: ligth \(1\)"):
        read(tmp_path / "a.gpkg", vehicle=["heavy", "ligth", "light"])


def test_a_column_with_the_values_of_confidence_is_named(tmp_path):
    _, notes = read(tmp_path / "a.gpkg", quality=["high", "Low", None], note=["high", "x", None])
    assert notes == ["column quality is not read; if it is meant to be confidence, rename it."]
    assert len(read(tmp_path / "b.gpkg", confidense=["high", "low"])[1]) == 1
    assert read(tmp_path / "c.gpkg", quality=["high"], confidence=["low"])[1] == []
