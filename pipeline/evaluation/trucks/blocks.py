"""Truck counts by block of ground, for intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import ratio
from pipeline.evaluation.trucks.boxes import centres
from pipeline.evaluation.trucks.matching import UNMATCHED
from pipeline.evaluation.trucks.scores import TruckEvaluation

TRUCK_BLOCK_M = 500.0
"""Trucks of one convoy, on one stretch of road, under one patch of haze, share a block of this side."""


@dataclass(frozen=True)
class TruckBlocks:
    """Numbered squares of ground, each with detections or references."""

    count: int
    of_predicted: NDArray[np.intp]
    """(N,): the block of each detection; of a matched one that of its reference."""
    of_reference: NDArray[np.intp]
    """(M,)"""


def truck_blocks(evaluation: TruckEvaluation, block_m: float = TRUCK_BLOCK_M) -> TruckBlocks:
    """Return numbered squares of side `block_m` with a box, in the evaluation's CRS, scene by scene."""
    matching = evaluation.matching
    predicted, reference = centres(evaluation.predicted), centres(evaluation.reference)
    matched = matching.reference_of != UNMATCHED
    predicted[matched] = reference[matching.reference_of[matched]]
    cells = np.floor(np.concatenate([predicted, reference]) / block_m).astype(np.int64)
    ours, theirs = evaluation.predicted_scene, evaluation.reference_scene
    if ours is not None and theirs is not None:
        number = np.unique(np.append(ours, theirs), return_inverse=True)[1]
        cells = np.column_stack([cells, number])
    _, block = np.unique(cells, axis=0, return_inverse=True)
    block = block.reshape(-1).astype(np.intp)
    return TruckBlocks(int(block.max(initial=-1)) + 1, block[: len(predicted)], block[len(predicted) :])


def truck_counts(evaluation: TruckEvaluation, block_m: float = TRUCK_BLOCK_M) -> NDArray[np.int64]:
    """Count true positives, false positives and false negatives, (B, 3), in every block that has any.

    Blocks are squares of the evaluation's CRS; a match counts where the reference is.
    """
    matching, blocks = evaluation.matching, truck_blocks(evaluation, block_m)
    places = (
        blocks.of_predicted[matching.true_positives],
        blocks.of_predicted[matching.false_positives],
        blocks.of_reference[evaluation.false_negatives],
    )
    counts = np.stack([np.bincount(part, minlength=blocks.count) for part in places], axis=1)
    return counts[counts.any(axis=1)]


def precision_recall_f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (..., 3) precision, recall and F1 of (..., 3) TP, FP and FN."""
    found, false, false_negatives = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    return np.stack(
        [
            ratio(found, found + false),
            ratio(found, found + false_negatives),
            ratio(2 * found, 2 * found + false + false_negatives),
        ],
        axis=-1,
    )
