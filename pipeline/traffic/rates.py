"""Change or chance: rate ratios between dates, and trends, of roads, with intervals and p-values.

The count y of a road on a date, over e searched kilometres, is quasi-Poisson (McCullagh and Nelder,
"Generalized linear models", 1989, chapters 6 and 9):

    mean  m = e exp(a + b x),   variance  phi m

x is 0 or 1 for two sets of dates, or the time. phi is estimated from the dates: Pearson's chi-square over
n - 2. Given the road's total Y, the share of a date is s = e exp(b x) / sum of the same, without a. The score
of b is U = sum of x y - Y E_s[x], its variance phi Y Var_s[x]. The interval is all b with

    U^2 / (Y Var_s[x])  <=  max(phi t^2, u z^2)

For two sets this is the score interval of Wilson ("Probable inference, the law of succession, and
statistical inference", 1927), so a count of 0 has one, too. t is the quantile of Student's distribution with
n - 2 degrees of freedom. u is the number of trucks that a counted one stands for, z the normal quantile: few
dates may be alike by chance, but counts do not vary less than those of independent trucks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pipeline.errors import CountsError
from pipeline.input_warnings import warn
from pipeline.traffic.days import Days

Array = NDArray[np.float64]

KEY = ("road", "direction")
ALSO = ("name", "road_class")
"""Columns that are kept beside them, if there are any."""
NEEDED = (*KEY, "date", "expected", "trucks", "km")
"""Columns of a table: corrected and counted trucks, and searched kilometres."""
YEAR_DAYS = 365.25
_STEEPEST = 50.0
"""Logarithm of the largest ratio between the last and the first date that is searched."""
_HALVINGS = 45


@dataclass(frozen=True)
class Slopes:
    """Fitted b of R roads, on the logarithmic scale."""

    value: Array
    """(R,): infinite if all trucks are at one end of x; NaN without a truck or without two values of x."""
    low: Array
    high: Array
    """(R,): ends of the interval; NaN with fewer than three dates."""
    p: Array
    """(R,): two-sided p-value of b = 0; NaN where there is no interval."""
    dispersion: Array
    """(R,): phi; 1 for independent trucks that are all found."""
    dates: NDArray[np.int64]
    """(R,): dates with a searched length."""


def slopes(
    count: ArrayLike, exposure: ArrayLike, x: ArrayLike, unit: float = 1.0, level: float = 0.95
) -> Slopes:
    """Fit b to counts (R, D) of R roads on D dates, over exposures (R, D), with the covariate x (D,).

    An exposure of 0 leaves a date out. `unit` is u above. Memory: some 60 bytes a road and date.
    """
    e = np.asarray(exposure, np.float64)
    y = np.where(e > 0, np.asarray(count, np.float64), 0.0)
    at = np.broadcast_to(np.asarray(x, np.float64), e.shape)
    first = np.where(e > 0, at, np.inf).min(axis=1, initial=np.inf)
    span = np.where(e > 0, at, -np.inf).max(axis=1, initial=-np.inf) - first
    total, dates = y.sum(axis=1), (e > 0).sum(axis=1)
    usable = (total > 0) & (span > 0)
    first, span = np.where(usable, first, 0.0), np.where(usable, span, 1.0)
    z = np.where(e > 0, (at - first[:, None]) / span[:, None], 0.0)
    seen = np.where(usable[:, None], e, 1.0)
    moved, at_end = (y * z).sum(axis=1), (y * (1 - z)).sum(axis=1) == 0

    def shares(b: Array) -> Array:
        weight = seen * np.exp(b[:, None] * (z - (b > 0)[:, None]))  # no exponent above 0
        return weight / weight.sum(axis=1, keepdims=True)

    def score(b: Array) -> Array:
        return np.asarray(moved - total * (shares(b) * z).sum(axis=1))

    def statistic(b: Array) -> Array:
        share = shares(b)
        mean = (share * z).sum(axis=1)
        variance = total * (share * (z - mean[:, None]) ** 2).sum(axis=1)
        off = (moved - total * mean) ** 2
        return np.divide(off, variance, out=np.where(off > 0, np.inf, 0.0), where=variance > 0)

    ends = np.full(len(y), -_STEEPEST), np.full(len(y), _STEEPEST)
    best = _last(lambda b: (score(b) > 0) | at_end, *ends)
    expected = total[:, None] * shares(best)
    chi = np.divide((y - expected) ** 2, expected, out=np.zeros_like(y), where=(expected > 0) & (e > 0))
    freedom = np.maximum(dates - 2, 1)
    dispersion = chi.sum(axis=1) / freedom
    most = score_limit(dispersion, freedom, unit, level)
    high = _last(lambda b: statistic(b) <= most, best, ends[1])
    low = _last(lambda b: statistic(b) <= most, best, ends[0])
    still = statistic(np.zeros(len(y)))
    by_dates = np.sqrt(np.divide(still, dispersion, out=np.full(len(y), np.inf), where=dispersion > 0))
    p = 2 * np.maximum(stats.t.sf(by_dates, freedom), stats.norm.sf(np.sqrt(still / unit)))
    tested = usable & (dates > 2)

    def open_ended(b: Array, where: NDArray[np.bool_]) -> Array:
        steep = np.abs(b) >= _STEEPEST * (1 - 1e-9)
        return np.where(where, np.where(steep, np.copysign(np.inf, b), b) / span, np.nan)

    return Slopes(
        open_ended(best, usable),
        open_ended(low, tested),
        open_ended(high, tested),
        np.where(tested, p, np.nan),
        np.where(tested, dispersion, np.nan),
        dates,
    )


def score_limit(dispersion: ArrayLike, freedom: ArrayLike, unit: float, level: float = 0.95) -> Array:
    """Return max(phi t^2, u z^2): the largest score statistic within the interval."""
    tail = (1 - level) / 2
    return np.maximum(dispersion * stats.t.isf(tail, freedom) ** 2, unit * stats.norm.isf(tail) ** 2)


def _last(holds: Callable[[Array], NDArray[np.bool_]], inside: Array, outside: Array) -> Array:
    """Return the values (R,) up to which a condition holds from `inside` towards `outside`, by bisection."""
    near, far = inside.copy(), outside.copy()
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        good = holds(middle)
        near, far = np.where(good, middle, near), np.where(good, far, middle)
    return near


@dataclass(frozen=True)
class _Counts:
    """Counts of R roads and directions on D dates."""

    roads: pd.DataFrame
    """(R,) rows: what names a road."""
    dates: pd.DatetimeIndex
    expected: Array
    km: Array
    """(R, D): expected trucks and searched kilometres."""
    unit: float
    """Trucks that a counted one stands for."""

    def dated(self, days: Days) -> NDArray[np.bool_]:
        """Return (D,): dates that belong to `days`; an error if none does."""
        here = days.include(self.dates)
        if not here.any():
            raise CountsError(
                f"No acquisition is of {days.text}. The table has {len(self.dates)} dates from "
                f"{self.dates[0]:%Y-%m-%d} to {self.dates[-1]:%Y-%m-%d}."
            )
        return here


def compare(table: pd.DataFrame, first: Days, second: Days) -> pd.DataFrame:
    """Return the ratio of the rates of two sets of dates: a row for each road and direction.

    `table` has the columns of `NEEDED`, one row or more for each road, direction and date. Rates are trucks
    for each searched kilometre. `ratio` is the second over the first, with its 95 % interval `ratio_low` to
    `ratio_high` and its p-value `p`; `p_adjusted` is that of all rows together, after Benjamini and Hochberg
    ("Controlling the false discovery rate", 1995): of the rows with `p_adjusted` up to 0.05, 5 % are expected
    to be chance. The least p-values come first.

    Raises
    ------
    CountsError
        If a set has no date, or a date is in both.
    """
    counts = _counts(table)
    sides = {"first": counts.dated(first), "second": counts.dated(second)}
    both = sides["first"] & sides["second"]
    if both.any():
        raise CountsError(
            f"{counts.dates[both][0]:%Y-%m-%d} is of {first.text} and of {second.text}. Choose sets without "
            "a common date."
        )
    result = counts.roads.copy()
    for name, here in sides.items():
        km, expected = counts.km[:, here], counts.expected[:, here]
        result[f"dates_{name}"] = (km > 0).sum(axis=1)
        result[f"km_{name}"] = km.sum(axis=1)
        result[f"expected_{name}"] = expected.sum(axis=1)
        result[f"per_km_{name}"] = result[f"expected_{name}"] / result[f"km_{name}"].where(lambda km: km > 0)
    used = sides["first"] | sides["second"]
    x = sides["second"][used].astype(np.float64)
    fitted = slopes(counts.expected[:, used], counts.km[:, used], x, counts.unit)
    return _with_slopes(result, fitted, "ratio")


def trends(table: pd.DataFrame) -> pd.DataFrame:
    """Return the log-linear trend of each road and direction: a row each, as `compare` does.

    `per_year` is the factor by which the rate changes in a year (1.05: 5 % more each year), with its interval
    and p-values. Season and weekday are part of the change if they differ between early and late dates.
    """
    counts = _counts(table)
    result = counts.roads.copy()
    result["dates"] = (counts.km > 0).sum(axis=1)
    result["km"] = counts.km.sum(axis=1)
    result["expected"] = counts.expected.sum(axis=1)
    years = ((counts.dates - counts.dates[0]) / pd.Timedelta(days=1)).to_numpy(np.float64) / YEAR_DAYS
    return _with_slopes(result, slopes(counts.expected, counts.km, years, counts.unit), "per_year")


def _with_slopes(result: pd.DataFrame, fitted: Slopes, name: str) -> pd.DataFrame:
    with np.errstate(over="ignore"):  # a steep trend of few days, over a year
        for column, value in (
            (name, fitted.value),
            (f"{name}_low", fitted.low),
            (f"{name}_high", fitted.high),
        ):
            result[column] = np.exp(value)
    result["dispersion"], result["p"] = fitted.dispersion, fitted.p
    known = np.isfinite(fitted.p)
    adjusted = np.full(len(result), np.nan)
    if known.any():
        adjusted[known] = stats.false_discovery_control(fitted.p[known], method="bh")
    else:
        warn("No road was searched on three dates and had a truck: there is no interval and no p-value.")
    result["p_adjusted"] = adjusted
    return result.sort_values("p", kind="stable", ignore_index=True)


def _counts(table: pd.DataFrame) -> _Counts:
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise CountsError(f"The table lacks {', '.join(missing)}; expected {', '.join(NEEDED)}.")
    numbers = table[["expected", "trucks", "km"]].to_numpy(np.float64)
    if (numbers < 0).any() or not np.isfinite(numbers).all():
        raise CountsError("The table has negative or missing numbers in expected, trucks or km.")
    seen = table[numbers[:, 2] > 0]
    if seen.empty:
        raise CountsError("The table has no row with a searched length.")
    row = seen.groupby(list(KEY), dropna=False).ngroup().to_numpy()
    roads = seen[[*KEY, *(name for name in ALSO if name in table)]].iloc[np.unique(row, return_index=True)[1]]
    col, dates = pd.factorize(pd.DatetimeIndex(seen["date"]).normalize(), sort=True)
    size = len(roads), len(dates)

    def grid(name: str) -> Array:
        flat = np.bincount(row * size[1] + col, seen[name].to_numpy(np.float64), size[0] * size[1])
        return flat.reshape(size).astype(np.float64)

    found = float(numbers[:, 1].sum())
    unit = max(1.0, float(numbers[:, 0].sum()) / found) if found else 1.0
    return _Counts(roads.reset_index(drop=True), pd.DatetimeIndex(dates), grid("expected"), grid("km"), unit)
