"""The learning curve of a training: its loss and validation metrics over the steps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pipeline.errors import OutputError
from pipeline.printable import no_formula
from pipeline.storage.atomic import replacing

_COLOURS = ("#b45309", "#6366f1", "#be185d", "#0369a1", "#4d7c0f")


def draw_learning_curve(metrics: Path, picture: Path) -> None:
    """Draw `metrics.csv` of a training as a PNG: `loss` above, columns that begin with `val_` below.

    Raises
    ------
    OutputError
        If the metrics can't be read or the picture can't be written.
    """
    curves = read_metrics(metrics)
    figures = [name for name in curves if name.startswith("val_")]
    figure = Figure(figsize=(7.2, 3.2 if not figures else 5.4), layout="constrained")
    panels = figure.subplots(2 if figures else 1, sharex=True, squeeze=False)[:, 0]
    if "loss" in curves:
        steps, values = curves["loss"]
        panels[0].plot(steps, values, color="#0f766e", lw=0.8, alpha=0.45)
        panels[0].plot(steps, pd.Series(values).ewm(alpha=0.1).mean(), color="#0f766e", lw=1.8)
    panels[0].set_ylabel("training loss")
    for number, name in enumerate(figures):
        colour = _COLOURS[number % len(_COLOURS)]
        panels[1].plot(
            *curves[name], color=colour, lw=1.6, marker="o", ms=3, label=no_formula(name.removeprefix("val_"))
        )
    if figures:
        panels[1].set_ylabel("validation")
        panels[1].legend(frameon=False, fontsize=9)
    panels[-1].set_xlabel("step")
    for axes in panels:
        axes.grid(color="#e5e7eb", lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(picture) as part:
        figure.savefig(part, dpi=120)


def read_metrics(metrics: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Return steps and values of every column of a `metrics.csv`; OutputError if it can't be read."""
    try:
        table = pd.read_csv(metrics).set_index("step").drop(columns="epoch", errors="ignore")
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"The log of a training can't be read: {metrics} ({error}).") from error
    columns = {str(name): table[name].dropna() for name in table}
    return {name: (column.index.tolist(), column.tolist()) for name, column in columns.items() if len(column)}
