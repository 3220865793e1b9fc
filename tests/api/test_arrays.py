"""Arrays that are no image of a scene are refused in one line."""

import numpy as np
import pytest
import xarray as xr
from affine import Affine

import truckscape as ts
from pipeline.api.arrays import image_of, write_image
from pipeline.scenes.open import open_scene
from tests.api.conftest import BANDS

PLACE = {"bands": BANDS, "transform": Affine(10, 0, 600000, 0, -10, 5800000), "crs": 32632}
GOOD = np.random.default_rng(5).uniform(0.03, 0.3, (4, 32, 48)).astype(np.float32)


def image(array=GOOD, is_scaled=False, **changes):
    place = PLACE | changes
    return image_of(array, place["bands"], place["transform"], place["crs"], is_scaled)


@pytest.mark.parametrize(
    ("array", "changes", "error", "message"),
    [
        (GOOD[0], {}, ts.ArrayError, r"shape \(bands, rows, columns\). Received: \(32, 48\)"),
        (GOOD[:, :0], {}, ts.ArrayError, r"Received: \(4, 0, 48\)"),
        (np.moveaxis(GOOD, 0, -1), {}, ts.ArrayError, r"bands seem to be the last axis: give np.moveaxis"),
        (GOOD[:3], {}, ts.ArrayError, r"here \(4, rows, columns\)"),
        (GOOD, {"bands": None}, ts.ArrayError, "bands of an array are not known"),
        (GOOD, {"bands": ["red", "B03", "B04", "B08"]}, ts.ArrayError, "Unknown: red"),
        (GOOD, {"bands": ["B02", "B02", "B04", "B08"]}, ts.ArrayError, "each once"),
        (GOOD.astype(bool), {}, ts.ArrayError, "floating-point reflectance. Received: bool"),
        (GOOD.astype(complex), {}, ts.ArrayError, "Received: complex128"),
        (GOOD.astype(object), {}, ts.ArrayError, "Received: object"),
        ((GOOD * 1e4).astype(np.uint16), {}, ts.ArrayError, "uint16 holds digital numbers.*scale=0.0001"),
        (GOOD, {"transform": None}, ts.GeoreferenceError, "transform= is missing"),
        (GOOD, {"transform": "north"}, ts.GeoreferenceError, "transform= is an affine.Affine"),
        (GOOD, {"transform": (600000, 10, 0, 5800000, 0, -10)}, ts.GeoreferenceError, "Affine.from_gdal"),
        (GOOD, {"crs": None}, ts.GeoreferenceError, "crs= is missing"),
        (GOOD, {"crs": "nowhere"}, ts.GeoreferenceError, "crs= is an EPSG code"),
    ],
)
def test_wrong_arrays(array, changes, error, message):
    with pytest.raises(error, match=message) as raised:
        image(array, **changes)
    assert "\n" not in str(raised.value)


def test_names_are_understood_as_in_files():
    assert image(bands=["b2", "B3", "band 4", "B08_10m"]).bands == ("B02", "B03", "B04", "B08")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_file_of_an_array_has_its_values(tmp_path, dtype):
    values = GOOD.astype(dtype)
    values[:, 3, 4] = np.nan
    write_image(image(values), tmp_path / "array.tif")
    scene = open_scene(str(tmp_path / "array.tif"))
    read = ts.open(tmp_path / "array.tif").to_xarray()
    np.testing.assert_array_equal(read, values.astype(np.float32))
    assert scene.grid.affine == PLACE["transform"]
    assert scene.grid.crs.epsg == 32632


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.uint64])
def test_integers_with_a_scale(tmp_path, dtype):
    numbers = (GOOD * 255).astype(dtype)
    write_image(image(numbers, is_scaled=True), tmp_path / "array.tif")
    read = ts.open(tmp_path / "array.tif", scale=1 / 255).to_xarray()
    np.testing.assert_allclose(read, numbers.astype(np.float64) / 255, rtol=1e-6)


def test_what_numpy_masks_has_no_data():
    masked = np.ma.masked_greater(GOOD, 0.2)
    np.testing.assert_array_equal(image(masked).values, np.where(GOOD > 0.2, np.nan, GOOD))
    numbers = np.ma.masked_equal(np.full((4, 2, 2), 7, np.int16), 3)
    assert image(numbers, is_scaled=True).values.dtype == np.int16


def test_a_dataset_of_xarray_is_no_array():
    with pytest.raises(ts.ArrayError, match=r"give dataset.to_array\('band'\)"):
        image(xr.Dataset({"B02": (("y", "x"), GOOD[0])}))


def test_an_array_of_xarray_states_bands_and_place(array, scene):
    found = image_of(array.transpose("y", "x", "band"), None, None, None, False)
    assert found.bands == tuple(BANDS)
    assert found.acquired == f"{scene.acquired:%Y-%m-%dT%H:%M:%S}Z"
    assert found.transform == scene.data.grid.affine
    np.testing.assert_array_equal(found.values, array.values)


def test_an_array_of_xarray_without_a_place(array):
    with pytest.raises(ts.GeoreferenceError, match=r"is missing"):
        image_of(xr.DataArray(array.values, {"band": BANDS}, array.dims), None, None, None, False)
    with pytest.raises(ts.ArrayError, match=r"dimensions band, y and x. Received: y, x"):
        image_of(array[0], None, None, None, False)
