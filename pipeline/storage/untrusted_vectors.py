"""Untrusted vector files: only formats that contain their own features are opened, and the layer that fits.

GDAL detects formats by content, not by name. Some formats refer to other files or servers (VRT, WFS, GDALG),
some download references (GML), and tables of an SQLite database can read any file of this machine. See
`vector_sources` for what is refused, and `vector_drivers` for what GDAL is left with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely

from pipeline.errors import VectorFileError
from pipeline.storage.geoparquet import Parts, read_geoparquet
from pipeline.storage.vector_places import check_coordinates
from pipeline.storage.vector_sources import Source, opened_source
from pipeline.storage.vector_texts import read_frame, read_info

Kind = Literal["polygons", "lines", "points"]
"""Geometries that a reader needs."""
Bounds = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max."""

_KINDS: dict[Kind, tuple[str, ...]] = {
    "polygons": ("Polygon", "Surface", "Triangle", "TIN"),
    "lines": ("LineString", "CircularString", "CompoundCurve", "MultiCurve"),
    "points": ("Point",),
}
"""Parts of GDAL's names of geometry types."""
_SAMPLE = 1000
_MOST_LISTED = 12


@contextmanager
def vector_source(path: Path | str, what: str) -> Iterator[str]:
    """Check a vector file and yield a name by which pyogrio opens this file only.

    Formats: GeoPackage, GeoJSON, FlatGeobuf, Shapefile, OpenStreetMap XML and PBF, also gzipped or in a zip.
    A zip or folder may hold several Shapefiles as layers. `what` names the file in messages ("Roads").

    Raises
    ------
    VectorFileError
        If the file is missing or of another format, or reading fails within the context.
    """
    with opened_source(Path(path), what) as source:
        if not isinstance(source, Source):
            raise VectorFileError(
                f"{what} can't be read: {path} is GeoParquet. Rename it to end in .parquet."
            )
        yield source.name


def split_layer(path: Path | str) -> tuple[Path, str | None]:
    """Split `FILE:LAYER` into the file and the name of the layer, which is None without one.

    A path that exists is a file, whatever colons it has.
    """
    path, text = Path(path), str(path)
    if path.exists():
        return path, None
    for at in range(len(text) - 1, 1, -1):  # from 2, since C: is a drive
        if text[at] == ":" and (file := Path(text[:at])).exists():
            layer = text[at + 1 :]
            if file.is_file() or not {"/", "\\"} & set(layer):
                return file, layer
    return path, None


def file_of(path: Path | str) -> Path:
    """Return the file of `FILE` or `FILE:LAYER`."""
    return split_layer(path)[0]


def layer_names(path: Path | str, what: str) -> list[str]:
    """Return the names of a vector file's layers. Raises VectorFileError as `vector_source`."""
    file = file_of(path)
    with opened_source(file, what) as source:
        if not isinstance(source, Source):
            return [file.stem]
        return [str(name) for name in pyogrio.list_layers(source.name)[:, 0]]


def read_layer(
    path: Path | str,
    what: str,
    kind: Kind | tuple[Kind, ...],
    names: Sequence[str] = (),
    box_in: Callable[[str], Bounds | None] | None = None,
) -> pd.DataFrame:
    """Read one layer of a vector file; a GeoDataFrame if it has geometry.

    `path` is `FILE` or `FILE:LAYER`. Without a layer it is the one named in `names`, else the only one with
    geometries of this `kind`, or of the first of several kinds that the file has; geometries of other kinds
    in it are not left out. `box_in` returns, for the file's CRS, the bounds that matter: features elsewhere
    may be left out.

    Raises
    ------
    VectorFileError
        As `vector_source` and `check_coordinates`; or if the layer does not exist, or if no layer or several
        fit.
    """
    file, layer = split_layer(path)
    with opened_source(file, what) as source:
        if isinstance(source, Source):
            layer = _checked(source, f"{what}: {file}", layer, kind, names)
            box = None
            if box_in is not None and (crs := read_info(source.name, layer=layer)["crs"]):
                box = box_in(crs)
            frame = read_frame(source.name, f"{what}: {file}", layer=layer, bbox=box, on_invalid="fix")
            extent = _extent(source, layer) if box is not None and frame.empty else frame
        else:
            extent = frame = _parquet(source, file, layer, what, box_in)
    if isinstance(extent, gpd.GeoDataFrame):
        check_coordinates(extent, what, file)
    return frame


