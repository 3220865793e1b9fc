"""What a truck on the map says, and what it leaves open."""

import dataclasses
import json
from datetime import UTC, date, datetime, timedelta, timezone

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from pipeline.errors import RoadsError
from pipeline.inference.predictions import SEEN, Detections, MinScores
from pipeline.layers.columns import TRUCKS, TRUCKS_AMONG_VEHICLES
from pipeline.layers.trucks import below_threshold, truck_layer
from pipeline.scenes.msi import MsiGeometry
from pipeline.scenes.scene import Scene

GRID = GeoBox((200, 300), Affine(10, 0, 600_000, 0, -10, 5_800_000), "EPSG:32632")


def swath() -> MsiGeometry:
    """Detector 4 in the west, 5 in the east, none in the north."""
    west, east = shapely.box(0, 0, 600_999, 5_799_900), shapely.box(601_000, 0, 700_000, 5_799_900)
    return MsiGeometry({4: -0.98, 5: 1.02}, polygons=((4, west), (5, east)))


def scene(**changes):
    return dataclasses.replace(Scene("S2A_TEST", "here", GRID, {}), **changes)


def detections(boxes, displacement=(2.0, 0.0), sigma=0.2):
    boxes = np.array(boxes, float).reshape(-1, 4)
    n = len(boxes)
    return Detections(
        boxes, np.linspace(0.9, 0.5, n), np.tile(np.array(displacement, float), (n, 1)), np.full(n, sigma)
    )


WEST, EAST, UNKNOWN = [50, 50, 54, 52], [150, 50, 154, 52], [50, 4, 54, 6]


def test_columns_are_the_contract_and_in_its_order():
    layer = truck_layer(detections([WEST]), scene(), model="trucks-1")
    assert tuple(layer.columns) == TRUCKS.names
    assert layer.crs == "EPSG:32632"
    row = layer.iloc[0]
    assert (row["scene_id"], row["model"], row["score"]) == ("S2A_TEST", "trucks-1", 0.9)


def test_a_detector_of_all_vehicles_adds_their_score():
    found = dataclasses.replace(detections([WEST]), vehicle_scores=np.array([0.98761]))
    layer = truck_layer(found, scene(), model="m")
    assert tuple(layer.columns) == TRUCKS_AMONG_VEHICLES.names
    assert layer["vehicle_score"].tolist() == [0.9876]
    assert "vehicle_score" in truck_layer(found.take(np.zeros(0, np.intp)), scene(), model="m")


def test_what_is_below_the_thresholds_is_ranked_by_the_score_that_is_missing(tmp_path):
    """Of heavy 0.9, 0.7, 0.5 and vehicles 0.95, 0.9, 0.6, with thresholds of 0.8 and 0.85."""
    profile = {"height": 200, "width": 300, "count": 1, "dtype": "uint8", "transform": GRID.affine}
    with rasterio.open(tmp_path / "s.tif", "w", driver="GTiff", **profile) as raster:
        raster.write(np.full((1, 200, 300), SEEN, np.uint8))
    found = dataclasses.replace(detections([WEST, EAST, UNKNOWN]), vehicle_scores=np.array([0.95, 0.9, 0.6]))
    heavy, either = (
        below_threshold(found, scene(), tmp_path / "s.tif", limits)["score"].tolist()
        for limits in (MinScores(0.8), MinScores(0.8, 0.85))
    )
    assert heavy == [0.7, 0.5]
    assert either == [0.5]


def test_a_box_lies_on_its_pixels():
    polygon = truck_layer(detections([[10, 20, 13.5, 22]]), scene(), model="m").geometry[0]
    assert polygon.equals(shapely.box(600_100, 5_799_780, 600_135, 5_799_800))
    assert polygon.exterior.is_ccw


@given(
    st.tuples(st.floats(0, 290), st.floats(0, 190), st.floats(1, 9), st.floats(1, 9)),
    st.sampled_from([GRID.affine, Affine(9.4, 3.42, 5e5, 3.42, -9.4, 4e6)]),
)
def test_boxes_come_back_to_their_pixels(box, affine):
    x, y, w, h = box
    grid = GeoBox((200, 300), affine, "EPSG:32632")
    layer = truck_layer(detections([[x, y, x + w, y + h]]), scene(grid=grid), model="m")
    corners = np.array([~affine @ tuple(c) for c in layer.geometry[0].exterior.coords])
    np.testing.assert_allclose([*corners.min(axis=0), *corners.max(axis=0)], [x, y, x + w, y + h], atol=1e-5)


