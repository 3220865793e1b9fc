"""GeoTIFF scenes: descriptions, scales, masks, and what is refused."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window

from pipeline.errors import (
    ConfigError,
    GeoreferenceError,
    MissingBandError,
    NotAProductError,
)
from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.readers.geotiff import open_geotiff
from tests.scenes.products import CRS, ORIGIN, write_raster

X, Y = ORIGIN


def test_internal_masks_are_honoured(tmp_path):
    path = tmp_path / "scene.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", width=2, height=1, count=1, dtype="uint16", crs=CRS,
            transform=Affine(10, 0, X, 0, -10, Y),
        ) as dataset,
    ):  # fmt: skip
        dataset.write(np.array([[[500, 600]]], np.uint16))
        dataset.write_mask(np.array([[255, 0]], np.uint8))
        dataset.descriptions = ["B02"]
    assert read_pixels(open_geotiff(path), Window(0, 0, 2, 1), ["B02"]).valid.tolist() == [[True, False]]


def test_a_fourth_band_of_8_bits_is_not_taken_for_opacity(tmp_path):
    array = np.full((4, 1, 2), 51, np.uint8)
    array[3, 0, 0] = 0
    names = ("B04", "B03", "B02", "B08")
    path = write_raster(tmp_path / "x.tif", array, descriptions=names, scales=(1 / 255,) * 4)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    pixels = read_pixels(open_geotiff(path), Window(0, 0, 2, 1), names)
    assert pixels.valid.all()
    np.testing.assert_allclose(pixels.reflectance[:, 0], [[0.2, 0.2]] * 3 + [[0, 0.2]], atol=1e-6)


def test_geotiff_with_descriptions_scale_and_nodata(tmp_path):
    path = write_raster(
        tmp_path / "S2A_MSIL2A_20170613T101031_T33UUP.tif",
        np.array([[[0, 255]], [[51, 102]], [[1, 2]]], np.uint8),
        descriptions=("b4", "B8A", "clouds"),
        scales=(1 / 255, 1 / 255, 1.0),
        nodata=255,
    )
    with pytest.raises(MissingBandError, match="lacks B02"):
        read_pixels(open_geotiff(path), Window(0, 0, 1, 1), ["B02"])
    scene = open_geotiff(path)
    assert list(scene.bands) == ["B04", "B8A"]
    assert (scene.level, scene.platform, scene.tile) == ("L2A", "sentinel-2a", "33UUP")
    assert scene.acquired == datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC)
    pixels = read_pixels(scene, Window(0, 0, 2, 1), ["B8A", "B04"])
    assert pixels.valid.tolist() == [[True, False]]
    np.testing.assert_allclose(pixels.reflectance[:, 0], [[0.2, 0], [0, 0]], atol=1e-6)


def test_geotiff_bands_named_by_the_user(tmp_path):
    path = write_raster(tmp_path / "scene.tif", np.arange(1, 5, dtype=np.uint16).reshape(2, 1, 2) * 1000)
    with pytest.raises(NotAProductError, match="--bands"):
        open_geotiff(path)
    scene = open_geotiff(path, bands=["B4", "b02"])
    np.testing.assert_allclose(
        read_pixels(scene, Window(0, 0, 2, 1), ["B02", "B04"]).reflectance[:, 0],
        [[0.3, 0.4], [0.1, 0.2]],
        atol=1e-7,
    )
    for bands in (["B04"], ["B04", "purple"], ["B04", "B04"]):
        with pytest.raises(ConfigError):
            open_geotiff(path, bands=bands)


def test_what_the_numbers_mean_where_no_scale_is_tagged(tmp_path):
    def one(dtype, **profile):
        array = np.array([[0, 1]], dtype)
        path = write_raster(tmp_path / f"{np.dtype(dtype)}.tif", array, descriptions=("B02",), **profile)
        return open_geotiff(path).bands["B02"]

    assert (one(np.uint16).scale, one(np.uint16).nodata) == (1e-4, 0.0)
    assert (one(np.int16, nodata=-1).scale, one(np.int16, nodata=-1).nodata) == (1e-4, -1.0)
    assert (one(np.float32).scale, one(np.float32).nodata) == (1.0, None)
    assert math.isnan(one(np.uint8).scale)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"crs": None}, "No coordinate reference system"),
        ({"crs": "EPSG:4326", "gsd": 2e-4, "origin": (10, 52)}, "these have 13.7 x 22.3 m on the ground"),
        ({"crs": "EPSG:3857", "gsd": 10, "origin": (1.5e6, 6.8e6)}, "these have .* on the ground"),
        ({"gsd": 30}, "pixels of 10 m, these have 30 x 30 m"),
        ({"transform": Affine(8, 6, X, 6, -8, Y)}, "without rotation"),
        ({"transform": Affine(10, 0, X, 0, 10, Y)}, "north-up"),
    ],
)
def test_unusable_georeference_is_refused(tmp_path, profile, message):
    path = write_raster(tmp_path / "x.tif", np.ones((2, 2), np.uint16), descriptions=("B02",), **profile)
    with pytest.raises(GeoreferenceError, match=message):
        open_geotiff(path)


def test_the_a2_chip(shared_data):
    scene = open_geotiff(shared_data / "trucks" / "a2_braunschweig.tif")
    assert (scene.id, scene.shape, list(scene.bands)) == (
        "a2_braunschweig",
        (66, 133),
        ["B04", "B03", "B02", "B08"],
    )
    with rasterio.open(scene.href) as dataset:
        expected = dataset.read([3, 1]) / 255
        assert GeoBox.from_rio(dataset) == scene.grid
    pixels = read_pixels(scene, Window(0, 0, 133, 66), ["B02", "B04"])
    np.testing.assert_allclose(pixels.reflectance, expected, atol=1e-6)
    assert pixels.valid.all()


@pytest.mark.parametrize(
    ("baseline", "scales", "other"),
    [("N0509", None, -0.1), ("N0301", None, None), ("N9999", None, None), ("N0509", (1e-4,), None)],
)
def test_a_baseline_without_a_stated_offset_leaves_two(tmp_path, baseline, scales, other):
    path = write_raster(
        tmp_path / f"S2A_MSIL2A_20230613T102031_{baseline}_R065_T32UPD_20230613T140011.tif",
        np.ones((2, 2), np.uint16),
        descriptions=("B02",),
        scales=scales and (2e-4,),
    )
    scene = open_geotiff(path)
    assert (scene.other_offset, scene.bands["B02"].offset) == (other, 0.0)
    assert scene.radiometry == ("tags" if scales else "assumed")


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_numbers_are_no_reflectance(tmp_path, dtype):
    path = tmp_path / "x.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=2, height=2, count=1, dtype=dtype, crs=CRS,
        transform=Affine(10, 0, X, 0, -10, Y),
    ) as file:  # fmt: skip
        file.descriptions = ["B02"]
    with pytest.raises(NotAProductError, match=r"x\.tif has complex numbers"):
        open_geotiff(path)


def test_a_raster_of_one_band_with_a_colour_table_is_refused(tmp_path):
    path = write_raster(
        tmp_path / "x.tif", np.full((2, 2), 4, np.uint8), descriptions=("B02",), photometric="palette"
    )
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0), 1: (255, 0, 0)})
    with pytest.raises(NotAProductError, match=r"Band B02 of .* has a colour table"):
        open_geotiff(path)


@pytest.mark.parametrize(
    ("dtype", "declared", "read"),
    [
        ("uint16", "12345", 12345.0),
        ("uint16", "-9999", 0.0),
        ("uint16", "65536", 0.0),
        ("int16", "-9999", -9999.0),
        ("int16", "99999", 0.0),
        ("float32", "1e300", None),
        ("float64", "1e300", 1e300),
        ("float32", "-1e38", pytest.approx(-1e38)),
    ],
)
def test_a_declared_nodata_value_counts_if_the_type_can_have_it(tmp_path, dtype, declared, read):
    path = write_raster(tmp_path / "x.tif", np.ones((1, 1), dtype), descriptions=("B02",), nodata=12345)
    # In the tag GDAL_NODATA; rasterio writes no value that can't be.
    path.write_bytes(path.read_bytes().replace(b"12345", declared.encode()))
    assert open_geotiff(path).bands["B02"].nodata == read
