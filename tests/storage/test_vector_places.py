"""Features with coordinates that their CRS does not have, or elsewhere than the scene."""

import re

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import LineString, Point, Polygon, box

from pipeline.errors import VectorFileError
from pipeline.input_warnings import collected_warnings
from pipeline.storage.untrusted_vectors import read_layer
from pipeline.storage.vector_places import (
    check_coordinates,
    outside_of_crs,
    warn_if_elsewhere,
    without_strays,
)

UTM, DEGREES = "EPSG:32632", "EPSG:4326"
SCENE = (600_000, 5_890_000, 610_000, 5_900_000)
"""Bounds, in UTM: 10.5 degrees east, 53.2 north."""


_UNKNOWN_PROJECTION = (
    'PROJCS["mine",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Mine"],UNIT["metre",1]]'
)


def frame(*shapes, crs=UTM):
    return gpd.GeoDataFrame(geometry=list(shapes), crs=crs)


@pytest.mark.parametrize(
    ("shape", "crs", "message"),
    [
        (
            box(601_000, 5_891_000, 602_000, 5_893_000),
            DEGREES,
            r"up to 5,893,000, are outside of its CRS, EPSG:4326",
        ),
        (Point(35.6, 139.7), DEGREES, "up to 140, .*x and y seem to be swapped"),
        (Point(10.5, 53.2), UTM, "up to 53, look like degrees, but its CRS, EPSG:32632, is in metres"),
        (Point(10.5, 53.2), "EPSG:3035", "look like degrees"),
        (Point(6e8, 5.9e9), UTM, "up to 5,900,000,000, are outside of its CRS, EPSG:32632"),
        (Point(np.nan, 3), UTM, "no finite numbers"),
        (Point(np.inf, -np.inf), DEGREES, "no finite numbers"),
        (Point(1e308, -1e308), UTM, r"up to 1e\+308, are outside of its CRS"),
        (Point(1e12, 0), "EPSG:3857", "outside of its CRS, EPSG:3857"),
        (Point(1e12, 0), "EPSG:2263", "outside of its CRS, EPSG:2263"),
        (Point(10, 91), "EPSG:4979", "outside of its CRS, EPSG:4979"),
        (Point(999, 50), "EPSG:4326+5773", "up to 999, are outside of its CRS"),
        (Point(0, 101), "EPSG:4807", "outside of its CRS, EPSG:4807"),
        (Point(5, 9), "EPSG:4978", "EPSG:4978, is no map of the Earth"),
        (Point(5, 9), "EPSG:5773", "EPSG:5773, is no map of the Earth"),
        (Point(5, 9), 'LOCAL_CS["site",UNIT["metre",1]]', "site, is no map of the Earth"),
        (Point(5, 9), _UNKNOWN_PROJECTION, "mine, is no map of the Earth .* or PROJ can't transform it"),
    ],
)
def test_coordinates_of_another_crs_are_an_error_in_one_line(shape, crs, message):
    with pytest.raises(VectorFileError, match=message) as caught:
        check_coordinates(frame(shape, shape, crs=crs), "Roads", "r.gpkg")
    assert "\n" not in str(caught.value) and "r.gpkg" in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "crs"),
    [
        (Point(190.5, 53), DEGREES),
        (Point(-180, -90), DEGREES),
        (Point(1_100_000, 7_000_000), UTM),
        (Point(0.1, 51), "EPSG:3857"),
        (Point(20_100_000, 5_000_000), "EPSG:3857"),
        (Point(10, 99), "EPSG:4807"),
        (Point(10.5, 53.2, np.nan), "EPSG:4979"),
        (Point(5e-324, 5e-324), DEGREES),
        (Point(32_600_000, 5_800_000), "EPSG:5652"),
        (LineString([(-5e6, 0), (0, 5e6), (5e6, 0), (0, -5e6)]), "+proj=ortho"),
        (Point(5, 9), "+proj=tmerc +lat_0=53 +lon_0=10"),
        (Polygon(), DEGREES),
        (None, DEGREES),
        (Point(5e6, 5e6), None),
    ],
)
def test_coordinates_that_a_crs_has_pass(shape, crs):
    check_coordinates(frame(shape, crs=crs), "Roads", "r.gpkg")


