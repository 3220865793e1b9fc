"""Expected number of trucks: probabilities of detections over the recall of such trucks, with an interval.

Each detection stands for p / R trucks: p is the probability that it is one, given the share of trucks among
the detections of this scene (`pipeline.layers.prior`), R the share of such trucks that are detected. The sum
is the estimator of Horvitz and Thompson ("A generalization of sampling without replacement from a finite
universe", 1952), with p for the unknown truth. If p is calibrated and R right, its error has mean 0 and the
variance

    sum of  p (1 - p) / R + (1 - R) (p / R)^2

(Campbell's theorem): the first term is of false detections, the second of missed trucks. The error of R,
common to all detections of a group, adds the square of the group's sum times R's relative variance. That of
the share, common to all, adds the square of the sum of p (1 - p) / R times the variance of its log-odds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri  # scipy.stats takes a second to import

from pipeline.layers.prior import with_own_share
from pipeline.scenes.sun import long_shadow

Array = NDArray[np.float64]
Group = tuple[str, str, str]
"""Surface, contrast and clouds of a truck; `ANY` for groups of all kinds."""

ANY = "any"
LEAST_SCORE = 0.05
"""Lowest score that counts near roads: below it are boxes by the thousand, whose scores are all but zero."""
LEAST_TRUCKS = 20
"""Fewest trucks of a group that has a recall by itself."""

CONTRASTS = ("unclear", "weak", "clear")
CONTRAST_FROM = (2.0, 6.0)
"""Displacements over their standard deviation from which on a contrast is weak, and clear."""

_TAIL = 0.025
_Z = float(ndtri(1 - _TAIL))


@dataclass(frozen=True)
class LowSun:
    """Effect of long shadows on the recall, see `pipeline.scenes.sun.long_shadow`."""

    recall: float = 0.0
    """Change of its logarithm for each height of a vehicle by which they are longer."""
    recall_error: float = 0.0
    """Standard error of `recall`."""


@dataclass(frozen=True)
class Recall:
    """Recall of a detector, for all trucks and by group."""

    value: float
    error: float
    """Relative standard error."""
    groups: Mapping[Group, tuple[float, float]] = field(default_factory=dict)
    """Recall and its relative standard error, of groups with `LEAST_TRUCKS`."""
    score_from: float | None = None
    """Score from which trucks count as found: detections from it on count by their probability. None: at the
    threshold of the card, and each detection counts as one truck."""
    dispersion: float = 1.0
    """Variance of estimates, over that of independent trucks."""
    known: bool = True
    share: float | None = None
    """Share of trucks among those detections where the scores were calibrated; None: scores are not corrected
    for the share of a scene."""
    low_sun: LowSun = LowSun()
    visible: float = 1.0
    """Share of the trucks on roads that is in the expected number; flows have the others, too."""
    visible_error: float = 0.0
    """Relative standard deviation of `visible` between places."""

    @classmethod
    def unknown(cls) -> Recall:
        """Return the recall where none is known: nothing is missed."""
        return cls(1.0, 0.0, known=False)

    @classmethod
    def of_card(cls, quality: Mapping[str, Any], near_roads: bool = True) -> Recall | None:
        """Return the recall that a card states by group; else of its labelled places, or simulated scenes.

        None if it states none.
        """
        area = "near_roads" if near_roads else "everywhere"
        try:
            table = quality["recall"][area]
            known = cls.of_table(table["rows"], float(table["score_from"]), float(table["dispersion"]))
            share = float(table["share"]) if "share" in table else None
            if share is not None and not 0 < share < 1:
                raise ValueError(f"no share of trucks: {share}")
            low_sun = {name: float(value) for name, value in dict(table.get("low_sun", {})).items()}
            visible, error = (float(table.get(*each)) for each in (("visible", 1.0), ("visible_error", 0.0)))
            if not (0 < visible <= 1 and 0 <= error < np.inf):
                raise ValueError(f"no share of visible trucks: {visible}, {error}")
            sun = LowSun(**low_sun)
            return replace(known, share=share, low_sun=sun, visible=visible, visible_error=error)
        except (KeyError, TypeError, ValueError):  # cards may have any quality figures
            pass
        for place in ("labelled_places_together", "simulated_held_out"):
            try:
                figures = quality[place][area]
                value, (low, high) = float(figures["recall"]), figures["interval_95"]["recall"]
                if 0 < value <= 1:
                    return cls(value, (float(high) - float(low)) / (2 * _Z * value))
            except (KeyError, TypeError, ValueError):
                continue
        return None

    @classmethod
    def of_table(cls, rows: Sequence[Sequence[Any]], score_from: float, dispersion: float = 1.0) -> Recall:
        """Return the recall of rows `surface, contrast, cloud, found, trucks`.

        A share of f in n has the posterior Beta(f + 1/2, n - f + 1/2), of Jeffreys' prior. A group with fewer
        than `LEAST_TRUCKS` is given that of its contrast, else that of all.
        """
        sums: dict[Group, NDArray[np.float64]] = {}
        for surface, contrast, cloud, found, trucks in rows:
            counts = np.array([found, trucks], np.float64)
            if not 0 <= counts[0] <= counts[1] < np.inf:
                raise ValueError(f"{found} of {trucks} trucks can't be found")
            for group in ((surface, contrast, cloud), (ANY, contrast, ANY), (ANY, ANY, ANY)):
                sums[group] = sums.get(group, np.zeros(2)) + counts
        found, trucks = sums.pop((ANY, ANY, ANY), np.zeros(2))
        if not trucks:
            raise ValueError("there is no truck to be found")
        value, error = _beta(float(found), float(trucks), dispersion)
        groups = {
            group: _beta(float(each[0]), float(each[1]), dispersion)
            for group, each in sums.items()
            if each[1] >= LEAST_TRUCKS
        }
        return cls(value, error, groups, score_from, max(dispersion, 1.0))

    def shares(
        self,
        trucks: gpd.GeoDataFrame,
        threshold: float,
        left_out: NDArray[np.bool_] | None = None,
        shadow: float | None = None,
    ) -> Shares:
        """Return what rows of the layer of trucks of a scene contribute, those below the threshold included.

        `left_out` (N,) are rows that contribute nothing. `shadow` is the length of shadows over the height of
        what casts them; without it they are short.
        """
        scores = trucks["score"].to_numpy(np.float64)
        no = np.zeros(len(scores), np.bool_) if left_out is None else left_out
        counted = (scores >= threshold) & ~no
        chance, share_error = counted.astype(np.float64), 0.0
        if self.score_from is not None:
            counts = (scores >= self.score_from) & ~no
            chance = np.where(counts, scores, 0.0)
            if self.share is not None:
                chance[counts], share_error = with_own_share(scores[counts], self.share)
        number = {group: index for index, group in enumerate([*self.groups, (ANY, ANY, ANY)])}
        kinds = zip(*groups_of(trucks), strict=True)
        group = np.array([self._group(number, *kind) for kind in kinds], np.intp)
        recalls, errors = self._recalls(long_shadow(shadow))
        return Shares(
            chance=chance,
            recall=recalls[group],
            group=group,
            errors=errors,
            counted=counted,
            missing=float(recalls[-1]),
            dispersion=self.dispersion,
            known=self.known,
            share_error=share_error,
            visible=self.visible,
            visible_error=self.visible_error,
        )

    def _recalls(self, beyond: float) -> tuple[Array, Array]:
        """Return the recall of each group and, last, of all, and their relative standard errors."""
        value, error = np.array([*self.groups.values(), (self.value, self.error)], np.float64).T
        lower = value * np.exp(beyond * self.low_sun.recall)
        return lower, np.hypot(error, beyond * self.low_sun.recall_error)

    @staticmethod
    def _group(number: Mapping[Group, int], surface: str, contrast: str, cloud: str) -> int:
        own = number.get((surface, contrast, cloud))
        return number.get((ANY, contrast, ANY), len(number) - 1) if own is None else own


@dataclass(frozen=True)
class Shares:
    """Contribution of each of N detections to counts."""

    chance: Array
    """(N,): probability that it is a truck."""
    recall: Array
    """(N,): recall of such trucks."""
    group: NDArray[np.intp]
    """(N,): row in `errors`."""
    errors: Array
    """(G,): relative standard errors of the recall of each group."""
    counted: NDArray[np.bool_]
    """(N,): above the threshold."""
    missing: float
    """Recall of all trucks, for what is missed where nothing is found; 1 if it is unknown."""
    dispersion: float = 1.0
    known: bool = True
    """False if the recall is not known."""
    share_error: float = 0.0
    """Standard error of the log-odds of all chances, by that of the share of trucks in the scene."""
    visible: float = 1.0
    """Share of the trucks on roads that is in the expected number."""
    visible_error: float = 0.0
    """Its relative standard error."""

    @property
    def total(self) -> Sums:
        """Sums of all detections, as one unit."""
        return self.sums(np.zeros(len(self.chance), np.intp), 1)

    def sums(self, unit: NDArray[np.intp], size: int, weight: float = 1.0) -> Sums:
        """Sum over units, such as segments: `unit` is (N,), below `size`; -1 for none.

        With a `weight`, a detection belongs to its unit with this probability. Memory: 8 (G + 4) bytes a
        unit.
        """
        here = np.flatnonzero((unit >= 0) & (self.chance > 0))
        p, recall, at = weight * self.chance[here], self.recall[here], unit[here]
        each = p / recall
        kinds = len(self.errors)
        value = np.bincount(self.group[here] * size + at, each, kinds * size).reshape(kinds, size)
        noise = p * (1 - p) / recall + (1 - recall) * each**2
        return Sums(
            self,
            value.astype(np.float64),
            np.bincount(at, p, size).astype(np.float64),
            np.bincount(at, noise, size).astype(np.float64),
            np.bincount(at, each**2, size).astype(np.float64),
            np.bincount(at, each * (1 - self.chance[here]), size).astype(np.float64),
        )


@dataclass(frozen=True)
class Sums:
    """Sums over the detections of U units."""

    of: Shares
    value: Array
    """(G, U): trucks of each group."""
    chance: Array
    """(U,): sum of probabilities: trucks that were found."""
    noise: Array
    """(U,): variance of the number of trucks, but for the recall."""
    square: Array
    """(U,): sum of the squares of what each detection stands for."""
    by_share: Array
    """(U,): change of the number with the log-odds of the share of trucks in the scene."""

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.of,
            self.value + other.value,
            self.chance + other.chance,
            self.noise + other.noise,
            self.square + other.square,
            self.by_share + other.by_share,
        )

    def take(self, index: NDArray[np.intp]) -> Sums:
        """Return the units at `index`."""
        units = (self.chance, self.noise, self.square, self.by_share)
        return Sums(self.of, self.value[:, index], *(each[index] for each in units))

    @property
    def expected(self) -> Array:
        """Expected number of trucks (U,)."""
        return self.value.sum(axis=0)

    @property
    def recall(self) -> Array:
        """Recall of these trucks together (U,), that of all where nothing was found; NaN if unknown."""
        if not self.of.known:
            return np.full(self.noise.shape, np.nan)
        return np.where(self.expected > 0, self.chance / np.maximum(self.expected, 1e-12), self.of.missing)

    @property
    def variance(self) -> Array:
        """Variance of the number of trucks that were there (U,)."""
        return self.of.dispersion * self.noise + self._common

    @property
    def interval(self) -> tuple[Array, Array]:
        """Ends (U,) of the 95 % interval of the number of trucks that were there.

        They are quantiles of a gamma distribution of that mean and variance. At the upper end half a truck,
        Jeffreys' prior of a Poisson mean, may have been missed in addition.
        """
        shares, mean, variance = self.of, self.expected, self.variance
        missed = 0.5 * (1 - shares.missing) / shares.missing
        more = variance + shares.dispersion * missed / shares.missing
        return _quantile(_TAIL, mean, variance), _quantile(1 - _TAIL, mean + missed, more)

    @property
    def mean_interval(self) -> tuple[Array, Array]:
        """Ends (U,) of the 95 % interval of the mean of the number, were such images repeated.

        Fay and Feuer's of a weighted sum of Poisson counts ("Confidence intervals for directly standardized
        rates: a method based on the gamma distribution", 1997), with the variances of recall and share in
        addition. For equal weights it is Garwood's ("Fiducial limits for the Poisson distribution", 1936).
        """
        one = 1 / self.of.missing
        mean, variance = self.expected, self.of.dispersion * self.square + self._common
        return _quantile(_TAIL, mean, variance), _quantile(1 - _TAIL, mean + one, variance + one**2)

    @property
    def _common(self) -> Array:
        """Variance (U,) by the errors that detections have in common: of recall and share."""
        of_recall = np.asarray((self.value * self.of.errors[:, None]) ** 2).sum(axis=0)
        return of_recall + (self.by_share * self.of.share_error) ** 2


def groups_of(trucks: gpd.GeoDataFrame) -> tuple[list[str], list[str], list[str]]:
    """Return surface (built, open, unknown), contrast (`CONTRASTS`) and clouds (near, away) of each truck.

    From columns of the layer of trucks; where one is missing, surfaces are unknown and clouds away. The
    contrast is that of the vehicle over the noise around it: by how many standard deviations it moved.
    """
    size = len(trucks)
    cover = trucks["landcover"].tolist() if "landcover" in trucks else [None] * size
    surface = [
        "unknown" if not isinstance(name, str) else "built" if name == "built" else "open" for name in cover
    ]
    moved, sigma = (
        trucks[name].to_numpy(np.float64, na_value=np.nan) for name in ("speed_kmh", "speed_kmh_sigma")
    )
    clear = np.nan_to_num(np.divide(moved, sigma, out=np.zeros(size), where=sigma > 0))
    contrast = [CONTRASTS[index] for index in np.searchsorted(CONTRAST_FROM, clear, side="right")]
    near = trucks["near_cloud"].fillna(False).tolist() if "near_cloud" in trucks else [False] * size
    return surface, contrast, ["near" if flag else "away" for flag in near]


def _beta(found: float, trucks: float, dispersion: float = 1.0) -> tuple[float, float]:
    """Return mean and relative standard deviation of a share of `found` in `trucks`."""
    a, b = found + 0.5, trucks - found + 0.5
    return a / (a + b), float((max(dispersion, 1.0) * b / (a * (a + b + 1))) ** 0.5)


def _quantile(share: float, mean: Array, variance: Array) -> Array:
    """Return quantiles (U,) of gamma distributions; their mean where the variance is 0."""
    sure = (variance <= 0) | (mean <= 0)
    m, v = np.where(sure, 1.0, mean), np.where(sure, 1.0, variance)
    return np.where(sure, mean, gammaincinv(m**2 / v, share) * (v / m))
