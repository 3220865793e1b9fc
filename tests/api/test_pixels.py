"""Pixels of a scene as arrays that xarray, rioxarray and Dask know."""

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.warp import transform_bounds
from rasterio.windows import Window

import truckscape as ts
from pipeline.scenes.raster.read import read_pixels
from tests.conftest import write_geotiff


def test_reflectance_is_that_of_the_scene(scene):
    array = scene.to_xarray(bands=["B04", "B11"])
    assert array.dims == ("band", "y", "x")
    assert array.dtype == np.float32
    assert list(array.band.values) == ["B04", "B11"]
    pixels = read_pixels(scene.data, Window(0, 0, 256, 256), ("B04", "B11"))
    np.testing.assert_array_equal(np.nan_to_num(array.values), pixels.reflectance)


def test_place_as_odc_reads_it(scene):
    array = scene.to_xarray(bands=["B04"])
    assert array.odc.geobox == scene.data.grid
    assert pyproj.CRS(array.spatial_ref.attrs["crs_wkt"]) == pyproj.CRS(scene.crs)


def test_rioxarray_reads_crs_and_transform(scene):
    pytest.importorskip("rioxarray", reason="needs rioxarray (extra xarray)")
    array = scene.to_xarray(bands=["B04"])
    assert array.rio.crs == rasterio.CRS.from_string(scene.crs)
    assert array.rio.transform() == scene.data.grid.affine
    assert array.rio.bounds() == scene.bounds


def test_no_data_is_nan_in_its_band_only(tmp_path):
    numbers = np.full((4, 8, 8), 700, np.uint16)
    numbers[1, 2, 3] = 0
    array = ts.open(write_geotiff(tmp_path / "x.tif", numbers)).to_xarray()
    assert np.argwhere(np.isnan(array.values)).tolist() == [[1, 2, 3]]


def test_bounds_in_the_scenes_crs_are_pixels_that_they_touch(scene):
    left, _, _, top = scene.bounds
    array = scene.to_xarray(["B04"], (left + 100, top - 80, left + 131, top - 20))
    assert array.shape == (1, 6, 4)
    np.testing.assert_array_equal(array, scene.to_xarray(["B04"])[:, 2:8, 10:14])


def test_bounds_in_degrees(scene):
    left, bottom, right, top = scene.bounds
    inner = (left + 500, bottom + 500, right - 500, top - 500)
    degrees = transform_bounds(scene.crs, "EPSG:4326", *inner, densify_pts=21)
    array = scene.to_xarray(["B04"], degrees, 4326)
    found = array.odc.geobox.boundingbox.bbox
    np.testing.assert_allclose(found, inner, atol=60)  # a box in degrees is turned in UTM
    assert found[0] <= inner[0]
    assert found[3] >= inner[3]
    assert array.odc.geobox.crs == scene.data.grid.crs


def test_dask_reads_the_same_chunk_by_chunk(scene):
    pytest.importorskip("dask.array", reason="needs dask (extra xarray)")
    lazy = scene.to_xarray(["B04", "B11"], chunks=100)
    assert lazy.chunks == ((1, 1), (100, 100, 56), (100, 100, 56))
    np.testing.assert_array_equal(lazy.compute(), scene.to_xarray(["B04", "B11"]))
    part = lazy[:, 90:130:3, ::-1]
    np.testing.assert_array_equal(part.compute(), scene.to_xarray(["B04", "B11"])[:, 90:130:3, ::-1])
    assert scene.to_xarray(["B04"], chunks={"y": 64}).chunks == ((1,), (64,) * 4, (256,))


def test_without_dask_the_message_says_what_to_install(scene, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(ts.MissingExtraError, match=r"pip install 'truckscape\[xarray\]'"):
        scene.to_xarray(["B04"], chunks=64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bands": ["B99"]}, ts.MissingBandError, "lacks B99; it has: B01"),
        ({"bands": []}, ts.ConfigError, "bands= names bands, each once. Received: none"),
        ({"bands": ["B04", "B04"]}, ts.ConfigError, "each once. Received: B04, B04"),
        ({"bounds": (1, 2, 3)}, ts.ConfigError, "four numbers"),
        ({"bounds": (3, 2, 1, 4)}, ts.ConfigError, "with left < right"),
        ({"bounds": (0, 0, 1, 1)}, ts.GeoreferenceError, "are outside of"),
        ({"bounds": (0, 0, 1, 1), "crs": 4326}, ts.GeoreferenceError, "in the same CRS"),
        ({"bounds": (0, 0, 1, 1), "crs": "nonsense"}, ts.GeoreferenceError, "crs= is an EPSG code"),
        ({"crs": 4326}, ts.ConfigError, r"use .rio.reproject\(4326\)"),
        ({"chunks": "sideways"}, ts.ConfigError, "chunks= is a side in pixels"),
    ],
)
def test_wrong_arguments_are_one_line(scene, arguments, error, message):
    with pytest.raises(error, match=message) as raised:
        scene.to_xarray(**arguments)
    assert "\n" not in str(raised.value)
