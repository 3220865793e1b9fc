"""The learning curve of a training: its loss and validation figures over the steps."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.errors import OutputError
from pipeline.storage.atomic import replacing

_COLOURS = ("#b45309", "#6366f1", "#be185d", "#0369a1", "#4d7c0f")


def draw_learning_curve(metrics: Path, picture: Path) -> None:
    """Draw `metrics.csv` of a training as a PNG: `loss` above, whatever begins with `val_` below.

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
        panels[0].plot(steps, _smooth(values), color="#0f766e", lw=1.8)
    panels[0].set_ylabel("training loss")
    for number, name in enumerate(figures):
        colour = _COLOURS[number % len(_COLOURS)]
        panels[1].plot(*curves[name], color=colour, lw=1.6, marker="o", ms=3, label=name.removeprefix("val_"))
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
    """Steps and values of every column of a `metrics.csv`; OutputError if it can't be read."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    try:
        with metrics.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        steps, values = curves.setdefault(name, ([], []))
                        steps.append(int(row["step"]))
                        values.append(float(value))
    except (OSError, ValueError) as error:
        raise OutputError(f"The log of a training can't be read: {metrics} ({error}).") from error
    return curves


def _smooth(values: list[float], decay: float = 0.9) -> list[float]:
    """Exponential moving average, without the bias of its start."""
    smooth, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        smooth.append(total / weight)
    return smooth
