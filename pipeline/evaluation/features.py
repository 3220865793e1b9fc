"""Polygons and points of any vector file, and what of them can't be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj.exceptions
import shapely
from numpy.typing import NDArray

from pipeline.errors import LabelsError
from pipeline.evaluation import columns
from pipeline.evaluation.plausible_boxes import odd_sizes, too_large, too_many
from pipeline.input_warnings import warn
from pipeline.storage.untrusted_vectors import Kind, read_layer
from pipeline.storage.vector_places import first_of, outside_of_crs
from pipeline.storage.vector_shapes import tangled

_AREA = 2
"""Dimension of polygons, and of collections with any."""
_COLLECTIONS = ("GeometryCollection",)


@dataclass(frozen=True)
class LeftOut:
    """Parts of a file that were not used as they are: counts of features by reason, and columns."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """Features left out: `without geometry`, `not polygons`, `not points`, `without area`, `duplicates`,
    `outside of the CRS`, `crossing themselves hundreds of times`; of boxes also `larger than 1 km`, and of
    labels `more than trucks fit there`."""
    repaired: int = 0
    """Polygons that crossed themselves."""
    flattened: int = 0
    """Polygons with heights, which were removed."""
    split: int = 0
    """Features of several polygons, each of which became a feature."""
    notes: tuple[str, ...] = ()
    """Columns and values that are not used although they may be meant to be."""
    first: Mapping[str, str] = field(default_factory=dict)
    """Place of the first feature that was left out, for some reasons."""

    def lines(self, what: str) -> list[str]:
        """Return a message for each reason; `what` names the file ("Truck labels")."""
        places = {name: f" (the first: {place})" for name, place in self.first.items()}
        lines = [
            f"{what}: {count} left out, {name}{places.get(name, '')}."
            for name, count in self.counts.items()
            if count
        ]
        if self.repaired:
            lines.append(f"{what}: {self.repaired} repaired, their outlines crossed themselves.")
        if self.split:
            lines.append(
                f"{what}: {self.split} features of several polygons were split: each polygon counts."
            )
        return [*lines, *(f"{what}: {note}" for note in self.notes)]

    def as_dict(self) -> dict[str, int]:
        """Return the counts that are not 0, for `metrics.json`."""
        named = {
            **self.counts,
            "repaired": self.repaired,
            "split": self.split,
            "flattened": self.flattened,
        }
        return {name.replace(" ", "_"): count for name, count in named.items() if count}


def read_polygons(
    path: Path | str, what: str, crs: Any | None = None, layers: Sequence[str] = ()
) -> gpd.GeoDataFrame:
    """Read polygons as `usable_polygons` does, without the counts of what was left out.

    Raises
    ------
    LabelsError
        As `usable_polygons`.
    """
    return usable_polygons(path, what, crs, layers)[0]


def read_polygons_or_points(
    path: Path | str, what: str, crs: Any | None = None, layers: Sequence[str] = ()
) -> gpd.GeoDataFrame:
    """Read polygons as `read_polygons` does or, where a file has none, its points, flat and in `crs`.

    Each point of a MultiPoint or a collection is a feature. What is left out is counted in a warning.

    Raises
    ------
    LabelsError
        As `usable_polygons`; or if the file holds features but no usable points.
    """
    frame = _read_frame(path, what, layers, ("polygons", "points"))
    dimensions = shapely.get_dimensions(frame.geometry.to_numpy())
    if (dimensions == _AREA).any() or (dimensions < 0).all():
        return _usable_polygons(frame, path, what, crs)[0]
    frame, counts, first = _placed(frame, path, what)
    frame = _each_part(frame, (*_COLLECTIONS, "MultiPoint"))[0]
    points = _of_kind(frame, ("Point",), f"{what} must be polygons or points", path)
    counts["not points"] = int((~points).sum())
    frame = frame[points].set_geometry(frame.geometry[points].force_2d())
    frame = frame if crs is None else _in_crs(frame, crs, what, path)
    shapes = frame.geometry.to_numpy()  # a MultiPoint may have empty points
    finite = np.isfinite([shapely.get_x(shapes), shapely.get_y(shapes)]).all(axis=0)
    counts["outside of the CRS"] += int((~finite).sum())
    frame = frame[finite].reset_index(drop=True)
    _report(frame, LeftOut(_positive(counts), first=first), "point", path, what)
    return frame


def usable_polygons(
    path: Path | str,
    what: str,
    crs: Any | None = None,
    layers: Sequence[str] = (),
    *,
    boxes: bool = False,
    unique: bool = False,
) -> tuple[gpd.GeoDataFrame, LeftOut]:
    """Read the polygons of a vector file, valid, flat and with an area, in `crs`; count what was left out.

    `path` is `FILE` or `FILE:LAYER`; without a layer it is the one named in `layers`, else the only one of
    polygons. `what` names the file in messages ("Truck labels"). With `boxes`, each polygon of a feature is a
    feature. With `unique`, duplicates (of the same `scene_id`) are left out. What is left out, split or
    repaired is also a warning.

    Raises
    ------
    LabelsError
        If the file is missing or unreadable, has no CRS, or holds features but no usable polygons.
    """
    frame = _read_frame(path, what, layers, ("polygons",))
    return _usable_polygons(frame, path, what, crs, boxes=boxes, unique=unique)


def _usable_polygons(
    frame: gpd.GeoDataFrame,
    path: Path | str,
    what: str,
    crs: Any | None,
    *,
    boxes: bool = False,
    unique: bool = False,
) -> tuple[gpd.GeoDataFrame, LeftOut]:
    if frame.empty and frame.crs is None and crs is not None:
        return frame.set_crs(crs), LeftOut()
    frame, counts, first = _placed(frame, path, what)
    frame, split = _each_part(frame, (*_COLLECTIONS, "MultiPolygon") if boxes else _COLLECTIONS)
    polygons = _of_kind(frame, ("Polygon", "MultiPolygon"), f"{what} must be polygons", path)
    counts["not polygons"] = int((~polygons).sum())
    frame = frame[polygons]
    flattened, invalid = int(frame.geometry.has_z.sum()), ~frame.geometry.is_valid
    knots = invalid.to_numpy() & tangled(frame.geometry.to_numpy())
    counts["crossing themselves hundreds of times"] = int(knots.sum())
    frame, invalid = frame[~knots], invalid[~knots]
    drawn = frame[invalid]
    # A bow tie becomes its two halves; what collapses to a line is no polygon any more.
    shapes = shapely.force_2d(frame.geometry.to_numpy())
    shapes[invalid] = shapely.make_valid(shapes[invalid], method="structure", keep_collapsed=False)
    frame = frame.set_geometry(gpd.GeoSeries(shapes, index=frame.index, crs=frame.crs))
    frame = frame if crs is None else _in_crs(frame, crs, what, path)
    placed = np.isfinite(shapely.bounds(frame.geometry.to_numpy())).all(axis=1)
    flat = shapely.is_empty(shapes) | ~(shapely.area(shapes) > 0)
    counts["without area"] = int(flat.sum())
    counts["outside of the CRS"] += int((~placed & ~flat).sum())
    crossing = (placed & ~flat)[invalid.to_numpy()]
    notes = () if boxes or not crossing.any() else (_repair(drawn[crossing], frame[invalid][crossing]),)
    repaired = int(crossing.sum())
    frame = frame[placed & ~flat].reset_index(drop=True)
    tests: dict[str, Callable[[gpd.GeoDataFrame], NDArray[np.bool_]]] = {
        **({"larger than 1 km": too_large} if boxes else {}),
        **({"duplicates": _seen_before} if unique else {}),
        **({"more than trucks fit there": too_many} if boxes and unique else {}),
    }
    for reason, test in tests.items():
        out = test(frame)
        counts[reason] = int(out.sum())
        if out.any() and reason != "duplicates":
            first[reason] = first_of(frame, out)
        frame = frame[~out].reset_index(drop=True)
    notes = (*notes, *(odd_sizes(frame) if boxes else ()))
    found = LeftOut(_positive(counts), repaired, flattened, split, notes, first)
    _report(frame, found, "polygon", path, what)
    return frame, found


def _placed(
    frame: gpd.GeoDataFrame, path: Path | str, what: str
) -> tuple[gpd.GeoDataFrame, dict[str, int], dict[str, str]]:
    """Return the features with a place on the Earth; counts and first place of the others, as in `LeftOut`.

    Raises LabelsError if there is no CRS.
    """
    if frame.crs is None:
        raise LabelsError(
            f"{what}: {path} has no CRS. Assign one, e.g. with QGIS or ogr2ogr -a_srs EPSG:32632."
        )
    bare, strange = frame.geometry.isna() | frame.geometry.is_empty, outside_of_crs(frame)
    counts = {"without geometry": int(bare.sum()), "outside of the CRS": int(strange.sum())}
    first = {"outside of the CRS": first_of(frame, strange)} if strange.any() else {}
    return frame[~bare & ~strange], counts, first


def _report(frame: gpd.GeoDataFrame, left_out: LeftOut, each: str, path: Path | str, what: str) -> None:
    """Warn of what was left out, in a line each. Raises LabelsError if that was every feature."""
    if frame.empty and left_out.counts:
        why = ", ".join(f"{count} {name}" for name, count in left_out.counts.items())
        raise LabelsError(f"{what}: no {each} of {path} can be used: {why}. Draw them again.")
    for line in left_out.lines(what):
        warn(f"{path}: {line}")


def _positive(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _in_crs(frame: gpd.GeoDataFrame, crs: Any, what: str, path: Path | str) -> gpd.GeoDataFrame:
    try:
        return frame.to_crs(crs)
    except pyproj.exceptions.ProjError as error:
        raise LabelsError(
            f"{what}: {path} can't be reprojected from {frame.crs.to_string()[:40]} to the scene's CRS. "
            "Reproject it, e.g. with QGIS or ogr2ogr -t_srs."
        ) from error


def _of_kind(frame: gpd.GeoDataFrame, wanted: Sequence[str], must: str, path: Path | str) -> pd.Series:
    """Return True for each feature of the types `wanted`. Raises LabelsError if there are others only."""
    kinds = frame.geometry.geom_type
    fitting = kinds.isin(wanted)
    if len(frame) and not fitting.any():
        held = ", ".join(f"{count} {kind}" for kind, count in kinds.value_counts().items())
        raise LabelsError(f"{must}; {path} holds {held}. Draw a box around each, or buffer them.")
    return fitting


def _repair(drawn: gpd.GeoDataFrame, repaired: gpd.GeoDataFrame) -> str:
    """Return what a repair of outlines did to their area, on an equal-area projection."""
    before, after = (
        float(np.nan_to_num(frame.to_crs("EPSG:6933").area, posinf=0).sum() / 1e6)
        for frame in (drawn, repaired)
    )
    return f"the repaired outlines cover {after:,.4g} km2 ({before:,.4g} km2 as drawn)."


def _each_part(frame: gpd.GeoDataFrame, types: Sequence[str]) -> tuple[gpd.GeoDataFrame, int]:
    """Replace geometries of some types by their parts; count features of several.

    Parts of a feature with an `id` have its id and their number: `7-1`, `7-2`.
    """
    split: set[Any] = set()
    frame = frame.reset_index(drop=True)
    while True:
        shapes, kinds = frame.geometry.to_numpy(), frame.geometry.geom_type
        several = kinds.isin(types)
        if not several.any():
            break
        parts = np.where(several, shapely.get_num_geometries(shapes), 1)
        split |= set(frame.index[several.to_numpy() & (parts > 1)])
        rows, taken = np.repeat(np.arange(len(frame)), parts), np.repeat(several, parts)
        shapes = shapes[rows]
        shapes[taken] = shapely.get_parts(frame.geometry.to_numpy()[several])
        frame = frame.iloc[rows].set_geometry(gpd.GeoSeries(shapes, index=frame.index[rows], crs=frame.crs))
    if split and "id" in frame:
        numbers = frame.groupby(level=0).cumcount() + 1
        many = frame.index.isin(list(split))
        names = columns.ids(frame)
        frame["id"] = names.where(~many, names + "-" + numbers.astype(str))
    return frame.reset_index(drop=True), len(split)


def _seen_before(frame: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """Return (N,): True for a polygon with the outline of one before, whatever its first corner."""
    outlines = shapely.to_wkb(shapely.normalize(frame.geometry.to_numpy()))
    same = pd.DataFrame(
        {"outline": outlines, "scene": columns.text_or_none(frame["scene_id"]) if "scene_id" in frame else ""}
    )
    return same.duplicated().to_numpy(dtype=bool)


def _read_frame(
    path: Path | str, what: str, layers: Sequence[str], kinds: tuple[Kind, ...]
) -> gpd.GeoDataFrame:
    frame = read_layer(path, what, kinds, layers)
    if not isinstance(frame, gpd.GeoDataFrame):
        raise LabelsError(f"{what} must be {' or '.join(kinds)}; {path} has no geometry.")
    return frame
