"""Frames as files that the readers of roads and labels take."""

from concurrent.futures import ThreadPoolExecutor

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely import LineString

from pipeline.api.vectors import vector_file
from pipeline.errors import RoadsError
from pipeline.roads.read import read_roads


def written(frame: gpd.GeoDataFrame, folder) -> gpd.GeoDataFrame:
    return read_roads(vector_file(frame, folder, "roads=", RoadsError), "EPSG:32632")


def roads(**columns) -> gpd.GeoDataFrame:
    lines = [LineString([(600000, 5800000 + 500 * i), (601000, 5800000 + 500 * i)]) for i in range(3)]
    return gpd.GeoDataFrame(columns, geometry=lines, crs="EPSG:32632")


def test_a_path_stays(tmp_path):
    assert vector_file("a.gpkg:roads", tmp_path, "roads=", RoadsError).name == "a.gpkg:roads"
    assert list(tmp_path.iterdir()) == []


def test_the_same_frame_is_the_same_file(tmp_path):
    frame = roads(highway=["primary", "trunk", "motorway"])
    one = vector_file(frame, tmp_path, "roads=", RoadsError)
    assert vector_file(frame.copy(), tmp_path, "roads=", RoadsError) == one
    assert vector_file(frame[:2], tmp_path, "roads=", RoadsError) != one
    assert len(list(tmp_path.iterdir())) == 2


def test_threads_that_share_a_folder_get_their_own_frames(tmp_path):
    def kept(number: int) -> str:
        frame = roads(highway=["primary"] * 3, name=[f"road {number % 8}"] * 3)
        return gpd.read_parquet(vector_file(frame, tmp_path, "roads=", RoadsError))["name"].iloc[0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(kept, range(64))) == [f"road {number % 8}" for number in range(64)]


def test_lists_of_merged_ways_as_osmnx_has_them(tmp_path):
    frame = roads(
        osmid=[[1, 2], 3, 4], highway=[["secondary", "motorway"], "primary", None], oneway=[True, False, True]
    )
    frame.index = pd.MultiIndex.from_tuples([(1, 2, 0), (2, 3, 0), (3, 1, 0)], names=["u", "v", "key"])
    read = written(frame, tmp_path)
    assert read["road_class"].tolist() == ["motorway", "primary", None]
    assert read["oneway"].tolist() == [1, 0, 1]
    assert read["road_id"].tolist() == ["1;2", "3", "4"]


def test_any_crs_and_any_name_of_the_geometry(tmp_path):
    frame = roads(highway=["primary"] * 3)
    read = written(frame.to_crs(4326).rename_geometry("line"), tmp_path)
    np.testing.assert_allclose(read.geometry.bounds, frame.geometry.bounds, atol=1e-3)


def test_several_geometries_and_columns_of_numbers(tmp_path):
    frame = roads(highway=["primary"] * 3, lanes=[2, 4, np.nan], odd=[{"a": 1}, 3, "x"])
    frame["middle"] = frame.geometry.centroid
    assert written(frame, tmp_path)["lanes"].tolist()[:2] == [2, 4]


def test_a_frame_without_geometry(tmp_path):
    with pytest.raises(RoadsError, match="roads= has no geometry"):
        vector_file(gpd.GeoDataFrame({"highway": ["primary"]}), tmp_path, "roads=", RoadsError)
