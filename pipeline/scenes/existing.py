"""A path of a scene exists: the first check of a run, before the readers and their libraries are imported."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from pipeline.errors import NotAProductError, SceneNotFoundError
from pipeline.printable import is_text
from pipeline.redaction import is_url

FORMATS = (
    "a .SAFE folder or its zip, a folder of band files, a GeoTIFF with band descriptions, or a STAC item "
    "(.json file or URL)"
)
"""The formats of all readers."""
_NOT_UTF_8 = re.compile(r"\\x[89a-f][0-9a-f]")
"""Bytes as `printable` writes them, such as in the ledger of a batch."""


def check_there(href: str) -> None:
    """Raise SceneNotFoundError or NotAProductError if no file or folder is at a path; URLs are not asked."""
    if not is_url(href):
        with suppress(OSError):  # `open_scene` says more
            existing(href)


def existing(href: str, formats: str = FORMATS) -> str:
    """Return the path of a scene that exists, without `~`; `formats` is for messages.

    Raises
    ------
    SceneNotFoundError
        If nothing is there.
    NotAProductError
        If it can't be a scene whatever its format.
    OSError
        If that can't be known.
    """
    if not is_text(href):
        raise NotAProductError(f"The name is not UTF-8, which GDAL can't open: {href}. Rename it.")
    try:
        path = Path(href).expanduser()
        is_there = path.exists()
    except (RuntimeError, ValueError) as error:  # of an unknown user, or with a null character
        raise SceneNotFoundError(f"No such file or folder: {href[:500]} ({error})") from error
    if not is_there:
        why = " Names that are not UTF-8, shown like \\xfc, can't be read." if _NOT_UTF_8.search(href) else ""
        raise SceneNotFoundError(f"No such file or folder: {href[:500]}.{why} A scene is {formats}.")
    if not path.is_dir() and not path.is_file():
        raise NotAProductError(f"Not a Sentinel-2 scene but a pipe, socket or device: {href}.")
    return str(path)
