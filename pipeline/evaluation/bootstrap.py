"""Confidence intervals by drawing blocks of ground again: neighbours on the ground are not independent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.detection import TruckEvaluation, centres

TRUCK_BLOCK_M = 500.0
"""Trucks of one convoy, on one stretch of road, under one patch of haze, share a block of this side."""
RESAMPLES = 2000

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From summed counts (R, ...) to one or more figures for each of the R sums, (R,) or (R, S)."""


def block_bootstrap(
    counts: ArrayLike, statistic: Statistic, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Percentile interval of a statistic of counts that were taken block by block: (2,) or (2, S), low, high.

    `counts` is (B, ...), those of each of B blocks. B blocks are drawn with replacement `resamples` times
    and summed (Efron, "Bootstrap methods: another look at the jackknife", 1979; of blocks because of spatial
    dependence: Hall, "Resampling a coverage pattern", 1985). Draws for which the statistic is not defined
    are left out. NaN with fewer than two blocks: then nothing can be said. The same for the same arguments.
    """
    blocks = np.asarray(counts, dtype=np.float64)
    if len(blocks) < 2:
        return np.full((2, *statistic(np.zeros((1, *blocks.shape[1:]))).shape[1:]), np.nan)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), size=resamples)
    values = statistic(np.tensordot(draws.astype(np.float64), blocks, axes=1))
    tail = (1 - level) / 2
    defined = np.isfinite(values).any(axis=0)
    bounds = np.nanquantile(np.where(defined, values, 0.0), [tail, 1 - tail], axis=0)
    return np.where(defined, bounds, np.nan)


def truck_counts(evaluation: TruckEvaluation, block_m: float = TRUCK_BLOCK_M) -> NDArray[np.int64]:
    """(B, 3) true positives, false positives and false negatives in every block that has any of them.

    Blocks are squares of the evaluation's CRS; what is matched counts where the reference is.
    """
    matching = evaluation.matching
    missed = matching.missed[evaluation.looked_at[matching.missed]]
    predicted, reference = centres(evaluation.predicted), centres(evaluation.reference)
    places = (
        reference[matching.reference_of[matching.true_positives]],
        predicted[matching.false_positives],
        reference[missed],
    )
    kind = np.repeat(np.arange(3), [len(part) for part in places])
    if not len(kind):
        return np.zeros((0, 3), dtype=np.int64)
    cells = np.floor(np.concatenate(places) / block_m).astype(np.int64)
    _, block = np.unique(cells, axis=0, return_inverse=True)
    counts = np.zeros((int(block.max()) + 1, 3), dtype=np.int64)
    np.add.at(counts, (block.reshape(-1), kind), 1)
    return counts


def precision_recall_f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3) precision, recall and F1 of (..., 3) true positives, false positives and false negatives."""
    found, false, missed = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    return np.stack(
        [
            _ratio(found, found + false),
            _ratio(found, found + missed),
            _ratio(2 * found, 2 * found + false + missed),
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
    matrix = np.asarray(matrices, dtype=np.float64)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    whole = matrix.sum(axis=-1) + matrix.sum(axis=-2) - hits
    accuracy = _ratio(hits.sum(axis=-1), matrix.sum(axis=(-2, -1)))
    return np.concatenate([accuracy[..., None], _ratio(hits, whole)], axis=-1)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
