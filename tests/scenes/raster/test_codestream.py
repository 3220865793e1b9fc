import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pipeline.errors import CorruptImageError
from pipeline.scenes.raster.blocks import raster_of
from pipeline.scenes.raster.codestream import check_complete
from pipeline.scenes.scene import BandSource

_LOSSLESS = {"REVERSIBLE": "YES", "QUALITY": "100"}
_TILED = {"TILED": "YES", "BLOCKXSIZE": "256", "BLOCKYSIZE": "128", **_LOSSLESS}


def _noise(side: int = 256) -> np.ndarray:
    return np.random.default_rng(1).integers(300, 3000, (side, side)).astype(np.uint16)


def _written(path: Path, pixels: np.ndarray, **options: str) -> bytes:
    height, width = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        width=width,
        height=height,
        count=1,
        dtype=pixels.dtype,
        crs="EPSG:32632",
        transform=from_origin(500_000, 5_600_000, 10, 10),
        **options,
    ) as raster:
        raster.write(pixels, 1)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "T32UPD_B02.jp2"


def _refused(path: Path, data: bytes, match: str) -> None:
    path.write_bytes(data)
    with pytest.raises(CorruptImageError, match=rf"Band B02 is damaged: .*{match}"):
        check_complete(str(path), "Band B02")


