"""A thinned read has the right values, wherever it takes them from."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pipeline.errors import CorruptImageError
from pipeline.scenes.raster import thin
from pipeline.scenes.raster.thin import thinned
from pipeline.scenes.scene import BandSource


def written(path, numbers, overviews=(), mask=None, **profile):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        height=numbers.shape[0],
        width=numbers.shape[1],
        dtype=numbers.dtype,
        crs="EPSG:32632",
        transform=from_origin(600000, 5900000, 10, 10),
        **profile,
    ) as file:
        file.write(numbers, 1)
        if mask is not None:
            file.write_mask(mask)
        if overviews:
            file.build_overviews(list(overviews))
    return str(path)


def test_a_small_raster_is_read_completely(tmp_path):
    numbers = np.arange(1, 1 + 40 * 30, dtype=np.uint16).reshape(40, 30)
    values = thinned(BandSource("B02", written(tmp_path / "a.tif", numbers), offset=-0.1))
    assert values == pytest.approx(numbers * 1e-4 - 0.1, abs=1e-6)


def test_pixels_beside_nodata_are_left_out(tmp_path):
    numbers = np.full((20, 20), 500, np.uint16)
    numbers[5, 5] = 0
    values = thinned(BandSource("B02", written(tmp_path / "a.tif", numbers)))
    assert np.isnan(values).sum() == 9
    assert np.isnan(values[4:7, 4:7]).all()


def test_the_mask_of_a_file_counts(tmp_path):
    mask = np.full((20, 20), 255, np.uint8)
    mask[:10] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = written(tmp_path / "a.tif", np.full((20, 20), 500, np.uint16), mask=mask)
    assert np.isfinite(thinned(BandSource("B02", path))).sum() == 9 * 20


def test_overviews_are_used(tmp_path):
    numbers = np.full((1500, 1100), 700, np.uint16)
    path = written(tmp_path / "a.tif", numbers, overviews=(2, 4), tiled=True)
    values = thinned(BandSource("B02", path))
    assert values.shape == (750, 550)
    assert values == pytest.approx(0.07)


def test_a_large_raster_without_overviews_is_read_at_nine_places(tmp_path, monkeypatch):
    monkeypatch.setattr(thin, "_MOST_PX", 2**18)
    numbers = np.add.outer(np.arange(1000), np.arange(1200)).astype(np.uint16) + 1
    values = thinned(BandSource("B02", written(tmp_path / "a.tif", numbers), scale=1.0))
    assert values.shape == (9 * 256, 256)
    assert values[0, 0] == numbers[74, 94]  # a tenth of the rows and columns that a place leaves
    assert values[-1, -1] == numbers[670 + 255, 850 + 255]


def test_bands_of_other_resolutions_cover_the_same_ground(tmp_path, monkeypatch):
    monkeypatch.setattr(thin, "_MOST_PX", 1)
    path = written(tmp_path / "a.tif", np.full((600, 600), 9, np.uint16))
    assert thinned(BandSource("B05", path, gsd=20.0)).shape == (9 * 128, 128)


def test_a_damaged_raster_is_an_error_that_names_the_place(tmp_path):
    path = tmp_path / "a.tif"
    written(path, np.random.default_rng(0).integers(1, 9999, (300, 300), np.uint16), compress="lzw")
    data = path.read_bytes()
    path.write_bytes(data[:40000] + b"\xff" * (len(data) - 41000) + data[-1000:])
    with pytest.raises(CorruptImageError, match=r"Band B02 can't be decoded in block row \d+, column 0"):
        thinned(BandSource("B02", str(path)))


def test_a_mask_band_counts(tmp_path):
    numbers = np.full((2, 20, 20), 500, np.uint16)
    numbers[1, 5, 5] = 0
    path = str(tmp_path / "a.tif")
    with rasterio.open(
        path, "w", driver="GTiff", count=2, height=20, width=20, dtype="uint16", crs="EPSG:32632",
        transform=from_origin(600000, 5900000, 10, 10),
    ) as file:  # fmt: skip
        file.write(numbers)
    values = thinned(BandSource("B02", path, mask=BandSource("mask", path, 2)))
    assert np.isnan(values).sum() == 9


@pytest.mark.parametrize(
    ("dtype", "number"),
    [("float32", 3.4028235e38), ("float32", -3.4028235e38), ("float64", 1e300), ("int32", -9999)],
)
def test_numbers_that_no_reflectance_has_are_no_data_with_a_warning(tmp_path, dtype, number, caplog):
    numbers = np.full((20, 20), 1, dtype)
    numbers[:, :5] = number
    path = written(tmp_path / "a.tif", numbers)
    values = thinned(BandSource("B02", path, scale=0.1, nodata=None))
    assert np.isfinite(values).sum() == 20 * 14
    assert f"has pixels of {np.dtype(dtype).type(number):.9g}, which no reflectance has" in caplog.text
    caplog.clear()
    thinned(BandSource("B02", path, scale=0.1, nodata=float(np.dtype(dtype).type(number))))
    assert not caplog.text
