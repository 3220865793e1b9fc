"""Confusion matrices by block of ground, for intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.landcover import confusion_matrix


def confusion_by_block(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8], values: ArrayLike, block_px: int
) -> NDArray[np.int64]:
    """Return (B, K, K): confusion matrices of the blocks with any pixel that has a class in both.

    `truth` and `predicted` are (H, W) class values, `values` (K,) those of the legend; what is not among
    them is ignored. Rows are the truth's classes. Blocks are squares counted from the corner.
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
    """Return (..., 1 + K): accuracy, then the IoU of each class, of (..., K, K) confusion matrices."""
    return np.concatenate(
        [confusion_matrix.accuracy(matrices)[..., None], confusion_matrix.iou(matrices)], axis=-1
    )
