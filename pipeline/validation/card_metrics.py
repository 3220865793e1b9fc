"""Metrics of a detector as plain numbers for its card."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Engine
from pipeline.evaluation.bootstrap import block_bootstrap
from pipeline.evaluation.trucks.blocks import precision_recall_f1, truck_counts
from pipeline.evaluation.trucks.calibration import Reliability
from pipeline.evaluation.trucks.cases import truck_cases
from pipeline.evaluation.trucks.precision_recall import PrecisionRecall
from pipeline.evaluation.trucks.scores import TruckEvaluation
from pipeline.inference.machine import half_precision
from pipeline.models.bundle import Bundle
from pipeline.models.normalise import normalise
from pipeline.simulation.simulate import simulate_scene
from pipeline.validation.observe import Observed
from pipeline.validation.timing import network_seconds, processor

SAME_F1 = 0.005
"""F1 values that differ by less count as equal: on a chip with few labels one vehicle makes more."""
_THRESHOLDS = np.arange(1, 100) / 100
_CURVE_SCORES = (*(np.arange(1, 20) / 20).round(2).tolist(), 0.98)
_HIGHEST = 0.999
_SPEED_PX = 512


def best_threshold(*curves: PrecisionRecall) -> float:
    """Return the score with the highest F1, the mean over all curves that have one, in hundredths.

    Of all scores that are as good it is the highest, which has the fewest false alarms; 0.5 without any.
    """
    f1 = np.mean([_f1(curve) for curve in curves if len(curve.score)] or [np.zeros(len(_THRESHOLDS))], axis=0)
    if not f1.any():
        return 0.5
    return float(_THRESHOLDS[f1 >= f1.max() - SAME_F1][-1])


def precise_threshold(curve: PrecisionRecall, least: float) -> float:
    """Return the lowest score, in hundredths, from which at least this share of the detections is right.

    If there is none, it is the score of the highest precision; 0.5 without detections.
    """
    precision = _at_thresholds(curve.score, curve.precision)
    if not precision.any():
        return 0.5
    return float(_THRESHOLDS[precision >= min(least, precision.max())][0])


def _at_thresholds(score: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of a curve at each of `_THRESHOLDS`, 0 where no detection reaches it."""
    return np.append(values, 0.0)[np.searchsorted(-score, -_THRESHOLDS, side="right") - 1]


def _f1(curve: PrecisionRecall) -> NDArray[np.float64]:
    """Return F1 at each of `_THRESHOLDS`."""
    precision, recall = (_at_thresholds(curve.score, values) for values in (curve.precision, curve.recall))
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)


def negative_threshold(negative: Observed, per_10_km2: float) -> float:
    """Return the lowest score, in thousandths, with no more detections on a negative scene than allowed."""
    allowed = int(per_10_km2 * negative.km2 / 10)
    scores = negative.trucks["score"].to_numpy(dtype=np.float64)
    steps = np.unique([0.0, *np.minimum(_HIGHEST, np.floor(scores * 1000 + 1) / 1000)])
    few = bisect_left(steps, True, key=lambda step: len(negative.passing(step)) <= allowed)
    return float(steps[min(few, len(steps) - 1)])


def detector_metrics(evaluation: TruckEvaluation) -> dict[str, Any]:
    """Return counts, precision, recall and F1 of centres within 20 m, with their intervals."""
    counts = truck_counts(evaluation)
    names = ("precision", "recall", "f1")
    total = counts.sum(axis=0)
    values = precision_recall_f1(total.astype(np.float64))
    bounds = block_bootstrap(counts, precision_recall_f1)
    return {
        **{name: int(count) for name, count in zip(("tp", "fp", "fn"), total, strict=True)},
        **{name: rounded(value) for name, value in zip(names, values, strict=True)},
        "interval_95": {name: [rounded(v) for v in pair] for name, pair in zip(names, bounds.T, strict=True)},
        "blocks": len(counts),
    }


def motion_metrics(evaluation: TruckEvaluation) -> dict[str, Any]:
    """Return errors of headings and speeds of the true positives."""
    heading, pace = evaluation.heading, evaluation.speed
    return {
        "headings": {
            "known": heading.known,
            "flipped": heading.flips,
            "median_error_deg": rounded(heading.median_deg),
        },
        "speeds": {
            "known": pace.known,
            "rmse_kmh": rounded(pace.rmse_kmh),
            "median_error_kmh": rounded(pace.median_kmh),
            "bias_kmh": rounded(pace.bias_kmh),
            "within_one_sigma": rounded(pace.within_one_sigma),
        },
    }


def curve_table(curve: PrecisionRecall) -> dict[str, Any]:
    """Return precision and recall of the detections above a score, for 20 scores."""
    last = np.searchsorted(-curve.score, -np.array(_CURVE_SCORES), side="right") - 1
    rows = [
        [score, rounded(curve.precision[index]), rounded(curve.recall[index])]
        for score, index in zip(_CURVE_SCORES, last, strict=True)
        if index >= 0
    ]
    return {"columns": ["score_from", "precision", "recall"], "rows": rows}


def reliability_table(table: Reliability, what: str = "boxes") -> dict[str, Any]:
    """Return mean score, share of true positives and number of boxes (or of `what` else) of every bin."""
    rows = [
        [rounded(score), rounded(right), int(count)]
        for score, right, count in zip(table.score, table.right, table.count, strict=True)
    ]
    return {"columns": ["score", "share_right", what], "rows": rows}


def false_alarms(negative: Observed, threshold: float) -> dict[str, Any]:
    """Return the number and density of detections on a negative scene."""
    count = len(negative.passing(threshold))
    return {
        "detections": count,
        "km2": round(negative.km2, 1),
        "per_10_km2": rounded(10 * count / negative.km2),
    }


def confusions(observed: Observed, evaluation: TruckEvaluation, threshold: float) -> dict[str, Any]:
    """Count mistakes by likely cause, see `truck_cases`, most frequent first."""
    below = observed.trucks[observed.trucks["score"] < threshold]
    cases = truck_cases(evaluation, observed.seen, below)
    return {
        what: {
            str(cause): int(count)
            for cause, count in cases[cases["outcome"] == code]["cause"].value_counts().items()
        }
        for what, code in (("false_positives", "FP"), ("false_negatives", "FN"))
    }


def speed(bundle: Bundle) -> dict[str, Any]:
    """Return the seconds of the network for a million pixels of a simulated scene, on this processor.

    Decoding and the measurement of motion are not included.
    """
    card, half = bundle.card, half_precision(Engine())
    pixels = simulate_scene(_SPEED_PX, 0, card.bands).reflectance
    image = normalise(pixels, np.ones(pixels.shape[1:], dtype=bool), card)[None]
    seconds = min(network_seconds(bundle, image, half))
    return {
        "seconds_per_mpx_one_thread": round(seconds / (_SPEED_PX**2 / 1e6), 2),
        "precision": "bfloat16" if half else "float32",
        "processor": processor(),
    }


def rounded(value: float | np.floating | NDArray[np.float64]) -> float | None:
    """Return a figure in thousandths; None if it is not finite."""
    return round(float(value), 3) if np.isfinite(value) else None
