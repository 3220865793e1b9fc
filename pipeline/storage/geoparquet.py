"""GeoParquet files of others, which the GDAL of pyogrio's wheels does not read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyproj
import pyproj.exceptions
import shapely

from pipeline.errors import VectorFileError
from pipeline.safe_json import parse_json
from pipeline.storage.well_known_binary import SAFE_BYTES, is_nested

MAGIC = b"PAR1"
Parts = Sequence[Path | bytes]
"""The files of a data set, or their content."""
Box = tuple[float, float, float, float]
MOST_BYTES = 2**31
"""Limit of bytes of all values, unless the file has a hundredth of them."""
_MOST_RATIO = 100
_ROWS_AT_A_TIME = 256
_MALFORMED = (
    *(pa.ArrowException, pyproj.exceptions.ProjError, shapely.errors.ShapelyError),
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError, OSError),
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
        If it has no GeoParquet metadata or is damaged, has values of more than `MOST_BYTES` or nested
        geometries, or if its parts differ in CRS.
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
            geo = parse_json(metadata[b"geo"])
            column = geo["columns"][geo["primary_column"]]
            crs = column.get("crs", "OGC:CRS84")
            box = box_in(pyproj.CRS.from_user_input(crs).to_wkt()) if box_in and crs else None
            if box is not None and "covering" in column:
                groups = _near_groups(stream, column["covering"]["bbox"], box)
                _check_values(stream, geo, groups, file)
                stream.seek(0)
                near = gpd.read_parquet(stream, bbox=box)
                if len(near):
                    return _flat(near)
            _check_values(stream, geo, None, file)
            stream.seek(0)
            return _flat(gpd.read_parquet(stream))
    except _MALFORMED as error:
        why = " ".join(str(error).split())[:200]
        raise VectorFileError(f"{file} can't be read: it is damaged or no GeoParquet ({why}).") from error


def _near_groups(stream: IO[bytes], covering: Any, box: Box) -> list[int]:
    """Return the row groups of which rows may be read for a box: those that statistics do not exclude."""
    metadata = pq.read_metadata(stream)
    number = {metadata.schema.column(at).path: at for at in range(metadata.num_columns)}
    columns = [number[".".join(covering[side])] for side in ("xmin", "ymin", "xmax", "ymax")]
    near = []
    for group in range(metadata.num_row_groups):
        held = [metadata.row_group(group).column(at).statistics for at in columns]
        known = all(each is not None and each.has_min_max for each in held)
        if known:
            beyond = any(held[at].min > box[at + 2] or held[at + 2].max < box[at] for at in (0, 1))
            if beyond:
                continue
        near.append(group)
    return near


def _check_values(stream: IO[bytes], geo: Any, groups: list[int] | None, file: str) -> None:
    """Check values, some rows at a time, before all are in memory: a few bytes may stand for any number.

    Raises
    ------
    VectorFileError
        If they have too many bytes, or geometries are nested so deep that reading them would end the process.
    """
    most = max(MOST_BYTES, _MOST_RATIO * stream.seek(0, 2))
    stream.seek(0)
    shapes = [name for name, column in geo["columns"].items() if column["encoding"] == "WKB"]
    reader = pq.ParquetFile(stream)
    total, rows = _claimed(reader.metadata)
    if total <= most:
        total = 0
    for batch in reader.iter_batches(rows, groups, use_threads=False):
        total += batch.nbytes
        batch.validate(full=True)  # texts that are no UTF-8 would fail where they are used
        if total > most:
            raise VectorFileError(
                f"{file} can't be read: its values have more than {most >> 20} MB, {_MOST_RATIO} times their "
                "size in the file, as no file of features has. Write it again with the rows that are needed."
            )
        for name in shapes:
            values = batch.column(name)
            for value in values.filter(pc.greater(pc.binary_length(values), SAFE_BYTES)):
                if is_nested(value.as_buffer()):
                    raise VectorFileError(
                        f"{file} can't be read: it has geometries in each other, more than 32 deep, or "
                        "damaged ones. Split them into single ones, e.g. in QGIS (multipart to singleparts)."
                    )


def _claimed(metadata: pq.FileMetaData) -> tuple[int, int]:
    """Return the bytes that a file says to unpack to, and the rows to read at a time: one from a bomb."""
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    chunks = [group.column(at) for group in groups for at in range(group.num_columns)]
    packed = all(each.total_uncompressed_size <= _MOST_RATIO * each.total_compressed_size for each in chunks)
    return sum(each.total_uncompressed_size for each in chunks), _ROWS_AT_A_TIME if packed else 1


def _flat(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Make a named index a column, and the primary geometry the last column, `geometry`; no other stays."""
    frame = frame.reset_index(drop=frame.index.name is None or frame.index.name in frame)
    others = frame.drop(columns=frame.columns[frame.dtypes == "geometry"])
    return gpd.GeoDataFrame(others, geometry=frame.geometry.to_numpy(), crs=frame.crs)
