"""Boxes and confusion cases of a finished run, in pixels of its scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.config import SceneSettings
from pipeline.errors import RunsError, SceneNotFoundError
from pipeline.evaluation.columns import LIGHT
from pipeline.evaluation.evaluate import CASES
from pipeline.input_warnings import warn
from pipeline.labelling.images import LIGHT_VEHICLE, NO_TRUCK, TRUCK, UNCERTAIN
from pipeline.safe_json import read_json_object
from pipeline.scenes.open import open_scene
from pipeline.scenes.scene import Scene
from pipeline.storage.out_folder import EVALUATION, MOST_RECORD_BYTES
from pipeline.storage.untrusted_vectors import read_layer

_OF_OUTCOMES = {
    **dict.fromkeys(("TP", "FN", "not_seen"), TRUCK),
    **dict.fromkeys(("FP", "TN"), NO_TRUCK),
    "ignored": UNCERTAIN,
}


@dataclass(frozen=True)
class RunBoxes:
    """The scene of a run, and boxes on it."""

    scene: Scene
    boxes: NDArray[np.float64]
    """(N, 4): x_min, y_min, x_max, y_max in pixels of the scene."""
    categories: tuple[str, ...]
    """(N,) of `CATEGORIES`."""
    attributes: tuple[dict[str, Any], ...]
    """(N,): the known fields of each, with `id`."""


def read_run_boxes(
    record_path: Path, cases: bool, source: str | None = None, bands: Sequence[str] | None = None
) -> RunBoxes:
    """Read the trucks of a run, or with `cases` the confusion cases of its evaluation.

    `record_path` is its `run.json`. `source` is the scene where it is not at its old address, `bands` those
    of a GeoTIFF.

    A case is a truck if it was found or missed (TP, FN, not seen), no truck if it is FP or TN, uncertain if
    it is ignored; those of light vehicles are light vehicles. Reads no pixels.

    Raises
    ------
    RunsError
        If the folder lacks the trucks or the evaluation, or the scene is another one than that of the run.
    VectorFileError
        If a layer can't be read.
    TruckscapeError
        As `open_scene`.
    """
    folder, record = record_path.parent, _record(record_path)
    file = folder / EVALUATION / CASES if cases else folder / "trucks.gpkg"
    if not file.is_file():
        how = "run it with --truck-labels, or export without --cases" if cases else "run it with a detector"
        raise RunsError(f"{folder} has no {file.relative_to(folder)}; {how}.")
    if cases and (record.get("evaluation") or {}).get("is_current") is False:
        warn(f"{folder}: its evaluation is older than its layers; run it again with --truck-labels.")
    frame = read_layer(Path(f"{file}:trucks"), "Runs", "polygons")
    if not isinstance(frame, gpd.GeoDataFrame):
        raise RunsError(f"{file} has no boxes in its layer 'trucks'; run the scene again with this version.")
    settings = (record.get("parameters") or {}).get("scene") or {}
    address = source or str(record.get("source"))
    try:
        scene = open_scene(address, bands, SceneSettings.model_validate(settings))
    except SceneNotFoundError as error:
        if error.is_transient:
            raise
        raise RunsError(f"{folder}: its scene is not at {address}. Give it with --scene.") from error
    if list(scene.shape) != record.get("shape"):
        raise RunsError(
            f"{folder} is the run of a scene of {record.get('shape')} pixels; {scene.href} has "
            f"{list(scene.shape)}. Give its scene with --scene."
        )
    if scene.grid.crs:
        frame = frame.to_crs(scene.grid.crs.to_wkt())
    categories = _categories(frame) if cases else (TRUCK,) * len(frame)
    return RunBoxes(scene, _in_pixels(frame, scene), categories, _attributes(frame))


def _record(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path, MOST_RECORD_BYTES)
    except (OSError, ValueError) as error:
        raise RunsError(f"{path} is no record of a run ({error}).") from error


def _in_pixels(frame: gpd.GeoDataFrame, scene: Scene) -> NDArray[np.float64]:
    west, south, east, north = frame.geometry.bounds.to_numpy(np.float64).reshape(-1, 4).T
    left, top = ~scene.grid.affine * (west, north)
    right, bottom = ~scene.grid.affine * (east, south)
    return np.stack([left, top, right, bottom], axis=1)


def _categories(frame: gpd.GeoDataFrame) -> tuple[str, ...]:
    """Return the category of each confusion case."""
    pairs = zip(frame["outcome"].astype(str), frame["vehicle"], strict=True)
    return tuple(
        LIGHT_VEHICLE if vehicle == LIGHT and outcome != "ignored" else _OF_OUTCOMES.get(outcome, UNCERTAIN)
        for outcome, vehicle in pairs
    )


def _attributes(frame: gpd.GeoDataFrame) -> tuple[dict[str, Any], ...]:
    """Return the fields of each row that are known, as texts, numbers and booleans."""
    rows = []
    for row in pd.DataFrame(frame.drop(columns=frame.geometry.name)).to_dict("records"):
        known = {str(key): value for key, value in row.items() if not pd.isna(value)}
        rows.append({key: _plain(value) for key, value in known.items()})
    return tuple(rows)


def _plain(value: Any) -> str | float | bool:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, pd.Timestamp):
        return plain.isoformat()
    return plain if isinstance(plain, bool | int | float) else str(plain)
