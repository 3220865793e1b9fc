"""Metrics of confusion matrices, (..., K, K): rows the true classes, columns the mapped ones.

Each takes any number of matrices at once, of counts or of areas, and is NaN where undefined. Kappa is only
for comparison with the kappa of others: it adds nothing to accuracy. Quantity and allocation disagreement
show the kind of error (Pontius and Millones, "Death to Kappa", International Journal of Remote Sensing
32(15), 2011).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.bootstrap import ratio


def accuracy(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return (...): share of pixels where both agree."""
    hits, labelled, _ = _margins(matrices)
    return ratio(hits.sum(axis=-1), labelled.sum(axis=-1))


def users_accuracy(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return (..., K): share of a mapped class that is correct (precision); NaN where never mapped."""
    hits, _, mapped = _margins(matrices)
    return ratio(hits, mapped)


def producers_accuracy(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return (..., K): share of a class that is mapped as it (recall); NaN where absent."""
    hits, labelled, _ = _margins(matrices)
    return ratio(hits, labelled)


def iou(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return (..., K): intersection over union; NaN where a class is in neither."""
    hits, labelled, mapped = _margins(matrices)
    return ratio(hits, labelled + mapped - hits)


def f1(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return (..., K): harmonic mean of user's and producer's accuracy; NaN where a class is in neither."""
    hits, labelled, mapped = _margins(matrices)
    return ratio(2 * hits, labelled + mapped)


def quantity_disagreement(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return (...): share of disagreement due to wrong total areas of classes."""
    _, labelled, mapped = _margins(matrices)
    return ratio(np.abs(labelled - mapped).sum(axis=-1) / 2, labelled.sum(axis=-1))


def allocation_disagreement(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return (...): share of disagreement due to classes in each other's place."""
    hits, labelled, mapped = _margins(matrices)
    return ratio(np.minimum(labelled - hits, mapped - hits).sum(axis=-1), labelled.sum(axis=-1))


def kappa(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return (...): Cohen's kappa ("A coefficient of agreement for nominal scales", 1960); see above."""
    _, labelled, mapped = _margins(matrices)
    whole = labelled.sum(axis=-1)
    chance = ratio((labelled * mapped).sum(axis=-1), whole**2)
    return ratio(accuracy(matrices) - chance, 1 - chance)


def row_shares(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return (..., K, K): shares of each row; NaN in rows of classes that are absent."""
    matrix = np.asarray(matrices, dtype=np.float64)
    return ratio(matrix, np.broadcast_to(matrix.sum(axis=-1, keepdims=True), matrix.shape))


def column_shares(matrices: ArrayLike) -> NDArray[np.float64]:
    """Return (..., K, K): shares of each column; NaN in columns of classes that are never mapped."""
    matrix = np.asarray(matrices, dtype=np.float64)
    return ratio(matrix, np.broadcast_to(matrix.sum(axis=-2, keepdims=True), matrix.shape))


def mean_over(classes: NDArray[np.bool_], metrics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (...): mean of (..., K) metrics over the classes (K,) where they are defined."""
    chosen = metrics[..., classes]
    there = np.isfinite(chosen)
    return ratio(np.where(there, chosen, 0.0).sum(axis=-1), there.sum(axis=-1))


def _margins(matrices: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    matrix = np.asarray(matrices, dtype=np.float64)
    return np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2)
