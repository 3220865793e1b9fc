"""The evaluation in the folder of a run: of its layers, or kept from an earlier run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.evaluation.evaluate import METRICS
from pipeline.run.prepare import Job

FOLDER = "evaluation"
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
        record = json.loads(job.previous.read_text(encoding="utf-8")).get("evaluation")
        layers = dict(record["layers"])
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {"finished": None, "layers": {}, "is_current": None}
    same = all(name in files and _sha256(files[name]) == digest for name, digest in layers.items())
    return {**record, "is_current": same}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
