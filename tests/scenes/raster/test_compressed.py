import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

from pipeline.errors import CorruptImageError
from pipeline.scenes.raster import compressed
from pipeline.scenes.raster.blocks import read
from pipeline.scenes.raster.cache import BlockCache
from pipeline.scenes.raster.datasets import file_state
from pipeline.scenes.raster.tiff import tiff_of
from pipeline.scenes.scene import BandSource, Warp
from tests.scenes.products import write_raster

SHAPE = (40, 100)
ALL = slice(0, SHAPE[0]), slice(0, SHAPE[1])
DEFLATE = {"compress": "deflate", "tiled": True, "blockxsize": 48, "blockysize": 16}


def smooth(dtype: str = "uint16") -> np.ndarray:
    steps = np.random.default_rng(0).integers(-30, 31, (3, *SHAPE))
    found = np.abs(np.cumsum(steps, axis=2)) % 3000 + 300
    return (found // 13 if dtype == "uint8" else found).astype(dtype)


def damage(path: Path, fill: bytes, block: tuple[int, int] = (0, 0), in_mask: bool = False) -> None:
    """Overwrite the second half of a block."""
    tiff = tiff_of(str(path), file_state(str(path)))
    assert tiff
    layout = tiff.mask if in_mask else tiff.image
    assert layout
    at, size = int(layout.offsets[0, *block]), int(layout.sizes[0, *block])
    data = bytearray(path.read_bytes())
    data[at + size // 2 : at + size] = fill * (size - size // 2)
    path.write_bytes(data)


def numbers_of(path: Path, band: int = 1, warp: Warp | None = None) -> np.ndarray:
    with BlockCache():
        return read(BandSource("B02", str(path), band, warp=warp), *ALL)[0]


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"interleave": "band"},
        {"predictor": 2},
        {"predictor": 2, "endianness": "BIG"},
        {"predictor": 3, "dtype": "float32"},
        {"tiled": False, "blockysize": 16},
        {"compress": "packbits"},
        {"compress": "jpeg", "dtype": "uint8"},
    ],
)
def test_damage_within_a_block_is_an_error_that_names_it(tmp_path, profile, fill):
    profile = DEFLATE | {"interleave": "pixel"} | profile
    array = smooth(profile.pop("dtype", "uint16"))
    path = write_raster(tmp_path / "a.tif", array, **profile)
    if profile["compress"] != "jpeg":
        assert (numbers_of(path) == array[0]).all()
    damage(path, fill)
    with pytest.raises(CorruptImageError, match=r"Band B02 can't be decoded in block row 0, column 0"):
        numbers_of(path)


def test_complete_blocks_are_compared_without_decompressing_them_again(tmp_path, monkeypatch):
    array = smooth()[:, :32, :96]
    monkeypatch.setattr(compressed, "_is_damaged", None)
    for profile in ({}, {"predictor": 2}, {"endianness": "BIG"}, {"interleave": "band"}):
        path = write_raster(tmp_path / "a.tif", array, **DEFLATE | {"interleave": "pixel"} | profile)
        with BlockCache():
            found, _ = read(BandSource("B02", str(path), 2), slice(0, 32), slice(0, 96))
        assert (found == array[1]).all()


def test_damage_in_another_band_or_block_does_not_matter(tmp_path):
    path = write_raster(tmp_path / "a.tif", smooth(), interleave="band", **DEFLATE)
    damage(path, b"\xff")
    assert (numbers_of(path, 2) == smooth()[1]).all()


def test_a_damaged_mask_is_found(tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_raster(path, smooth(), **DEFLATE)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(np.random.default_rng(1).random(SHAPE) > 0.5)
    assert numbers_of(path).shape == SHAPE
    damage(path, b"\0", in_mask=True)
    with pytest.raises(CorruptImageError, match="Band B02 can't be decoded"):
        numbers_of(path)


def test_damage_is_found_where_a_raster_is_warped(tmp_path):
    path = write_raster(tmp_path / "a.tif", smooth(), **DEFLATE)
    with rasterio.open(path) as dataset:
        bounds = transform_bounds(dataset.crs, "EPSG:32633", *dataset.bounds)
    warp = Warp(CRS.from_epsg(32633).to_wkt(), from_origin(bounds[0], bounds[3], 10, 10), SHAPE)
    assert np.isfinite(numbers_of(path, warp=warp)).any()
    damage(path, b"\0", (1, 1))
    with pytest.raises(CorruptImageError, match="block row 1, column 1"):
        numbers_of(path, warp=warp)


def test_a_stream_that_is_longer_than_its_block_is_right_if_its_checksum_is(tmp_path):

    whole = zlib.compress(bytes(5_000_000))
    assert compressed._is_deflate(whole)
    assert not compressed._is_deflate(whole[:-1])
    assert not compressed._is_deflate(whole[:-1] + b"x")
