"""The record of a run: `run.json`, and its figures for people."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.inference.predictions import PROBABILITY_STEPS
from pipeline.processes import give_back_memory, peak_memory_mb
from pipeline.report.page import ReportContext
from pipeline.run.evaluated import new_evaluation
from pipeline.run.keys import versions
from pipeline.run.products import RunContext
from pipeline.scenes.acquisition import acquisition_of
from pipeline.scenes.clouds import cloud_source
from pipeline.storage.atomic import replacing

_PACKAGES = ("truckscape", "torch", "torchvision", "rasterio", "geopandas", "shapely", "numpy", "prefect")


@dataclass(frozen=True)
class Result:
    """Paths of the results, and the content of `run.json`."""

    folder: Path
    outputs: dict[str, Path]
    run: dict[str, Any]
    metrics: dict[str, Any]
    shown: ReportContext | None = None
    """Content of the run's report, if it was made by this process."""

    @property
    def report(self) -> Path:
        """The page to look at first."""
        evaluated = self.folder / "evaluation" / "report.html"
        return evaluated if self.metrics else self.folder / "report.html"

    def summary(self) -> dict[str, str]:
        """Return the key figures for people."""
        run, lines = self.run, {}
        counts = run["counts"]
        if "trucks" in counts:
            expected = run["expected"]
            lines["trucks"] = (
                f"{counts['trucks']} detected; {expected['trucks']:.0f} expected "
                f"({expected['low']:.0f} - {expected['high']:.0f})"
            )
        if "vehicles" in counts:
            lines["moving vehicles of any kind"] = f"{counts['vehicles']} detected, trucks among them"
        if counts.get("look_alikes"):
            lines["look-alikes left out"] = str(counts["look_alikes"])
        if "landcover" in counts:
            lines["land-cover areas"] = str(counts["landcover"])
        lines["area searched for trucks"] = f"{run['seen_fraction']:.1%} of the scene"
        lines["tiles"] = f"{run['tiles']['total']}, {run['tiles']['skipped']} skipped for trucks"
        lines |= _scores(self.metrics)
        if run["warnings"]:
            lines["warnings"] = "\n".join(run["warnings"])
        lines["seconds"] = f"{sum(run['seconds'].values()):.0f}"
        lines["peak memory"] = f"{run['peak_rss_mb']} MB"
        return lines


class Clock:
    """Seconds by stage; those of one name add up."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure the time of a stage, which lasts as long as the block."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start
            give_back_memory()  # the outlines of the land cover, traced beside the stages, need it


def run_record(context: RunContext) -> dict[str, Any]:
    """Return the content of `run.json` without the seconds, which are known at the end."""
    job, predictions, files = context.job, context.predictions, context.files.values()
    finished = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    evaluation = (
        new_evaluation(context.files, context.layers, context.metrics, finished)
        if job.request.has_labels
        else context.kept_evaluation
    )
    acquisition = acquisition_of(job.scene)
    inside = [file for file in files if file.is_relative_to(job.folder)]  # traffic of all scenes is beside it
    return {
        "scene": job.scene.id,
        "source": job.scene.href,
        "simulated": job.scene.simulated,
        "acquired": job.scene.acquired.isoformat() if job.scene.acquired else None,
        "acquisition": acquisition.as_json() if acquisition else None,
        "shape": list(job.scene.shape),
        "area_km2": round(job.scene.grid.extent.area / 1e6, 4),
        "finished": finished,
        "radiometry": {
            "source": job.scene.radiometry,
            "bands": {
                name: {"scale": source.scale, "offset": source.offset}
                for name, source in job.scene.bands.items()
            },
        },
        "clouds": cloud_source(job.scene),
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
        "vehicle_threshold": job.vehicle_threshold,
        "precision": job.environment["engine.precision"],
        "backend": job.environment["engine.backend"],
        "packages": versions(_PACKAGES),
        "landcover": landcover_areas(context),
        "counts": {name: len(frame) for name, frame in context.layers.items()},
        "expected": context.candidates.expected if job.models.detector else None,
        "recall": context.candidates.recall if job.models.detector else None,
        "tiles": {"total": predictions.tiles_total, "skipped": predictions.tiles_skipped},
        "shards": list(job.keys),
        "warnings": list(context.warnings),
        "seen_fraction": context.search_area.fraction,
        "metrics": context.metrics,
        "evaluation": evaluation,
        "peak_rss_mb": peak_memory_mb(),
        "outputs": sorted(file.relative_to(job.folder).as_posix() for file in inside),
    }


def landcover_areas(context: RunContext) -> dict[str, Any] | None:
    """Return the area of each class, m2 in the scene's CRS; None without land cover.

    `counted` is the area of the pixels of `landcover.tif`. `from_probabilities`, where the run keeps them, is
    the sum over all bytes of the class in `landcover_probability.tif`, each as a probability times the area
    of a pixel. Areas of polygons differ, since small ones are merged.
    """
    if context.landcover is None:
        return None
    predictions, legend = context.predictions, context.legend
    pixel_m2 = abs(context.job.scene.grid.affine.determinant)
    areas = {"counted": {each.name: int(predictions.class_pixels[each.value]) * pixel_m2 for each in legend}}
    if predictions.probability_sums is not None:
        sums = zip(legend, predictions.probability_sums.tolist(), strict=True)
        areas["from_probabilities"] = {
            each.name: total * pixel_m2 / PROBABILITY_STEPS for each, total in sums
        }
    return {"area_m2": areas}


def write_record(run: Mapping[str, Any], path: Path) -> None:
    """Write `run.json`; a folder that has one is complete."""
    with replacing(path) as part:
        part.write_text(json.dumps(run, indent=2, allow_nan=False, default=str) + "\n", encoding="utf-8")


def _scores(metrics: dict[str, Any]) -> dict[str, str]:
    lines = {}
    for part, what in (("trucks", "heavy vehicles"), ("moving_vehicles", "moving vehicles")):
        found = metrics.get(part, {}).get("centres", {}).get("20m") or {}
        names = [name for name in ("precision", "recall", "f1") if found.get(name) is not None]
        if names:
            lines[f"{what} against labels, 20 m"] = ", ".join(f"{name} {found[name]:.2f}" for name in names)
    accuracy = metrics.get("landcover", {}).get("accuracy")
    if accuracy is not None:
        lines["land cover against labels"] = f"accuracy {accuracy:.1%}"
    return lines
