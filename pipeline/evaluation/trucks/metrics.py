"""All metrics of an evaluation of trucks as plain numbers; docs/evaluation.md explains each field."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import RESAMPLES
from pipeline.evaluation.features import LeftOut
from pipeline.evaluation.labels import is_light
from pipeline.evaluation.trucks.blocks import TRUCK_BLOCK_M, truck_blocks
from pipeline.evaluation.trucks.boxes import centres, column
from pipeline.evaluation.trucks.breakdown import Group, break_down
from pipeline.evaluation.trucks.calibration import reliability
from pipeline.evaluation.trucks.coco import coco_scores
from pipeline.evaluation.trucks.exposure import exposure
from pipeline.evaluation.trucks.intervals import headline
from pipeline.evaluation.trucks.matching import centre_pairs, match_iou, match_nwd, same_class
from pipeline.evaluation.trucks.precision_recall import PrecisionRecall, precision_recall
from pipeline.evaluation.trucks.scores import (
    IOU_THRESHOLDS,
    PRIMARY_RADIUS_M,
    CentreScore,
    TruckEvaluation,
    centre_score,
)

NWD_THRESHOLD = 0.5
THRESHOLD_STEPS = np.round(np.arange(0.0, 1.0, 0.02), 2)


def truck_metrics(evaluation: TruckEvaluation) -> dict[str, Any]:
    """Return the metrics for `metrics.json`; None if undefined, with the reason in `reasons`.

    If the labels are elsewhere (`not_measured`), every metric is None.
    """
    ground = exposure(evaluation.surroundings)
    metrics = _metrics(evaluation)
    values = headline(evaluation, ground)
    metrics["count"] |= {"relative_bias": _number(values["count_bias"][0])}
    metrics["false_alarms"] = {
        "count": evaluation.primary.false_positives,
        "light_vehicles": int(evaluation.on_light.sum()) if evaluation.knows_light else None,
        "seen_km2": _number(ground.seen_km2),
        "per_100_km2": _number(values["false_alarms_per_100_km2"][0]),
        "road_km": _number(ground.road_km),
        "per_100_km_road": _number(values["false_alarms_per_100_km_road"][0]),
    }
    metrics["headline"] = {
        name: {"value": _number(value), "interval_95": _ends(low, high)}
        for name, (value, low, high) in values.items()
    }
    metrics["bootstrap"] = {
        "block_m": TRUCK_BLOCK_M,
        "blocks": truck_blocks(evaluation).count,
        "resamples_at_most": RESAMPLES,
    }
    metrics["breakdown"] = {
        by: [_group(group) for group in groups] for by, groups in break_down(evaluation).items()
    }
    if evaluation.not_measured is not None:
        metrics = _emptied(metrics)
    known = {
        "counted": evaluation.counted,
        "predicted": len(evaluation.predicted),
        "off_road": len(evaluation.off_road),
        "reference": _reference(evaluation),
        "not_measured": evaluation.not_measured,
        "reasons": _reasons(evaluation),
    }
    return known | metrics


def truck_warnings(evaluation: TruckEvaluation, labels: LeftOut, predicted: LeftOut) -> list[str]:
    """Return what users must know before they trust the metrics, a line each."""
    lines = [*labels.lines("Truck labels"), *predicted.lines("Predicted trucks")]
    if evaluation.not_measured is not None:
        return [f"Nothing was measured. {evaluation.not_measured}", *lines]
    if not evaluation.told_apart:
        lines.append(
            "The labels don't tell light vehicles from heavy ones (no column vehicle): all count as heavy."
        )
    elsewhere = int((~evaluation.observed).sum())
    if elsewhere:
        lines.append(
            f"{elsewhere} of {len(evaluation.reference)} labels are outside of the search area; "
            "they are no false negatives (recall_all counts them as such)."
        )
    truncated = int(evaluation.truncated.sum())
    if truncated:
        lines.append(f"{truncated} labels truncated by the edge of the search area are ignored.")
    return lines


def threshold_curve(evaluation: TruckEvaluation) -> PrecisionRecall:
    """Return precision over recall at 20 m of all detections, including those below the threshold."""
    weak = evaluation.below_threshold
    if weak is None or not len(weak):
        return evaluation.curves[f"centre_{PRIMARY_RADIUS_M:g}m"]
    xy = np.concatenate([centres(evaluation.predicted), centres(weak)])
    score = np.concatenate([column(evaluation.predicted, "score"), column(weak, "score")])
    pairs = centre_pairs(xy, centres(evaluation.reference), PRIMARY_RADIUS_M)
    if evaluation.predicted_scene is not None and "scene_id" in weak:
        scenes = np.append(evaluation.predicted_scene, weak["scene_id"].astype(str).to_numpy(dtype=object))
        pairs = same_class(pairs, scenes, evaluation.reference_scene)
    both = np.stack([pairs.prediction, pairs.reference], axis=1)
    return precision_recall(score, both, -pairs.fit, evaluation.ignored)


def _metrics(evaluation: TruckEvaluation) -> dict[str, Any]:
    matching, heading, speed = evaluation.matching, evaluation.heading, evaluation.speed
    scores = evaluation.scores
    found = len(matching.true_positives)
    primary = evaluation.primary
    return {
        "centres": {f"{radius:g}m": _centre_metrics(score) for radius, score in scores.items()},
        "overlaps": {name: _centre_metrics(score) for name, score in overlap_scores(evaluation).items()},
        "average_precision": {
            name: _number(curve.average_precision) if evaluation.scored else None
            for name, curve in evaluation.curves.items()
        },
        "coco": _coco(evaluation),
        "precision_at_recall": {
            name: [_number(value) for value in np.round(curve.interpolated, 4)] if evaluation.scored else None
            for name, curve in evaluation.curves.items()
        },
        "thresholds": _thresholds(evaluation) if evaluation.scored else None,
        "count": {
            "detected": primary.true_positives + primary.false_positives,
            "labelled": primary.true_positives + primary.false_negatives,
            "bias": primary.false_positives - primary.false_negatives,
            **_counts_by_block(evaluation),
        },
        "heading": {
            "known": heading.known,
            "known_share": _share(heading.known, found),
            "median_error_deg": _number(heading.median_deg),
            "flips": heading.flips,
            "flip_rate": _share(heading.flips, heading.known),
            "axis_known": heading.axis_known,
            "axis_median_error_deg": _number(heading.axis_median_deg),
        },
        "speed": {
            "known": speed.known,
            "known_share": _share(speed.known, found),
            "median_error_kmh": _number(speed.median_kmh),
            "rmse_kmh": _number(speed.rmse_kmh),
            "bias_kmh": _number(speed.bias_kmh),
            "within_one_sigma": _number(speed.within_one_sigma),
        },
        "calibration": _calibration(evaluation),
    }


def overlap_scores(evaluation: TruckEvaluation) -> dict[str, CentreScore]:
    """Count boxes matched by their overlap instead: `iou_0.25`, `iou_0.5`, `nwd_0.5`."""
    predicted, reference = (
        frame.geometry.to_numpy() for frame in (evaluation.predicted, evaluation.reference)
    )
    ignore = evaluation.matching.ignore
    scenes = evaluation.predicted_scene, evaluation.reference_scene
    matchings = {f"iou_{at:g}": match_iou(predicted, reference, ignore, at, *scenes) for at in IOU_THRESHOLDS}
    corners = shapely.bounds(predicted), shapely.bounds(reference)
    matchings[f"nwd_{NWD_THRESHOLD:g}"] = match_nwd(
        *corners, ignore, NWD_THRESHOLD, predicted_class=scenes[0], reference_class=scenes[1]
    )
    return {name: centre_score(matching, evaluation.observed) for name, matching in matchings.items()}


def _coco(evaluation: TruckEvaluation) -> dict[str, Any] | None:
    if not evaluation.scored:
        return None
    scores = coco_scores(
        shapely.bounds(evaluation.predicted.geometry.to_numpy()),
        column(evaluation.predicted, "score"),
        shapely.bounds(evaluation.reference.geometry.to_numpy()),
        evaluation.ignored,
        evaluation.predicted_scene,
        evaluation.reference_scene,
    )
    return {name: _number(value) for name, value in scores.items()}


def _thresholds(evaluation: TruckEvaluation) -> dict[str, Any]:
    """Return precision, recall and F1 of scores from a threshold on, and the best such threshold."""
    curve = threshold_curve(evaluation)
    columns = ("score_from", "detections", "precision", "recall", "f1")

    def row(threshold: float) -> list[float | None] | None:
        last = int(np.searchsorted(-curve.score, -threshold, side="right")) - 1
        if last < 0:
            return None
        precision, recall = float(curve.precision[last]), float(curve.recall[last])
        scores = (precision, recall, _harmonic(precision, recall))
        return [round(threshold, 4), last + 1, *(_number(round(value, 4)) for value in scores)]

    rows = [line for threshold in THRESHOLD_STEPS if (line := row(float(threshold))) is not None]
    best = None
    # A threshold takes all detections of equal score.
    ends = np.flatnonzero(np.diff(curve.score, append=-np.inf))
    if len(ends) and not np.isnan(curve.recall).any():
        values = [_harmonic(curve.precision[end], curve.recall[end]) for end in ends]
        if np.isfinite(values).any():
            best = row(float(curve.score[ends[int(np.nanargmax(values))]]))
    lowest = column(evaluation.predicted, "score").min(initial=np.inf)
    return {
        "columns": list(columns),
        "rows": rows,
        "best": None if best is None else dict(zip(columns, best, strict=True)),
        "lowest_score_reported": _number(float(lowest)),
    }


def _counts_by_block(evaluation: TruckEvaluation) -> dict[str, float | None]:
    """Compare the counts of the blocks that hold any truck, found or labelled."""
    blocks, matching = truck_blocks(evaluation), evaluation.matching
    right, wrong = (
        np.bincount(blocks.of_predicted[part], minlength=blocks.count)
        for part in (matching.true_positives, matching.false_positives)
    )
    labelled = right + np.bincount(blocks.of_reference[evaluation.false_negatives], minlength=blocks.count)
    detected = right + wrong
    there = (labelled + detected) > 0
    labelled, detected = labelled[there], detected[there]
    r = float("nan")
    if len(labelled) > 2 and labelled.std() and detected.std():
        r = float(np.corrcoef(labelled, detected)[0, 1])
    rmse = float(np.sqrt(np.mean((detected - labelled) ** 2.0))) if len(labelled) else float("nan")
    return {"block_rmse": _number(rmse), "block_correlation": _number(r)}


def _calibration(evaluation: TruckEvaluation) -> dict[str, Any] | None:
    """Return the calibration of the scores, of TP and FP at 20 m."""
    score, correct = counted_scores(evaluation)
    if not evaluation.scored or ((score < 0) | (score > 1)).any():
        return None
    table = reliability(score, correct)
    rows = [
        [round(float(s), 4), round(float(r), 4), int(n)]
        for s, r, n in zip(table.score, table.right, table.count, strict=True)
    ]
    brier = float(np.mean((score - correct) ** 2)) if len(score) else float("nan")
    return {
        "expected_error": _number(table.expected_error),
        "brier": _number(brier),
        "columns": ["score", "share_right", "detections"],
        "rows": rows,
    }


def counted_scores(evaluation: TruckEvaluation) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores (K,) of the TP and FP at 20 m, and True for the TP, (K,)."""
    right, wrong = evaluation.matching.true_positives, evaluation.matching.false_positives
    score = column(evaluation.predicted, "score")[np.append(right, wrong)]
    return score, np.repeat([True, False], [len(right), len(wrong)])


