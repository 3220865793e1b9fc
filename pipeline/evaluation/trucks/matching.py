"""One-to-one matching of predictions with references: optimal, independent of the order of either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

UNMATCHED = -1
NWD_SCALE_M = 30.0
"""The constant C of `normalised_wasserstein`: the mean size (root of the area) of the boxes drawn by eye
around trucks on the A2 (29.6 m) and the A8 (28.9 m), as Wang et al. take that of their data set."""
_MANY_PAIRS = 200_000
_DENSE = 256
"""Clusters with more boxes than this on a side are solved sparsely: their matrix of costs is mostly empty."""

Measure = Literal["centre", "iou", "nwd"]


@dataclass(frozen=True)
class Matching:
    """A one-to-one assignment of N predictions to M references."""

    reference_of: NDArray[np.intp]
    """(N,): index of the reference matched to each prediction, or `UNMATCHED`."""
    prediction_of: NDArray[np.intp]
    """(M,): index of the prediction matched to each reference, or `UNMATCHED`."""
    distance_m: NDArray[np.float64]
    """(N,): distance between the matched centres; NaN without a match."""
    ignore: NDArray[np.bool_]
    """(M,): references that are ignored: what matches them is neither TP nor FP, and they are no FN."""
    radius_m: float
    """Largest distance of matched centres; NaN for the other measures."""
    measure: Measure = "centre"
    limit: float = float("nan")
    """The largest distance in metres (centre), or the least overlap (iou, nwd), of a match."""

    @property
    def ignored_predictions(self) -> NDArray[np.bool_]:
        """(N,): predictions matched to an ignored reference."""
        matched = self.reference_of != UNMATCHED
        matched[matched] = self.ignore[self.reference_of[matched]]
        return matched

    @property
    def true_positives(self) -> NDArray[np.intp]:
        """Indices of the predictions matched to a certain reference."""
        return np.flatnonzero((self.reference_of != UNMATCHED) & ~self.ignored_predictions)

    @property
    def false_positives(self) -> NDArray[np.intp]:
        """Indices of the predictions matched to nothing."""
        return np.flatnonzero(self.reference_of == UNMATCHED)

    @property
    def false_negatives(self) -> NDArray[np.intp]:
        """Indices of the certain references matched to nothing."""
        return np.flatnonzero((self.prediction_of == UNMATCHED) & ~self.ignore)


@dataclass(frozen=True)
class Pairs:
    """Pairs of a prediction and a reference that may be matched, in no order."""

    prediction: NDArray[np.intp]
    """(P,)"""
    reference: NDArray[np.intp]
    """(P,)"""
    fit: NDArray[np.float64]
    """(P,): distance in metres (centre) or overlap, 0-1 (iou, nwd)."""

    def where(self, kept: NDArray[np.bool_]) -> Pairs:
        """Return the pairs for which `kept` (P,) is True."""
        return Pairs(self.prediction[kept], self.reference[kept], self.fit[kept])


def match(
    predicted_xy: ArrayLike,
    reference_xy: ArrayLike,
    ignore: ArrayLike,
    radius_m: float,
    predicted_class: ArrayLike | None = None,
    reference_class: ArrayLike | None = None,
) -> Matching:
    """Assign predictions (N, 2) to references (M, 2), both in metres, one to one within `radius_m`.

    Among all assignments it takes one with the most certain matches; among those, the most matches of
    ignored references (each saves a false positive); among those, the smallest sum of distances (Kuhn 1955,
    solved as in Crouse 2016). With classes, (N,) and (M,), only equal ones match. Clusters of pairs within
    the radius are solved one by one, so memory grows with the number of such pairs.

    Raises
    ------
    ValueError
        If the radius is not positive.
    """
    if radius_m <= 0:
        raise ValueError(f"The matching radius is a positive number of metres. Received: {radius_m}")
    predicted, reference = _rows(predicted_xy, 2), _rows(reference_xy, 2)
    pairs = same_class(centre_pairs(predicted, reference, radius_m), predicted_class, reference_class)
    return _matching(pairs, pairs.fit / radius_m, predicted, reference, ignore, "centre", radius_m)


def match_iou(
    predicted: NDArray[np.object_],
    reference: NDArray[np.object_],
    ignore: ArrayLike,
    at_least: float,
    predicted_class: ArrayLike | None = None,
    reference_class: ArrayLike | None = None,
) -> Matching:
    """Assign polygons (N,) to polygons (M,) with an intersection over union of `at_least`, as `match` does.

    The sum of 1 - IoU takes the place of the distances.

    Raises
    ------
    ValueError
        If `at_least` is not above 0 and up to 1.
    """
    _check_overlap(at_least)
    pairs = iou_pairs(predicted, reference)
    pairs = same_class(pairs.where(pairs.fit >= at_least), predicted_class, reference_class)
    places = _middles(shapely.bounds(predicted)), _middles(shapely.bounds(reference))
    return _matching(pairs, 1 - pairs.fit, *places, ignore, "iou", at_least)


def match_nwd(
    predicted_bounds: ArrayLike,
    reference_bounds: ArrayLike,
    ignore: ArrayLike,
    at_least: float,
    scale_m: float = NWD_SCALE_M,
    predicted_class: ArrayLike | None = None,
    reference_class: ArrayLike | None = None,
) -> Matching:
    """Assign boxes (N, 4) to boxes (M, 4) by `normalised_wasserstein` of `at_least`, as `match` does.

    The sum of 1 - NWD takes the place of the distances.

    Raises
    ------
    ValueError
        If `at_least` is not above 0 and up to 1, or the scale is not positive.
    """
    _check_overlap(at_least)
    if scale_m <= 0:
        raise ValueError(f"The scale of NWD is a positive number of metres. Received: {scale_m}")
    predicted, reference = _rows(predicted_bounds, 4), _rows(reference_bounds, 4)
    reach = -scale_m * np.log(at_least) + 1e-9  # so that equal boxes are within reach at 1
    apart = centre_pairs(_gaussian(predicted), _gaussian(reference), reach)
    pairs = Pairs(apart.prediction, apart.reference, np.exp(-apart.fit / scale_m))
    pairs = same_class(pairs.where(pairs.fit >= at_least), predicted_class, reference_class)
    return _matching(pairs, 1 - pairs.fit, _middles(predicted), _middles(reference), ignore, "nwd", at_least)


def normalised_wasserstein(a: ArrayLike, b: ArrayLike, scale_m: float = NWD_SCALE_M) -> NDArray[np.float64]:
    """Return the NWD (N,) of boxes (N, 4), x_min, y_min, x_max, y_max: 1 if equal, towards 0 with distance.

    exp(-W / C), W being the 2-Wasserstein distance of the Gaussians that stand for the boxes, C `scale_m`
    (Wang, Xu, Yang and Yu, "A normalized Gaussian Wasserstein distance for tiny object detection", 2021).
    """
    apart = np.linalg.norm(_gaussian(_rows(a, 4)) - _gaussian(_rows(b, 4)), axis=1)
    return np.exp(-apart / scale_m)


def centre_pairs(predicted: ArrayLike, reference: ArrayLike, radius_m: float) -> Pairs:
    """Return pairs of points (N, D) and (M, D) that are at most `radius_m` apart, with their distance."""
    p, r = np.asarray(predicted, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if not len(p) or not len(r):
        return Pairs(np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0))
    found = cKDTree(p).sparse_distance_matrix(cKDTree(r), radius_m, output_type="ndarray")
    return Pairs(found["i"].astype(np.intp), found["j"].astype(np.intp), found["v"])


def iou_pairs(predicted: NDArray[np.object_], reference: NDArray[np.object_]) -> Pairs:
    """Return pairs of polygons (N,) and (M,) that overlap, with their intersection over union."""
    p, r = np.asarray(predicted, dtype=object), np.asarray(reference, dtype=object)
    i, j = shapely.STRtree(r).query(p, predicate="intersects")
    overlap = _common_area(p, r, i, j)
    union = shapely.area(p)[i] + shapely.area(r)[j] - overlap
    some = overlap > 0
    return Pairs(i[some], j[some], overlap[some] / union[some])


def _common_area(
    p: NDArray[np.object_], r: NDArray[np.object_], i: NDArray[np.intp], j: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the areas (P,) that p[i] and r[j] have in common; of many upright rectangles without GEOS."""
    if len(i) <= _MANY_PAIRS:
        return np.asarray(shapely.area(shapely.intersection(p[i], r[j])))
    a, b = shapely.bounds(p), shapely.bounds(r)
    upright = [
        np.isclose(shapely.area(each), np.prod(box[:, 2:] - box[:, :2], axis=1), rtol=1e-9, atol=0)
        for each, box in ((p, a), (r, b))
    ]
    sides = np.minimum(a[i, 2:], b[j, 2:]) - np.maximum(a[i, :2], b[j, :2])
    common = np.prod(np.maximum(sides, 0), axis=1)
    rest = ~(upright[0][i] & upright[1][j])
    common[rest] = shapely.area(shapely.intersection(p[i[rest]], r[j[rest]]))
    return np.asarray(common)


