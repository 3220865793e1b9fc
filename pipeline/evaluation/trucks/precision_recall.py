"""Average precision and recall as COCO defines them, without its cap of 100 detections an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.trucks.matching import UNMATCHED

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall as the score threshold falls, K points."""

    recall: NDArray[np.float64]
    """(K,), rising."""
    precision: NDArray[np.float64]
    """(K,), as counted, not interpolated."""
    score: NDArray[np.float64]
    """(K,), falling."""
    correct: NDArray[np.bool_]
    """(K,): True for a true positive; ignored detections are left out."""
    detection: NDArray[np.intp]
    """(K,): index of the detection with this score."""
    average_precision: float
    """Mean of the interpolated precision at recall 0, 0.01, ..., 1 (COCO); NaN without references."""

    @property
    def interpolated(self) -> NDArray[np.float64]:
        """(101,): the highest precision at each of `RECALL_LEVELS` or beyond; 0 where it is not reached."""
        if np.isnan(self.average_precision):
            return np.full(len(RECALL_LEVELS), np.nan)
        return interpolated_precision(self.recall, self.precision)


def precision_recall(
    scores: ArrayLike, pairs: ArrayLike, affinity: ArrayLike, ignore: ArrayLike
) -> PrecisionRecall:
    """Return precision and recall over all detections, as COCO defines them, without its cap of 100 an image.

    `scores` is (N,). `pairs` (P, 2) are indices (detection, reference) that may be matched, in any order, and
    `affinity` (P,) is higher for a better fit. `ignore` (M,) marks ignored references. From the best score
    down, each detection takes the best-fitting free reference, an ignored one only if no certain one is left
    (Lin et al. 2014; cocoeval.py). Equal scores are taken in the order of the better fit, so the result does
    not depend on the order of the detections unless they tie in both.
    """
    score = np.asarray(scores, dtype=np.float64).reshape(-1)
    pair = np.asarray(pairs, dtype=np.intp).reshape(-1, 2)
    fit = np.asarray(affinity, dtype=np.float64).reshape(-1)
    ignored = np.asarray(ignore, dtype=bool).reshape(-1)
    best_fit = np.full(len(score), -np.inf)
    np.maximum.at(best_fit, pair[:, 0], fit)
    order = np.lexsort((-best_fit, -score))
    reference_of = take_greedily(len(score), order, pair, fit, ignored)
    matched = reference_of != UNMATCHED
    dropped = np.append(ignored, False)[reference_of]
    order = order[~dropped[order]]
    hit = matched[order]
    return precision_recall_of(score[order], hit, order, int((~ignored).sum()))


def precision_recall_of(
    score: NDArray[np.float64],
    correct: NDArray[np.bool_],
    detection: NDArray[np.intp],
    references: int,
) -> PrecisionRecall:
    """Return the curve of detections (K,) that count, the best score first; `correct` marks the TP."""
    if not references:
        recall, precision = np.full(len(correct), np.nan), _counted(correct, 1)[1]
        return PrecisionRecall(recall, precision, score, correct, detection, float("nan"))
    recall, precision = _counted(correct, references)
    average = float(interpolated_precision(recall, precision).mean())
    return PrecisionRecall(recall, precision, score, correct, detection, average)


def take_greedily(
    count: int,
    order: NDArray[np.intp],
    pairs: NDArray[np.intp],
    fit: NDArray[np.float64],
    ignored: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """Return (count,): the reference that each detection takes, or `UNMATCHED`; detections go in `order`.

    `pairs` (P, 2) of detection and reference may be matched. The free reference of the best `fit` (P,) is
    taken, an ignored one only if no certain one is left; of equally good ones the last, as in cocoeval.py.
    """
    pairs_by = np.lexsort((-pairs[:, 1], -fit, ignored[pairs[:, 1]], pairs[:, 0]))
    detection, candidates = pairs[pairs_by].T
    start = np.searchsorted(detection, np.arange(count + 1)).tolist()
    candidate: list[int] = candidates.tolist()
    taken = [False] * len(ignored)
    reference_of = np.full(count, UNMATCHED, dtype=np.intp)
    for i in order.tolist():
        for j in candidate[start[i] : start[i + 1]]:
            if not taken[j]:
                taken[j] = True
                reference_of[i] = j
                break
    return reference_of


def interpolated_precision(
    recall: NDArray[np.float64], precision: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (101,): the highest precision at each of `RECALL_LEVELS` or beyond; 0 where not reached."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(envelope, 0.0)[np.searchsorted(recall, RECALL_LEVELS, side="left")]


def _counted(hit: NDArray[np.bool_], references: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return recall and precision, (K,) each, after every detection."""
    found = np.cumsum(hit)
    return found / references, found / np.arange(1, len(hit) + 1)
