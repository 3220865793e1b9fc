"""Area of each class and accuracy of the map, with intervals, from a stratified sample.

Counting a map's pixels gives the mapped area, errors included. The estimators here weight the interpretations
at the points of a stratified random sample, whose strata are the map's classes: Olofsson, Foody, Herold,
Stehman, Woodcock and Wulder, "Good practices for estimating area and assessing accuracy of land change",
Remote Sensing of Environment 148, 2014. Numbers of equations are those of that paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import LabelsError
from pipeline.models.legend import LegendClass

Z_95 = 1.96
"""Standard errors on either side of a 95 % interval, as the paper rounds it."""
SOURCE = "Olofsson et al. 2014, Remote Sensing of Environment 148: 42-57"


@dataclass(frozen=True)
class Estimate:
    """Values with their standard errors, both of one shape and in one unit; NaN where undefined."""

    value: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    most: float
    """Upper limit of the figure; the lower one is 0."""

    @property
    def interval(self) -> NDArray[np.float64]:
        """(2, ...): low and high end of the 95 % interval, within what is possible."""
        half = Z_95 * self.standard_error
        return np.clip(np.stack([self.value - half, self.value + half]), 0.0, self.most)


@dataclass(frozen=True)
class AreaEstimates:
    """Reference classes of a stratified random sample of a map with K classes.

    Variances are those of sampling with replacement, as in the paper: no finite population correction.
    """

    legend: tuple[LegendClass, ...]
    counts: NDArray[np.int64]
    """(K, K) points: rows are the map's classes, which are the strata; columns what was seen there."""
    mapped_ha: NDArray[np.float64]
    """(K,) hectares of each stratum; 0 where a class isn't on the map."""

    @property
    def points(self) -> int:
        """Points with a reference class."""
        return int(self.counts.sum())

    @property
    def weights(self) -> NDArray[np.float64]:
        """(K,): share of the mapped area in each stratum."""
        return self.mapped_ha / self.mapped_ha.sum()

    @cached_property
    def proportions(self) -> NDArray[np.float64]:
        """(K, K): estimated share of the whole area that is mapped as a class and is another (eq. 4)."""
        return self.weights[:, None] * self._shares

    @property
    def accuracy(self) -> Estimate:
        """The overall accuracy, (), eq. 1 and 5."""
        variance = (self.weights**2 * np.diag(self._variances)).sum()
        return Estimate(np.trace(self.proportions), np.sqrt(variance), 1.0)

    @property
    def users_accuracy(self) -> Estimate:
        """(K,): share of what is mapped as a class that is it, eq. 2 and 6; NaN where nothing is mapped."""
        share, error = np.diag(self._shares), np.sqrt(np.diag(self._variances))
        there = self.mapped_ha > 0
        return Estimate(np.where(there, share, np.nan), np.where(there, error, np.nan), 1.0)

    @property
    def producers_accuracy(self) -> Estimate:
        """(K,): share of a class's area that is mapped as it, eq. 3 and 7; NaN where none of it was seen."""
        size = self.proportions.sum(axis=0)
        known = np.where(size > 0, size, np.nan)
        share = np.diag(self.proportions) / known
        by_stratum = self.weights[:, None] ** 2 * self._variances
        own = np.diag(by_stratum)
        variance = (1 - share) ** 2 * own + share**2 * (by_stratum.sum(axis=0) - own)
        return Estimate(share, np.sqrt(variance) / known, 1.0)

    @property
    def area_ha(self) -> Estimate:
        """(K,): hectares of each class, corrected for the map's errors, eq. 9 to 11."""
        whole = float(self.mapped_ha.sum())
        variance = (self.weights[:, None] ** 2 * self._variances).sum(axis=0)
        return Estimate(self.proportions.sum(axis=0) * whole, np.sqrt(variance) * whole, whole)

    def metrics(self) -> dict[str, Any]:
        """Return all metrics as plain numbers for JSON; None where undefined."""
        by_class = {
            "area_ha": self.area_ha,
            "users_accuracy": self.users_accuracy,
            "producers_accuracy": self.producers_accuracy,
        }
        return {
            "points": self.points,
            "hectares": float(self.mapped_ha.sum()),
            **_plain({"accuracy": self.accuracy}),
            "classes": {
                item.name: {
                    "value": item.value,
                    "points": int(self.counts[i].sum()),
                    "mapped_ha": float(self.mapped_ha[i]),
                    **_plain(by_class, i),
                }
                for i, item in enumerate(self.legend)
            },
            "error_matrix": {
                "rows": "mapped",
                "columns": "reference",
                "classes": [item.name for item in self.legend],
                "points": self.counts.tolist(),
                "proportions": self.proportions.tolist(),
            },
            "source": SOURCE,
        }

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        """(K, K): share of the points of a stratum that were seen to be each class."""
        return self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)

    @cached_property
    def _variances(self) -> NDArray[np.float64]:
        """(K, K): of `_shares`."""
        fewer = np.maximum(self.counts.sum(axis=1, keepdims=True) - 1, 1)
        return self._shares * (1 - self._shares) / fewer


def estimate_areas(legend: Sequence[LegendClass], counts: ArrayLike, mapped_ha: ArrayLike) -> AreaEstimates:
    """Areas and accuracies from the points of a stratified random sample, whose strata are the map's classes.

    `counts` is (K, K), points by mapped (rows) and reference class (columns); `mapped_ha` (K,), the hectares
    of each stratum.

    Raises
    ------
    LabelsError
        If a stratum has fewer than two points, so that it has no variance, or nothing is mapped.
    """
    matrix, hectares = np.asarray(counts, dtype=np.int64), np.asarray(mapped_ha, dtype=np.float64)
    few = [
        f"{item.name} ({int(points)})"
        for item, points, size in zip(legend, matrix.sum(axis=1), hectares, strict=True)
        if size > 0 and points < 2
    ]
    if few:
        raise LabelsError(
            f"Estimates need at least two points with a reference class in every mapped class; "
            f"too few in: {', '.join(few)}."
        )
    if not hectares.sum() > 0:
        raise LabelsError("Estimates need a map with a class somewhere; the strata have no area.")
    return AreaEstimates(tuple(legend), matrix, hectares)


def _plain(estimates: Mapping[str, Estimate], index: int | tuple[()] = ()) -> dict[str, Any]:
    """Return each value by its name, standard errors as `<name>_se`, and intervals as `interval_95`."""
    plain: dict[str, Any] = {}
    for name, estimate in estimates.items():
        plain[name] = _number(estimate.value[index])
        plain[f"{name}_se"] = _number(estimate.standard_error[index])
    ends = {name: [_number(end[index]) for end in each.interval] for name, each in estimates.items()}
    return {**plain, "interval_95": ends}


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
