"""The evaluation in the folder of a run: of its layers, or kept from an earlier run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.evaluation.evaluate import METRICS
from pipeline.run.prepare import Job
from pipeline.safe_json import read_json_object
from pipeline.storage.out_folder import EVALUATION, MOST_RECORD_BYTES

FOLDER = EVALUATION

_LAYERS = {"trucks": "trucks.geojson", "landcover": "landcover.tif"}
"""File whose bytes stand for a layer, by part of the metrics."""


def new_evaluation(files: Mapping[str, Path], metrics: Mapping[str, Any], finished: str) -> dict[str, Any]:
    """Return the record of an evaluation of this run: when, and the hashes of the layers."""
    layers = {name: _sha256(files[name]) for part, name in _LAYERS.items() if part in metrics}
    return {"finished": finished, "layers": layers, "is_current": True}


def kept_evaluation(job: Job, files: Mapping[str, Path]) -> dict[str, Any] | None:
    """Return the record of an earlier run's evaluation in the folder; None without one.

    `is_current` is False if the layers have changed since, None if that is unknown.
    """
    if not (job.folder / FOLDER / METRICS).is_file():
        return None
    try:
        record = read_json_object(job.previous, MOST_RECORD_BYTES)["evaluation"]
        finished, layers = str(record["finished"]), {**record["layers"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {"finished": None, "layers": {}, "is_current": None}
    layers = {name: digest for name, digest in layers.items() if isinstance(digest, str)}
    same = all(name in files and _sha256(files[name]) == digest for name, digest in layers.items())
    return {"finished": finished, "layers": layers, "is_current": same}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
