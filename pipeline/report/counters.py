"""Comparison with traffic counters: table, metrics, picture, and a summary for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from pipeline.storage.atomic import make_folder, replacing
from pipeline.traffic.agreement import Agreement, Correction

TABLE, METRICS, PICTURE = "counts.csv", "counts.json", "counts.png"
_COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#7c3aed", "#b45309", "#374151")
_FIGURES = {
    "r": "correlation r",
    "rmse": "RMSE, trucks an hour",
    "bias": "bias, trucks an hour",
    "ratio": "estimated over counted",
}


def write_counts(
    out: Path, pairs: pd.DataFrame, found: Agreement, about: Mapping[str, str], correction: Correction | None
) -> dict[str, Path]:
    """Write `counts.csv`, `counts.json` and `counts.png` into the folder `out`; return them by name.

    `about` describes the comparison in the metrics.

    Raises
    ------
    OutputError
        If a file can't be written.
    """
    make_folder(out)
    with replacing(out / TABLE) as part:
        pairs.to_csv(part, index=False, float_format="%.6g")
    metrics = {**about, **_plain(asdict(found))}
    if correction:
        metrics["correction"] = correction.as_json()
    with replacing(out / METRICS) as part:
        part.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with replacing(out / PICTURE) as part:
        scatter(pairs, found).savefig(part, dpi=150, metadata={"Software": None})
    return {"table": out / TABLE, "metrics": out / METRICS, "picture": out / PICTURE}


def write_correction(correction: Correction, path: Path) -> Path:
    """Write a correction as JSON; OutputError if it can't be written."""
    with replacing(path) as part:
        part.write_text(json.dumps(correction.as_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def counts_table(found: Agreement, correction: Correction | None) -> Table:
    """Return the figures with their intervals for the terminal."""
    table = Table(f"{found.pairs} pairs", "measured", "95 % interval", box=None, header_style="bold")
    for name, title in _FIGURES.items():
        figure = getattr(found, name)
        ends = f"{figure.low:.3g} to {figure.high:.3g}" if np.isfinite(figure.low) else "not defined"
        table.add_row(title, f"{figure.value:.3g}" if np.isfinite(figure.value) else "not defined", ends)
    table.add_row("RMSE of counting alone (Poisson)", f"{found.poisson_rmse:.3g}", "")
    if correction:
        table.add_row(
            "correction", f"{correction.factor:.3g}", f"{correction.low:.3g} to {correction.high:.3g}"
        )
        table.add_row("RMSE corrected, leave-one-out", f"{correction.rmse_corrected:.3g}", "")
    return table


def scatter(pairs: pd.DataFrame, found: Agreement) -> Figure:
    """Return the picture: estimated over counted flow with its intervals, and the ratio as a line."""
    figure = Figure(figsize=(5.4, 5.0), layout="constrained")
    axes = figure.add_subplot()
    most = 1.08 * max(1.0, float(pairs[["counted_per_hour", "flow_high"]].max().max()))
    axes.plot([0, most], [0, most], color="#9ca3af", lw=1, ls="--", label="equal")
    if np.isfinite(found.ratio.value):
        axes.plot(
            [0, most],
            [0, most * found.ratio.value],
            color="#111827",
            lw=1,
            label=f"ratio {found.ratio.value:.2f}",
        )
        if np.isfinite(found.ratio.low):
            ends = [0, most * found.ratio.low], [0, most * found.ratio.high]
            axes.fill_between([0, most], *ends, color="#111827", alpha=0.1, lw=0)
    for number, ((station, direction), rows) in enumerate(pairs.groupby(["station", "direction"])):
        flow = rows["flow_per_hour"]
        axes.errorbar(
            rows["counted_per_hour"],
            flow,
            yerr=[(flow - rows["flow_low"]).clip(lower=0), (rows["flow_high"] - flow).clip(lower=0)],
            fmt="os^Dvp"[number % 6],
            ms=5,
            lw=0.8,
            color=_COLOURS[number % len(_COLOURS)],
            ecolor=f"{_COLOURS[number % len(_COLOURS)]}66",
            label=f"{station} {direction}".strip() or None,
        )
    axes.set(xlim=(0, most), ylim=(0, most), xlabel="counter, vehicles an hour", ylabel="estimated, an hour")
    axes.set_title(
        f"{found.pairs} pairs, r {found.r.value:.2f}, RMSE {found.rmse.value:.3g}", loc="left", fontsize=10
    )
    axes.grid(color="#e5e7eb", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure
