"""Masks of pixels near roads."""

import geopandas as gpd
import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine
from shapely.geometry import LineString

from pipeline.roads.mask import road_mask
from pipeline.roads.read import read_roads
from pipeline.scenes.readers.geotiff import open_geotiff
from tests.roads.test_read import roads

CRS = "EPSG:32632"
X, Y = 600000.0, 5800000.0
GRID = GeoBox((40, 50), Affine(10, 0, X, 0, -10, Y), CRS)
STREET = LineString([(X, Y - 100), (X + 500, Y - 100)])


def test_pixels_whose_centre_lies_within_the_buffer():
    """A street between rows 9 and 10: centres lie 5, 15, 25... m from it."""
    mask = road_mask(roads(STREET), GRID, 15.0)
    assert np.flatnonzero(mask.any(axis=1)).tolist() == [8, 9, 10, 11]
    assert mask[8:12].all()
    assert not road_mask(roads(STREET), GRID, 4.9).any()


def test_round_caps_are_exact():
    point = LineString([(X + 205, Y - 205), (X + 205.001, Y - 205)])
    rows, cols = np.indices(GRID.shape)
    distance = np.hypot(rows - 20, cols - 20) * 10
    np.testing.assert_array_equal(road_mask(roads(point), GRID, 50.002), distance <= 50)


@settings(max_examples=20, deadline=None)
@given(
    coordinates=st.lists(
        st.tuples(st.integers(-100, 600), st.integers(-500, 100)), min_size=2, max_size=6, unique=True
    ),
    buffer_m=st.sampled_from([5.0, 10.0, 30.0, 77.7]),
    row=st.integers(0, 39),
    col=st.integers(0, 43),
)
def test_windows_show_what_the_whole_shows_and_distances_agree(coordinates, buffer_m, row, col):
    table = roads(LineString([(X + x, Y + y) for x, y in coordinates]), STREET)
    whole = road_mask(table, GRID, buffer_m)
    np.testing.assert_array_equal(
        road_mask(table, GRID[row:, col : col + 7], buffer_m), whole[row:, col : col + 7]
    )
    xs, ys = np.meshgrid(X + 5 + 10 * np.arange(50), Y - 5 - 10 * np.arange(40))
    distance = shapely.distance(shapely.points(xs, ys)[..., None], table.geometry.to_numpy()).min(axis=-1)
    np.testing.assert_array_equal(whole, distance <= buffer_m)


def test_no_road_no_pixel():
    assert not road_mask(roads(STREET).iloc[:0], GRID, 30.0).any()


def test_the_roads_of_the_a2_chip(shared_data):
    scene = open_geotiff(shared_data / "trucks" / "a2_braunschweig.tif")
    found = read_roads(shared_data / "trucks" / "a2_braunschweig_roads.gpkg", scene.grid.crs)
    assert len(found) == 16
    assert "motorway" in set(found["road_class"])
    trucks = gpd.read_file(shared_data / "trucks" / "a2_braunschweig_trucks.gpkg").to_crs(str(scene.grid.crs))
    mask = road_mask(found, scene.grid, 30.0)
    corner = scene.grid.affine
    cols = ((trucks.centroid.x - corner.c) / corner.a).astype(int)
    rows = ((trucks.centroid.y - corner.f) / corner.e).astype(int)
    assert mask[rows, cols].all()
    assert 0.05 < mask.mean() < 0.3
