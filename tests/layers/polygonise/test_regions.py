import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.features import shapes, sieve
from rasterio.transform import xy
from shapely.geometry import shape

from pipeline.layers.polygonise.outline import outline
from pipeline.layers.polygonise.regions import OUTSIDE, Regions, absorb_small, label_regions

GRID = Affine(10, 0, 500_000, 0, -10, 5_800_000)
PIXELS = Affine.identity()

label_rasters = st.integers(1, 4).flatmap(
    lambda classes: arrays(
        np.uint8,
        array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.sampled_from([*range(classes), 255]),
    )
)


def values_of(regions: Regions) -> list[list[int]]:
    return np.append(regions.values, 255)[regions.labels()].tolist()


def sieved(rows: list[list[int]], min_pixels: int) -> list[list[int]]:
    return values_of(absorb_small(label_regions([np.array(rows, dtype=np.uint8)]), min_pixels))


def test_diagonal_pixels_are_regions_of_their_own():
    regions = label_regions([np.array([[1, 2], [2, 1]], dtype=np.uint8)])
    assert regions.labels().tolist() == [[0, 1], [2, 3]]
    assert regions.values.tolist() == [1, 2, 2, 1]
    assert regions.sizes.tolist() == [1, 1, 1, 1]


def test_nodata_is_outside():
    regions = label_regions([np.array([[255, 7], [255, 255]], dtype=np.uint8)])
    assert regions.labels().tolist() == [[OUTSIDE, 0], [OUTSIDE, OUTSIDE]]
    assert len(regions) == 1


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


def test_small_regions_go_to_their_largest_neighbour():
    assert sieved([[1, 1, 1, 2], [1, 1, 3, 2], [1, 1, 2, 2]], 2) == [[1, 1, 1, 2], [1, 1, 1, 2], [1, 1, 2, 2]]


def test_a_region_of_just_the_least_size_stays():
    assert sieved([[1, 1, 1], [2, 2, 1]], 2) == [[1, 1, 1], [2, 2, 1]]


def test_diagonal_neighbours_do_not_count():
    assert sieved([[1, 2, 2], [3, 3, 1], [3, 1, 1]], 2) == [[3, 2, 2], [3, 3, 1], [3, 1, 1]]


def test_a_chain_of_small_regions_ends_in_the_large_one():
    assert sieved([[1, 2, 2, 3, 3, 3, 3]], 3) == [[3, 3, 3, 3, 3, 3, 3]]


def test_small_regions_among_themselves_unite():
    assert sieved([[1, 1, 2]], 5) == [[1, 1, 1]]


def test_nodata_neither_grows_nor_is_swallowed():
    assert sieved([[255, 1, 255, 2, 2], [255, 255, 255, 2, 255]], 3) == [
        [255, 1, 255, 2, 2],
        [255, 255, 255, 2, 255],
    ]


def test_filling_a_gap_joins_what_it_separated():
    regions = absorb_small(label_regions([np.array([[1, 1, 2, 1, 1]], dtype=np.uint8)]), 2)
    assert len(regions) == 1
    assert regions.sizes.tolist() == [5]


@given(label_rasters, st.integers(1, 9), st.integers(1, 8), st.integers(1, 9))
def test_strips_and_blocks_do_not_show(raster, strip_rows, min_pixels, block_px):
    whole = absorb_small(label_regions([raster]), min_pixels)
    strips = [raster[first : first + strip_rows] for first in range(0, len(raster), strip_rows)]
    joined = absorb_small(label_regions(strips), min_pixels)
    assert (joined.labels() == whole.labels()).all()
    assert joined.values.tolist() == whole.values.tolist()
    assert joined.sizes.tolist() == whole.sizes.tolist()
    ours = shapely.normalize(outline(joined, GRID, block_px=block_px))
    assert (ours == shapely.normalize(outline(whole, GRID, block_px=9))).all()


def test_some_rows_can_be_asked_for():
    regions = label_regions([np.array([[1, 1], [2, 255], [2, 2]], dtype=np.uint8)])
    assert regions.labels(1, 2).tolist() == [[1, OUTSIDE]]


def test_a_raster_without_rows_is_refused():
    with pytest.raises(ValueError, match="at least one strip"):
        label_regions([])


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


@given(label_rasters, st.integers(1, 8))
def test_after_absorbing_only_the_isolated_are_small(raster, min_pixels):
    regions = absorb_small(label_regions([raster]), min_pixels)
    islands = label_regions([np.where(raster == 255, 255, 0).astype(np.uint8)])
    assert regions.sizes.sum() == np.count_nonzero(raster != 255)
    assert ((regions.labels() == OUTSIDE) == (islands.labels() == OUTSIDE)).all()
    for region in np.flatnonzero(regions.sizes < min_pixels):
        (island,) = set(islands.labels()[regions.labels() == region].tolist())
        assert islands.sizes[island] == regions.sizes[region]
    again = label_regions([np.array(values_of(regions), dtype=np.uint8)])
    assert (again.labels() == regions.labels()).all()
    assert again.sizes.tolist() == regions.sizes.tolist()


@pytest.mark.parametrize("place", ["virginia", "brandenburg"])
@pytest.mark.parametrize("min_pixels", [5, 100])
def test_real_land_cover_is_sieved_as_gdal_does(shared_data, place, min_pixels):
    with rasterio.open(shared_data / "landcover" / place / "dynamicworld_pseudolabel.tif") as source:
        raster = source.read(1)
    ours = np.array(values_of(absorb_small(label_regions([raster]), min_pixels)), dtype=np.uint8)
    assert (ours == sieve(raster, min_pixels, connectivity=4)).all()
