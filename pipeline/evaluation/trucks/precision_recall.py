"""Average precision and recall as COCO defines them, without its cap of 100 detections an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.trucks.matching import UNMATCHED

COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Ranges of area, both ends within, in the square of whatever the boxes are in (COCO: pixels)."""
RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
_NEARLY_ONE = 1 - 1e-10


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
    """(K,): whether the detection with this score is right; ignored ones are left out."""
    detection: NDArray[np.intp]
    """(K,): which of the detections has this score."""
    average_precision: float
    """Mean of the interpolated precision at recall 0, 0.01, ..., 1 (COCO); NaN without references."""

    @property
    def interpolated(self) -> NDArray[np.float64]:
        """(101,): the highest precision at each of `RECALL_LEVELS` or beyond; 0 where it is not reached."""
        if np.isnan(self.average_precision):
            return np.full(len(RECALL_LEVELS), np.nan)
        return interpolated_precision(self.recall, self.precision)


@dataclass(frozen=True)
class CocoScore:
    """Average precision and recall at T thresholds of IoU, for K classes."""

    ious: NDArray[np.float64]
    """(T,)"""
    classes: NDArray[np.generic]
    """(K,)"""
    precision: NDArray[np.float64]
    """(T, 101, K): interpolated, at `RECALL_LEVELS`; NaN for a class without references."""
    recall: NDArray[np.float64]
    """(T, K): of all detections together; NaN for a class without references."""

    @property
    def average_precision(self) -> float:
        """COCO's AP: the mean over thresholds, recall levels and classes; NaN without references."""
        return _mean(self.precision)

    @property
    def average_recall(self) -> float:
        """COCO's AR: the mean over thresholds and classes; NaN without references."""
        return _mean(self.recall)

    def average_precision_at(self, iou: float) -> float:
        """AP at one threshold, which must be one of `ious`; NaN without references."""
        return _mean(self.precision[np.isclose(self.ious, iou)])


def precision_recall(
    scores: ArrayLike, pairs: ArrayLike, affinity: ArrayLike, ignore: ArrayLike
) -> PrecisionRecall:
    """Precision and recall over all detections, as COCO defines them, without its cap of 100 an image.

    `scores` (N,); `pairs` (P, 2) are indices (detection, reference) that may be matched, of any order, and
    `affinity` (P,) how well they fit; `ignore` (M,) marks references that count neither way. From the best
    score down, each detection takes the best-fitting free reference, an ignored one only where no firm one is
    left (Lin et al. 2014; cocoeval.py). Equal scores are taken in the order of the better fit, so the result
    doesn't depend on the order of the detections unless they tie in both.
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
    """The curve of detections (K,) that count, the best score first, and which are right."""
    if not references:
        recall, precision = np.full(len(correct), np.nan), _counted(correct, 1)[1]
        return PrecisionRecall(recall, precision, score, correct, detection, float("nan"))
    recall, precision = _counted(correct, references)
    average = float(interpolated_precision(recall, precision).mean())
    return PrecisionRecall(recall, precision, score, correct, detection, average)


def coco_score(
    predicted: ArrayLike,
    scores: ArrayLike,
    reference: ArrayLike,
    *,
    ignore: ArrayLike | None = None,
    crowd: ArrayLike | None = None,
    predicted_class: ArrayLike | None = None,
    reference_class: ArrayLike | None = None,
    predicted_image: ArrayLike | None = None,
    reference_image: ArrayLike | None = None,
    ious: ArrayLike = COCO_IOUS,
    area_range: tuple[float, float] = COCO_AREAS["all"],
    max_detections: int | None = None,
) -> CocoScore:
    """AP and AR of boxes (N, 4) with `scores` (N,) against boxes (M, 4), as COCO's cocoeval.py has them.

    Boxes are x_min, y_min, x_max, y_max. Each detection, the best score first, takes the free reference of
    its image and class with the highest IoU, from the threshold on; equal scores go in the order they come.
    References that are `ignore` (M,), whose area is out of `area_range`, or that are a `crowd` (M,) count
    neither way; a crowd may be taken often, and overlaps by the share of the detection that it covers.
    Detections that match nothing and are out of `area_range` count neither way. All detections count;
    `max_detections` an image and class, the best, where it is given (COCO: 100). Classes and images are all
    the same where they are not given.

    Source: Lin et al., "Microsoft COCO: common objects in context", ECCV 2014; cocoapi, cocoeval.py.
    """
    p, r = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (predicted, reference))
    score = np.asarray(scores, dtype=np.float64).reshape(-1)
    n, m = len(p), len(r)
    crowds = np.zeros(m, bool) if crowd is None else np.asarray(crowd, dtype=bool)
    ignored = crowds | (np.zeros(m, bool) if ignore is None else np.asarray(ignore, dtype=bool))
    low, high = area_range
    areas_p, areas_r = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (p, r))
    ignored = ignored | (areas_r < low) | (areas_r > high)
    outside = (areas_p < low) | (areas_p > high)
    classes, class_p, class_r = _numbered(predicted_class, reference_class, n, m)
    _, image_p, image_r = _numbered(predicted_image, reference_image, n, m)
    order = np.lexsort((np.arange(n), image_p, -score))
    if max_detections is not None:
        order = order[_rank(order, image_p, class_p)[order] < max_detections]
    pair, iou = _box_pairs(p, r, crowds, (image_p, class_p), (image_r, class_r))
    thresholds = np.asarray(ious, dtype=np.float64).reshape(-1)
    precision = np.full((len(thresholds), len(RECALL_LEVELS), len(classes)), np.nan)
    recall = np.full((len(thresholds), len(classes)), np.nan)
    firm = np.bincount(class_r[~ignored], minlength=len(classes))
    for t, threshold in enumerate(thresholds):
        enough = iou >= min(threshold, _NEARLY_ONE)
        reference_of = take_greedily(n, order, pair[enough], iou[enough], ignored, crowds)
        matched = reference_of != UNMATCHED
        neither = np.where(matched, np.append(ignored, False)[reference_of], outside)
        counted = order[~neither[order]]
        for k in np.flatnonzero(firm):
            hit = matched[counted[class_p[counted] == k]]
            found, right = _counted(hit, int(firm[k]))
            precision[t, :, k] = interpolated_precision(found, right)
            recall[t, k] = found[-1] if len(found) else 0.0
    return CocoScore(thresholds, classes, precision, recall)


def take_greedily(
    count: int,
    order: NDArray[np.intp],
    pairs: NDArray[np.intp],
    fit: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    crowd: NDArray[np.bool_] | None = None,
) -> NDArray[np.intp]:
    """(count,): the reference that each detection takes, or `UNMATCHED`; they are served in `order`.

    `pairs` (P, 2) of detection and reference may be matched. The best `fit` (P,) of the free references is
    taken, an ignored one only where no firm one is left; of equally good ones the last, as in cocoeval.py.
    A `crowd` (M,), one of the ignored, stays free.
    """
    pairs_by = np.lexsort((-pairs[:, 1], -fit, ignored[pairs[:, 1]], pairs[:, 0]))
    detection, candidates = pairs[pairs_by].T
    start = np.searchsorted(detection, np.arange(count + 1)).tolist()
    candidate: list[int] = candidates.tolist()
    stays = np.zeros(len(ignored), bool) if crowd is None else crowd
    taken = [False] * len(ignored)
    reference_of = np.full(count, UNMATCHED, dtype=np.intp)
    for i in order.tolist():
        for j in candidate[start[i] : start[i + 1]]:
            if not taken[j]:
                taken[j] = not stays[j]
                reference_of[i] = j
                break
    return reference_of


def interpolated_precision(
    recall: NDArray[np.float64], precision: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(101,): the highest precision at each of `RECALL_LEVELS` or beyond; 0 where it is not reached."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(envelope, 0.0)[np.searchsorted(recall, RECALL_LEVELS, side="left")]


def _counted(hit: NDArray[np.bool_], references: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision, (K,) each, after every detection."""
    found = np.cumsum(hit)
    return found / references, found / np.arange(1, len(hit) + 1)


