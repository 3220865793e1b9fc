"""Figures of confusion matrices, (..., K, K): rows the true classes, columns the mapped ones.

Each takes any number of matrices at once, of counts or of areas, and is NaN where it is not defined. Kappa is
for comparison with others' figures only: it says nothing that the accuracy doesn't, and against a chance that
nobody proposes; quantity and allocation disagreement tell what is wrong (Pontius and Millones, "Death to
Kappa", International Journal of Remote Sensing 32(15), 2011).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.bootstrap import ratio


def accuracy(matrices: ArrayLike) -> NDArray[np.float64]:
    """(...): share where both agree."""
    hits, labelled, _ = _margins(matrices)
    return ratio(hits.sum(axis=-1), labelled.sum(axis=-1))


def users_accuracy(matrices: ArrayLike) -> NDArray[np.float64]:
    """(..., K): share of what is mapped as a class that is it (precision); NaN where never mapped."""
    hits, _, mapped = _margins(matrices)
    return ratio(hits, mapped)


def producers_accuracy(matrices: ArrayLike) -> NDArray[np.float64]:
    """(..., K): share of a class that is mapped as it (recall); NaN where absent."""
    hits, labelled, _ = _margins(matrices)
    return ratio(hits, labelled)


def iou(matrices: ArrayLike) -> NDArray[np.float64]:
    """(..., K): intersection over union; NaN where a class is in neither."""
    hits, labelled, mapped = _margins(matrices)
    return ratio(hits, labelled + mapped - hits)


def f1(matrices: ArrayLike) -> NDArray[np.float64]:
    """(..., K): harmonic mean of user's and producer's accuracy; NaN where a class is in neither."""
    hits, labelled, mapped = _margins(matrices)
    return ratio(2 * hits, labelled + mapped)


def quantity_disagreement(matrices: ArrayLike) -> NDArray[np.float64]:
    """(...): share that is wrong because classes are mapped with another area than they have."""
    _, labelled, mapped = _margins(matrices)
    return ratio(np.abs(labelled - mapped).sum(axis=-1) / 2, labelled.sum(axis=-1))


def allocation_disagreement(matrices: ArrayLike) -> NDArray[np.float64]:
    """(...): share that is wrong though the areas would be right: classes in each other's place."""
    hits, labelled, mapped = _margins(matrices)
    return ratio(np.minimum(labelled - hits, mapped - hits).sum(axis=-1), labelled.sum(axis=-1))


def kappa(matrices: ArrayLike) -> NDArray[np.float64]:
    """(...): Cohen's kappa, "A coefficient of agreement for nominal scales", 1960; on its use see above."""
    _, labelled, mapped = _margins(matrices)
    whole = labelled.sum(axis=-1)
    chance = ratio((labelled * mapped).sum(axis=-1), whole**2)
    return ratio(accuracy(matrices) - chance, 1 - chance)


def row_shares(matrices: ArrayLike) -> NDArray[np.float64]:
    """(..., K, K): what a class is mapped as; NaN in rows of classes that are absent."""
    matrix = np.asarray(matrices, dtype=np.float64)
    return ratio(matrix, np.broadcast_to(matrix.sum(axis=-1, keepdims=True), matrix.shape))


def column_shares(matrices: ArrayLike) -> NDArray[np.float64]:
    """(..., K, K): what is mapped as a class is; NaN in columns of classes that are never mapped."""
    matrix = np.asarray(matrices, dtype=np.float64)
    return ratio(matrix, np.broadcast_to(matrix.sum(axis=-2, keepdims=True), matrix.shape))


def mean_over(classes: NDArray[np.bool_], figures: NDArray[np.float64]) -> NDArray[np.float64]:
    """(...): mean of (..., K) figures over the classes (K,) where they are defined."""
    chosen = figures[..., classes]
    there = np.isfinite(chosen)
    return ratio(np.where(there, chosen, 0.0).sum(axis=-1), there.sum(axis=-1))


def _margins(matrices: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    matrix = np.asarray(matrices, dtype=np.float64)
    return np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2)
