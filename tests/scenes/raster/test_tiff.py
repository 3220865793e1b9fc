import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipeline.errors import CorruptImageError
from pipeline.scenes.raster.blocks import raster_of
from pipeline.scenes.raster.datasets import file_state
from pipeline.scenes.raster.tiff import Layout, tiff_of
from pipeline.scenes.scene import BandSource
from tests.scenes.products import write_raster

TILED = {"tiled": True, "blockxsize": 32, "blockysize": 16}


def numbers(bands: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 3000, (bands, 50, 70)).astype(np.uint16)


def layout_of(path: Path) -> Layout:
    tiff = tiff_of(str(path), file_state(str(path)))
    assert tiff
    return tiff.image


@pytest.mark.parametrize("interleave", ["band", "pixel"])
@pytest.mark.parametrize("profile", [TILED, {"blockysize": 7}])
@pytest.mark.parametrize("kind", [{}, {"BIGTIFF": "YES"}, {"endianness": "BIG"}, {"compress": "deflate"}])
def test_places_of_blocks_are_those_of_gdal(tmp_path, interleave, profile, kind):
    path = write_raster(tmp_path / "a.tif", numbers(), interleave=interleave, **profile, **kind)
    layout = layout_of(path)
    with rasterio.open(path) as dataset:
        assert layout.block == dataset.block_shapes[0]
        for band in (1, 2):
            for row, col in layout.blocks(slice(0, 50), slice(0, 70)):
                place = [
                    int(dataset.get_tag_item(f"BLOCK_{name}_{col}_{row}", "TIFF", bidx=band))
                    for name in ("OFFSET", "SIZE")
                ]
                plane = layout.plane(band)
                assert place == [layout.offsets[plane, row, col], layout.sizes[plane, row, col]]


def test_blocks_of_a_rectangle_are_those_that_it_touches(tmp_path):
    layout = layout_of(write_raster(tmp_path / "a.tif", numbers(), **TILED))
    assert list(layout.blocks(slice(15, 17), slice(32, 64))) == [(0, 1), (1, 1)]


@pytest.mark.parametrize("kept", [0.4, 0.7, 0.99])
@pytest.mark.parametrize("driver", ["GTiff", "COG"])
def test_a_truncated_file_is_refused_when_it_is_opened(tmp_path, kept, driver):
    path = write_raster(tmp_path / "a.tif", numbers(), driver=driver, compress="deflate")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(CorruptImageError, match="truncated or damaged"):
        raster_of(BandSource("B02", str(path)))


def test_a_block_of_no_bytes_at_a_place_is_damage(tmp_path):
    path = write_raster(tmp_path / "a.tif", numbers(), **TILED)
    sizes = layout_of(path).sizes.astype("<u4").ravel()
    data = bytearray(path.read_bytes())
    at = data.find(struct.pack("<" + "H" * len(sizes), *sizes))
    assert at > 0
    data[at : at + 2] = b"\0\0"
    path.write_bytes(data)
    with pytest.raises(CorruptImageError, match=r"1 of 12 blocks are not in it, first that in row 0"):
        raster_of(BandSource("B02", str(path)))


def test_damage_of_overviews_does_not_matter(tmp_path):
    path = write_raster(tmp_path / "a.tif", numbers(), **TILED)
    end = path.stat().st_size
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    data = path.read_bytes()
    path.write_bytes(data[:end] + b"\xff" * (len(data) - end))
    assert raster_of(BandSource("B02", str(path))).shape == (50, 70)


def test_directories_that_repeat_end(tmp_path):
    path = write_raster(tmp_path / "a.tif", numbers())
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[at : at + 2])
    data[at + 2 + 12 * count : at + 6 + 12 * count] = struct.pack("<I", at)
    path.write_bytes(data)
    assert layout_of(path).shape == (50, 70)


def test_sparse_files_are_legal(tmp_path):
    array = np.zeros((2, 50, 70), np.uint16)
    array[1, :16, :32] = 1
    path = write_raster(tmp_path / "a.tif", array, SPARSE_OK=True, interleave="band", **TILED)
    layout = layout_of(path)
    assert (layout.missing(1), layout.missing(2)) == (1.0, pytest.approx(11 / 12))


def test_other_files_have_no_layout(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II")
    for name in ("a.tif", "missing.tif"):
        path = tmp_path / name
        assert tiff_of(str(path), file_state(str(path))) is None
    assert tiff_of("/vsicurl/https://example.org/a.tif", None) is None