def _numbered(
    predicted: ArrayLike | None, reference: ArrayLike | None, n: int, m: int
) -> tuple[NDArray[np.generic], NDArray[np.intp], NDArray[np.intp]]:
    """The sorted labels of both, and their numbers, (n,) and (m,)."""
    if predicted is None or reference is None:
        return np.zeros(1, np.intp), np.zeros(n, np.intp), np.zeros(m, np.intp)
    labels, number = np.unique(np.concatenate([predicted, reference]), return_inverse=True)
    return labels, number[:n], number[n:]


def _rank(order: NDArray[np.intp], *groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """(N,): how many of the same group come before each in `order`."""
    group = np.unique(np.stack(groups, axis=1)[order], axis=0, return_inverse=True)[1].reshape(-1)
    by_group = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[by_group], prepend=-1))
    rank = np.empty(len(order), dtype=np.intp)
    within = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    rank[order[by_group]] = within
    return rank


def _box_pairs(
    p: NDArray[np.float64],
    r: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    group_p: tuple[NDArray[np.intp], ...],
    group_r: tuple[NDArray[np.intp], ...],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Pairs (P, 2) of one image and class that overlap, with their IoU as COCO takes it, (P,)."""
    pairs = np.concatenate([np.zeros((0, 2), np.intp), *_touching(p, r, group_p, group_r)])
    a, b = p[pairs[:, 0]], r[pairs[:, 1]]
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    overlap = np.prod(np.maximum(sides, 0), axis=1)
    area_a, area_b = (np.prod(box[:, 2:] - box[:, :2], axis=1) for box in (a, b))
    whole = np.where(crowd[pairs[:, 1]], area_a, area_a + area_b - overlap)
    some = overlap > 0
    return pairs[some], overlap[some] / whole[some]


def _touching(
    p: NDArray[np.float64],
    r: NDArray[np.float64],
    group_p: tuple[NDArray[np.intp], ...],
    group_r: tuple[NDArray[np.intp], ...],
) -> Iterator[NDArray[np.intp]]:
    ours, theirs = np.stack(group_p, axis=1), np.stack(group_r, axis=1)
    for group in np.unique(ours, axis=0):
        i, j = np.flatnonzero((ours == group).all(axis=1)), np.flatnonzero((theirs == group).all(axis=1))
        near = shapely.STRtree(np.asarray(shapely.box(*r[j].T))).query(np.asarray(shapely.box(*p[i].T)))
        yield np.stack([i[near[0]], j[near[1]]], axis=1)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
