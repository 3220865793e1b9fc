"""Polygons and points of vector files, as labels of any kind are read."""

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import GeometryCollection, LineString, MultiPoint, MultiPolygon, Point, Polygon

from pipeline.errors import LabelsError
from pipeline.evaluation.features import LeftOut, read_polygons, read_polygons_or_points, usable_polygons
from pipeline.input_warnings import collected_warnings
from tests.evaluation.test_labels import UTM, pixels


def test_a_feature_of_several_polygons_is_split_where_each_is_a_box(tmp_path):
    shapes = [MultiPolygon([pixels(0, 0), pixels(2, 0)]), pixels(4, 0)]
    gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=shapes, crs=UTM).to_file(tmp_path / "l.gpkg")
    assert read_polygons(tmp_path / "l.gpkg", "Labels")["class"].tolist() == ["a", "b"]
    boxes, left_out = usable_polygons(tmp_path / "l.gpkg", "Labels", boxes=True)
    assert boxes["class"].tolist() == ["a", "a", "b"]
    assert left_out == LeftOut(split=1)


def test_polygons_of_a_collection_are_used_in_the_crs_that_is_asked_for(tmp_path):
    mixed = GeometryCollection([pixels(0, 0), Point(600_000, 5_800_000)])
    frame = gpd.GeoDataFrame(geometry=[mixed], crs=UTM)
    frame.to_crs(4326).to_file(tmp_path / "l.gpkg")
    found, left_out = usable_polygons(tmp_path / "l.gpkg", "Labels", UTM)
    assert found.crs == UTM and found.area[0] == pytest.approx(100, rel=1e-6)
    assert left_out.as_dict() == {"not_polygons": 1, "split": 1}


def test_other_geometries_are_refused(tmp_path):
    gpd.GeoDataFrame(geometry=[Point(600_000, 5_800_000)], crs=UTM).to_file(tmp_path / "l.gpkg")
    with pytest.raises(LabelsError, match=r"Labels must be polygons; .* holds 1 Point"):
        read_polygons(tmp_path / "l.gpkg", "Labels")


HERE = Point(600_000, 5_800_000)
STREET = LineString([(600_000, 5_800_000), (600_009, 5_800_000)])


def written(path, shapes, crs=UTM):
    frame = gpd.GeoDataFrame({"name": list("abcdefgh"[: len(shapes)])}, geometry=shapes, crs=UTM)
    (frame if crs == UTM else frame.to_crs(crs)).to_file(path)
    return path


@pytest.mark.parametrize("crs", [UTM, 4326])
def test_each_point_of_a_feature_is_a_point_in_the_crs_that_is_asked_for(tmp_path, crs):
    two = MultiPoint([(600_010, 5_800_020, 7), (600_030, 5_800_040, 7)])
    shapes = [HERE, two, GeometryCollection([MultiPoint([(600_050, 5_800_060)])])]
    found = read_polygons_or_points(written(tmp_path / "l.gpkg", shapes, crs), "Labels", UTM)
    assert found["name"].tolist() == ["a", "b", "b", "c"]
    assert found.crs == UTM and not found.has_z.any()
    expected = [[600_000 + 20 * i - 10 * (i > 0), 5_800_000 + 20 * i] for i in range(4)]
    assert np.allclose(found.get_coordinates(), expected, atol=1e-3)


def test_points_that_cannot_be_used_are_counted(tmp_path):
    beyond = Point(600_000, 5_800_000_000)
    path = written(tmp_path / "l.gpkg", [HERE, STREET, GeometryCollection([HERE, STREET]), None, beyond])
    with collected_warnings() as warnings:
        assert len(read_polygons_or_points(path, "Labels", UTM)) == 2
    assert [line.removeprefix(f"{path}: Labels: ") for line in warnings] == [
        "1 left out, without geometry.",
        "1 left out, outside of the CRS (the first: x 600000 to 600000, y 5.8e+09 to 5.8e+09).",
        "2 left out, not points.",
    ]


def test_a_file_with_polygons_and_points_is_one_of_polygons(tmp_path):
    path = written(tmp_path / "l.gpkg", [HERE, pixels(0, 0), HERE])
    with collected_warnings() as warnings:
        assert read_polygons_or_points(path, "Labels")["name"].tolist() == ["b"]
    assert warnings == [f"{path}: Labels: 2 left out, not polygons."]


@pytest.mark.parametrize(
    ("shapes", "crs", "message"),
    [
        ([STREET], UTM, "must be polygons or points; .* holds 1 LineString. Draw"),
        ([None, Polygon()], UTM, "can be used: 2 without geometry"),
        ([HERE], None, "has no CRS"),
    ],
    ids=["lines", "empty", "no CRS"],
)
def test_files_without_usable_polygons_or_points_are_refused(tmp_path, shapes, crs, message):
    gpd.GeoDataFrame(geometry=shapes, crs=crs).to_file(tmp_path / "l.gpkg")
    with pytest.raises(LabelsError, match=message):
        read_polygons_or_points(tmp_path / "l.gpkg", "Labels", UTM)