def same_class(pairs: Pairs, predicted_class: ArrayLike | None, reference_class: ArrayLike | None) -> Pairs:
    """Return the pairs whose classes, (N,) and (M,), are equal; all pairs without classes."""
    if predicted_class is None or reference_class is None:
        return pairs
    equal = np.asarray(predicted_class)[pairs.prediction] == np.asarray(reference_class)[pairs.reference]
    return pairs.where(np.asarray(equal, dtype=bool))


def _matching(
    pairs: Pairs,
    cost: NDArray[np.float64],
    predicted: NDArray[np.float64],
    reference: NDArray[np.float64],
    ignore: ArrayLike,
    measure: Measure,
    limit: float,
) -> Matching:
    """Assign pairs whose `cost` (P,) is from 0 to 1 in the best way; centres are (N, 2) and (M, 2)."""
    ignored = np.asarray(ignore, dtype=bool).reshape(-1)
    if len(pairs.fit) > _MANY_PAIRS:
        kept = _nearest_of_crowds(pairs, cost, len(predicted), len(reference))
        pairs, cost = pairs.where(kept), cost[kept]
    # Equal sums of distances are common on a pixel grid. A canonical order makes the choice among them
    # independent of the order of the boxes.
    p_order, r_order = np.lexsort(predicted.T), np.lexsort((ignored, *reference.T))
    p_rank, r_rank = np.argsort(p_order), np.argsort(r_order)
    rows, cols = p_rank[pairs.prediction], r_rank[pairs.reference]
    chosen_rows, chosen_cols = _assign(rows, cols, cost, ignored[r_order])
    i, j = p_order[chosen_rows], r_order[chosen_cols]
    reference_of = np.full(len(predicted), UNMATCHED, dtype=np.intp)
    prediction_of = np.full(len(reference), UNMATCHED, dtype=np.intp)
    distance = np.full(len(predicted), np.nan)
    reference_of[i], prediction_of[j] = j, i
    distance[i] = np.hypot(*(predicted[i] - reference[j]).T)
    radius = float(limit) if measure == "centre" else float("nan")
    return Matching(reference_of, prediction_of, distance, ignored, radius, measure, float(limit))


