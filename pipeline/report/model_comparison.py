"""A comparison of models as a table for the terminal, as Markdown and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from pipeline.printable import no_formula
from pipeline.report.markdown import plain
from pipeline.storage.atomic import make_folder, replacing

_COLOURS = ("#0f766e", "#b45309", "#6366f1", "#be123c", "#4d7c0f", "#0369a1", "#a16207", "#475569")


@dataclass(frozen=True)
class Proposals:
    """Proposals of a detector in two stages, on the scenes of a comparison."""

    recall: float
    """Share of the heavy vehicles with a proposal centred within 20 m; NaN without vehicles."""
    per_mpx: float
    """Proposals for a million 10 m pixels."""
    kilomacs: float
    """Thousand multiply-accumulate operations of the second stage for each proposal."""


@dataclass(frozen=True)
class Compared:
    """One model's line in the table."""

    model: str
    family: str
    task: str
    parameters: int
    receptive_field: int | None
    """Side of what a place sees, in 10 m pixels; None where it is the whole image."""
    halo: int
    kilomacs_px: float
    """Thousand multiply-accumulate operations for each 10 m pixel; of a detector without its boxes' part."""
    ms_per_mpx: float
    """Processor time of the network for a million 10 m pixels, of all threads: what a quiet machine takes."""
    scores: dict[str, float]
    """`AP`, `precision`, `recall`, `F1` (centres within 20 m) of detectors; `OA`, or `agreement` with a
    teacher, and `mIoU` of segmenters. The first one is drawn over the cost."""
    proposals: Proposals | None = None
    """None for a network without proposals."""


def cells(lines: Sequence[Compared]) -> list[dict[str, str]]:
    """Return a row for each model, every cell as text; columns of proposals if a model has any."""
    two_stages = any(line.proposals for line in lines)
    return [
        {
            "model": line.model,
            "family": line.family,
            **{name: _share(value) for name, value in line.scores.items()},
            "ms per Mpx": f"{line.ms_per_mpx:,.0f}",
            "parameters": f"{line.parameters:,}",
            "receptive field": "all" if line.receptive_field is None else f"{line.receptive_field} px",
            "halo": f"{line.halo} px",
            "kMAC per px": f"{line.kilomacs_px:,.0f}",
            **(_of_proposals(line.proposals) if two_stages else {}),
        }
        for line in lines
    ]


def _of_proposals(found: Proposals | None) -> dict[str, str]:
    return {
        "recall of proposals": _share(found.recall) if found else "",
        "proposals per Mpx": f"{found.per_mpx:,.0f}" if found else "",
        "kMAC per proposal": f"{found.kilomacs:,.0f}" if found else "",
    }


def _share(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.2f}"


def comparison_table(lines: Sequence[Compared]) -> Table:
    """Return a table for the terminal: a column a model, so that its width suffices."""
    rows = cells(lines)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    for _ in rows:
        table.add_column(justify="right", overflow="fold")
    for name in rows[0]:
        table.add_row(name, *(row[name] for row in rows), style="bold" if name == "model" else None)
    return table


def comparison_markdown(lines: Sequence[Compared]) -> str:
    """Return a table for documents."""
    rows = cells(lines)
    text = [
        " | ".join(rows[0]),
        " | ".join("---" if name in {"model", "family"} else "---:" for name in rows[0]),
    ]
    text += [" | ".join(map(plain, row.values())) for row in rows]
    return "".join(f"| {line} |\n" for line in text)


def comparison_figure(lines: Sequence[Compared]) -> Figure:
    """Return quality over cost, one point a model, its area by its parameters; beside it the scores as bars.

    A line joins the models than which no cheaper one is as good.
    """
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    headline = next(iter(lines[0].scores))
    names = [no_formula(f"{line.model} ({line.family})") for line in lines]
    largest = max(line.parameters for line in lines)
    for index, (line, name) in enumerate(zip(lines, names, strict=True)):
        colour = _COLOURS[index % len(_COLOURS)]
        area = 60 + 340 * line.parameters / largest
        left.scatter(line.ms_per_mpx, line.scores[headline], area, color=colour, alpha=0.85, label=name)
    best = _frontier([(line.ms_per_mpx, line.scores[headline]) for line in lines])
    left.plot(*zip(*best, strict=True), color="#9ca3af", lw=1, ls="--", zorder=0)
    left.set(xlabel="CPU milliseconds per Mpx", ylabel=headline)
    left.set_xlim(0, 1.15 * max(line.ms_per_mpx for line in lines))
    left.margins(y=0.25)
    left.set_title("Quality over cost; area: parameters", fontsize=10)
    width = 0.8 / len(lines)
    for index, (line, name) in enumerate(zip(lines, names, strict=True)):
        places = [at + (index - (len(lines) - 1) / 2) * width for at in range(len(line.scores))]
        values = [0.0 if math.isnan(value) else value for value in line.scores.values()]
        right.bar(places, values, 0.92 * width, color=_COLOURS[index % len(_COLOURS)], label=name)
    right.set_xticks(range(len(lines[0].scores)), list(lines[0].scores))
    right.set(ylim=(0, 1.04))
    right.set_title("On the same scenes", fontsize=10)
    for axes in (left, right):
        axes.grid(axis="both" if axes is left else "y", color="#e5e7eb", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(3, len(lines)), frameon=False, fontsize=8
    )
    return figure


def _frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (cost, quality) than which no cheaper one is as good, by cost."""
    best: list[tuple[float, float]] = []
    for cost, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or quality > best[-1][1]:
            best.append((cost, quality))
    return best


def write_comparison(lines: Sequence[Compared], out: Path) -> dict[str, Path]:
    """Leave `comparison.md`, `comparison.png` and `comparison.json` in `out`; where they lie, by name.

    Raises
    ------
    OutputError
        If the folder can't be written.
    """
    make_folder(out)
    paths = {kind: out / f"comparison.{kind}" for kind in ("md", "png", "json")}
    with replacing(paths["md"]) as part:
        part.write_text(comparison_markdown(lines), encoding="utf-8")
    with replacing(paths["png"]) as part:
        comparison_figure(lines).savefig(part, format="png", dpi=110)
    with replacing(paths["json"]) as part:
        found = [without_nan(asdict(line)) for line in lines]
        part.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return paths


def without_nan(value: Any) -> Any:
    """Return nested dictionaries with None in place of NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: without_nan(one) for name, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
