"""Check that a local JPEG 2000 file is complete, without decoding it.

OpenJPEG decodes zeros in place of a part of a codestream, as a sparse file or a download that broke off has
them, without an error. Structure: ISO/IEC 15444-1, Annexes A (codestream) and I (boxes).
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from pipeline.errors import CorruptImageError
from pipeline.scenes.raster.datasets import FileState, file_state, local_file

_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_SOC, _SIZ, _COD, _COC, _CAP = 0xFF4F, 0xFF51, 0xFF52, 0xFF53, 0xFF50
_SOT, _SOD, _EOC = 0xFF90, 0xFF93, 0xFFD9
_LEAST_TILE_PART = 14
_BYPASS = 1
"""Code-block style in which bits are written raw, without the arithmetic coder."""
_MOST_ZEROS = 2**16
"""Limit of zeros in a row where no closer one is known."""
_MARGIN_ZEROS = 64
_CHUNK = 2**20
_UNPACKABLE = (zipfile.BadZipFile, zlib.error, EOFError)


class _IncompleteError(Exception):
    """Reason why a file is not complete."""


def check_complete(href: str, what: str) -> None:
    """Raise CorruptImageError if a JPEG 2000 file on this machine, or in a zip, is not complete.

    Other rasters and remote ones pass. Found are a missing end, missing tiles, lengths that do not fit the
    file, and more zeros in a row than empty packets can make. Reads the file once, with a memory of some MB;
    of a zip its checksum is compared, too. `what` names the raster in the error.
    """
    state = file_state(href)
    if state is None:
        return  # remote; a file that is not there is an error of opening it
    why = _fault(href, state)
    if why:
        raise CorruptImageError(f"{what} is damaged: {why} in {href}. Fetch it again.")


@lru_cache(1024)
def _fault(href: str, state: FileState) -> str | None:
    try:
        with _opened(href) as (file, size):
            stream = _Stream(file, size)
            _check_file(stream)
            stream.skip(stream.size - stream.at)  # a zip compares its checksum at the end
    except (_IncompleteError, struct.error) as error:
        return str(error)
    except _UNPACKABLE as error:
        return f"it can't be decompressed ({error})"
    except (OSError, KeyError, RuntimeError):
        return None  # missing, encrypted or of unknown compression: an error of opening it
    return None


@contextmanager
def _opened(href: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open the bytes of a local raster, forwards only, with their number."""
    path = local_file(href) or Path(href)
    if not href.startswith("/vsizip/"):
        with path.open("rb") as file:
            yield file, path.stat().st_size
        return
    name = href.removeprefix("/vsizip/").partition("}")[2].lstrip("/")
    with zipfile.ZipFile(path) as archive:
        # GDAL reads `\` in the names of a zip as `/`.
        names = {each.filename.replace("\\", "/").removeprefix("./"): each for each in archive.infolist()}
        member = names[name.removeprefix("./")]
        with archive.open(member) as file:
            yield file, member.file_size