def test_heading_takes_the_order_of_the_bands():
    # B04 sees it 2 px east of where B02 does: eastbound where blue is first, westbound where red is
    layer = truck_layer(detections([UNKNOWN, WEST, EAST]), scene(msi=swath()), model="m")
    assert layer["msi_detector"].isna().tolist() == [True, False, False]
    assert layer["msi_detector"][1:].tolist() == [4, 5]
    assert layer["band_order"].tolist() == [None, "red_first", "blue_first"]
    assert np.isnan(layer["heading_deg"][0])
    assert layer["heading_deg"][1:].tolist() == [270, 90]
    assert layer["heading_source"].tolist() == [None, "band_order", "band_order"]
    assert layer["axis_deg"].tolist() == [90, 90, 90]


def test_speed_is_displacement_over_delay():
    layer = truck_layer(detections([WEST], (0, -2.01), 0.1005), scene(), model="m")
    assert layer["speed_kmh"][0] == pytest.approx(72)  # 20.1 m in 1.005 s
    assert layer["speed_kmh_sigma"][0] == pytest.approx(np.hypot(3.6, 0.02 * 72), abs=0.05)


def test_the_delay_is_that_of_the_detector():
    layer = truck_layer(detections([UNKNOWN, WEST, EAST], (0, -2.0)), scene(msi=swath()), model="m")
    np.testing.assert_allclose(layer["speed_kmh"], [72 / 1.005, 72 / 0.98, 72 / 1.02], atol=0.05)


@pytest.mark.parametrize(
    ("displacement", "axis"), [((0, -2), 0), ((0, 2), 0), ((2, 0), 90), ((2, -2), 45), ((2, 2), 135)]
)
def test_axis_runs_clockwise_from_north(displacement, axis):
    layer = truck_layer(detections([WEST], displacement), scene(), model="m")
    assert layer["axis_deg"][0] == pytest.approx(axis)
    assert np.isnan(layer["heading_deg"][0])


def test_what_hardly_moves_points_nowhere():
    layer = truck_layer(detections([EAST], (0.3, 0), 0.2), scene(msi=swath()), model="m")
    assert np.isnan(layer[["heading_deg", "axis_deg"]].to_numpy()).all()
    assert layer["speed_kmh"][0] == round(0.3 * 10 * 3.6 / 1.02, 1)


def test_what_cannot_be_measured_is_null():
    layer = truck_layer(detections([EAST], (np.nan, np.nan), np.nan), scene(msi=swath()), model="m")
    assert layer[["heading_deg", "axis_deg", "speed_kmh", "speed_kmh_sigma"]].isna().all(axis=None)
    assert layer["band_order"][0] == "blue_first"


@pytest.mark.parametrize(
    ("acquired", "text"),
    [
        (None, None),
        (date(2021, 6, 1), None),
        (datetime(2021, 6, 1, 10, 30, 31), "2021-06-01T10:30:31.000Z"),
        (datetime(2021, 6, 1, 10, 30, 31, 24000, UTC), "2021-06-01T10:30:31.024Z"),
        (datetime(2021, 6, 1, 12, 30, tzinfo=timezone(timedelta(hours=2))), "2021-06-01T10:30:00.000Z"),
    ],
)
def test_acquired_is_a_time_in_utc(acquired, text):
    layer = truck_layer(detections([WEST]), scene(acquired=acquired), model="m")
    assert layer["acquired"].dtype == "datetime64[ms, UTC]"
    assert layer["acquired_date"].tolist() == [None if acquired is None else "2021-06-01"]
    assert layer["acquired"].tolist() == [pd.NaT if text is None else datetime.fromisoformat(text)]
    empty = truck_layer(Detections.empty(), scene(acquired=acquired), model="m")
    assert empty["acquired"].dtype == "datetime64[ms, UTC]"


def test_rows_do_not_depend_on_the_order_found():
    rng = np.random.default_rng(4)
    corner = rng.uniform(0, 150, (30, 2))
    found = detections(np.hstack([corner, corner + 3]))
    cloud = rng.random(30) < 0.5
    shuffled = rng.permutation(30)
    first = truck_layer(found, scene(), model="m", near_cloud=cloud)
    second = truck_layer(found.take(shuffled), scene(), model="m", near_cloud=cloud[shuffled])
    assert first.equals(second)
    assert (np.diff(first.geometry.centroid.y) <= 0).all()