def _nearest_of_crowds(
    pairs: Pairs, cost: NDArray[np.float64], predictions: int, references: int
) -> NDArray[np.bool_]:
    """Return (P,): True for the pairs that an optimal assignment needs.

    Of M references in a cluster each needs its M nearest predictions only: the others take M - 1 at most.
    """
    total = predictions + references
    edges = coo_array(
        (np.ones(len(cost), bool), (pairs.prediction, predictions + pairs.reference)), shape=(total, total)
    )
    cluster = connected_components(edges, directed=False)[1][predictions:]
    members = np.bincount(cluster)[cluster]
    order = np.lexsort((pairs.prediction, cost, pairs.reference))
    reference = pairs.reference[order]
    starts = np.searchsorted(reference, reference)
    kept = np.zeros(len(cost), bool)
    kept[order] = np.arange(len(order)) - starts < members[reference]
    return kept


def _assign(
    rows: NDArray[np.intp], cols: NDArray[np.intp], cost: NDArray[np.float64], ignored: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of the best assignment, see `match`; `ignored` (M,) is by column."""
    if not len(rows):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    order = np.lexsort((cols, rows))
    rows, cols, cost = rows[order], cols[order], cost[order]
    height = int(rows.max()) + 1
    total = height + len(ignored)
    # Not the distances but ones: an edge of length 0 (a perfect hit) would not count as an edge.
    edges = coo_array((np.ones(len(rows), bool), (rows, height + cols)), shape=(total, total))
    label = connected_components(edges, directed=False)[1][rows]
    by_cluster = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[by_cluster], prepend=-1))
    sizes = np.diff(starts, append=len(rows))
    # Most clusters are a single pair; the others are solved one by one.
    chosen = [by_cluster[starts[sizes == 1]]]
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        members = by_cluster[start : start + size]
        local_rows, i = np.unique(rows[members], return_inverse=True)
        local_cols, j = np.unique(cols[members], return_inverse=True)
        most = min(len(local_rows), len(local_cols))
        # Costs whose smallest sum is the best: certain matches, then ignored ones, then distance.
        worth = np.where(ignored[cols[members]], 1.0, most + 1.0) * (most + 1)
        solve = _solve_dense if max(len(local_rows), len(local_cols)) <= _DENSE else _solve_sparse
        chosen.append(members[solve(i, j, cost[members] - worth, len(local_rows), len(local_cols))])
    picked = np.concatenate(chosen)
    return rows[picked], cols[picked]


def _solve_dense(
    i: NDArray[np.intp], j: NDArray[np.intp], cost: NDArray[np.float64], height: int, width: int
) -> NDArray[np.intp]:
    """Return the numbers of the matched pairs (i, j) of a small cluster; costs are negative."""
    from scipy.optimize import linear_sum_assignment  # half a second, which runs without labels do not need

    matrix = np.zeros((height, width))
    matrix[i, j] = cost
    number = np.full((height, width), UNMATCHED, dtype=np.intp)
    number[i, j] = np.arange(len(i))
    picked = number[linear_sum_assignment(matrix)]
    return picked[picked != UNMATCHED]


def _solve_sparse(
    i: NDArray[np.intp], j: NDArray[np.intp], cost: NDArray[np.float64], height: int, width: int
) -> NDArray[np.intp]:
    """Solve a large cluster; each row may also take an extra column, which means no match."""
    # The solver takes every row to a column and no costs of 0, so all are raised by the same amount.
    none = 1.0 - cost.min()
    row, column = np.append(i, np.arange(height)), np.append(j, width + np.arange(height))
    data = np.append(cost + none, np.full(height, none))
    graph = csr_array((data, (row, column)), shape=(height, width + height))
    matched_rows, matched_cols = min_weight_full_bipartite_matching(graph)
    partner = np.full(height, UNMATCHED, dtype=np.intp)
    partner[matched_rows] = matched_cols
    return np.flatnonzero(partner[i] == j)


def _gaussian(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, 4) centre and half sides of boxes: their Euclidean distance is the Wasserstein distance."""
    return np.concatenate([_middles(bounds), (bounds[:, 2:] - bounds[:, :2]) / 2], axis=1)


def _middles(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    bounds = bounds.reshape(-1, 4)
    return (bounds[:, :2] + bounds[:, 2:]) / 2


def _rows(values: ArrayLike, width: int) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).reshape(-1, width)


def _check_overlap(at_least: float) -> None:
    if not 0 < at_least <= 1:
        raise ValueError(f"The least overlap of a match is above 0 and up to 1. Received: {at_least}")
