"""Polygons of vector files, as labels of any kind are read."""

import geopandas as gpd
import pytest
from shapely.geometry import GeometryCollection, MultiPolygon, Point

from pipeline.errors import LabelsError
from pipeline.evaluation.features import LeftOut, read_polygons, usable_polygons
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
