import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.windows import Window
from scipy import ndimage

from pipeline.scenes.bright_clouds import bright_clouds
from pipeline.scenes.clouds import (
    CLOUDLESS_BANDS,
    cloud_mask,
    cloud_source,
    has_clouds_information,
    rim_mask,
    shadow_mask,
)
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.readers.band_folder import open_band_folder
from pipeline.scenes.scene import BandSource
from tests.scenes.products import gsd_of, write_raster

needs_cloudless = pytest.mark.skipif(
    importlib.util.find_spec("s2cloudless") is None or importlib.util.find_spec("lightgbm") is None,
    reason="needs the extra `clouds`",
)
SIDE = 120


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Dark vegetation with a bright, cold-looking square cloud of 400 m in it and a nodata corner."""
    path = tmp_path_factory.mktemp("clouds")
    bands = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")
    clear = dict(zip(bands, (1200, 900, 500, 900, 2600, 2700, 900, 15, 1500, 800), strict=True))
    cloud = dict(zip(bands, (6500, 6500, 6600, 6700, 7000, 7100, 3500, 400, 4500, 3500), strict=True))
    rng = np.random.default_rng(0)
    for band in CLOUDLESS_BANDS:
        step = gsd_of(band) // 10
        full = np.full((SIDE, SIDE), clear[band])
        full[36:78, 48:90] = cloud[band]
        array = (full[::step, ::step] * rng.uniform(0.9, 1.1, (SIDE // step,) * 2)).astype(np.uint16)
        array[: 24 // step, : 24 // step] = 0
        write_raster(path / f"{band}.tif", array, gsd_of(band))
    return replace(open_band_folder(path), level="L1C")


@needs_cloudless
def test_l1c_clouds_are_found_by_s2cloudless(scene):
    assert cloud_source(scene) == "s2cloudless"
    assert has_clouds_information(scene)
    assert rim_mask(scene, Window(0, 0, SIDE, SIDE)) is None  # s2cloudless dilates its clouds
    mask = cloud_mask(scene, Window(0, 0, SIDE, SIDE))
    assert mask[42:72, 54:84].all()
    assert not mask[:, :20].any()
    assert not mask[105:].any()


@needs_cloudless
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.tuples(st.integers(0, 100), st.integers(0, 100)), size=st.integers(1, 60))
def test_clouds_do_not_depend_on_the_window(scene, start, size):
    row, col = start
    window = Window(col, row, min(size, SIDE - col), min(size, SIDE - row))
    rows, cols = window.toslices()
    whole = cloud_mask(scene, Window(0, 0, SIDE, SIDE))
    np.testing.assert_array_equal(cloud_mask(scene, window), whole[rows, cols])


@needs_cloudless
def test_our_way_to_the_model_gives_what_the_package_gives(scene):
    """The package itself, on the same 60 m cells, is the oracle."""
    pytest.importorskip("cv2")
    from s2cloudless import S2PixelCloudDetector

    pixels = read_pixels(scene, Window(0, 0, SIDE, SIDE), CLOUDLESS_BANDS)
    cells = pixels.reflectance.reshape(10, SIDE // 6, 6, SIDE // 6, 6).mean(axis=(2, 4))
    detector = S2PixelCloudDetector(threshold=0.4, average_over=4, dilation_size=2)
    expected = detector.get_cloud_masks(np.moveaxis(cells, 0, -1)[None])[0].astype(bool)
    ours = cloud_mask(scene, Window(0, 0, SIDE, SIDE))[::6, ::6]
    # Borders are continued in another way there.
    assert (ours[6:-6, 6:-6] == expected[6:-6, 6:-6]).mean() > 0.95


def test_l2a_clouds_come_from_the_scene_classification(scene, tmp_path):
    scl = np.full((SIDE // 2, SIDE // 2), 4, np.uint8)
    scl[0, :4] = [3, 8, 9, 10]
    path = write_raster(tmp_path / "scl.tif", scl, 20)
    l2a = replace(scene, level="L2A", scl=BandSource("SCL", str(path), scale=1.0, gsd=20.0))
    assert has_clouds_information(l2a)
    mask = cloud_mask(l2a, Window(0, 0, 8, 2))
    assert mask[0].tolist() == [False, False, True, True, True, True, False, False]
    assert cloud_mask(l2a, Window(0, 0, 8, 2), cirrus=True)[1].tolist() == [False] * 2 + [True] * 6
    assert shadow_mask(l2a, Window(0, 0, 4, 3)).tolist() == [[True, True, False, False]] * 2 + [[False] * 4]
    assert not cloud_mask(l2a, Window(0, 2, SIDE, SIDE - 2), cirrus=True).any()


@pytest.fixture(scope="module")
def classified(scene, tmp_path_factory):
    """The scene with clouds in its classification: two squares of 20 m, and thin cirrus and shadow."""
    scl = np.full((SIDE // 2, SIDE // 2), 4, np.uint8)
    scl[20, 20], scl[40, 30], scl[5, 5], scl[50, 50] = 8, 9, 10, 3
    path = write_raster(tmp_path_factory.mktemp("scl") / "scl.tif", scl, 20)
    return replace(scene, level="L2A", scl=BandSource("SCL", str(path), scale=1.0, gsd=20.0))


def test_the_rim_of_classified_clouds_is_100_m_wide(classified):
    assert cloud_source(classified) == "scl"
    mask = rim_mask(classified, Window(0, 0, SIDE, SIDE))
    y, x = np.mgrid[: SIDE // 2, : SIDE // 2]
    expected = np.minimum(np.hypot(y - 20, x - 20), np.hypot(y - 40, x - 30)) * 20 <= 100
    np.testing.assert_array_equal(mask, expected.repeat(2, 0).repeat(2, 1))
    assert rim_mask(classified, Window(0, 90, 30, 30)) is None  # thin cirrus and shadow are land cover


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.tuples(st.integers(0, 119), st.integers(0, 119)), size=st.integers(1, 60))
def test_rims_do_not_depend_on_the_window(classified, start, size):
    row, col = start
    window = Window(col, row, min(size, SIDE - col), min(size, SIDE - row))
    whole = rim_mask(classified, Window(0, 0, SIDE, SIDE))[window.toslices()]
    part = rim_mask(classified, window)
    np.testing.assert_array_equal(np.zeros_like(whole) if part is None else part, whole)


def test_four_bands_without_a_source_have_the_rims_of_bright_clouds(shared_data):
    scene = open_scene(str(shared_data / "scenes" / "lommel_L1C.tif"))
    assert cloud_source(scene) == "threshold"
    assert not has_clouds_information(scene)
    window = Window(0, 300, 300, 300)
    clouds = bright_clouds(scene, window)
    rims = rim_mask(scene, window)
    assert cloud_mask(scene, window) is None
    inside = (slice(12, -12),) * 2  # clouds outside of the window have rims, too
    near = ndimage.distance_transform_edt(~clouds)
    assert rims[inside][near[inside] <= 9].all()
    assert not rims[inside][near[inside] > 13].any()


def test_without_scl_or_bands_nobody_knows(scene):
    few = replace(scene, bands={band: scene.bands[band] for band in ("B02", "B04", "B08")})
    for unknown in (few, replace(scene, level="L2A"), replace(scene, level=None)):
        assert cloud_source(unknown) == "none"
        assert not has_clouds_information(unknown)
        assert cloud_mask(unknown, Window(0, 0, 4, 4)) is None
        assert rim_mask(unknown, Window(0, 0, 4, 4)) is None
        assert shadow_mask(unknown, Window(0, 0, 4, 4)) is None


@needs_cloudless
def test_brandenburg_is_partly_cloudy(shared_data):
    scene = open_band_folder(shared_data / "landcover" / "brandenburg")
    mask = cloud_mask(scene, Window(500, 100, 400, 300))
    assert mask.shape == (300, 400)
    assert mask.dtype == np.bool_
