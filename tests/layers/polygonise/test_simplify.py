import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.layers.polygonise.outline import outline
from pipeline.layers.polygonise.regions import Regions, absorb_small, label_regions
from tests.layers.polygonise.test_outline import PIXELS, label_rasters
from tests.layers.polygonise.test_regions import GRID

NODATA = 255


def patchy(seed: int, scale: float, classes: int, side: int) -> NDArray[np.uint8]:
    """Patches of classes of which each is rarer than the one before, and a hole without data."""
    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.standard_normal((side, side)), scale) for _ in range(classes)]
    raster = np.argmax([field / field.std() - k / 2 for k, field in enumerate(fields)], axis=0)
    raster[side // 3 : side // 2, side // 5 : side // 2] = NODATA
    return raster.astype(np.uint8)


def assert_keeps_what_it_should(regions: Regions, polygons: NDArray[np.object_]) -> None:
    """Areas, polygon by polygon; validity, alone and together; where the data ends."""
    assert shapely.get_type_id(polygons).tolist() == [shapely.GeometryType.POLYGON] * len(regions)
    assert shapely.area(polygons).tolist() == pytest.approx(regions.sizes.tolist(), rel=2e-4)
    if len(polygons):
        assert shapely.is_valid(polygons).all()
        assert shapely.coverage_is_valid(polygons)
        seen = shapely.coverage_union_all(outline(regions, PIXELS))
        assert shapely.equals(shapely.coverage_union_all(polygons), seen)


def corners(polygons: NDArray[np.object_]) -> int:
    return int(shapely.get_num_coordinates(polygons).sum())


@settings(max_examples=100)
@given(label_rasters, st.integers(3, 9), st.sampled_from([0.6, 0.8, 1.2, 1.5, 3, 20]))
def test_any_map_keeps_every_area(raster, block_px, tolerance):
    regions = label_regions([raster])
    assert_keeps_what_it_should(regions, outline(regions, PIXELS, tolerance, block_px))


@settings(max_examples=20)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0, 6),
    st.integers(2, 6),
    st.integers(1, 12),
    st.sampled_from([0.8, 1.5, 4, 20]),
    st.sampled_from([23, 40, 512]),
)
def test_patches_keep_their_area(seed, scale, classes, min_pixels, tolerance, block_px):
    regions = absorb_small(label_regions([patchy(seed, scale, classes, 70)]), min_pixels)
    assert_keeps_what_it_should(regions, outline(regions, PIXELS, tolerance, block_px))


@pytest.mark.parametrize("rows", [1, 17, 64, 300])
def test_strips_do_not_show(rows):
    raster = patchy(1, 3, 4, 300)
    strips = [raster[first : first + rows] for first in range(0, len(raster), rows)]
    whole, joined = (absorb_small(label_regions(parts), 5) for parts in ([raster], strips))
    assert (outline(joined, GRID, 15) == outline(whole, GRID, 15)).all()


def test_a_round_island_is_simpler_and_as_large():
    row, col = np.mgrid[:21, :21] - 10
    regions = label_regions([((row**2 + col**2) < 60).astype(np.uint8)])
    around, island = outline(regions, PIXELS, 1.5)
    stairs = outline(regions, PIXELS)[1]
    assert len(island.exterior.coords) < len(stairs.exterior.coords) / 2
    assert island.area == pytest.approx(stairs.area, rel=1e-5)
    assert around.area + island.area == 441
    assert island.hausdorff_distance(stairs) < 1.5


def test_one_pixel_keeps_its_area_within_whatever_is_around():
    raster = np.zeros((5, 5), dtype=np.uint8)
    raster[2, 2] = 1
    _, pixel = outline(label_regions([raster]), PIXELS, 5)
    assert pixel.area == pytest.approx(1, abs=1e-4)


def test_a_slope_lies_in_the_middle_of_its_stairs():
    lower, _ = outline(label_regions([np.tri(40, dtype=np.uint8)]), PIXELS, 1.2)
    middle = shapely.LineString([(3.5, 3), (36.5, 36)])
    assert (
        shapely.hausdorff_distance(lower.exterior.intersection(middle.buffer(1, cap_style="flat")), middle)
        < 0.3
    )


def test_places_where_three_regions_meet_stay():
    raster = np.zeros((30, 30), dtype=np.uint8)
    raster[:13] = 1
    raster[np.tri(30, dtype=bool)] = 2
    for polygon in outline(label_regions([raster]), PIXELS, 1.5):
        assert (14, 13) in polygon.exterior.coords


@pytest.mark.parametrize("scale", [0.7, 1.5, 4])
def test_most_corners_go(scale):
    regions = absorb_small(label_regions([patchy(3, scale, 6, 250)]), 5)
    raw, simple = (corners(outline(regions, PIXELS, tolerance)) for tolerance in (0, 1.5))
    assert simple < 0.75 * raw


@pytest.mark.parametrize("place", ["virginia", "brandenburg"])
def test_real_land_cover_keeps_its_areas(shared_data, place):
    with rasterio.open(shared_data / "landcover" / place / "dynamicworld_pseudolabel.tif") as source:
        regions = absorb_small(label_regions([source.read(1)]), 5)
    raw, simple = (outline(regions, Affine.identity(), tolerance) for tolerance in (0, 1.5))
    assert_keeps_what_it_should(regions, simple)
    assert corners(simple) < 0.5 * corners(raw)