class _Stream:
    """Bytes that are read once, in order."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self.size = size
        self.at = 0

    def read(self, count: int) -> bytes:
        found = self._file.read(count)
        if len(found) < count:
            raise _IncompleteError(f"the file ends at byte {self.at + len(found)}")
        self.at += count
        return found

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.read(struct.calcsize(form)))
        return int(value)

    def skip(self, count: int, most_zeros: int | None = None) -> None:
        """Pass over bytes. Raises _IncompleteError if they have more than `most_zeros` zeros in a row."""
        hole, before = bytes((most_zeros or 0) + 1), b""
        while count > 0:
            chunk = self.read(min(count, _CHUNK))
            count -= len(chunk)
            if most_zeros is not None:
                joined = before + chunk
                found = joined.find(hole)
                if found >= 0:
                    raise _IncompleteError(f"zeros from byte {self.at - len(joined) + found}")
                before = joined[-most_zeros:]


def _check_file(stream: _Stream) -> None:
    begin = stream.read(min(2, stream.size))
    if begin == b"\xff\x4f":
        _check_codestream(stream, stream.size)
    elif begin == _SIGNATURE[:2] and stream.size >= 12 and begin + stream.read(10) == _SIGNATURE:
        _check_boxes(stream)


def _check_boxes(stream: _Stream) -> None:
    has_codestream = False
    while stream.at < stream.size:
        start = stream.at
        length, kind = struct.unpack(">I4s", stream.read(8))
        if length == 1:
            length = stream.number(">Q")
        end = stream.size if length == 0 else start + length
        if end > stream.size or end < stream.at:
            raise _IncompleteError(
                f"the box {kind.decode('latin-1')!r} at byte {start} has {length} bytes, but the file has "
                f"{stream.size}"
            )
        if kind == b"jp2c" and not has_codestream:
            has_codestream = True
            if stream.number(">H") != _SOC:
                raise _IncompleteError(f"no codestream at byte {start}")
            _check_codestream(stream, end)
        stream.skip(end - stream.at)
    if not has_codestream:
        raise _IncompleteError("no codestream")


@dataclass
class _Header:
    """Tiles and packets by the main header."""

    tiles: int = 0
    size: tuple[int, int] = (0, 0)
    """Width and height of a tile."""
    components: int = 1
    most_zeros: int = _MOST_ZEROS
    """Zeros in a row that a tile-part can have: a byte for an empty packet, a bit for an empty block."""


def _check_codestream(stream: _Stream, end: int) -> None:
    """Check a codestream after its first marker; it must end before the byte `end`."""
    header = _Header()
    marker = _main_header(stream, header)
    parts: Counter[int] = Counter()
    expected: dict[int, int] = {}
    while marker == _SOT:
        start = stream.at - 2
        length, tile, size, _, count = struct.unpack(">HHIBB", stream.read(10))
        last = end - 2 if size == 0 else start + size
        if length != 10 or tile >= header.tiles or (size and size < _LEAST_TILE_PART):
            raise _IncompleteError(f"a broken tile-part at byte {start}")
        if last + 2 > end:
            raise _IncompleteError(f"tile {tile + 1} of {header.tiles} ends after the codestream")
        own = _tile_header(stream, header, last)
        stream.skip(last - stream.at, own)
        parts[tile] += 1
        if count:
            expected[tile] = count
        marker = stream.number(">H")
    missing = [tile for tile in range(header.tiles) if parts[tile] < expected.get(tile, 1)]
    if marker != _EOC:
        raise _IncompleteError(f"no marker of a tile or of the end at byte {stream.at - 2}")
    if missing:
        raise _IncompleteError(f"{len(missing)} of {header.tiles} tiles are missing")


def _main_header(stream: _Stream, header: _Header) -> int:
    """Read the main header; return the first marker after it."""
    is_plain = True
    coding = b""
    while (marker := stream.number(">H")) not in (_SOT, _EOC):
        body = _segment(stream, marker)
        if marker == _SIZ:
            width, height, left, top, tile_width, tile_height, tile_left, tile_top, header.components = (
                struct.unpack(">8IH", body[2:36])
            )
            if not (tile_width and tile_height and header.components) or left >= width or top >= height:
                raise _IncompleteError("a broken header")
            header.size = min(tile_width, width), min(tile_height, height)
            header.tiles = math.ceil((width - tile_left) / tile_width) * math.ceil(
                (height - tile_top) / tile_height
            )
        elif marker == _COD:
            coding = body
        is_plain &= marker not in (_COC, _CAP)
    if not 0 < header.tiles <= 65535:
        raise _IncompleteError("a broken header")
    if is_plain and len(coding) >= 10:
        header.most_zeros = _most_zeros(coding, header)
    return marker


def _tile_header(stream: _Stream, header: _Header, end: int) -> int:
    """Pass over the header of a tile-part; return the zeros in a row that it can have."""
    most_zeros = header.most_zeros
    while (marker := stream.number(">H")) != _SOD:
        _segment(stream, marker)
        if marker in (_COD, _COC):
            most_zeros = max(most_zeros, _MOST_ZEROS)
        if stream.at > end:
            raise _IncompleteError(f"a broken tile-part at byte {stream.at}")
    return most_zeros


def _segment(stream: _Stream, marker: int) -> bytes:
    length = stream.number(">H")
    if marker < 0xFF00 or length < 2:
        raise _IncompleteError(f"no marker at byte {stream.at - 4}")
    return stream.read(length - 2)


def _most_zeros(coding: bytes, header: _Header) -> int:
    """Return the zeros in a row that packets without data can make in a tile, from a segment COD."""
    style, _, layers, _, levels, width, height, block_style, _ = struct.unpack(">BBHBBBBBB", coding[:10])
    if block_style & _BYPASS or levels > 32:
        return _MOST_ZEROS
    precincts = coding[10 : 11 + levels] if style & 1 else bytes([0xFF] * (levels + 1))
    packets = blocks = 0
    for level, precinct in enumerate(reversed(precincts)):
        cols, rows = (math.ceil(side / 2**level) for side in header.size)
        packets += (math.ceil(cols / 2 ** (precinct & 15)) + 1) * (math.ceil(rows / 2 ** (precinct >> 4)) + 1)
        blocks += (math.ceil(cols / 2 ** (width + 2)) + 1) * (math.ceil(rows / 2 ** (height + 2)) + 1)
    return _MARGIN_ZEROS + layers * header.components * (packets + blocks // 8)
