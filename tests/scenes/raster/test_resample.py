"""Coarse bands interpolated to the 10 m grid."""

import numpy as np
from rasterio.windows import Window

from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.readers.band_folder import open_band_folder
from tests.scenes.products import ORIGIN, write_raster

X, Y = ORIGIN


def test_a_band_of_20_m_is_interpolated_by_georeference(tmp_path):
    """The 20 m grid starts 10 m west of the 10 m grid, so centres lie 3/4 and 5/4 of a pixel in."""
    write_raster(tmp_path / "B02.tif", np.ones((1, 3), np.uint16))
    write_raster(tmp_path / "B05.tif", np.array([[1000, 2000, 4000]], np.uint16), 20, (X - 10, Y))
    pixels = read_pixels(open_band_folder(tmp_path), Window(0, 0, 3, 1), ["B05"])
    np.testing.assert_allclose(pixels.reflectance[0, 0], [0.125, 0.175, 0.25], atol=1e-7)
    assert pixels.valid.all()


def test_a_linear_ramp_stays_a_linear_ramp_at_60_m(tmp_path):
    write_raster(tmp_path / "B02.tif", np.ones((24, 24), np.uint16))
    ramp = np.add.outer(np.arange(8) * 60.0, np.arange(8) * 600.0).astype(np.float32)
    write_raster(tmp_path / "B09.tif", ramp, 60, (X - 110, Y + 70))
    values = read_pixels(open_band_folder(tmp_path), Window(0, 0, 24, 24), ["B09"]).reflectance[0]
    x, y = 5 + 10 * np.arange(24) + 110 - 30, 5 + 10 * np.arange(24) + 70 - 30
    np.testing.assert_allclose(values, np.add.outer(y, 10.0 * x), rtol=1e-5)


def test_pixels_without_data_lend_no_weight_and_stay_invalid(tmp_path):
    write_raster(tmp_path / "B02.tif", np.ones((1, 6), np.uint16))
    write_raster(tmp_path / "B05.tif", np.array([[1000, 0, 3000]], np.uint16), 20)
    pixels = read_pixels(open_band_folder(tmp_path), Window(0, 0, 6, 1), ["B05"])
    assert pixels.valid[0].tolist() == [True, True, False, False, True, True]
    np.testing.assert_allclose(pixels.reflectance[0, 0], [0.1, 0.1, 0, 0, 0.3, 0.3], atol=1e-7)


def test_beyond_the_reach_of_a_coarse_band_nothing_is_valid(tmp_path):
    write_raster(tmp_path / "B02.tif", np.ones((1, 6), np.uint16))
    write_raster(tmp_path / "B05.tif", np.array([[1000]], np.uint16), 20, (X + 20, Y))
    write_raster(tmp_path / "B06.tif", np.array([[1000]], np.uint16), 20, (X + 2000, Y))
    scene = open_band_folder(tmp_path)
    assert read_pixels(scene, Window(0, 0, 6, 1), ["B05"]).valid[0].tolist() == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    assert not read_pixels(scene, Window(0, 0, 6, 1), ["B06"]).valid.any()
