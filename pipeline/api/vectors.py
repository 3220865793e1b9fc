"""Roads, labels and trucks as files or GeoDataFrames: a frame becomes a file that the same readers check."""

from __future__ import annotations

import hashlib
import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.errors import TruckscapeError, VectorFileError
from pipeline.storage.atomic import make_folder, replacing

if TYPE_CHECKING:
    import geopandas as gpd

Vectors: TypeAlias = "str | Path | gpd.GeoDataFrame"
"""A file (FILE or FILE:LAYER), or its features."""
_WRITING = threading.Lock()
"""Runs of several threads may give the same frame; `replacing` has one temporary name for each process."""


def vector_file(given: Vectors, folder: Path, what: str, error: type[TruckscapeError]) -> Path:
    """Return a file of features: the given one, or a frame written to `folder` under a name of its content.

    `what` names it in messages ("roads="). The same frame gives the same file, so that a repeated run finds
    its shards again.

    Raises
    ------
    VectorFileError
        Of the class `error`, if it is neither a path nor a GeoDataFrame, or has no CRS.
    OutputError
        If the frame can't be written.
    """
    if isinstance(given, str | Path):
        return Path(given)
    import geopandas as gpd

    if not isinstance(given, gpd.GeoDataFrame):
        raise error(f"{what} is a path or a GeoDataFrame. Received: {type(given).__name__}.")
    if given.active_geometry_name is None:
        raise error(f"{what} has no geometry; set it with set_geometry().")
    if given.crs is None:
        raise error(f"{what} has no coordinate reference system; set it, e.g. with set_crs(4326).")
    stored = io.BytesIO()
    try:
        _plain(given).to_parquet(stored)
    except (ValueError, TypeError, OverflowError) as fault:
        raise VectorFileError(f"{what} can't be stored as GeoParquet ({str(fault)[:200]}).") from fault
    content = stored.getvalue()
    path = folder / f"{what.rstrip('=')}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    make_folder(folder)
    with _WRITING, replacing(path) as part:
        part.write_bytes(content)
    return path


def _plain(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return a frame with one geometry and without index, whose mixed columns are text, as files have them.

    Lists, as OSMnx has them for merged ways, become text with semicolons.
    """
    import geopandas as gpd
    import pandas as pd

    from pipeline.roads.tags import text_of

    columns: dict[str, Any] = {}
    for name in frame.columns:
        values = frame[name].reset_index(drop=True)
        if name == frame.active_geometry_name or isinstance(values.dtype, gpd.array.GeometryDtype):
            continue
        if values.dtype == object and not _is_nested(values):
            values = pd.Series([text_of(value) for value in values], dtype=object)
        columns[str(name)] = values
    return gpd.GeoDataFrame(columns, geometry=frame.geometry.reset_index(drop=True), crs=frame.crs)


def _is_nested(values: Any) -> bool:
    """Return whether all values are of nested types, such as the rules of Overture Maps."""
    held = [each for each in values if each is not None]
    items = [one for each in held for one in (each if isinstance(each, list) else [each])]
    return bool(items) and all(isinstance(one, dict) for one in items)
