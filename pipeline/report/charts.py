"""Charts of a report, as SVG that stands inside the page, and of a model's card."""

from __future__ import annotations

import io
from collections.abc import Mapping

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from pipeline.evaluation.calibration import Reliability
from pipeline.evaluation.detection import PrecisionRecall

_NAMES = {"centre_20m": "centre within 20 m", "iou_0.25": "IoU 0.25", "iou_0.5": "IoU 0.5"}
_COLOURS = {"centre_20m": "#0f766e", "iou_0.25": "#6366f1", "iou_0.5": "#b45309"}
_SERIES = ("#0f766e", "#b45309", "#6366f1")


def precision_recall_chart(curves: Mapping[str, PrecisionRecall]) -> Markup:
    """Precision over recall of each curve, with its average precision in the legend."""
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for layer, (name, curve) in enumerate(curves.items()):
        # Wide below narrow: curves often coincide.
        width = max(1.5, 4.5 - 1.5 * layer)
        colour = _COLOURS.get(name, "#444444")
        label = f"{_NAMES.get(name, name)} (AP {curve.average_precision:.2f})"
        if len(curve.recall) > 1:
            axes.plot(curve.recall, curve.precision, color=colour, lw=width, label=label)
        else:
            axes.plot(curve.recall, curve.precision, "o", color=colour, label=label)
        axes.plot(curve.recall[-1:], curve.precision[-1:], "o", color=colour, ms=5)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="recall", ylabel="precision")
    axes.grid(color="#e5e7eb", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return _svg(figure, "Precision over recall")


def quality_figure(
    curves: Mapping[str, PrecisionRecall],
    reliabilities: Mapping[str, Reliability],
    thresholds: Mapping[str, float],
) -> Figure:
    """Precision over recall of a detector, with its thresholds marked, beside its reliability diagram."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, curve), colour in zip(curves.items(), _SERIES, strict=False):
        left.plot(
            curve.recall, curve.precision, color=colour, label=f"{name} (AP {curve.average_precision:.2f})"
        )
        for marker, threshold in zip("os", thresholds.values(), strict=False):
            at = int((curve.score >= threshold).sum()) - 1
            if at >= 0:
                left.plot(curve.recall[at], curve.precision[at], marker, color=colour, ms=6)
    for marker, (name, threshold) in zip("os", thresholds.items(), strict=False):
        left.plot([], [], marker, color="#444444", ms=6, label=f"threshold {name}, {threshold:g}")
    left.set(xlabel="recall", ylabel="precision", title="Precision over recall, centres within 20 m")
    right.plot([0, 1], [0, 1], color="#9ca3af", lw=1, ls="--")
    for (name, table), colour in zip(reliabilities.items(), (_SERIES[1], _SERIES[0]), strict=False):
        label = f"{name} (error {table.expected_error:.3f})"
        right.plot(table.score, table.right, "o-", color=colour, ms=4, label=label)
    right.set(xlabel="score", ylabel="share that are trucks", title="Reliability, simulated scenes held out")
    for axes in (left, right):
        axes.set(xlim=(0, 1.02), ylim=(0, 1.04))
        axes.title.set_fontsize(10)
        axes.grid(color="#e5e7eb", lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8, loc="lower left")
    right.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _svg(figure: Figure, title: str) -> Markup:
    buffer = io.StringIO()
    # Without a fixed salt the ids differ from run to run, and so would the report's bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])
