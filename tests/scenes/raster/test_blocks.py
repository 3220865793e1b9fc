import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine
from rasterio.windows import Window

from pipeline.errors import CorruptImageError
from pipeline.scenes.raster.blocks import raster_of, read
from pipeline.scenes.raster.cache import BlockCache
from pipeline.scenes.scene import BandSource
from tests.scenes.products import CRS, write_raster

MARKER_OF_A_TILE = b"\xff\x90\x00\x0a"


@pytest.fixture(autouse=True)
def cache() -> Iterator[BlockCache]:
    """An empty cache for each test."""
    with BlockCache() as fresh:
        yield fresh


def numbers(shape: tuple[int, ...], dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 250, shape).astype(dtype)


def test_blocks_are_read_only(tmp_path):
    source = BandSource("B02", str(write_raster(tmp_path / "B02.tif", numbers((30, 40)))))
    part, _ = read(source, slice(3, 9), slice(0, 40))
    with pytest.raises(ValueError, match="read-only"):
        part[0, 0] = 1


@pytest.mark.parametrize(
    ("profile", "shape", "expected"),
    [
        ({"interleave": "pixel"}, (8, 600, 5000), (100, 5000)),  # strips of a row, 80 kB each
        ({"tiled": True, "blockxsize": 256, "blockysize": 256}, (600, 700), (256, 256)),
        ({"tiled": True, "blockxsize": 64, "blockysize": 16}, (600, 700), (512, 512)),
        ({"tiled": True, "blockxsize": 192, "blockysize": 192}, (600, 700), (576, 576)),
        ({}, (600, 700), (515, 700)),  # strips of 5 rows
        ({}, (3, 5), (3, 5)),
    ],
)
def test_a_block_is_the_files_own_or_a_group_of_small_ones(tmp_path, profile, shape, expected):
    path = write_raster(tmp_path / "x.tif", numbers(shape), **profile)
    assert raster_of(BandSource("B02", str(path))).block_shape == expected


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, tuple[Path, np.ndarray]]:
    folder = tmp_path_factory.mktemp("rasters")
    arrays = {
        "tiles.jp2": (numbers((300, 420)), {"tiled": True, "BLOCKXSIZE": 256, "BLOCKYSIZE": 256}),
        "small.jp2": (numbers((50, 70)), {"tiled": True, "BLOCKXSIZE": 64, "BLOCKYSIZE": 64}),
        "strips.tif": (numbers((5000, 40), np.int16), {}),
        "tiles.tif": (
            numbers((300, 330), np.float32),
            {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"},
        ),
        "pixels.tif": (numbers((3, 1200, 40), np.uint8), {"interleave": "pixel", "compress": "deflate"}),
        "bands.tif": (numbers((3, 60, 40)), {"interleave": "band"}),
    }
    return {
        name: (write_raster(folder / name, array, **profile), array)
        for name, (array, profile) in arrays.items()
    }


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_rectangle_is_what_rasterio_reads(files, data):
    path, array = files[data.draw(st.sampled_from(sorted(files)))]
    index = data.draw(st.integers(1, 1 if array.ndim == 2 else len(array)))
    with rasterio.open(path) as dataset:
        rows, cols = (
            slice(*sorted(data.draw(st.sets(st.integers(0, side), min_size=2, max_size=2))))
            for side in dataset.shape
        )
        expected = dataset.read(index, window=Window.from_slices(rows, cols))
    got, mask = read(BandSource("B02", str(path), index), rows, cols)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    assert mask is None


def test_bands_that_are_decoded_together_are_decoded_once(files, cache):
    for name, expected in {"pixels.tif": 3, "bands.tif": 3}.items():
        before = cache.decoded
        path, array = files[name]
        for index in (1, 2, 3):
            got, _ = read(BandSource("B02", str(path), index), slice(0, array.shape[1]), slice(0, 40))
            np.testing.assert_array_equal(got, array[index - 1])
        assert cache.decoded - before == expected


def test_a_mask_is_decoded_once_for_all_bands(tmp_path, cache):
    path = tmp_path / "masked.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", width=3, height=2, count=2, dtype="uint16", crs=CRS,
            transform=Affine(10, 0, 0, 0, -10, 0), interleave="band",
        ) as dataset,
    ):  # fmt: skip
        dataset.write(np.ones((2, 2, 3), np.uint16))
        dataset.write_mask(np.array([[255, 0, 255], [0, 0, 255]], np.uint8))
    for index in (1, 2):
        _, mask = read(BandSource("B02", str(path), index), slice(0, 2), slice(1, 3))
        assert mask is not None
        assert mask.tolist() == [[False, True], [False, True]]
    assert cache.decoded == 3


