"""Which prediction is which reference: one-to-one, optimal, independent of the order of either."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

UNMATCHED = -1


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
    """(M,): references that count neither way."""
    radius_m: float

    @property
    def dropped(self) -> NDArray[np.bool_]:
        """(N,): predictions matched to an ignored reference; neither right nor wrong."""
        matched = self.reference_of != UNMATCHED
        matched[matched] = self.ignore[self.reference_of[matched]]
        return matched

    @property
    def true_positives(self) -> NDArray[np.intp]:
        """Indices of the predictions matched to a firm reference."""
        return np.flatnonzero((self.reference_of != UNMATCHED) & ~self.dropped)

    @property
    def false_positives(self) -> NDArray[np.intp]:
        """Indices of the predictions matched to nothing."""
        return np.flatnonzero(self.reference_of == UNMATCHED)

    @property
    def missed(self) -> NDArray[np.intp]:
        """Indices of the firm references matched to nothing."""
        return np.flatnonzero((self.prediction_of == UNMATCHED) & ~self.ignore)


def match(predicted_xy: ArrayLike, reference_xy: ArrayLike, ignore: ArrayLike, radius_m: float) -> Matching:
    """Assign predictions (N, 2) to references (M, 2), both in metres, one to one within `radius_m`.

    Among all assignments it takes one with the most firm matches; among those, the most matches of ignored
    references (each saves a false alarm); among those, the smallest sum of distances (Kuhn 1955, solved as
    in Crouse 2016). Only pairs within the radius are looked at, and clusters of them are solved one by one,
    so memory grows with the square of the largest cluster, not of N.

    Raises
    ------
    ValueError
        If the radius is not positive.
    """
    if radius_m <= 0:
        raise ValueError(f"The matching radius is a positive number of metres. Received: {radius_m}")
    predicted = np.asarray(predicted_xy, dtype=np.float64).reshape(-1, 2)
    reference = np.asarray(reference_xy, dtype=np.float64).reshape(-1, 2)
    ignored = np.asarray(ignore, dtype=bool).reshape(-1)
    reference_of = np.full(len(predicted), UNMATCHED, dtype=np.intp)
    distance = np.full(len(predicted), np.nan)
    # Equal sums of distances are common on a pixel grid: a canonical order makes the choice among them,
    # and so the answer, independent of the order in which boxes come.
    p_order = np.lexsort(predicted.T)
    r_order = np.lexsort((ignored, *reference.T))
    for rows, cols, apart in _clusters(predicted[p_order], reference[r_order], radius_m):
        cost = _cost(apart, ignored[r_order[cols]], radius_m)
        for row, col in zip(*linear_sum_assignment(cost), strict=True):
            if apart[row, col] <= radius_m:
                reference_of[p_order[rows[row]]] = r_order[cols[col]]
                distance[p_order[rows[row]]] = apart[row, col]
    prediction_of = np.full(len(reference), UNMATCHED, dtype=np.intp)
    matched = np.flatnonzero(reference_of != UNMATCHED)
    prediction_of[reference_of[matched]] = matched
    return Matching(reference_of, prediction_of, distance, ignored, float(radius_m))


def _clusters(
    predicted: NDArray[np.float64], reference: NDArray[np.float64], radius_m: float
) -> list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]]:
    """Connected groups of (predictions, references) within reach of each other, with their distances."""
    if not len(predicted) or not len(reference):
        return []
    pairs = cKDTree(predicted).sparse_distance_matrix(cKDTree(reference), radius_m, output_type="coo_matrix")
    n, total = len(predicted), len(predicted) + len(reference)
    # Not the distances but ones: an edge of length 0 (a perfect hit) would not count as an edge.
    edges = coo_matrix((np.ones(pairs.nnz), (pairs.row, n + pairs.col)), shape=(total, total))
    _, label = connected_components(edges, directed=False)
    members = np.argsort(label, kind="stable")
    groups = np.split(members, np.flatnonzero(np.diff(label[members])) + 1)
    clusters = []
    for group in groups:
        if len(group) > 1:
            rows, cols = group[group < n], group[group >= n] - n
            apart = np.hypot(*(predicted[rows][:, None] - reference[cols][None]).transpose(2, 0, 1))
            clusters.append((rows, cols, apart))
    return clusters


def _cost(apart: NDArray[np.float64], ignore: NDArray[np.bool_], radius_m: float) -> NDArray[np.float64]:
    """Costs whose smallest sum is the best assignment: firm matches, ignored matches, distance, in turn."""
    most = min(apart.shape)
    worth_ignored = radius_m * (most + 1)
    worth_firm = worth_ignored * (most + 1)
    worth = np.where(ignore, worth_ignored, worth_firm)
    return np.where(apart <= radius_m, apart - worth, 0.0)
