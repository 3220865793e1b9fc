"""Charts of a report, as SVG that stands inside the page, and of a model's card."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.evaluation.trucks.calibration import Reliability, reliability
from pipeline.evaluation.trucks.metrics import threshold_curve
from pipeline.evaluation.trucks.precision_recall import PrecisionRecall
from pipeline.evaluation.trucks.scores import TruckEvaluation

NAMES = {"centre_20m": "centre within 20 m", "iou_0.25": "IoU 0.25", "iou_0.5": "IoU 0.5"}
_SERIES = ("#0072b2", "#d55e00", "#007a5a")
_DASHES = ("-", "--", "-.")
_COLOURS = dict(zip(NAMES, _SERIES, strict=True))


def precision_recall_chart(curves: Mapping[str, PrecisionRecall]) -> Markup:
    """Precision over recall of each curve, with its average precision in the legend."""
    figure, axes = _plot("recall", "precision")
    for layer, (name, curve) in enumerate(curves.items()):
        # Wide below narrow: curves often coincide.
        width = max(1.5, 4.5 - 1.5 * layer)
        colour = _COLOURS.get(name, "#444444")
        label = f"{NAMES.get(name, name)} (AP {curve.average_precision:.2f})"
        if len(curve.recall) > 1:
            axes.plot(
                curve.recall, curve.precision, color=colour, lw=width, ls=_DASHES[layer % 3], label=label
            )
        else:
            axes.plot(curve.recall, curve.precision, "o", color=colour, label=label)
        axes.plot(curve.recall[-1:], curve.precision[-1:], "o", color=colour, ms=5)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return _svg(figure, "Precision over recall")


def threshold_chart(curve: PrecisionRecall) -> Markup:
    """Precision, recall and F1 if only detections from a score on were kept; the best F1 is marked."""
    figure, axes = _plot("least score that counts", "")
    f1 = f1_scores(curve)
    for (name, values), colour, dash in zip(
        {"precision": curve.precision, "recall": curve.recall, "F1": f1}.items(),
        _SERIES,
        _DASHES,
        strict=True,
    ):
        axes.step(curve.score, values, color=colour, ls=dash, lw=2, where="post", label=name)
    best = int(np.argmax(f1))
    label = f"best F1, {f1[best]:.2f} from {curve.score[best]:.2f}"
    axes.plot(curve.score[best], f1[best], "D", color=_SERIES[2], ms=7, mec="#fff", label=label)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return _svg(figure, "Precision, recall and F1 over the threshold")


def reliability_chart(table: Reliability) -> Markup:
    """Share of detections that are right over their score; dots grow with the number behind them."""
    figure, axes = _plot("score", "share that are trucks")
    axes.plot([0, 1], [0, 1], color="#6b7280", lw=1, ls="--", label="as a probability should be")
    axes.plot(table.score, table.right, color=_SERIES[0], lw=0.8)
    axes.scatter(
        table.score,
        table.right,
        s=20 + 180 * table.count / table.count.max(),
        color=_SERIES[0],
        edgecolor="#fff",
        zorder=3,
        label=f"detections (error {table.expected_error:.3f})",
    )
    axes.legend(frameon=False, fontsize=9, loc="upper left", markerscale=0.5)
    return _svg(figure, "Calibration of the scores")


def f1_scores(curve: PrecisionRecall) -> NDArray[np.float64]:
    """Return (K,): F1 of all detections down to each one's score."""
    total = curve.precision + curve.recall
    return np.divide(2 * curve.precision * curve.recall, total, out=np.zeros(len(total)), where=total > 0)


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


@dataclass(frozen=True)
class PlaceBar:
    """A place in the picture of a land-cover model."""

    name: str
    level: str
    agreement: float
    """With the teacher; NaN without one."""
    accuracy: float | None
    """On real labels; None without."""
    interval: tuple[float, float] | None
    """Interval of the accuracy, 95 %."""


def landcover_quality_figure(reliabilities: Mapping[str, Reliability], places: Sequence[PlaceBar]) -> Figure:
    """Return the reliability diagram of a land-cover model, beside agreement and accuracy by place."""
    figure = Figure(figsize=(9.6, max(4.2, 1.2 + 0.24 * len(places))), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="#9ca3af", lw=1, ls="--")
    for (name, table), colour in zip(reliabilities.items(), (_SERIES[1], _SERIES[0]), strict=False):
        label = f"{name} (error {table.expected_error:.3f})"
        left.plot(table.score, table.right, "o-", color=colour, ms=4, label=label)
    left.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="probability of the class", ylabel="share that is right")
    left.set_title("Reliability, all places", fontsize=10)
    left.legend(frameon=False, fontsize=8, loc="upper left")
    _place_bars(right, sorted(places, key=lambda place: (place.level, np.nan_to_num(place.agreement))))
    for axes in (left, right):
        axes.grid(color="#e5e7eb", lw=0.8, axis="both" if axes is left else "x")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _place_bars(axes: Axes, places: Sequence[PlaceBar]) -> None:
    """Draw a bar for the agreement of each place, and a point with its interval for real labels."""
    for level, colour in zip(("L1C", "L2A"), (_SERIES[0], _SERIES[2]), strict=True):
        at = [row for row, place in enumerate(places) if place.level == level]
        widths = [np.nan_to_num(places[row].agreement) for row in at]
        if at:
            axes.barh(at, widths, 0.7, color=colour, alpha=0.75, label=f"{level}, agreement with the teacher")
    real = [(row, place.accuracy) for row, place in enumerate(places) if place.accuracy is not None]
    if real:
        rows, accuracies = zip(*real, strict=True)
        axes.plot(accuracies, rows, "D", color="#111827", ms=4, ls="", label="accuracy on real labels, 95 %")
    for row, place in enumerate(places):
        if place.interval:
            axes.plot(place.interval, (row, row), color="#111827", lw=1.5)
    axes.set_yticks(range(len(places)), [place.name for place in places], fontsize=8)
    axes.set(xlim=(0, 1.02), xlabel="share of the pixels")
    axes.set_title("By place", fontsize=10)
    if places:
        axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=2)


def _plot(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 3.7), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel=x, ylabel=y)
    axes.grid(color="#e5e7eb", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure, title: str) -> Markup:
    buffer = io.StringIO()
    # Without a fixed salt the ids differ from run to run, and so would the report's bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Groups are numbered from 1 in every chart; names must be unique in a page, and nothing refers to these.
    text = re.sub(r' id="[a-z0-9A-Z.]+_\d+"', "", text)
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1))  # noqa: S704 (our titles)


def truck_charts(trucks: TruckEvaluation) -> list[tuple[Markup, str]]:
    """Draw charts with captions; empty where nothing was measured, or detections came without scores."""
    if trucks.not_measured is not None or not trucks.scored:
        return []
    charts = [
        (
            precision_recall_chart({name: curve for name, curve in trucks.curves.items() if name in NAMES}),
            "Precision over recall, down to the least score that counts. AP as COCO defines it "
            "(101 points), without a cap on the number of detections.",
        )
    ]
    curve = threshold_curve(trucks)
    if len(curve.score) and np.isfinite(curve.recall).all():
        charts.append((threshold_chart(curve), "What another threshold would give; centres within 20 m."))
    counted = next(iter(trucks.curves.values()))
    if len(counted.score):
        charts.append(
            (
                reliability_chart(reliability(counted.score, counted.correct)),
                "Calibration: of the detections with a score of about 0.8, 80 % should be trucks. Larger "
                "dots stand for more detections.",
            )
        )
    return charts