def test_ids_are_unique_and_stable():
    boxes = [[1, 1, 4, 4], [1.04, 1, 4, 4], [1.2, 1, 4, 4], [-0.01, 7, 3, 9]]
    layer = truck_layer(detections(boxes), scene(), model="m")
    assert layer["id"].is_unique
    assert layer["id"].tolist() == truck_layer(detections(boxes), scene(), model="m")["id"].tolist()
    moved = np.array(boxes) + 0.01
    assert set(truck_layer(detections(moved[[0, 2]]), scene(), model="m")["id"]) <= set(layer["id"])
    for other in (
        truck_layer(detections(boxes), scene(), model="n"),
        truck_layer(detections(boxes), scene(id="S2B"), model="m"),
    ):
        assert not set(other["id"]) & set(layer["id"])


def test_edges():
    boxes = [[0, 5, 3, 8], [297, 15, 300, 18], [10, 25, 13, 28], [20, 35, 23, 38], [40, 197, 43, 200]]
    nodata = np.array([False, False, False, True, False])
    layer = truck_layer(detections(boxes), scene(), model="m", touches_nodata=nodata)
    assert layer["touches_edge"].tolist() == [True, True, False, True, True]


def test_surroundings():
    roads = gpd.GeoDataFrame(
        {"road_id": [7, 8, 9], "road_class": ["motorway", "primary", None]},
        geometry=[
            shapely.LineString([(600_000, 5_799_470), (601_000, 5_799_470)]),
            shapely.LineString([(600_000, 5_799_500), (601_000, 5_799_500)]),
            shapely.LineString([(601_500, 5_790_000), (601_500, 5_800_000)]),
        ],
        crs="EPSG:32632",
    )

    def landcover(xs, ys):
        return ["built" if x < 601_000 else None for x in xs]

    layer = truck_layer(
        detections([WEST, EAST, UNKNOWN]),
        scene(),
        model="m",
        roads=roads.to_crs("EPSG:4326"),
        landcover=landcover,
        near_cloud=np.array([True, False, False]),
    )
    assert layer["road_id"].tolist() == [None, "8", "9"]
    assert layer["road_class"].tolist() == [None, "primary", None]
    assert layer["landcover"].tolist() == ["built", "built", None]
    assert layer["near_cloud"].tolist() == [False, True, False]


def test_roads_without_crs_are_refused():
    roads = gpd.GeoDataFrame({"road_id": [1], "road_class": ["primary"]}, geometry=[shapely.Point(0, 0)])
    with pytest.raises(RoadsError, match="no CRS"):
        truck_layer(detections([WEST]), scene(), model="m", roads=roads)


def test_no_trucks_is_a_layer_too(tmp_path):
    layer = truck_layer(
        Detections.empty(),
        scene(msi=swath()),
        model="m",
        near_cloud=np.zeros(0, bool),
        landcover=lambda xs, ys: [],
    )
    assert tuple(layer.columns) == TRUCKS.names
    assert layer.empty
    assert layer.crs == "EPSG:32632"
    layer.to_file(tmp_path / "none.gpkg", layer="trucks")
    assert gpd.read_file(tmp_path / "none.gpkg").empty


def test_what_is_unknown_is_null_in_files(tmp_path):
    layer = truck_layer(detections([UNKNOWN, EAST], (np.nan, np.nan), np.nan), scene(msi=swath()), model="m")
    layer.to_file(tmp_path / "trucks.gpkg", layer="trucks")
    back = gpd.read_file(tmp_path / "trucks.gpkg")
    assert tuple(back.columns) == TRUCKS.names
    unknown = ["acquired", "heading_deg", "axis_deg", "speed_kmh", "landcover", "road_id", "near_cloud"]
    assert back[unknown].isna().all(axis=None)
    assert back["msi_detector"].isna().tolist() == [True, False]
    written = json.loads(layer.to_crs("EPSG:4326").to_json())["features"]
    assert all(feature["properties"][name] is None for feature in written for name in unknown)
    assert [feature["properties"]["msi_detector"] for feature in written] == [None, 5]
