"""Zips that are damaged, or that two readers take for different products."""

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import MetadataError, NotAProductError, TruckscapeError
from pipeline.scenes.readers.safe import open_safe
from pipeline.scenes.readers.zip_members import members_of
from tests.scenes.products import PRODUCTS, numbers, write_safe, zip_of

SAFE = f"{PRODUCTS['L1C']}.SAFE"
ENTRY = b"PK\x01\x02"


@pytest.fixture(scope="module")
def safe(tmp_path_factory):
    return write_safe(tmp_path_factory.mktemp("product"), images={"B02": numbers("B02", size=12)})


def entry_of(raw: bytes, ending: str) -> int:
    """Return the place of a member in the directory of a zip."""
    place = raw.index(ENTRY)
    while True:
        length = struct.unpack("<H", raw[place + 28 : place + 30])[0]
        if raw[place + 46 : place + 46 + length].endswith(ending.encode()):
            return place
        place = raw.index(ENTRY, place + 4)


def changed(safe: Path, target: Path, ending: str, values: dict[int, bytes]) -> Path:
    """A zip with other bytes in the directory entry of one member."""
    raw = bytearray(zip_of(safe, target).read_bytes())
    place = entry_of(raw, ending)
    for offset, value in values.items():
        raw[place + offset : place + offset + len(value)] = value
    target.write_bytes(raw)
    return target


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "other",
    [
        "{}/MTD_MSIL1C.xml",
        "./{}/MTD_MSIL1C.xml",
        "{}/./MTD_MSIL1C.xml",
        "{}//MTD_MSIL1C.xml",
        "{}\\MTD_MSIL1C.xml",
        "{}/mtd_msil1c.XML",
        "{}/MTD_MSIL1C.xml\x00.txt",
    ],
)
def test_members_that_a_reader_may_take_for_one_are_refused(safe, tmp_path, other):
    path = zip_of(safe, tmp_path / "p.zip")
    info = zipfile.ZipInfo("x")
    info.filename = other.format(SAFE)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "<another/>")
    with pytest.raises(MetadataError, match=r"Two members of .* have one name"):
        open_safe(path)


def test_a_folder_that_is_listed_twice_does_no_harm(safe, tmp_path):
    path = zip_of(safe, tmp_path / "p.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{SAFE.lower()}/granule/", "")
    assert open_safe(path).bands


@pytest.mark.parametrize("ending", ["MTD_TL.xml", "_B02.jp2"])
@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, b"\x01\x00", "is encrypted; unpack the zip"),
        (10, b"\x09\x00", "is compressed with deflate64"),
        (10, b"\x0c\x00", "is compressed with bzip2"),
        (10, b"\x0e\x00", "is compressed with lzma"),
        (10, b"\x5d\x00", "is compressed with zstandard"),
        (10, b"\x63\x00", "is compressed with method 99"),
        (24, struct.pack("<I", 2**31 + 1), "2147483649 bytes"),
        (38, struct.pack("<I", stat.S_IFLNK << 16), "is a link, not a file"),
    ],
)
def test_members_that_are_not_read_in_place_are_named(safe, tmp_path, ending, offset, value, message):
    path = changed(safe, tmp_path / "p.zip", ending, {offset: value})
    with pytest.raises(MetadataError, match=message):
        open_safe(path)


def test_a_member_that_is_not_used_may_be_packed_in_any_way(safe, tmp_path):
    path = zip_of(safe, tmp_path / "p.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr(f"{SAFE}/HTML/readme.txt", "hello")
    assert open_safe(path).bands


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (6, b"\x4e\x00", "needs a later version of the zip format; unpack it"),
        (30, b"\xff\xff", "Not a readable zip"),
        (46, b"\xff\xfe", "Not a readable zip"),
    ],
)
def test_a_directory_that_cannot_be_read_is_one_line(safe, tmp_path, offset, value, message):
    flags = {8: b"\x00\x08"} if offset == 46 else {}  # its names are UTF-8
    path = changed(safe, tmp_path / "p.zip", "MTD_TL.xml", {offset: value, **flags})
    with pytest.raises(NotAProductError, match=message):
        open_safe(path)


def test_what_surrounds_a_zip_does_no_harm(safe, tmp_path):
    raw = zip_of(safe, tmp_path / "p.zip").read_bytes()
    comment = raw[:-2] + struct.pack("<H", 8) + b"PK\x01\x02PK.."
    for number, content in enumerate((b"#!/bin/sh\n" * 10 + raw, raw + b"\0" * 40, comment)):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(content)
        assert open_safe(path).bands


@pytest.mark.parametrize("seed", range(30))
def test_any_changed_byte_of_a_directory_is_a_scene_or_one_clear_error(safe, tmp_path, seed):
    raw = bytearray(zip_of(safe, tmp_path / "p.zip").read_bytes())
    first = raw.index(ENTRY)
    raw[first + seed * 7919 % (len(raw) - first)] ^= 1 << seed % 8
    (tmp_path / "p.zip").write_bytes(raw)
    try:
        members_of(tmp_path / "p.zip")
        open_safe(tmp_path / "p.zip")
    except TruckscapeError as error:
        assert str(error)


def test_a_band_that_the_directory_names_otherwise_is_not_left_out(safe, tmp_path):
    path = changed(safe, tmp_path / "p.zip", "_B02.jp2", {46: b"X"})
    with pytest.raises(NotAProductError, match="Not a readable zip"):
        open_safe(path)