def _reference(evaluation: TruckEvaluation) -> dict[str, int]:
    certain = ~evaluation.matching.ignore
    return {
        "boxes": len(evaluation.reference),
        "certain": int(certain.sum()),
        "ignored": int((~certain & ~evaluation.truncated).sum()),
        "truncated": int(evaluation.truncated.sum()),
        "light": len(evaluation.light) + int((certain & is_light(evaluation.reference)).sum()),
        "certain_not_observed": int((certain & ~evaluation.observed).sum()),
    }


def _reasons(evaluation: TruckEvaluation) -> dict[str, str]:
    """Return the reason for each metric, or group of them, that is None."""
    if evaluation.not_measured is not None:
        return {"all": evaluation.not_measured}
    reasons = {}
    primary, around = evaluation.primary, evaluation.surroundings
    if not primary.true_positives + primary.false_positives:
        reasons["precision"] = "No detection counts."
    if not primary.true_positives + primary.false_negatives:
        reasons["recall"] = "No certain label is in the search area."
    if not evaluation.scored:
        text = "The detections have no column score."
        reasons |= dict.fromkeys(("average_precision", "coco", "thresholds", "calibration"), text)
    else:
        score, _ = counted_scores(evaluation)
        if ((score < 0) | (score > 1)).any():
            reasons["calibration"] = "Scores are not probabilities: some are below 0 or above 1."
    found = primary.true_positives > 0
    for name, label, known in (
        ("heading", "travel_deg", evaluation.heading.known),
        ("speed", "speed_kmh", evaluation.speed.known),
    ):
        if not known:
            reported = found and np.isfinite(column(evaluation.reference, label)).any()
            side = "detection" if reported else "label"
            reasons[name] = f"No {side} of a matched pair has a {name}." if found else "Nothing was found."
    if not evaluation.knows_light:
        moving = "Light vehicles are to be found." if evaluation.counted == "moving" else ""
        reasons["light_vehicle_share"] = moving or "The labels have no column vehicle."
    if around.seen is None:
        reasons["false_alarms.per_100_km2"] = "The search area is unknown (no layer seen)."
    if around.roads is None:
        reasons["false_alarms.per_100_km_road"] = "No roads were given."
    elif around.seen is None:
        reasons["false_alarms.per_100_km_road"] = reasons["false_alarms.per_100_km2"]
    return reasons


