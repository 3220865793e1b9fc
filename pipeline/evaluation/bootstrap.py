"""Confidence intervals by drawing blocks of ground again: neighbours on the ground are not independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation import agreement
from pipeline.evaluation.detection import TruckEvaluation, centres
from pipeline.evaluation.matching import UNMATCHED

TRUCK_BLOCK_M = 500.0
"""Trucks of one convoy, on one stretch of road, under one patch of haze, share a block of this side."""
RESAMPLES = 2000
_DRAWS_AT_ONCE = 8_000_000

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From summed counts (R, ...) to one or more figures for each of the R sums, (R,) or (R, S)."""


@dataclass(frozen=True)
class TruckBlocks:
    """The squares of ground, numbered, in which detections and references lie."""

    count: int
    of_predicted: NDArray[np.intp]
    """(N,): the block of each detection; of a matched one that of its reference."""
    of_reference: NDArray[np.intp]
    """(M,)"""


def block_bootstrap(
    counts: ArrayLike,
    statistic: Statistic,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    empty: int = 0,
) -> NDArray[np.float64]:
    """Percentile interval of a statistic of counts that were taken block by block: (2,) or (2, S), low, high.

    `counts` is (B, ...), those of each of B blocks, beside which there are `empty` ones that hold nothing.
    As many blocks are drawn with replacement `resamples` times and summed (Efron, "Bootstrap methods: another
    look at the jackknife", 1979; of blocks because of spatial dependence: Hall, "Resampling a coverage
    pattern", 1985). Draws for which the statistic is not defined are left out. NaN with fewer than two
    blocks: then nothing can be said. The same for the same arguments.
    """
    blocks = np.asarray(counts, dtype=np.float64)
    if len(blocks) + empty < 2:
        return np.full((2, *statistic(np.zeros((1, *blocks.shape[1:]))).shape[1:]), np.nan)
    sums = np.concatenate(
        [np.tensordot(draws, blocks, axes=1) for draws in block_draws(len(blocks), resamples, seed, empty)]
    )
    return percentile_interval(statistic(sums), level)


def block_draws(blocks: int, resamples: int, seed: int = 0, empty: int = 0) -> Iterator[NDArray[np.float64]]:
    """How often each block is drawn, (r, blocks), some of all `resamples` at a time."""
    rng = np.random.default_rng(seed)
    total = blocks + empty
    chances = np.append(np.full(blocks, 1 / total), [empty / total] * (empty > 0))
    at_once = max(1, _DRAWS_AT_ONCE // max(1, blocks))
    for start in range(0, resamples, at_once):
        draws = rng.multinomial(total, chances, size=min(at_once, resamples - start))
        yield draws[:, :blocks].astype(np.float64)


def percentile_interval(values: NDArray[np.float64], level: float = 0.95) -> NDArray[np.float64]:
    """(2, ...): between which the share `level` of the resampled figures (R, ...) lies; NaN without any."""
    tail = (1 - level) / 2
    defined = np.isfinite(values).any(axis=0)
    bounds = np.nanquantile(np.where(defined, values, 0.0), [tail, 1 - tail], axis=0)
    return np.where(defined, bounds, np.nan)


def truck_blocks(evaluation: TruckEvaluation, block_m: float = TRUCK_BLOCK_M) -> TruckBlocks:
    """The squares of side `block_m` of the evaluation's CRS, scene by scene, in which there is a box."""
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
    """(B, 3) true positives, false positives and false negatives in every block that has any of them.

    Blocks are squares of the evaluation's CRS; what is matched counts where the reference is.
    """
    matching, blocks = evaluation.matching, truck_blocks(evaluation, block_m)
    places = (
        blocks.of_predicted[matching.true_positives],
        blocks.of_predicted[matching.false_positives],
        blocks.of_reference[evaluation.missed],
    )
    counts = np.stack([np.bincount(part, minlength=blocks.count) for part in places], axis=1)
    return counts[counts.any(axis=1)]


def precision_recall_f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3) precision, recall and F1 of (..., 3) true positives, false positives and false negatives."""
    found, false, missed = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    return np.stack(
        [
            agreement.ratio(found, found + false),
            agreement.ratio(found, found + missed),
            agreement.ratio(2 * found, 2 * found + false + missed),
        ],
        axis=-1,
    )


def confusion_by_block(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8], values: ArrayLike, block_px: int
) -> NDArray[np.int64]:
    """(B, K, K) confusion matrices of the blocks that have any pixel with a value of the legend in both.

    `truth` and `predicted` are (H, W) class values, `values` (K,) those of the legend; what is not among
    them counts neither way. Rows are the truth's classes. Blocks are squares counted from the corner.
    """
    legend = np.asarray(values)
    index = np.full(256, len(legend))
    index[legend] = np.arange(len(legend))
    i, j = index[truth], index[predicted]
    row, col = np.nonzero((i < len(legend)) & (j < len(legend)))
    across = -(-truth.shape[1] // block_px)
    block = row // block_px * across + col // block_px
    there, block = np.unique(block, return_inverse=True)
    size = len(legend) ** 2
    pairs = (block.reshape(-1) * len(legend) + i[row, col]) * len(legend) + j[row, col]
    counts = np.bincount(pairs, minlength=len(there) * size)
    return counts.reshape(-1, len(legend), len(legend))


def accuracy_and_iou(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 1 + K): accuracy, then the IoU of each class, of (..., K, K) confusion matrices."""
    return np.concatenate([agreement.accuracy(matrices)[..., None], agreement.iou(matrices)], axis=-1)
