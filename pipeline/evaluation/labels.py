"""Read reference and predicted truck boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import LabelsError
from pipeline.evaluation import columns
from pipeline.evaluation.features import LeftOut, read_polygons, usable_polygons
from pipeline.input_warnings import warn
from pipeline.storage.untrusted_vectors import file_of, layer_names, split_layer
from pipeline.storage.vector_places import warn_if_elsewhere

TRUCK_LAYERS = ("trucks", "labels")
"""Layers of a file of several that are truck labels by their names."""
CONFIDENCES = ("high", "medium", "low", "ignore")
IGNORED_CONFIDENCES = ("low", "ignore")
"""References of these are ignored: neither TP, FP nor FN."""


def read_truck_labels(path: Path | str, crs: Any | None = None) -> gpd.GeoDataFrame:
    """Read truck boxes as `checked_truck_labels` does, without the counts of what was left out.

    Raises
    ------
    LabelsError
        As `checked_truck_labels`.
    """
    return checked_truck_labels(path, crs)[0]


def checked_truck_labels(path: Path | str, crs: Any | None = None) -> tuple[gpd.GeoDataFrame, LeftOut]:
    """Read truck boxes of any vector file, in `crs` if given, and count what was left out.

    Columns: `id` (text), `confidence` (one of `CONFIDENCES`, `high` where not given), `travel_deg`
    (degrees clockwise from north; a column `heading_deg` is taken as the same), `speed_kmh` (both NaN where
    unknown), `vehicle` (one of `columns.VEHICLES`) and `scene_id` where the file has them, `geometry`.
    Without `vehicle` all are heavy vehicles. A file without boxes means that there are no trucks. Duplicate
    boxes (of one scene) are left out. Each polygon of a feature of several is a box. What could not be used
    is also a warning.

    Raises
    ------
    LabelsError
        If the file is missing or unreadable, has no CRS, holds features but no polygons, or an unknown
        confidence or vehicle.
    """
    frame, left_out = usable_polygons(path, "Truck labels", crs, TRUCK_LAYERS, boxes=True, unique=True)
    frame = columns.renamed(frame, columns.LABELS)
    confidence = columns.text(frame, "confidence", "high").str.lower()
    columns.check(confidence, CONFIDENCES, path)
    travel = "travel_deg" if "travel_deg" in frame else "heading_deg"
    read = {
        "id": columns.ids(frame),
        "confidence": confidence,
        "travel_deg": columns.numbers(frame, travel, *columns.DEGREES),
        "speed_kmh": columns.numbers(frame, "speed_kmh", *columns.SPEEDS_KMH),
    }
    notes = columns.notes(frame, ~confidence.isin(IGNORED_CONFIDENCES), CONFIDENCES)
    notes += [
        *columns.absurd(frame, travel, *columns.DEGREES, "degrees"),
        *columns.absurd(frame, "speed_kmh", *columns.SPEEDS_KMH, "km/h"),
    ]
    for note in notes:
        warn(f"{path}: Truck labels: {note}")
    vehicle = columns.vehicles(frame, path)
    if vehicle is not None:
        read["vehicle"] = vehicle
    if "scene_id" in frame:
        read["scene_id"] = columns.text_or_none(frame["scene_id"])
    boxes = gpd.GeoDataFrame(read, geometry=frame.geometry, crs=frame.crs)
    return boxes, replace(left_out, notes=(*left_out.notes, *notes))


def is_light(labels: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """Return (M,): True for labels of light vehicles; all are heavy without a column `vehicle`."""
    if "vehicle" not in labels:
        return np.zeros(len(labels), dtype=bool)
    return np.asarray(labels["vehicle"] == columns.LIGHT, dtype=bool)


def checked_predicted_trucks(path: Path | str) -> tuple[gpd.GeoDataFrame, LeftOut]:
    """Read the trucks of a run (`trucks.geojson`, `trucks.gpkg`), or any boxes, in their own CRS.

    Duplicate boxes stay: a second detection of a truck is a false positive.

    Raises
    ------
    LabelsError
        As `read_polygons`, or if a score is no number.
    """
    frame, left_out = usable_polygons(path, "Predicted trucks", layers=("trucks",), boxes=True)
    if "score" in frame:
        score = pd.to_numeric(frame["score"], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        if not np.isfinite(score).all():
            raise LabelsError(
                f"Column score of {path} is a number for every truck. "
                f"Received: {int((~np.isfinite(score)).sum())} of {len(score)} that are none."
            )
        frame = frame.assign(score=score)
        if strange := int(((score < 0) | (score > 1)).sum()):
            warn(
                f"{path}: Predicted trucks: the score of {strange} of {len(score)} is below 0 or above 1, so "
                "it is no probability: there is no calibration, and thresholds from 0 to 1 may not fit."
            )
    frame, notes = columns.plain(frame)
    for note in notes:
        warn(f"{path}: Predicted trucks: {note}")
    return frame, left_out


def read_vehicles(predicted: Path | str) -> gpd.GeoDataFrame | None:
    """Read the layer `vehicles` beside the layer `trucks` of a run's `trucks.gpkg`, in its CRS.

    Return None for any other file or layer: its boxes are all that was predicted.

    Raises
    ------
    LabelsError
        As `checked_predicted_trucks`.
    """
    file, layer = split_layer(Path(predicted))
    is_run = layer in (None, "trucks") and has_layer(file, "trucks") and has_layer(file, "vehicles")
    return checked_predicted_trucks(f"{file}:vehicles")[0] if is_run else None


def warn_if_labels_elsewhere(
    labels: gpd.GeoDataFrame, path: Path | str, crs: Any, bounds: tuple[float, float, float, float] | None
) -> None:
    """Warn if truck labels do not meet a scene with these bounds (None: unknown) in its `crs`."""
    if bounds is not None:
        warn_if_elsewhere(labels, crs, bounds, f"Truck labels {path}", "no truck is measured")


def read_seen(predicted: Path | str) -> gpd.GeoDataFrame | None:
    """Read the area searched for trucks: layer `seen` of `predicted`, or of the `trucks.gpkg` beside it.

    Return None if there is no such layer: then everything counts as observed.
    """
    return _layer_of_run(predicted, "Area seen", "seen")


def read_not_seen(predicted: Path | str) -> gpd.GeoDataFrame | None:
    """Read the area not searched for trucks, with reasons: layer `not_seen`, found as `read_seen` does."""
    return _layer_of_run(predicted, "Area not seen", "not_seen")


def has_layer(path: Path, layer: str) -> bool:
    """Return True if `path` is a GeoPackage with this layer."""
    return path.suffix == ".gpkg" and path.is_file() and layer in layer_names(path, "Layers")


def _layer_of_run(predicted: Path | str, what: str, layer: str) -> gpd.GeoDataFrame | None:
    file = file_of(predicted)
    for path in (file, file.parent / "trucks.gpkg"):
        if has_layer(path, layer):
            return read_polygons(path, what, layers=(layer,))
    return None