def test_a_few_features_outside_of_the_crs_are_found():
    shapes = [
        Point(10, 53),
        Point(10, 5.3e6),
        None,
        Polygon(),
        Point(np.nan, 1),
        LineString([(1, 2), (3, np.inf)]),
    ]
    found = frame(*shapes, crs=DEGREES)
    assert outside_of_crs(found).tolist() == [False, True, False, False, True, True]
    check_coordinates(found, "Roads", "r.gpkg")


@pytest.mark.parametrize("suffix", ["gpkg", "geojson"])
def test_every_file_is_checked_also_where_only_a_part_is_read(tmp_path, suffix):
    metres = frame(box(601_000, 5_891_000, 602_000, 5_893_000)).set_crs(DEGREES, allow_override=True)
    metres.to_file(tmp_path / f"a.{suffix}")
    for box_in in (None, lambda crs: (10.4, 53.1, 10.6, 53.3)):
        with pytest.raises(VectorFileError, match="up to 5,893,000, are outside"):
            read_layer(tmp_path / f"a.{suffix}", "Roads", "lines", box_in=box_in)


def warned(shapes, bounds=SCENE):
    with collected_warnings() as warnings:
        found = warn_if_elsewhere(shapes, UTM, bounds, "Roads", "no truck is searched")
    assert found == bool(warnings)
    return " ".join(warnings)


@pytest.mark.parametrize("crs", [UTM, DEGREES, "EPSG:3857"])
def test_features_that_meet_the_scene(crs):
    assert warned(frame(Point(1, 2), box(609_000, 5_899_000, 700_000, 6_000_000)).to_crs(crs)) == ""
    assert warned(frame(None, Polygon(), crs=crs)) == ""


@pytest.mark.parametrize(
    ("place", "way"),
    [
        (Point(612_500, 5_895_000), "2.5 km to the east"),
        (Point(605_000, 5_850_000), "40 km to the south"),
        (Point(9.9937, 53.5511), "to the north-west"),  # Hamburg
        (Point(139.77, 35.68), "9,0.. km to the north-east"),  # Tokyo, along the great circle
        (Point(-58.38, -34.6), "11,[0-9]{3} km to the south-west"),  # Buenos Aires
    ],
)
def test_features_elsewhere_are_reported_with_distance_and_direction(place, way):
    crs = UTM if place.x > 1000 else DEGREES
    text = warned(frame(place, crs=crs))
    assert text.startswith("Roads: 0 of 1 features meet the scene; the nearest is ")
    assert "so no truck is searched. Check that both are of the same place" in text
    assert re.search(way, text), text


def test_swapped_axes_and_degrees_called_metres_are_recognised():
    here = frame(Point(605_000, 5_895_000))
    lon, lat = here.to_crs(DEGREES).geometry[0].coords[0]
    assert "With longitude and latitude swapped" in warned(frame(Point(lat, lon), crs=DEGREES))
    assert "With x and y swapped" in warned(frame(Point(5_895_000, 605_000)))
    assert "look like degrees, but the CRS of the file is EPSG:3857" in warned(
        frame(Point(lon, lat), crs="EPSG:3857")
    )


def test_strays_are_left_out_counted_and_the_first_is_named():
    roads = frame(Point(6e5, 5.9e6), Point(6e5, 1e20), Point(np.inf, 5), None, Polygon()).assign(
        id=list("abcde")
    )
    with collected_warnings() as said:
        assert without_strays(roads, "Roads", "r.gpkg")["id"].tolist() == ["a", "d", "e"]
    assert said == [
        "Roads: 2 of 5 features of r.gpkg have coordinates that are not finite, or outside of their CRS; "
        "left out. The first: id b, x 600000 to 600000, y 1e+20 to 1e+20."
    ]
