"""A sample for area estimates, and the estimates, as files, tables and a figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from pipeline.errors import ConfigError, OutputError
from pipeline.evaluation.areas.estimates import Z_95, AreaEstimates, Estimate
from pipeline.evaluation.areas.interpretation import read_points, write_points
from pipeline.evaluation.areas.sampling import AT_LEAST, Allocation, Sample, draw_sample
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.layers.styles import agreement_style
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.printable import no_formula
from pipeline.safe_json import read_json
from pipeline.storage.atomic import make_folder, replacing

METRICS, FIGURE, POINTS = "metrics.json", "areas.png", "area_points.gpkg"
_ESTIMATED, _MAPPED, _USERS, _PRODUCERS = "#0f766e", "#444444", "#6366f1", "#b45309"


def draw_points(
    landcover: Path,
    out: Path,
    size: int | None = None,
    standard_error: float = 0.01,
    allocation: Allocation = "mixed",
    at_least: int = AT_LEAST,
    expected: Sequence[str] = (),
    seed: int = 0,
) -> tuple[Sample, dict[str, Path]]:
    """Draw a sample and write it for interpreters, as `truckscape sample` does; it, and the files' paths.

    `landcover` is a class raster or the folder of a scene that has one; `expected` are user's accuracies,
    `class=0.9`. See `pipeline.evaluation.areas.sampling.draw_sample` and
    `pipeline.evaluation.areas.interpretation.write_points` for the rest, and for the errors.
    """
    raster = landcover / "landcover.tif" if landcover.is_dir() else landcover
    accuracies = dict(map(_accuracy, expected))
    drawn = draw_sample(raster, DYNAMIC_WORLD, size, standard_error, allocation, at_least, accuracies, seed)
    return drawn, write_points(drawn, raster, out)


def strata_table(sample: Sample) -> Table:
    """Return a line for each mapped class: its area, its share and its points."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("class")
    for name in ("mapped ha", "share", "points"):
        table.add_column(name, justify="right")
    hectares, points = sample.hectares, sample.points
    for i in np.flatnonzero(sample.pixels):
        share = hectares[i] / hectares.sum()
        table.add_row(sample.legend[i].name, f"{hectares[i]:,.0f}", f"{share:.1%}", str(points[i]))
    table.add_row("together", f"{hectares.sum():,.0f}", "", str(len(sample)), style="bold")
    table.caption = f"expected standard error of the overall accuracy: {sample.expected_error:.3f}"
    return table


def _accuracy(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        return name.strip(), float(value)
    except ValueError as error:
        raise ConfigError(f"An expected accuracy is given as class=0.9. Received: {text}") from error


def evaluate_areas_files(points: Path, out: Path, design: Path | None = None) -> AreaEstimates:
    """Areas and accuracies from interpreted points, as `truckscape evaluate areas` does.

    Leaves in `out` the key `areas` of `metrics.json` (what else is in it stays), the points with both classes
    (`POINTS`), and `FIGURE`. Nothing is written before everything is read and checked.

    Raises
    ------
    LabelsError
        As `interpretation.read_points` and `estimates.estimate_areas`.
    OutputError
        If `out` can't be written, or holds a `metrics.json` that is none.
    """
    interpreted = read_points(points, design)
    estimates = interpreted.estimate()
    metrics = _metrics_there(out / METRICS) | {"areas": {"points_file": str(points), **interpreted.metrics()}}
    make_folder(out)
    with replacing(out / METRICS) as part:
        part.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    write_gpkg(out / POINTS, {"area_points": interpreted.layer()}, {"area_points": agreement_style()})
    with replacing(out / FIGURE) as part:
        areas_figure(estimates).savefig(part, dpi=150, metadata={"Software": None})
    return estimates


def areas_table(estimates: AreaEstimates) -> Table:
    """Return a line for each mapped or observed class: areas and accuracies, with half of their 95 %
    intervals."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("class")
    for name in ("points", "mapped ha", "estimated ha", "user's accuracy", "producer's accuracy"):
        table.add_column(name, justify="right")
    area, users, producers = estimates.area_ha, estimates.users_accuracy, estimates.producers_accuracy
    for i in _present(estimates):
        table.add_row(
            estimates.legend[i].name,
            str(estimates.counts[i].sum()),
            f"{estimates.mapped_ha[i]:,.0f}",
            _shown(area, i, ",.0f"),
            _shown(users, i, ".2f"),
            _shown(producers, i, ".2f"),
        )
    table.add_row(
        "overall accuracy",
        str(estimates.points),
        "",
        "",
        _shown(estimates.accuracy, (), ".3f"),
        "",
        style="bold",
    )
    return table


def areas_figure(estimates: AreaEstimates) -> Figure:
    """Draw mapped and estimated area of each class beside user's and producer's accuracy, with intervals."""
    rows = _present(estimates)
    place = np.arange(len(rows), dtype=np.float64)
    figure = Figure(figsize=(10, 1.6 + 0.45 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    left.plot(
        estimates.mapped_ha[rows], place, "D", color=_MAPPED, mfc="none", ms=6, clip_on=False, label="mapped"
    )
    for axes, estimate, shift, colour, label in (
        (left, estimates.area_ha, 0.0, _ESTIMATED, "estimated"),
        (right, estimates.users_accuracy, -0.12, _USERS, "user's accuracy"),
        (right, estimates.producers_accuracy, 0.12, _PRODUCERS, "producer's accuracy"),
    ):
        low, high = estimate.interval[:, rows]
        middle = estimate.value[rows]
        axes.errorbar(
            middle,
            place + shift,
            xerr=[middle - low, high - middle],
            fmt="o" if shift <= 0 else "s",
            color=colour,
            ms=5,
            capsize=3,
            label=label,
        )
    overall = estimates.accuracy
    right.axvspan(*overall.interval, color="#9ca3af", alpha=0.25, lw=0)
    right.axvline(float(overall.value), color="#6b7280", lw=1, label="overall accuracy")
    left.set(xlabel="hectares", title="Area, with 95 % intervals", yticks=place)
    left.set_yticklabels([no_formula(estimates.legend[i].name) for i in rows])
    left.set_xlim(left=0)
    left.invert_yaxis()
    right.set(xlim=(0, 1.02), xlabel="share", title="Accuracy, with 95 % intervals")
    for axes in (left, right):
        axes.title.set_fontsize(10)
        axes.grid(color="#e5e7eb", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=5)
    return figure


def _present(estimates: AreaEstimates) -> list[int]:
    there = (estimates.mapped_ha > 0) | (estimates.counts.sum(axis=0) > 0)
    return [int(i) for i in np.flatnonzero(there)]


def _shown(estimate: Estimate, index: int | tuple[()], form: str) -> str:
    if not np.isfinite(estimate.value[index]):
        return "-"
    return f"{estimate.value[index]:{form}} ± {Z_95 * estimate.standard_error[index]:{form}}"


def _metrics_there(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        metrics = read_json(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} can't be read as metrics to add to; remove it.") from error
    if not isinstance(metrics, dict):
        raise OutputError(f"{path} has no metrics to add to; remove it.")
    return metrics