def test_a_file_that_changes_is_decoded_anew(tmp_path, cache):
    """Replaced, or written again in place at the same size and with its old time of modification."""
    path = write_raster(tmp_path / "B02.tif", np.full((20, 30), 7, np.uint16))
    source, everything = BandSource("B02", str(path)), (slice(0, 20), slice(0, 30))
    assert (read(source, *everything)[0] == 7).all()
    write_raster(tmp_path / "other.tif", np.full((10, 30), 8, np.uint16)).replace(path)
    assert (read(source, slice(0, 10), slice(0, 30))[0] == 8).all()

    before, status = path.read_bytes(), path.stat()
    after = before.replace(np.uint16(8).tobytes() * 300, np.uint16(9).tobytes() * 300)
    assert before != after
    path.write_bytes(after)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (read(source, slice(0, 10), slice(0, 30))[0] == 9).all()
    assert cache.decoded == 3


def test_a_zip_that_is_replaced_is_decoded_anew(tmp_path):
    archive = tmp_path / "scene.zip"
    source = BandSource("B02", f"/vsizip/{{{archive}}}/B02.tif")
    for value in (7, 8):
        write_raster(tmp_path / "B02.tif", np.full((20, 30), value, np.uint16))
        fresh = tmp_path / "fresh.zip"
        with zipfile.ZipFile(fresh, "w") as file:
            file.write(tmp_path / "B02.tif", "B02.tif")
        fresh.replace(archive)
        assert (read(source, slice(0, 20), slice(0, 30))[0] == value).all()


def test_a_file_that_is_gone_is_reported(tmp_path):
    path = write_raster(tmp_path / "B02.tif", numbers((20, 30)))
    source = BandSource("B02", str(path))
    read(source, slice(0, 20), slice(0, 30))
    path.unlink()
    with pytest.raises(CorruptImageError, match=r"B02 can't be opened: .*B02\.tif is not there"):
        read(source, slice(0, 20), slice(0, 30))


def tile_of(codestream: bytes, number: int) -> tuple[int, int]:
    """Where a tile's compressed data begin and end in a JPEG 2000 file with one tile part a tile."""
    start = -1
    for _ in range(number + 1):
        start = codestream.index(MARKER_OF_A_TILE, start + 1)
    length = int.from_bytes(codestream[start + 6 : start + 10], "big")
    return start + 14, start + length


def test_a_damaged_block_of_jpeg_2000_is_named_and_the_others_are_read(tmp_path, cache, capfd):
    good = numbers((768, 768))
    path = write_raster(tmp_path / "B03.jp2", good, tiled=True, BLOCKXSIZE=256, BLOCKYSIZE=256)
    data = path.read_bytes()
    start, end = tile_of(data, 5)
    path.write_bytes(data[:start] + b"\xff" * (end - start) + data[end:])
    source = BandSource("B03", str(path))
    message = (
        r"^Band B03 can't be decoded in block row 1, column 2 \(pixel rows 256-512, columns 512-768\): "
        r"\S+B03\.jp2 is truncated or damaged; fetch it again\.$"
    )
    for _ in range(2):
        with pytest.raises(CorruptImageError, match=message):
            read(source, slice(300, 301), slice(500, 520))
    np.testing.assert_array_equal(read(source, slice(0, 512), slice(0, 512))[0], good[:512, :512])
    assert cache.decoded == 4
    assert capfd.readouterr().err == ""


def test_no_block_of_a_jpeg_2000_without_some_of_its_bytes_is_read(tmp_path):
    path = write_raster(tmp_path / "B03.jp2", numbers((768, 768)), tiled=True, BLOCKXSIZE=256, BLOCKYSIZE=256)
    data = path.read_bytes()
    start, end = tile_of(data, 5)
    middle = (start + end) // 2
    for damaged in (data[:middle], data[:middle] + data[middle + 100 :]):
        path.write_bytes(damaged)
        with pytest.raises(CorruptImageError, match=r"Band B03 is damaged: .*B03\.jp2"):
            read(BandSource("B03", str(path)), slice(0, 10), slice(0, 10))


def test_a_damaged_strip_is_named(tmp_path):
    path = write_raster(tmp_path / "B03.tif", numbers((600, 300)), compress="deflate")
    with rasterio.open(path) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_0_7", "TIFF", bidx=1))
        length = int(dataset.get_tag_item("BLOCK_SIZE_0_7", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset + length // 2 : offset + length] = b"\xff" * (length - length // 2)
    path.write_bytes(data)
    with pytest.raises(CorruptImageError, match=r"block row 7, column 0 \(pixel rows 91-104, columns 0-300"):
        read(BandSource("B03", str(path)), slice(0, 10), slice(0, 10))
