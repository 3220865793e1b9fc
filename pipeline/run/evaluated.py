"""The evaluation in the folder of a run: of its layers, or kept from an earlier run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd

from pipeline.evaluation.evaluate import METRICS
from pipeline.run.prepare import Job
from pipeline.safe_json import read_json_object
from pipeline.storage.out_folder import EVALUATION, MOST_RECORD_BYTES

FOLDER = EVALUATION

_LAYERS = {"trucks": "trucks.geojson", "landcover": "landcover.tif"}
"""File whose bytes stand for a layer, by part of the metrics."""
_VEHICLES = "vehicles"
"""Layer without a file of the same bytes from run to run; its ids and scores stand for it."""


def new_evaluation(
    files: Mapping[str, Path],
    layers: Mapping[str, gpd.GeoDataFrame],
    metrics: Mapping[str, Any],
    finished: str,
) -> dict[str, Any]:
    """Return the record of an evaluation of a run with these files and layers: when, and hashes of files."""
    compared = [name for part, name in _LAYERS.items() if part in metrics]
    if "trucks" in metrics and _VEHICLES in layers:
        compared.append(_VEHICLES)
    hashes = {name: _digest(name, files, layers) for name in compared}
    return {"finished": finished, "layers": hashes, "is_current": True}


def kept_evaluation(
    job: Job, files: Mapping[str, Path], layers: Mapping[str, gpd.GeoDataFrame]
) -> dict[str, Any] | None:
    """Return the record of an earlier run's evaluation in the folder; None without one.

    `is_current` is False if the layers have changed since, None if that is unknown.
    """
    if not (job.folder / FOLDER / METRICS).is_file():
        return None
    try:
        record = read_json_object(job.previous, MOST_RECORD_BYTES)["evaluation"]
        finished, compared = str(record["finished"]), {**record["layers"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {"finished": None, "layers": {}, "is_current": None}
    compared = {name: digest for name, digest in compared.items() if isinstance(digest, str)}
    same = all(_digest(name, files, layers) == digest for name, digest in compared.items())
    return {"finished": finished, "layers": compared, "is_current": same}


def _digest(name: str, files: Mapping[str, Path], layers: Mapping[str, gpd.GeoDataFrame]) -> str | None:
    """Return the hash of a file or of the layer of vehicles; None if there is none now."""
    if name == _VEHICLES and name in layers:
        rows = layers[name][["id", "score", "vehicle_score"]].to_csv(index=False, lineterminator="\n")
        return hashlib.sha256(rows.encode()).hexdigest()
    return _sha256(files[name]) if name in files else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
