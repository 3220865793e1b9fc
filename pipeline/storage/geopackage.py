"""GeoPackages of others: views and virtual tables are checked before GDAL opens them.

A GeoPackage is an SQLite database. Its virtual tables may be other files of this machine (VirtualText,
VirtualShape, VirtualOGR), its views may multiply rows or never end, and generated columns may be larger than
the file.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.errors import VectorFileError

MOST_ROWS = 2_000_000
"""Limit of rows of a view."""
MOST_BYTES = 2**30
"""Limit of bytes that all values of a view have together."""
MOST_SECONDS = 20.0
"""Limit of time in which a view has to come to its end."""
_MOST_BYTES_OF_VALUE = 2**26
_STEPS = 10_000
_ENDLESS = f"it does not end within {MOST_SECONDS:.0f} s"
_INDEXES = re.compile("no such module: (rtree|fts|geopoly)")
_FUNCTIONS = (
    *("ST_Area", "ST_Buffer", "ST_Centroid", "ST_EndPoint", "ST_GeometryType", "ST_IsEmpty", "ST_IsValid"),
    *("ST_Contains", "ST_Intersection", "ST_Intersects", "ST_Union", "ST_Within", "ST_EnvIntersects"),
    *("ST_Length", "ST_MakeValid", "ST_MaxX", "ST_MaxY", "ST_MinX", "ST_MinY", "ST_Multi", "ST_SRID"),
    *("ST_PointOnSurface", "ST_SetSRID", "ST_Simplify", "ST_StartPoint", "ST_Transform", "ST_X", "ST_Y"),
    *("AsGPB", "CastAutomagic", "CastToMulti", "CastToXY", "GeomFromGPB", "SetSRID"),
)
"""GDAL's functions that views may use. What they return is not known here."""
_SMALL = {name.lower() for name in _FUNCTIONS}
_RESULTS = (lambda *_: None, lambda *_: 0, lambda *given: given[0] if given else 1)
"""Stand-ins for these: with one of them a condition fails for all rows, with another it holds for all."""