def _centre_metrics(score: CentreScore) -> dict[str, Any]:
    return {
        "tp": score.true_positives,
        "fp": score.false_positives,
        "fn": score.false_negatives,
        "fn_not_seen": score.not_seen,
        "ignored": score.ignored,
        "precision": _number(score.precision),
        "recall": _number(score.recall),
        "recall_all": _number(score.recall_all),
        "f1": None if np.isnan(score.recall) else _number(score.f1),
    }


def _group(group: Group) -> dict[str, Any]:
    precision, recall, f1 = group.scores
    measured = not np.isnan(recall)  # without a label F1 is 0, whatever was found
    return {
        "group": group.name,
        "tp": group.true_positives,
        "fp": group.false_positives,
        "fn": group.false_negatives,
        "precision": _number(precision),
        "recall": _number(recall),
        "f1": _number(f1) if measured else None,
        "f1_interval_95": _ends(*group.f1_interval) if measured else None,
    }


def _emptied(metrics: Any) -> Any:
    """Return the same structure with None for every number: zeros would look measured."""
    if isinstance(metrics, dict):
        return {key: _emptied(value) for key, value in metrics.items()}
    return [] if isinstance(metrics, list) else None


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else (float("nan") if np.isnan(a + b) else 0.0)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _ends(low: float, high: float) -> list[float | None] | None:
    return None if np.isnan(low) or np.isnan(high) else [_number(low), _number(high)]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
