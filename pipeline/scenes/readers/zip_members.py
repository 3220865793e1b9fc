"""Members of a zip that holds a product: safe and unequivocal names, and a packing that can be read."""

from __future__ import annotations

import lzma
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pipeline.errors import MetadataError, NotAProductError

UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""Errors of `zipfile` for damaged, encrypted and unknown members: NotImplementedError is a RuntimeError, and
UnicodeDecodeError a ValueError."""
_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstandard", 95: "xz", 98: "ppmd"}
_DRIVE = re.compile(r"[A-Za-z]:")
_MOST_BYTES = 2**31
"""The largest image of a product has some 140 MB. A zip of some megabytes can claim more."""


def members_of(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files in a zip by name, with `/`, in the order of the archive.

    Raises
    ------
    NotAProductError
        If its directory can't be read, or has other names than the members themselves.
    MetadataError
        If a name leads out of the zip, or two are the same for some reader: GDAL takes the first of them,
        Python the last, and file systems may take no notice of upper and lower case.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check_names(archive)
    except NotImplementedError as error:
        raise NotAProductError(
            f"{path} needs a later version of the zip format; unpack it. ({error})"
        ) from error
    except UNREADABLE as error:
        raise NotAProductError(f"Not a readable zip (an incomplete download?): {path} ({error})") from error
    found: dict[str, zipfile.ZipInfo] = {}
    seen: dict[str, str] = {}
    for info in infos:
        name = info.filename.replace("\\", "/").removeprefix("./")  # .NET packed with backslashes until 2016
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or _DRIVE.match(name):
            raise MetadataError(f"A member of {path} points outside of the zip: {info.filename[:200]!r}")
        if name.endswith("/") or not parts.parts:
            continue
        same = unicodedata.normalize("NFC", str(parts)).casefold()
        if same in seen:
            raise MetadataError(
                f"Two members of {path} have one name: {seen[same][:200]!r} and {info.filename[:200]!r}. "
                "Unpack it, and give the .SAFE folder."
            )
        seen[same] = info.filename
        found[name] = info
    return found


def _check_names(archive: zipfile.ZipFile) -> None:
    """Raise BadZipFile if a member has another name before its content than in the directory.

    A changed letter there would hide a band, and the product would count as one without it.
    """
    for info in archive.infolist():
        try:
            archive.open(info).close()
        except zipfile.BadZipFile:
            raise
        except UNREADABLE:  # encrypted or packed in another way: an error only if the member is used
            continue


def check_readable(path: Path, info: zipfile.ZipInfo) -> None:
    """Raise MetadataError if GDAL or we can't read a member in place."""
    name = PurePosixPath(info.filename.replace("\\", "/")).name
    why = None
    if info.flag_bits & 1:
        why = "is encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
        why = f"is compressed with {method}, which is not read in place (stored and deflate are)"
    elif stat.S_ISLNK(info.external_attr >> 16):
        why = "is a link, not a file"
    elif info.file_size > _MOST_BYTES:
        why = f"claims {info.file_size} bytes, more than any file of a product"
    if why:
        raise MetadataError(f"{name} in {path} {why}; unpack the zip, and give the .SAFE folder.")


def read_member(path: Path, info: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a member; `zipfile` compares them with their CRC-32. Raises MetadataError."""
    check_readable(path, info)
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(info)
    except UNREADABLE as error:
        name = PurePosixPath(info.filename.replace("\\", "/")).name
        raise MetadataError(
            f"{name} in {path} can't be decompressed ({error}); download the file again."
        ) from error
