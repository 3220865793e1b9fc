"""GeoJSON as RFC 7946 has it: places, bytes, the antimeridian."""

import json
from datetime import UTC, datetime
from pathlib import Path

import geojson_validator
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from rasterio.warp import transform

from pipeline.errors import GeoreferenceError
from pipeline.layers.formats.export import write_formats
from pipeline.layers.formats.geojson import write_geojson

WORLD_M = 2 * np.pi * 6_378_137
"""Width of the world in Web Mercator."""


def trucks(crs="EPSG:32632", x=500_000.0) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {
            "id": ["a", "b"],
            "score": [0.9, np.float64(1) / 3],
            "acquired": [datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC)] * 2,
            "heading_deg": [90.0, np.nan],
            "msi_detector": pd.array([4, None], dtype="Int64"),
            "near_cloud": pd.array([True, None], dtype="boolean"),
            "landcover": pd.Series([None, "bebaute Fläche"], dtype=object),
        },
        geometry=[
            shapely.box(x, 5_800_000, x + 40, 5_800_030),
            shapely.box(x + 100, 5_800_000, x + 130, 5_800_030).reverse(),
        ],
        crs=crs,
    )


def valid_geojson(path: Path) -> dict:
    """A file that an independent validator takes as RFC 7946, and whose bbox holds its features."""
    collection = json.loads(path.read_text(encoding="utf-8"))
    assert geojson_validator.validate_structure(collection, check_crs=True) == {}
    found = geojson_validator.validate_geometries(
        collection,
        criteria_problematic=[
            "self_intersection",
            "3d_coordinates",
            "outside_lat_lon_boundaries",
        ],
    )
    assert (found["invalid"], found["problematic"]) == ({}, {})
    west, south, east, north = collection["bbox"]
    for feature in collection["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        for part in shapely.get_parts(
            shape
        ):  # the validator takes 180 for -180, so its check of jumps is no use
            assert part.bounds[2] - part.bounds[0] < 180
        for x, y in shapely.get_coordinates(shape):
            assert south <= y <= north
            assert west <= x <= east if west <= east else x >= west or x <= east
    return collection


def test_geojson_is_rfc_7946(tmp_path):
    write_geojson(trucks(), tmp_path / "trucks.geojson")
    text = (tmp_path / "trucks.geojson").read_text(encoding="utf-8")
    collection = valid_geojson(tmp_path / "trucks.geojson")
    assert "crs" not in collection
    first, second = collection["features"]
    assert first["id"] == first["properties"]["id"] == "a"
    assert first["properties"]["acquired"] == "2017-06-13T10:10:31Z"
    assert second["properties"] == {
        "id": "b",
        "score": 1 / 3,
        "acquired": "2017-06-13T10:10:31Z",
        "heading_deg": None,
        "msi_detector": None,
        "near_cloud": None,
        "landcover": "bebaute Fläche",
    }
    for feature in (first, second):
        (ring,) = feature["geometry"]["coordinates"]
        assert shapely.LinearRing(ring).is_ccw
        assert all(round(value, 7) == value for place in ring for value in place)
    # The central meridian of zone 32 is 9 degrees east.
    assert min(place[0] for place in first["geometry"]["coordinates"][0]) == 9.0
    assert "\r" not in text


def test_geojson_is_in_the_right_place(tmp_path):
    write_geojson(trucks(), tmp_path / "trucks.geojson")
    back = gpd.read_file(tmp_path / "trucks.geojson").to_crs("EPSG:32632")
    offsets = shapely.hausdorff_distance(back.geometry.values, trucks().geometry.values)
    assert offsets.max() < 0.01


def test_the_same_trucks_give_the_same_bytes(tmp_path):
    for name in ("one.geojson", "two.geojson"):
        write_geojson(trucks(), tmp_path / name)
    assert (tmp_path / "one.geojson").read_bytes() == (tmp_path / "two.geojson").read_bytes()


def test_no_trucks_are_a_valid_collection(tmp_path):
    write_geojson(trucks().iloc[:0], tmp_path / "trucks.geojson")
    collection = json.loads((tmp_path / "trucks.geojson").read_text())
    assert (collection["type"], collection["features"]) == ("FeatureCollection", [])
    assert geojson_validator.validate_structure(collection, check_crs=True) == {}


