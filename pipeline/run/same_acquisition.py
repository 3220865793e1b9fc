"""A warning where a folder has another product of the acquisition that is to be run into it."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.input_warnings import warn
from pipeline.scenes.acquisition import Acquisition, acquisition_of, is_same
from pipeline.scenes.scene import Scene


def warn_of_same_acquisition(scene: Scene, out: Path) -> None:
    """Warn for each scene in `out` that shows the same: its trucks would count twice in `traffic.parquet`."""
    here = acquisition_of(scene)
    for path in sorted(out.glob("*/run.json")) if here else ():
        there = _acquisition(path)
        if here and there and path.parent.name != scene.id and is_same(here, there):
            warn(
                f"{scene.id} (baseline {here.baseline}) is the same acquisition as {path.parent.name} "
                f"(baseline {there.baseline}) in {out}: together, as in traffic.parquet, its trucks count "
                "twice. Give another --out, or use `truckscape batch`, which counts the newest only."
            )


def _acquisition(path: Path) -> Acquisition | None:
    try:
        return Acquisition.from_json(json.loads(path.read_text(encoding="utf-8"))["acquisition"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
