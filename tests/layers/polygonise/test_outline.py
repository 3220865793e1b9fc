"""Outlines of regions: a valid coverage of exactly the pixels."""

import numpy as np
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.features import shapes
from rasterio.transform import xy
from shapely.geometry import shape

from pipeline.layers.polygonise.outline import outline
from pipeline.layers.polygonise.regions import label_regions

GRID = Affine(10, 0, 500_000, 0, -10, 5_800_000)
PIXELS = Affine.identity()
label_rasters = st.integers(1, 4).flatmap(
    lambda classes: arrays(
        np.uint8,
        array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.sampled_from([*range(classes), 255]),
    )
)


def test_one_pixel_is_a_square():
    (square,) = outline(label_regions([np.array([[3]], dtype=np.uint8)]), GRID)
    assert square.equals(shapely.box(500_000, 5_799_990, 500_010, 5_800_000))
    assert square.exterior.is_ccw


def test_nothing_but_nodata_is_no_polygon():
    assert len(outline(label_regions([np.full((4, 5), 255, dtype=np.uint8)]), GRID)) == 0


def test_a_polygon_has_a_node_where_only_its_neighbours_change():
    upper, *_ = outline(label_regions([np.array([[1, 1], [2, 3]], dtype=np.uint8)]), PIXELS)
    assert (1.0, 1.0) in upper.exterior.coords
    assert len(upper.exterior.coords) == 6


def test_holes_that_touch_at_a_corner_are_two_holes():
    ring = np.ones((4, 4), dtype=np.uint8)
    ring[1, 1] = ring[2, 2] = 2
    around, *_ = outline(label_regions([ring]), PIXELS)
    assert around.is_valid
    assert len(around.interiors) == 2
    assert around.area == 14


def test_a_ring_that_closes_at_a_corner_is_exterior_and_hole():
    hook = np.array([[1, 1, 1], [1, 2, 1], [1, 1, 2]], dtype=np.uint8)
    around, *_ = outline(label_regions([hook]), PIXELS)
    assert around.is_valid
    assert len(around.interiors) == 1
    assert around.area == 7


@given(label_rasters)
def test_polygons_are_a_coverage_of_exactly_the_pixels(raster):
    regions = label_regions([raster])
    polygons = outline(regions, PIXELS)
    assert len(polygons) == len(regions)
    assert shapely.is_valid(polygons).all()
    assert shapely.area(polygons).tolist() == regions.sizes.tolist()
    if len(polygons):
        assert shapely.coverage_is_valid(polygons)
        assert shapely.union_all(polygons).area == np.count_nonzero(raster != 255)


@given(label_rasters)
def test_the_centre_of_a_pixel_lies_in_the_polygon_of_its_class(raster):
    regions = label_regions([raster])
    polygons = outline(regions, GRID)
    rows, cols = np.nonzero(raster != 255)
    centres = shapely.points(*xy(GRID, rows, cols))
    point, polygon = shapely.STRtree(polygons).query(centres, predicate="within")
    assert point.tolist() == list(range(len(centres)))
    assert regions.values[polygon].tolist() == raster[rows, cols].tolist()


@given(label_rasters)
def test_areas_are_those_of_gdal(raster):
    regions = label_regions([raster])
    ours = sorted(zip(regions.values.tolist(), shapely.area(outline(regions, PIXELS)).tolist(), strict=True))
    theirs = shapes(raster, mask=raster != 255, connectivity=4)
    assert ours == sorted((int(value), shape(geometry).area) for geometry, value in theirs)