def test_a_truck_across_the_antimeridian_is_cut_there(tmp_path):
    # Zone 1 begins at 180 degrees: this box lies on both sides of it, on the equator.
    edge = gpd.GeoSeries.from_xy([-180.0], [0.0], crs="EPSG:4326").to_crs("EPSG:32701").x[0]
    box = shapely.box(edge - 20, 9_999_000, edge + 20, 9_999_030)
    layer = gpd.GeoDataFrame({"id": ["a"]}, geometry=[box], crs="EPSG:32701")
    write_geojson(layer, tmp_path / "trucks.geojson")
    collection = valid_geojson(tmp_path / "trucks.geojson")
    (feature,) = collection["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    parts = (shapely.Polygon(rings[0]).bounds for rings in feature["geometry"]["coordinates"])
    east, west = sorted(parts)
    assert 179.999 < west[0] < west[2] == 180.0
    assert -180.0 == east[0] < east[2] < -179.999
    assert collection["bbox"] == [west[0], west[1], east[2], east[3]]


@pytest.mark.parametrize(
    ("crs", "lon", "lat"),
    [
        ("EPSG:4326", 13.4, 52.5),
        ("EPSG:4326", 180.25, -17.0),  # a grid that goes on beyond 180 degrees
        ("EPSG:4326", -180.25, -17.0),
        ("EPSG:3857", 13.4, 52.5),
        ("EPSG:3857", 179.9999, -17.0),
        ("EPSG:32632", 11.9999, 52.5),
        ("EPSG:32633", 12.0001, 52.5),
        ("EPSG:32633", 11.5, 78.0),  # the overlap of a granule with the next zone
        ("EPSG:32733", 15.0, -33.9),
        ("EPSG:32601", -179.9999, 65.0),
        ("EPSG:32601", 179.75, 65.0),
        ("EPSG:32660", 179.9999, -0.0001),
        ("EPSG:32660", -179.75, 65.0),
        ("EPSG:32760", -179.9, -17.0),
        ("EPSG:3035", 10.0, 52.0),
    ],
)
def test_places_are_the_same_in_every_crs(tmp_path, crs, lon, lat):
    # The place is made by the GDAL of rasterio, not by the library that export uses.
    (x,), (y,) = ([lon], [lat]) if crs == "EPSG:4326" else transform("EPSG:4326", crs, [lon], [lat])
    side = 3e-4 if crs == "EPSG:4326" else 30.0
    boxes = [shapely.box(x - side, y - side, x + side, y + side), shapely.box(x, y, x + side, y + side)]
    lines = [shapely.LineString([(x - side, y), (x + side, y)]), shapely.LineString([(x, y), (x, y + side)])]
    for shapes in (boxes, lines):
        write_geojson(gpd.GeoDataFrame(geometry=shapes, crs=crs), tmp_path / "layer.geojson")
        collection = valid_geojson(tmp_path / "layer.geojson")
        for shape, feature in zip(shapes, collection["features"], strict=True):
            at = shapely.get_coordinates(shapely.geometry.shape(feature["geometry"]))
            lons = (at[:, 0] - lon + 180) % 360 - 180 + lon
            xs, ys = (lons, at[:, 1]) if crs == "EPSG:4326" else transform("EPSG:4326", crs, lons, at[:, 1])
            if crs == "EPSG:3857":  # beyond 180 degrees where the box is
                xs = (np.array(xs) - x + WORLD_M / 2) % WORLD_M - WORLD_M / 2 + x
            bounds = (min(xs), min(ys), max(xs), max(ys))
            tolerance = 1.01e-7 if crs == "EPSG:4326" else 0.02
            assert bounds == pytest.approx(shape.bounds, abs=tolerance)


@pytest.mark.parametrize("off", [-300, 300])
def test_a_hole_on_either_side_of_the_antimeridian_stays(tmp_path, off):
    edge = gpd.GeoSeries.from_xy([-180.0], [-17.0], crs="EPSG:4326").to_crs("EPSG:32701")
    x, y = edge.x[0], edge.y[0]
    hole = shapely.box(x + off - 100, y + 200, x + off + 100, y + 700)
    area = shapely.difference(shapely.box(x - 1000, y, x + 1000, y + 1000), hole)
    write_geojson(gpd.GeoDataFrame(geometry=[area], crs="EPSG:32701"), tmp_path / "area.geojson")
    (feature,) = valid_geojson(tmp_path / "area.geojson")["features"]
    assert len(feature["geometry"]["coordinates"]) == 2
    back = gpd.read_file(tmp_path / "area.geojson").to_crs("EPSG:32701")
    assert back.area[0] == pytest.approx(area.area, rel=1e-5)


@pytest.mark.parametrize(
    ("layer", "message"),
    [(trucks(crs=None), "no CRS"), (trucks(x=1e30), "outside of where the CRS")],
    ids=["no CRS", "far outside of the zone"],
)
def test_a_place_that_cannot_be_known_is_refused(tmp_path, layer, message):
    with pytest.raises(GeoreferenceError, match=message):
        write_geojson(layer, tmp_path / "trucks.geojson")
    assert list(tmp_path.iterdir()) == []


def test_neighbours_keep_their_shared_nodes_in_geojson(tmp_path):
    cover = gpd.GeoDataFrame(
        {"class": [1, 2]},
        geometry=[shapely.box(500_000, 0, 500_010, 10), shapely.box(500_010, 0, 500_020, 10)],
        crs="EPSG:32632",
    )
    paths = write_formats({"landcover": cover}, tmp_path, ["geojson"])
    valid_geojson(paths["landcover.geojson"])
    assert shapely.coverage_is_valid(gpd.read_file(paths["landcover.geojson"]).geometry.values)


def test_neighbours_stay_neighbours_where_both_are_cut(tmp_path):
    nodes = [(179.9, 10.0), (180.1, 10.03), (180.1, 10.1), (179.9, 10.1)]
    below = [(179.9, 9.9), (180.1, 9.9), (180.1, 10.03), (179.9, 10.0)]
    cover = gpd.GeoDataFrame(geometry=[shapely.Polygon(nodes), shapely.Polygon(below)], crs="EPSG:4326")
    write_geojson(cover, tmp_path / "landcover.geojson")
    valid_geojson(tmp_path / "landcover.geojson")
    parts = gpd.read_file(tmp_path / "landcover.geojson").explode().geometry.values
    assert len(parts) == 4
    assert shapely.coverage_is_valid(parts)
