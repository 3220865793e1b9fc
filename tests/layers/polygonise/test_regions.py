import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.features import sieve

from pipeline.layers.polygonise.outline import outline
from pipeline.layers.polygonise.regions import OUTSIDE, Regions, absorb_small, label_regions
from tests.layers.polygonise.test_outline import label_rasters

GRID = Affine(10, 0, 500_000, 0, -10, 5_800_000)


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
