"""Reading what is held to be true: truck boxes, and land cover as a raster or as polygons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.errors import LabelsError
from pipeline.storage.untrusted_vectors import layer_names, read_layer

CONFIDENCES = ("high", "medium", "low", "ignore")
COUNT_NEITHER_WAY = ("low", "ignore")


@dataclass(frozen=True)
class LeftOut:
    """How many features of a file could not be used as they are, by what was wrong with them."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """Features left out: `without geometry`, `not polygons`, `without area`, `duplicates`,
    `outside of the CRS`."""
    repaired: int = 0
    """Polygons that crossed themselves."""
    flattened: int = 0
    """Polygons with heights, which were dropped."""

    def lines(self, what: str) -> list[str]:
        """What to tell people, one line each; `what` names the file ("Truck labels")."""
        lines = [f"{what}: {count} left out, {name}." for name, count in self.counts.items() if count]
        if self.repaired:
            lines.append(f"{what}: {self.repaired} repaired, their outlines crossed themselves.")
        return lines

    def as_dict(self) -> dict[str, int]:
        """For `metrics.json`: what happened at least once."""
        named = {**self.counts, "repaired": self.repaired, "flattened": self.flattened}
        return {name.replace(" ", "_"): count for name, count in named.items() if count}


def read_truck_labels(path: Path | str, crs: Any | None = None) -> gpd.GeoDataFrame:
    """Truck boxes of any vector file as `checked_truck_labels` gives them, without telling what was left out.

    Raises
    ------
    LabelsError
        As `checked_truck_labels`.
    """
    return checked_truck_labels(path, crs)[0]


def checked_truck_labels(path: Path | str, crs: Any | None = None) -> tuple[gpd.GeoDataFrame, LeftOut]:
    """Truck boxes of any vector file, brought to `crs` where it is given, and what was left out.

    Columns: `id` (text), `confidence` (one of `CONFIDENCES`, `high` where not given), `travel_deg`
    (degrees clockwise from north; a column `heading_deg` is taken as the same), `speed_kmh` (both NaN where
    unknown), `scene_id` where the file has it, `geometry`. A file may hold no boxes: then there are no
    trucks. Of boxes that are the same (of one scene) the first counts.

    Raises
    ------
    LabelsError
        If the file is missing or unreadable, has no CRS, holds features but no polygons, or an unknown
        confidence.
    """
    frame, left_out = usable_polygons(path, "Truck labels", crs, layer="trucks", unique=True)
    empty = pd.Series(np.nan, index=frame.index)
    travel = frame.get("travel_deg", frame.get("heading_deg", empty))
    confidence = frame.get("confidence", pd.Series(None, index=frame.index, dtype=object))
    confidence = (
        confidence.astype(object).where(confidence.notna(), "high").astype(str).str.strip().str.lower()
    )
    unknown = sorted(set(confidence) - set(CONFIDENCES))
    if unknown:
        raise LabelsError(
            f"Column confidence of {path} is one of {', '.join(CONFIDENCES)}. Received: {', '.join(unknown)}"
        )
    columns = {
        "id": frame.get("id", pd.Series(frame.index + 1, index=frame.index)).astype(str),
        "confidence": confidence,
        "travel_deg": pd.to_numeric(travel, errors="coerce").astype(float),
        "speed_kmh": pd.to_numeric(frame.get("speed_kmh", empty), errors="coerce").astype(float),
    }
    if "scene_id" in frame:
        columns["scene_id"] = frame["scene_id"]
    return gpd.GeoDataFrame(columns, geometry=frame.geometry, crs=frame.crs), left_out


def checked_predicted_trucks(path: Path | str) -> tuple[gpd.GeoDataFrame, LeftOut]:
    """The trucks that a run has left (`trucks.geojson`, `trucks.gpkg`), or anyone's boxes, in their own CRS.

    Boxes that are the same all count: a detector that finds a truck twice is wrong once.

    Raises
    ------
    LabelsError
        As `read_polygons`, or if a score is no number.
    """
    frame, left_out = usable_polygons(path, "Predicted trucks", layer="trucks")
    if "score" in frame:
        score = pd.to_numeric(frame["score"], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        if not np.isfinite(score).all():
            raise LabelsError(
                f"Column score of {path} is a number for every truck. "
                f"Received: {int((~np.isfinite(score)).sum())} of {len(score)} that are none."
            )
    return frame, left_out


def read_seen(predicted: Path | str) -> gpd.GeoDataFrame | None:
    """Where a run looked for trucks: layer `seen` of `predicted`, or of the `trucks.gpkg` beside it.

    None where there is no such layer: then everything counts as looked at.
    """
    return _layer_of_run(predicted, "Area seen", "seen")


def read_not_seen(predicted: Path | str) -> gpd.GeoDataFrame | None:
    """Where a run did not look for trucks and why: layer `not_seen`, found as `read_seen` finds its own."""
    return _layer_of_run(predicted, "Area not seen", "not_seen")


def has_layer(path: Path, layer: str) -> bool:
    """Whether there is a GeoPackage with this layer."""
    return path.suffix == ".gpkg" and path.is_file() and layer in layer_names(path, "Layers")


def _layer_of_run(predicted: Path | str, what: str, layer: str) -> gpd.GeoDataFrame | None:
    for path in (Path(predicted), Path(predicted).with_name("trucks.gpkg")):
        if has_layer(path, layer):
            return read_polygons(path, what, layer=layer)
    return None


def read_polygons(
    path: Path | str, what: str, crs: Any | None = None, layer: str | None = None
) -> gpd.GeoDataFrame:
    """Polygons of a vector file, as `usable_polygons` gives them, without telling what was left out.

    Raises
    ------
    LabelsError
        As `usable_polygons`.
    """
    return usable_polygons(path, what, crs, layer)[0]


def usable_polygons(
    path: Path | str, what: str, crs: Any | None = None, layer: str | None = None, unique: bool = False
) -> tuple[gpd.GeoDataFrame, LeftOut]:
    """Polygons of a vector file, valid, flat and with an area, in `crs`, and what was left out of it.

    `layer` is preferred where there are several; `what` names the file in messages ("Truck labels"). With
    `unique`, of polygons that are the same (and of the same `scene_id`) the first is kept.

    Raises
    ------
    LabelsError
        If the file is missing or unreadable, has no CRS, or holds features but no polygons.
    """
    frame = _read_frame(path, what, layer)
    if frame.empty and frame.crs is None and crs is not None:
        return frame.set_crs(crs), LeftOut()
    if frame.crs is None:
        raise LabelsError(
            f"{what} have no CRS: {path}. Assign one, e.g. with QGIS or ogr2ogr -a_srs EPSG:32632."
        )
    bare = frame.geometry.isna() | frame.geometry.is_empty
    counts = {"without geometry": int(bare.sum())}
    frame = frame[~bare]
    kinds = frame.geometry.geom_type
    polygons = kinds.isin(["Polygon", "MultiPolygon"])
    if len(frame) and not polygons.any():
        held = ", ".join(f"{count} {kind}" for kind, count in kinds.value_counts().items())
        raise LabelsError(
            f"{what} must be polygons; {path} holds {held}. Draw a box around each, or buffer them."
        )
    counts["not polygons"] = int((~polygons).sum())
    frame = frame[polygons]
    flattened, invalid = int(frame.geometry.has_z.sum()), ~frame.geometry.is_valid
    # A bow tie becomes its two halves; what collapses to a line is no polygon any more.
    shapes = shapely.force_2d(frame.geometry.to_numpy())
    shapes[invalid] = shapely.make_valid(shapes[invalid], method="structure", keep_collapsed=False)
    frame = frame.set_geometry(gpd.GeoSeries(shapes, index=frame.index, crs=frame.crs))
    frame = frame if crs is None else frame.to_crs(crs)
    placed = np.isfinite(shapely.bounds(frame.geometry.to_numpy())).all(axis=1)
    flat = shapely.is_empty(shapes) | ~(shapely.area(shapes) > 0)
    counts["without area"] = int(flat.sum())
    counts["outside of the CRS"] = int((~placed & ~flat).sum())
    repaired = int((invalid.to_numpy() & placed & ~flat).sum())
    frame = frame[placed & ~flat].reset_index(drop=True)
    if unique:
        again = _seen_before(frame)
        counts["duplicates"] = int(again.sum())
        frame = frame[~again].reset_index(drop=True)
    return frame, LeftOut({name: count for name, count in counts.items() if count}, repaired, flattened)


def _seen_before(frame: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """(N,): whether a polygon before has the same outline, wherever that begins."""
    outlines = shapely.to_wkb(shapely.normalize(frame.geometry.to_numpy()))
    same = pd.DataFrame(
        {"outline": outlines, "scene": frame.get("scene_id", pd.Series("", index=frame.index))}
    )
    return same.duplicated().to_numpy(dtype=bool)


def _read_frame(path: Path | str, what: str, layer: str | None) -> gpd.GeoDataFrame:
    frame = read_layer(path, what, layer)
    if not isinstance(frame, gpd.GeoDataFrame):
        raise LabelsError(f"{what} must be polygons; {path} has no geometry.")
    return frame
