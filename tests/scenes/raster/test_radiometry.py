import numpy as np
import pytest

from pipeline.scenes.raster.radiometry import is_impossible, to_reflectance
from pipeline.scenes.scene import BandSource


def test_nodata_is_masked_before_the_offset_so_dark_pixels_stay_valid():
    source = BandSource("B04", "x", scale=1e-4, offset=-0.1)
    reflectance, valid = to_reflectance(np.array([[0, 1, 1000, 1001, 11000, 65535]], np.uint16), source)
    assert valid.tolist() == [[False, True, True, True, True, True]]
    np.testing.assert_allclose(reflectance, [[0.0, -0.0999, 0.0, 0.0001, 1.0, 6.4535]], atol=1e-6)
    assert reflectance.dtype == np.float32


def test_without_offset_as_before_baseline_04():
    reflectance, valid = to_reflectance(np.array([0, 1, 10000], np.uint16), BandSource("B04", "x"))
    assert valid.tolist() == [False, True, True]
    np.testing.assert_allclose(reflectance, [0.0, 0.0001, 1.0], atol=1e-7)


def test_floats_are_reflectance_and_only_finite_ones_are_valid():
    source = BandSource("B04", "x", scale=1.0, nodata=float("nan"))
    reflectance, valid = to_reflectance(np.array([0.0, 0.25, np.nan, np.inf], np.float32), source)
    assert valid.tolist() == [True, True, False, False]
    assert reflectance.tolist() == [0.0, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("nodata", [-9999.0, -32768.0])
def test_nodata_of_signed_integers(nodata):
    source = BandSource("B04", "x", nodata=nodata)
    reflectance, valid = to_reflectance(np.array([nodata, -5, 0], np.int16), source)
    assert valid.tolist() == [False, True, True]
    np.testing.assert_allclose(reflectance, [0, -0.0005, 0], atol=1e-7)


def test_eight_bits_without_nodata():
    source = BandSource("B04", "x", scale=1 / 255, nodata=None)
    reflectance, valid = to_reflectance(np.array([0, 51, 255], np.uint8), source)
    assert valid.all()
    np.testing.assert_allclose(reflectance, [0, 0.2, 1], atol=1e-6)


def test_numbers_of_no_unit_are_no_data():
    for dtype in (np.int16, np.int32, np.float32):
        numbers = np.array([-9999, -32768, -1000, 0, 20000]).astype(dtype)
        _, valid = to_reflectance(numbers, BandSource("B02", "", nodata=None))
        assert valid.tolist() == [False, False, True, True, True]
    fills = np.array([-3.4028235e38, 9.96921e36, 1e20, np.inf, 0.5], np.float32)
    _, valid = to_reflectance(fills, BandSource("B02", "", scale=1.0, nodata=None))
    assert valid.tolist() == [False, False, False, False, True]


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.int16, np.int32, np.int64, np.uint32, np.uint64]
)
def test_the_limits_of_a_type_are_no_data(dtype):
    info = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    numbers = np.array([1, info.min, info.max], dtype)
    valid = to_reflectance(numbers, BandSource("B02", "", nodata=None))[1]
    is_number = [True, info.min == 0, info.max < 1_000_000]
    assert valid.tolist() == is_number
    assert is_impossible(numbers).tolist() == [not each for each in is_number]


def test_what_is_not_finite_is_no_data_but_no_odd_number():
    numbers = np.array([1, np.nan, np.inf, -np.inf], np.float32)
    assert to_reflectance(numbers, BandSource("B02", "", nodata=None))[1].tolist() == [
        True,
        False,
        False,
        False,
    ]
    assert not is_impossible(numbers).any()