def read_extent(path: Path | str, what: str, kind: Kind, names: Sequence[str] = ()) -> gpd.GeoDataFrame:
    """Return the bounds of the layer that `read_layer` reads, as one box in the file's CRS, or no feature.

    Raises VectorFileError as `read_layer`.
    """
    file, layer = split_layer(path)
    with opened_source(file, what) as source:
        if isinstance(source, Source):
            return _extent(source, _checked(source, f"{what}: {file}", layer, kind, names))
        frame = _parquet(source, file, layer, what)
    there = np.isfinite(frame.total_bounds).all()
    return gpd.GeoDataFrame(geometry=[shapely.box(*frame.total_bounds)] if there else [], crs=frame.crs)


def _parquet(
    source: Parts,
    file: Path,
    layer: str | None,
    what: str,
    box_in: Callable[[str], Bounds | None] | None = None,
) -> gpd.GeoDataFrame:
    if layer not in (None, file.stem):
        raise VectorFileError(f"{what}: {file} has no layer {_short(layer or '')!r}. It has: {file.stem}.")
    return read_geoparquet(source, f"{what}: {file}", box_in)


def _extent(source: Source, layer: str) -> gpd.GeoDataFrame:
    info = read_info(source.name, layer=layer, force_total_bounds=True)
    bounds = info["total_bounds"]
    there = bounds is not None and info["features"] != 0
    return gpd.GeoDataFrame(geometry=[shapely.box(*bounds)] if there else [], crs=info["crs"])


def _checked(
    source: Source, file: str, layer: str | None, kind: Kind | tuple[Kind, ...], names: Sequence[str]
) -> str:
    """Return `_chosen`, of which all rows can be read within the limits of views."""
    name = _chosen(source, file, layer, (kind,) if isinstance(kind, str) else kind, names)
    source.check_rows(name)
    return name


def _chosen(
    source: Source, file: str, layer: str | None, kinds: tuple[Kind, ...], names: Sequence[str]
) -> str:
    """Return the name of the layer to read; `file` names the file in messages."""
    found = [(str(name), geometry) for name, geometry in pyogrio.list_layers(source.name)]
    if layer is not None:
        same = [name for name, _ in found if name == layer]
        same = same or [name for name, _ in found if name.casefold() == layer.casefold()]
        if len(same) != 1:
            raise VectorFileError(f"{file} has no layer {_short(layer)!r}. It has: {_listed(found)}.")
        return same[0]
    if len(found) == 1:
        return found[0][0]
    named = [name for name, geometry in found if geometry and name.casefold() in names]
    if len(named) == 1:
        return named[0]
    by_kind = [[each for each in found if _fits(source, *each, kind)] for kind in kinds]
    fitting = [each for of_kind in by_kind for each in of_kind]
    if len(fitting) > 1:  # an empty one does not count beside others
        filled = [[each for each in of_kind if _has_features(source, each[0])] for of_kind in by_kind]
        fitting = next((of_kind for of_kind in (*filled, *by_kind) if of_kind), [])
    if len(fitting) != 1:
        which = f"{len(fitting)} layers" if fitting else "no layer"
        raise VectorFileError(
            f"{file} has {which} of {' or '.join(kinds)}. It has: {_listed(found)}. "
            f"Choose one with {file.split(': ', 1)[1]}:LAYER"
        )
    return fitting[0][0]


def _has_features(source: Source, layer: str) -> bool:
    source.check_rows(layer)
    return bool(read_info(source.name, layer=layer)["features"])


def _fits(source: Source, layer: str, geometry: str | None, kind: Kind) -> bool:
    """Return True if a layer has geometries of a kind; where it may have any, look at the first of them."""
    if geometry is None:
        return False
    if geometry not in ("Unknown", "GeometryCollection"):
        return any(word in geometry for word in _KINDS[kind])
    source.check_rows(layer)
    first = pyogrio.read_dataframe(
        source.name, layer=layer, columns=[], max_features=_SAMPLE, on_invalid="ignore"
    )
    held = first.geometry.geom_type.dropna()
    return any(word in name for name in set(held) for word in _KINDS[kind])


def _listed(layers: Sequence[tuple[str, str | None]]) -> str:
    shown = [f"{_short(name)} ({geometry or 'no geometry'})" for name, geometry in layers[:_MOST_LISTED]]
    return ", ".join(shown) + (", ..." if len(layers) > _MOST_LISTED else "")


def _short(name: str) -> str:
    """Return a name from a file for a message: one line, and not too long."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())[:60]
