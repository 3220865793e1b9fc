"""Files beside a file that decide, with it, what is read: parts of its identity."""

from __future__ import annotations

from pathlib import Path

_SHAPEFILE = (".shx", ".dbf", ".prj", ".cpg", ".qix", ".sbn", ".sbx", ".idm", ".ind")
"""Parts of a Shapefile beside its `.shp`: offsets, attributes, CRS, encoding, and indexes."""
_DATABASE = ("-wal", "-journal")
"""Transactions of an SQLite database, such as a GeoPackage, that are not in its file yet."""
_RASTER = (".msk", ".aux.xml")
"""Mask, and metadata of GDAL. Both are not read: the first is refused, the second may be warned of."""


def deciding_files(path: Path) -> list[Path]:
    """Return the files that decide what is read from a raster or vector file: itself, and those beside it.

    Of a folder of Shapefiles these are their parts, of any other folder (a `.gdb`) all files in it and below.
    What does not exist, or is empty beside a file, is left out.
    """
    if path.is_dir():
        parts = [file for file in path.iterdir() if file.suffix.lower() in (".shp", *_SHAPEFILE)]
        return sorted(file for file in parts or path.rglob("*") if file.is_file())
    if not path.is_file():
        return []
    beside = {path.parent / (path.name + ending) for ending in (*_DATABASE, *_RASTER)}
    if path.suffix.lower() == ".shp":
        beside |= {file for file in path.parent.iterdir() if _is_part_of(file, path)}
    return [path, *sorted(file for file in beside if file.is_file() and file.stat().st_size)]


def part_name(file: Path, path: Path) -> str:
    """Return which part of `path` a file of `deciding_files` is, whatever the name of `path`."""
    if path.is_dir():
        return file.relative_to(path).as_posix()
    return file.name.removeprefix(path.name) if file.name.startswith(path.name) else file.suffix.lower()


def _is_part_of(file: Path, shapefile: Path) -> bool:
    return file.suffix.lower() in _SHAPEFILE and file.stem.casefold() == shapefile.stem.casefold()
