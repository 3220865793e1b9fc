"""The headline metrics of an evaluation of trucks, with 95 % intervals by blocks of ground."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import RESAMPLES, block_bootstrap, block_draws, percentile_interval
from pipeline.evaluation.trucks.blocks import TRUCK_BLOCK_M, TruckBlocks, precision_recall_f1, truck_blocks
from pipeline.evaluation.trucks.boxes import angle_between, column
from pipeline.evaluation.trucks.calibration import BINS
from pipeline.evaluation.trucks.exposure import Exposure
from pipeline.evaluation.trucks.precision_recall import PrecisionRecall, interpolated_precision
from pipeline.evaluation.trucks.scores import TruckEvaluation

_DRAWN = 20_000_000
"""Blocks drawn in total: with very many blocks fewer resamples suffice."""
_FEWEST = 400
_AP_RESAMPLES = (100, 400)
"""Fewest and most."""
_AP_WEIGHTED = 8_000_000
"""Detections weighted in total."""

HEADLINE_METRICS = (
    "precision",
    "recall",
    "f1",
    "count_bias",
    "false_alarms_per_100_km2",
    "false_alarms_per_100_km_road",
    "flip_rate",
    "speed_rmse_kmh",
    "speed_bias_kmh",
    "speed_within_one_sigma",
    "light_vehicle_share",
    "expected_calibration_error",
)
"""Those of `headline`, which adds `average_precision_<curve>` of every curve."""
_SUMS = 11
"""Sums of a block before those of the bins of scores."""


def headline(evaluation: TruckEvaluation, ground: Exposure) -> dict[str, tuple[float, float, float]]:
    """Return value and 95 % interval (low, high) of every headline metric, at centres within 20 m.

    Blocks of `TRUCK_BLOCK_M` are resampled, including empty ones, as many as fit into the observed area. The
    observed area and roads are taken as spread evenly over the blocks. NaN if a metric is undefined, or if
    everything is in one block.
    """
    blocks = truck_blocks(evaluation)
    counts = block_sums(evaluation, blocks)
    seen_blocks = 0.0 if np.isnan(ground.seen_km2) else ground.seen_km2 * 1e6 / TRUCK_BLOCK_M**2
    occupied = counts[counts.any(axis=1)]
    empty = max(0, round(seen_blocks) - len(occupied))
    resamples = int(np.clip(_DRAWN // max(1, len(occupied)), _FEWEST, RESAMPLES))

    def statistic(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return metrics_of(sums, ground)

    value = statistic(occupied.sum(axis=0)[None])[0]
    low, high = block_bootstrap(occupied, statistic, resamples=resamples, empty=empty)
    if np.isnan(evaluation.primary.recall):  # without a label F1 is 0, whatever was found
        value[2] = low[2] = high[2] = np.nan
    if not evaluation.knows_light:
        value[-2] = low[-2] = high[-2] = np.nan
    if not evaluation.scored:
        value[-1] = low[-1] = high[-1] = np.nan
    rows = zip(HEADLINE_METRICS, value, low, high, strict=True)
    found = {name: (float(v), float(a), float(b)) for name, v, a, b in rows}
    for name, curve in evaluation.curves.items():
        if not evaluation.scored:
            found[f"average_precision_{name}"] = (float("nan"),) * 3
            continue
        ends = _average_precision_interval(evaluation, curve, blocks)
        found[f"average_precision_{name}"] = (curve.average_precision, float(ends[0]), float(ends[1]))
    return found


def block_sums(evaluation: TruckEvaluation, blocks: TruckBlocks) -> NDArray[np.float64]:
    """Return (B, 11 + 2 x BINS): the sums of each block from which `metrics_of` computes metrics."""
    matching, predicted, reference = evaluation.matching, evaluation.predicted, evaluation.reference
    right, wrong = matching.true_positives, matching.false_positives
    partner = matching.reference_of[right]
    turned = angle_between(column(predicted, "heading_deg")[right], column(reference, "travel_deg")[partner])
    error = column(predicted, "speed_kmh")[right] - column(reference, "speed_kmh")[partner]
    sigma = column(predicted, "speed_kmh_sigma")[right]
    stated = np.isfinite(error) & np.isfinite(sigma)
    of_right, of_wrong = blocks.of_predicted[right], blocks.of_predicted[wrong]

    def add(where: NDArray[np.intp], values: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        weights = None if values is None else np.nan_to_num(values)
        return np.bincount(where, weights, minlength=blocks.count).astype(np.float64)

    sums = [
        add(of_right),
        add(of_wrong),
        add(blocks.of_reference[evaluation.false_negatives]),
        add(of_right, (turned > 90).astype(float)),
        add(of_right, np.isfinite(turned).astype(float)),
        add(of_right, np.isfinite(error).astype(float)),
        add(of_right, error),
        add(of_right, error**2),
        add(of_right, (stated & (np.abs(error) <= sigma)).astype(float)),
        add(of_right, stated.astype(float)),
        add(of_wrong, evaluation.on_light[wrong].astype(float)),
    ]
    counted = np.append(right, wrong)
    correct = np.repeat([1.0, 0.0], [len(right), len(wrong)])
    score = np.nan_to_num(column(predicted, "score")[counted])
    bin_of = np.clip((score * BINS).astype(np.intp), 0, BINS - 1)
    cell = blocks.of_predicted[counted] * BINS + bin_of
    for values in (score, correct):
        sums += list(np.bincount(cell, values, minlength=blocks.count * BINS).reshape(-1, BINS).T)
    return np.stack(sums, axis=1)


def metrics_of(sums: NDArray[np.float64], ground: Exposure) -> NDArray[np.float64]:
    """Return (R, S): the `HEADLINE_METRICS` of (R, 11 + 2 x BINS) sums; NaN where undefined."""
    tp, fp, fn, flips, headings, speeds, error, squared, within, stated, light = sums[:, :_SUMS].T
    score, correct = sums[:, _SUMS : _SUMS + BINS], sums[:, _SUMS + BINS :]
    with np.errstate(divide="ignore", invalid="ignore"):
        metrics = np.column_stack(
            [
                precision_recall_f1(np.stack([tp, fp, fn], axis=-1)),
                (fp - fn) / (tp + fn),
                100 * fp / ground.seen_km2,
                100 * fp / ground.road_km,
                flips / headings,
                np.sqrt(squared / speeds),
                error / speeds,
                within / stated,
                light / (tp + fp),
                np.abs(score - correct).sum(axis=1) / (tp + fp),
            ]
        )
    return np.where(np.isfinite(metrics), metrics, np.nan)


def _average_precision_interval(
    evaluation: TruckEvaluation, curve: PrecisionRecall, blocks: TruckBlocks
) -> NDArray[np.float64]:
    """Return (2,); detections and references are weighted by how often their block was drawn."""
    references = blocks.of_reference[~evaluation.ignored]
    if not len(references) or blocks.count < 2:
        return np.full(2, np.nan)
    held = np.bincount(references, minlength=blocks.count).astype(np.float64)
    place, hit = blocks.of_predicted[curve.detection], curve.correct.astype(np.float64)
    values = []
    resamples = int(np.clip(_AP_WEIGHTED // max(1, len(place)), *_AP_RESAMPLES))
    for draws in block_draws(blocks.count, resamples):
        for drawn in draws:
            weight, total = drawn[place], drawn @ held
            there = weight > 0
            found, all_of_them = np.cumsum((weight * hit)[there]), np.cumsum(weight[there])
            if total:
                values.append(interpolated_precision(found / total, found / all_of_them).mean())
    return percentile_interval(np.array(values))
