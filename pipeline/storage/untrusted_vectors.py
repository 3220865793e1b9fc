"""Vector files of others: what is data may be read, what tells GDAL where else to read may not."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import LabelsError

_RECIPES = (b"<OGRVRTDataSource", b"<OGRWFSDataSource", b"gdal_streamed_alg")
"""Marks of OGR's virtual formats, web services, and pipelines of algorithms, by which GDAL knows them."""
_HEAD_BYTES = 2**16


def refuse_recipe(path: Path | str) -> None:
    """Raise LabelsError for a file that names other files or servers as the source of its features.

    GDAL goes by the content, whatever the file is called, and would read any file of this machine.
    """
    path = Path(path)
    if not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if any(mark in head for mark in _RECIPES):
        raise LabelsError(
            f"{path} has no features, but tells where to read them (VRT, WFS, GDALG); this is not followed: "
            "give the data themselves."
        )
