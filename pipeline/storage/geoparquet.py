"""GeoParquet files of others, which the GDAL of pyogrio's wheels does not read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pyproj.exceptions
import shapely

from pipeline.errors import VectorFileError

MAGIC = b"PAR1"
Parts = Sequence[Path | bytes]
"""The files of a data set, or their content."""
Box = tuple[float, float, float, float]
_MALFORMED = (
    *(pa.ArrowException, pyproj.exceptions.ProjError, shapely.errors.ShapelyError),
    *(ValueError, TypeError, KeyError, AttributeError),
)


def read_geoparquet(
    parts: Parts, file: str, box_in: Callable[[str], Box | None] | None = None
) -> gpd.GeoDataFrame:
    """Read GeoParquet, in the CRS of its metadata (OGC:CRS84 where it names none); `file` is for messages.

    `box_in` returns, for that CRS, the bounds that matter: features elsewhere may be left out, unless none
    is left. Memory: the file, or those of its row groups that meet the bounds if it has a covering.

    Raises
    ------
    VectorFileError
        If it has no GeoParquet metadata or is damaged, or if its parts differ in CRS.
    """
    frames = [_read(part, file, box_in) for part in parts]
    if any(frame.crs != frames[0].crs for frame in frames):
        raise VectorFileError(f"{file} can't be read: its parts differ in CRS.")
    filled = [frame for frame in frames if len(frame)] or frames[:1]
    frame = gpd.GeoDataFrame(pd.concat(filled, ignore_index=True), crs=frames[0].crs)
    box = box_in(frame.crs.to_wkt()) if box_in is not None and frame.crs is not None else None
    if box is not None and (near := frame.intersects(shapely.box(*box))).any():
        return frame[near].reset_index(drop=True)
    return frame


def _read(part: Path | bytes, file: str, box_in: Callable[[str], Box | None] | None) -> gpd.GeoDataFrame:
    try:
        with part.open("rb") if isinstance(part, Path) else BytesIO(part) as stream:
            metadata = pq.read_metadata(stream).metadata or {}
            if b"geo" not in metadata:
                raise VectorFileError(
                    f"{file} can't be read: it is Parquet without GeoParquet metadata, so geometry and CRS "
                    "are unknown. Write it with geopandas (to_parquet), DuckDB or ogr2ogr -f Parquet."
                )
            geo = json.loads(metadata[b"geo"])
            column = geo["columns"][geo["primary_column"]]
            crs = column.get("crs", "OGC:CRS84")
            box = box_in(pyproj.CRS.from_user_input(crs).to_wkt()) if box_in and crs else None
            if box is not None and "covering" in column:
                stream.seek(0)
                near = gpd.read_parquet(stream, bbox=box)
                if len(near):
                    return _flat(near)
            stream.seek(0)
            return _flat(gpd.read_parquet(stream))
    except _MALFORMED as error:
        why = " ".join(str(error).split())[:200]
        raise VectorFileError(f"{file} can't be read: it is damaged or no GeoParquet ({why}).") from error


def _flat(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Make a named index a column, and the primary geometry the last column, `geometry`; no other stays."""
    frame = frame.reset_index(drop=frame.index.name is None or frame.index.name in frame)
    others = frame.drop(columns=frame.columns[frame.dtypes == "geometry"])
    return gpd.GeoDataFrame(others, geometry=frame.geometry.to_numpy(), crs=frame.crs)