def check_tables(path: Path, failed: str) -> None:
    """Check that a database has no virtual table but indexes, and no view that never ends.

    `failed` begins messages.

    Raises
    ------
    VectorFileError
        If it has one, or if it is damaged.
    """
    with _database(path, failed) as base:
        virtual = "SELECT name FROM sqlite_master WHERE type = 'table' AND coalesce(rootpage, 0) = 0"
        for (name,) in base.execute(virtual).fetchall():
            try:
                base.execute(f"PRAGMA table_xinfo({_quoted(name)})").fetchall()
            except (sqlite3.OperationalError, UnicodeDecodeError) as error:
                if _INDEXES.match(str(error)):
                    continue
                raise VectorFileError(
                    f"{failed} has a virtual table, {_shown(name)} ({error}). It may be another file, so it "
                    "is refused. Save the features as a table, e.g. with QGIS or ogr2ogr."
                ) from error
        ends = time.monotonic() + MOST_SECONDS
        for (view,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall():
            # GDAL asks for the first row of each when it opens the file.
            if _fault(base, view, ends, most_rows=1) == _ENDLESS:
                raise _unusable(failed, view, _ENDLESS)


def check_rows(path: Path, layer: str, failed: str) -> None:
    """Check that a view, or a table with generated columns, comes to an end within the limits.

    Raises
    ------
    VectorFileError
        If it has more than `MOST_ROWS` rows or `MOST_BYTES`, does not end within `MOST_SECONDS`, or uses a
        function that is not known here.
    """
    with _database(path, failed) as base:
        name, ends = layer.encode(), time.monotonic() + MOST_SECONDS
        if _is_computed(base, layer) and (fault := _fault(base, name, ends)):
            raise _unusable(failed, name, fault)


def without_log(path: Path, scratch: Path, failed: str) -> Path:
    """Return a database without transactions in a log beside it: itself, or a copy that has them.

    GDAL would move them into the file, and remove the log: QGIS leaves one where it ended early.
    """
    log = path.with_name(f"{path.name}-wal")
    if not log.is_file() or not log.stat().st_size:
        return path
    target = scratch / "copy.gpkg"
    with _database(path, failed) as base, closing(sqlite3.connect(target)) as copy:
        base.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    return target


def _fault(base: sqlite3.Connection, view: bytes, ends: float, most_rows: int | None = None) -> str:
    """Return why a view can't be read to its end, or to `most_rows`; empty if it can."""
    base.set_progress_handler(lambda: time.monotonic() > ends, _STEPS)
    try:
        for result in _RESULTS:
            used = _with_functions(base, result)
            size, of_view = 0, f"SELECT * FROM {_quoted(view)}"  # noqa: S608 (a name that is quoted)
            for rows, row in enumerate(base.execute(of_view), start=1):
                size += sum(len(value) for value in row if isinstance(value, bytes))
                if rows > MOST_ROWS or size > MOST_BYTES:
                    return f"it has more than {MOST_ROWS:,} rows or {MOST_BYTES >> 20} MB"
                if rows == most_rows:
                    break
            if not used:
                break
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        return _ENDLESS if str(error) == "interrupted" else _shown(str(error).encode())
    finally:
        base.set_progress_handler(None, 0)
        base.set_authorizer(None)
    return ""


def _with_functions(base: sqlite3.Connection, result: Callable[..., Any]) -> set[str]:
    """Make GDAL's functions return `result`; return the set to which those are added that are used."""
    used: set[str] = set()
    for name in _FUNCTIONS:
        base.create_function(name, -1, result)

    def note(action: int, _: str | None, name: str | None, *__: Any) -> int:
        if action == sqlite3.SQLITE_FUNCTION and str(name).lower() in _SMALL:
            used.add(str(name))
        return sqlite3.SQLITE_OK

    base.set_authorizer(note)
    return used


def _unusable(failed: str, view: bytes, why: str) -> VectorFileError:
    return VectorFileError(
        f"{failed}, view {_shown(view)}: {why}. Save it as a table, e.g. with QGIS or ogr2ogr."
    )


def _is_computed(base: sqlite3.Connection, layer: str) -> bool:
    """Return True for a view, and for a table that has values which are not in the file."""
    found = base.execute(
        "SELECT CASE WHEN type = 'view' OR coalesce(rootpage, 0) = 0 THEN 1 ELSE EXISTS ("
        "SELECT 1 FROM pragma_table_xinfo(sqlite_master.name) AS x WHERE x.hidden IN (2, 3)) END "
        "FROM sqlite_master WHERE type IN ('view', 'table') AND lower(name) = lower(?)",
        [layer],
    ).fetchall()
    return any(computed for (computed,) in found)


@contextmanager
def _database(path: Path, failed: str) -> Iterator[sqlite3.Connection]:
    try:
        with closing(_opened(path)) as base:
            base.text_factory = bytes
            base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES_OF_VALUE)
            yield base
    except sqlite3.Error as error:
        why = _shown(str(error).encode())
        raise VectorFileError(f"{failed} is damaged or incomplete ({why}).") from error


def _opened(path: Path) -> sqlite3.Connection:
    """Open a database for reading; without its log where that is in a folder that can't be written."""
    address = f"file:{quote(path.absolute().as_posix().encode(errors='surrogateescape'))}?mode=ro"
    base = sqlite3.connect(address, uri=True)
    try:
        base.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except sqlite3.OperationalError:
        base.close()
        base = sqlite3.connect(f"{address}&immutable=1", uri=True)
    return base


def _quoted(name: bytes) -> str:
    """Return a name for SQL. Raises UnicodeDecodeError if it is no UTF-8, since Python's SQL is."""
    return '"' + name.decode().replace('"', '""') + '"'


def _shown(name: bytes) -> str:
    text = name.decode(errors="replace")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:200]