@pytest.mark.parametrize(
    "options",
    [
        {},
        _LOSSLESS,
        _TILED,
        {**_TILED, "TILEPARTS": "RESOLUTIONS", "PROGRESSION": "RLCP"},
        {**_TILED, "SOP": "YES", "EPH": "YES", "PLT": "YES", "TLM": "YES"},
        {"QUALITY": "5,10,20", "PRECINCTS": "{64,64},{32,32}", "CODEBLOCK_WIDTH": "16"},
        {**_TILED, "CODEBLOCK_STYLE": "BYPASS"},
        {**_TILED, "JP2C_XLBOX": "YES"},
        {"CODEC": "J2K", **_TILED},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "pixels", [_noise(), _noise() * 0, np.triu(_noise())], ids=["noise", "empty", "half"]
)
def test_a_complete_file_passes_however_it_was_written(
    path: Path, pixels: np.ndarray, options: dict[str, str]
) -> None:
    _written(path, pixels, **options)
    check_complete(str(path), "Band B02")


def test_a_missing_end_is_found_in_any_length(path: Path) -> None:
    data = _written(path, _noise(), **_TILED)
    for size in (len(data) - 1, len(data) - 2, len(data) // 2, len(data) // 3, 600):
        _refused(path, data[:size], "the file has|the file ends")


@pytest.mark.parametrize("options", [_LOSSLESS, _TILED], ids=["one tile", "tiles"])
@pytest.mark.parametrize(("begin", "end"), [(0.99, 1.0), (0.5, 1.0), (0.4, 0.45), (0.7, 0.72)])
def test_zeros_in_place_of_a_part_are_found(
    path: Path, options: dict[str, str], begin: float, end: float
) -> None:
    data = _written(path, _noise(512), **options)
    first, last = (int(share * len(data)) for share in (begin, end))
    _refused(path, data[:first] + bytes(last - first) + data[last:], "")


def test_the_place_of_zeros_is_in_the_message(path: Path) -> None:
    data = _written(path, _noise(512), **_LOSSLESS)
    _refused(path, data[:100_000] + bytes(4096) + data[104_096:], "zeros from byte 100000 in .*B02.jp2")


def test_a_tile_that_is_missing_is_found(path: Path) -> None:
    data = _written(path, _noise(), CODEC="J2K", **_TILED)
    start = data.index(b"\xff\x90\x00\x0a\x00\x01")
    size = struct.unpack(">I", data[start + 6 : start + 10])[0]
    _refused(path, data[:start] + data[start + size :], "1 of 2 tiles are missing")


def test_a_last_tile_may_leave_its_length_to_the_end(path: Path) -> None:
    # Kakadu writes Psot = 0 where it does not know the length yet (ISO/IEC 15444-1, A.4.2).
    data = bytearray(_written(path, _noise(), **_TILED))
    last = data.rindex(b"\xff\x90\x00\x0a\x00\x01")
    data[last + 6 : last + 10] = bytes(4)
    path.write_bytes(data)
    check_complete(str(path), "Band B02")
    _refused(path, bytes(data[:-2]) + bytes(2), "no marker")


def test_a_box_of_the_codestream_may_leave_its_length_to_the_end(path: Path) -> None:
    data = bytearray(_written(path, _noise(), **_TILED))
    start = data.index(b"jp2c") - 4
    data[start : start + 4] = bytes(4)
    path.write_bytes(data)
    check_complete(str(path), "Band B02")
    for cut in (1, 2, 1000):
        _refused(path, bytes(data[:-cut]), "")


def test_lengths_and_numbers_of_tiles_that_cannot_be_are_found(path: Path) -> None:
    data = _written(path, _noise(), CODEC="J2K", **_TILED)
    start = data.index(b"\xff\x90\x00\x0a")
    for at, value in ((4, b"\x00\x09"), (6, b"\x00\x00\x00\x05"), (6, b"\x7f\xff\xff\xff"), (2, b"\x00\x0b")):
        broken = bytearray(data)
        broken[start + at : start + at + len(value)] = value
        _refused(path, bytes(broken), "tile")
    size = data.index(b"\xff\x51") + 4
    for at, value, why in (
        (2, bytes(4), "a broken header"),
        (18, bytes(4), "a broken header"),
        (18, b"\x00\x00\x00\x01", "510 of 512 tiles are missing"),
        (22, b"\x00\x00\x00\x01", "254 of 256 tiles are missing"),
    ):
        broken = bytearray(data)
        broken[size + at : size + at + len(value)] = value
        _refused(path, bytes(broken), why)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_members_of_a_zip_are_checked_with_their_checksum(tmp_path: Path, method: int) -> None:
    data = _written(tmp_path / "B02.jp2", _noise(), **_LOSSLESS)
    archive, name = tmp_path / "product.zip", "X.SAFE/GRANULE/B02.jp2"
    href = f"/vsizip/{{{archive}}}/{name}"
    for content in (data, data[:-4000] + bytes(4000), data[:-2]):
        with zipfile.ZipFile(archive, "w", method) as file:
            file.writestr(name.replace("/", "\\") if content is data else name, content)
        if content is data:
            check_complete(href, "Band B02")
            continue
        with pytest.raises(CorruptImageError, match=r"Band B02 is damaged"):
            check_complete(href, "Band B02")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, data)
    changed = bytearray(archive.read_bytes())
    changed[len(changed) // 2] ^= 1
    archive.write_bytes(changed)
    with pytest.raises(CorruptImageError, match="CRC-32"):
        check_complete(href, "Band B02")


def test_it_is_checked_before_a_band_is_read_and_again_when_the_file_changes(path: Path) -> None:
    data = _written(path, _noise(), **_LOSSLESS)
    source = BandSource("B02", str(path))
    assert raster_of(source).shape == (256, 256)
    path.write_bytes(data[:-5000] + bytes(5000))
    with pytest.raises(CorruptImageError, match=re.escape(str(path))):
        raster_of(source)
    path.write_bytes(data)
    raster_of(source)


def test_other_rasters_and_remote_ones_pass(tmp_path: Path) -> None:
    other = tmp_path / "other.tif"
    other.write_bytes(b"II*\0" + bytes(100))
    for href in (str(other), str(tmp_path / "none.jp2"), "/vsicurl/http://example.org/B02.jp2"):
        check_complete(href, "Band B02")


def test_real_images_pass(shared_data: Path) -> None:
    images = sorted((shared_data / "landcover/brandenburg").glob("*.jp2"))
    assert len(images) == 13
    for image in images:
        check_complete(str(image), "Band")
