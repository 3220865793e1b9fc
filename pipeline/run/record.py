"""What a run leaves on record: `run.json`, and its figures for people."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd

from pipeline.inference.runtime import backend, half_precision
from pipeline.processes import give_back_memory, peak_memory_mb
from pipeline.run.keys import versions
from pipeline.run.prepare import Job
from pipeline.storage.atomic import replacing

_PACKAGES = ("truckscape", "torch", "torchvision", "rasterio", "geopandas", "shapely", "numpy", "prefect")


@dataclass(frozen=True)
class Result:
    """Where the results lie, and what `run.json` says."""

    folder: Path
    outputs: dict[str, Path]
    run: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def report(self) -> Path:
        """The page to look at first."""
        evaluated = self.folder / "evaluation" / "report.html"
        return evaluated if self.metrics else self.folder / "report.html"

    def summary(self) -> dict[str, str]:
        """The figures a person wants first."""
        run, lines = self.run, {}
        counts = run["counts"]
        if "trucks" in counts:
            lines["trucks"] = str(counts["trucks"])
        if "landcover" in counts:
            lines["land-cover areas"] = str(counts["landcover"])
        lines["looked at for trucks"] = f"{run['seen_fraction']:.1%} of the scene"
        lines["tiles"] = f"{run['tiles']['total']}, {run['tiles']['skipped']} without a search for trucks"
        lines |= _scores(self.metrics)
        lines["seconds"] = f"{sum(run['seconds'].values()):.0f}"
        lines["peak memory"] = f"{run['peak_rss_mb']} MB"
        return lines


class Clock:
    """Seconds by stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a stage that lasts as long as the block."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = time.monotonic() - start
            give_back_memory()  # the outlines of the land cover, drawn beside the stages, want it


def run_record(
    job: Job,
    tiles_total: int,
    tiles_skipped: int,
    layers: dict[str, gpd.GeoDataFrame],
    fraction: float,
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """What `run.json` says, but for the seconds, which are known when all else is written."""
    return {
        "scene": job.scene.id,
        "source": job.scene.href,
        "simulated": job.scene.simulated,
        "acquired": job.scene.acquired.isoformat() if job.scene.acquired else None,
        "shape": list(job.scene.shape),
        "area_km2": round(job.scene.grid.extent.area / 1e6, 4),
        "finished": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "inputs": job.inputs,
        "models": {
            bundle.card.task: f"{bundle.card.id}-{bundle.card.version}" for bundle in job.models.bundles
        },
        "bands": {
            bundle.card.task: list(bundle.card.bands_used(job.scene.bands)) for bundle in job.models.bundles
        },
        "weights": {bundle.card.task: bundle.card.weights_sha256 for bundle in job.models.bundles},
        "parameters": job.request.config.model_dump(mode="json"),
        "score_threshold": job.score_threshold,
        "precision": "bfloat16" if half_precision(job.request.config.engine) else "float32",
        "backend": backend(job.request.config.engine),
        "packages": versions(_PACKAGES),
        "counts": {name: len(frame) for name, frame in layers.items()},
        "tiles": {"total": tiles_total, "skipped": tiles_skipped},
        "shards": list(job.keys),
        "seen_fraction": fraction,
        "metrics": metrics,
        "peak_rss_mb": peak_memory_mb(),
    }


def write_record(run: Mapping[str, Any], path: Path) -> None:
    """Write `run.json`; a folder that has one is complete."""
    with replacing(path) as part:
        part.write_text(json.dumps(run, indent=2, allow_nan=False, default=str) + "\n", encoding="utf-8")


def names_in(folder: Path, paths: Iterable[Path]) -> list[str]:
    """Names of those files that lie in a folder; traffic of all scenes lies beside it."""
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.is_relative_to(folder))


def _scores(metrics: dict[str, Any]) -> dict[str, str]:
    lines = {}
    trucks = metrics.get("trucks", {}).get("centres", {}).get("20m")
    if trucks:
        shown = (
            f"{name} {trucks[name]:.2f}" for name in ("precision", "recall", "f1") if trucks[name] is not None
        )
        lines["trucks against labels, 20 m"] = ", ".join(shown)
    accuracy = metrics.get("landcover", {}).get("accuracy")
    if accuracy is not None:
        lines["land cover against labels"] = f"accuracy {accuracy:.1%}"
    return lines
