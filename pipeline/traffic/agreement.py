"""Agreement of estimated flows with those of counters, and the correction that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pipeline.errors import CountsError
from pipeline.input_warnings import warn
from pipeline.safe_json import read_json_object
from pipeline.traffic.rates import score_limit
from pipeline.traffic.table import TrafficByRoad

Array = NDArray[np.float64]

LEVEL = 0.95
_RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """Agreement of N pairs of flows."""

    pairs: int
    r: Figure
    """Pearson's correlation, with Fisher's interval ("On the probable error of a coefficient of correlation",
    1921)."""
    rmse: Figure
    bias: Figure
    """Mean of estimate minus counter, trucks an hour. Intervals of both: bootstrap over pairs (Efron, "Better
    bootstrap confidence intervals", 1987)."""
    ratio: Figure
    """Estimated trucks over those that the counter lets expect on the stretches."""
    dispersion: float
    """Variance of the estimated numbers over their mean."""
    poisson_rmse: float
    """RMSE of a count without any error, of the trucks on the stretches at one moment."""


def agreement(flow: ArrayLike, counted: ArrayLike, hours: ArrayLike, unit: float = 1.0) -> Agreement:
    """Compare estimated flows (N,) with those of counters (N,), in trucks an hour.

    `hours` (N,) are the searched length over the speed: the time in which the trucks on a stretch pass its
    end. `unit` is the number of trucks that a detected one stands for.
    """
    f, c, h = (np.asarray(values, np.float64) for values in (flow, counted, hours))
    error = f - c
    return Agreement(
        len(f),
        _correlation(f, c),
        _resampled(error, lambda e, axis=-1: np.sqrt(np.mean(e**2, axis=axis))),
        _resampled(error, lambda e, axis=-1: np.mean(e, axis=axis)),
        *_ratio(f * h, c * h, unit),
        float(np.sqrt(np.mean(c / h))) if len(f) else np.nan,
    )


def _correlation(f: Array, c: Array) -> Figure:
    if len(f) < 3 or np.ptp(f) == 0 or np.ptp(c) == 0:
        return Figure(np.nan, np.nan, np.nan)
    found = stats.pearsonr(f, c)
    if len(f) == 3:
        return Figure(float(found.statistic), np.nan, np.nan)
    ends = found.confidence_interval(LEVEL)
    return Figure(float(found.statistic), float(ends.low), float(ends.high))


def _resampled(error: Array, statistic: Any) -> Figure:
    value = float(statistic(error)) if len(error) else np.nan
    if len(error) < 3 or np.ptp(np.abs(error)) == 0:
        return Figure(value, np.nan, np.nan)
    found = stats.bootstrap(
        (error,), statistic, n_resamples=_RESAMPLES, confidence_level=LEVEL, rng=np.random.default_rng(0)
    )
    return Figure(value, float(found.confidence_interval.low), float(found.confidence_interval.high))


def _ratio(estimated: Array, expected: Array, unit: float) -> tuple[Figure, float]:
    """Return the ratio of sums and the dispersion.

    The number on a stretch is quasi-Poisson with the mean ratio x `expected`. The interval is that of the
    score test: all ratios k with (Y - k X)^2 / (k X) <= max(phi t^2, unit z^2), as in `traffic.rates`.
    """
    total, base, n = float(estimated.sum()), float(expected.sum()), len(estimated)
    if base <= 0:
        return Figure(np.nan, np.nan, np.nan), np.nan
    value = total / base
    if n < 2:
        return Figure(value, np.nan, np.nan), np.nan
    mean = np.where(expected > 0, value * expected, np.nan)
    phi = float(np.nansum((estimated - mean) ** 2 / mean) / (n - 1)) if total else 0.0
    most = float(score_limit(phi, n - 1, unit, LEVEL))
    centre, half = total + most / 2, np.sqrt(most * total + most**2 / 4)
    return Figure(value, max(float(centre - half), 0.0) / base, float(centre + half) / base), phi


@dataclass(frozen=True)
class Correction:
    """Factor for flows, from counters."""

    factor: float
    low: float
    high: float
    """Ends of its 95 % interval."""
    pairs: int
    count: str
    """`heavy` or `all`: the vehicles of the counters."""
    model: str
    """The detector of the flows."""
    rmse: float
    """Before the correction."""
    rmse_corrected: float
    """After it, each pair by the factor of all others (leave-one-out)."""

    @property
    def error(self) -> float:
        """Relative standard error of the factor."""
        return float(np.log(self.high / self.low) / (2 * stats.norm.isf((1 - LEVEL) / 2)))

    def as_json(self) -> dict[str, Any]:
        """Return the content of its file."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Correction:
        """Return a correction from its file.

        Raises
        ------
        CountsError
            If a field is missing, or the factor is not a positive number within its interval.
        """
        try:
            numbers = {name: float(content[name]) for name in ("factor", "low", "high", "rmse")}
            numbers["rmse_corrected"] = float(content["rmse_corrected"])
            texts = {name: str(content[name]) for name in ("count", "model")}
            found = cls(pairs=int(content["pairs"]), **numbers, **texts)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise CountsError(f"The correction has no proper {error}. Make it with --fit.") from error
        if not 0 < found.low <= found.factor <= found.high < np.inf:
            raise CountsError(
                f"The correction is {found.factor:g} ({found.low:g} to {found.high:g}); expected a positive "
                "factor within its interval. Make it with --fit."
            )
        return found

    def apply(self, flow: ArrayLike, low: ArrayLike, high: ArrayLike) -> tuple[Array, Array, Array]:
        """Return corrected flows (N,) and the ends of their intervals, with the error of the factor.

        Both errors are combined on the logarithmic scale (MOVER, Zou and Donner, 2008), as in
        `layers.flow.flow_interval`.
        """
        q, below, above = (np.asarray(values, np.float64) for values in (flow, low, high))
        some = np.where(q > 0, q, 1.0)
        with np.errstate(divide="ignore"):
            down = np.hypot(np.log(np.where(q > 0, below, 1.0) / some), np.log(self.factor / self.low))
            up = np.hypot(np.log(np.where(q > 0, above, 1.0) / some), np.log(self.high / self.factor))
        fewest, most = q * self.factor * np.exp(-down), q * self.factor * np.exp(up)
        return q * self.factor, fewest, np.where(q > 0, most, above * self.high)


_NUMBERS = {"expected": 3, "flow_per_hour": 1}
"""Columns that a correction changes, and their decimals."""


def corrected(table: pd.DataFrame, correction: Correction) -> pd.DataFrame:
    """Return the table of `traffic.table` with corrected expected numbers and flows, and their intervals.

    Detected trucks and speeds stay. Warns if the correction is of another detector, or of all vehicles.
    """
    models = sorted(set(table["model"].dropna()) - set(correction.model.split(", ")))
    if models:
        warn(f"The correction is of {correction.model}; the table has runs of {', '.join(models)}.")
    if correction.count != "heavy":
        warn("The correction is of all vehicles of a counter: corrected numbers are no numbers of trucks.")
    return _multiplied(table, correction)


def corrected_traffic(found: TrafficByRoad, correction: Correction) -> TrafficByRoad:
    """Return traffic by road with corrected numbers: its table as of `corrected`, and its acquisitions."""
    acquisitions = _multiplied(found.acquisitions, correction)
    return replace(found, table=corrected(found.table, correction), acquisitions=acquisitions)


def _multiplied(table: pd.DataFrame, correction: Correction) -> pd.DataFrame:
    result = table.copy()
    for name, digits in _NUMBERS.items():
        if name not in table:
            continue
        ends = [name.removesuffix("_per_hour") + end for end in ("_low", "_high")]
        values = correction.apply(*(table[column].to_numpy(np.float64) for column in (name, *ends)))
        for column, each in zip((name, *ends), values, strict=True):
            result[column] = np.round(each, digits)
    return result


def read_correction(path: Path) -> Correction:
    """Read the file of a correction, as `truckscape evaluate counts --fit` writes it.

    Raises
    ------
    CountsError
        If it can't be read, or is no correction.
    """
    try:
        return Correction.from_json(read_json_object(path))
    except (OSError, ValueError) as error:
        raise CountsError(f"{path} is no correction ({error}). Make it with --fit.") from error


def fit(
    flow: ArrayLike, counted: ArrayLike, hours: ArrayLike, unit: float = 1.0, *, count: str, model: str
) -> Correction:
    """Return the factor that makes the estimated trucks those of the counters, as `agreement`.

    Raises
    ------
    CountsError
        If there are fewer than three pairs, or no truck was estimated or counted.
    """
    f, c, h = (np.asarray(values, np.float64) for values in (flow, counted, hours))
    if len(f) < 3 or not (f * h).sum() or not (c * h).sum():
        raise CountsError(
            f"{len(f)} pairs with {(f * h).sum():.0f} estimated and {(c * h).sum():.0f} counted trucks on "
            "the stretches are too few for a correction: expected three pairs or more, and trucks."
        )
    found = agreement(f, c, h, unit)
    if not found.ratio.low > 0:
        raise CountsError("So few trucks were found that any correction fits. Give more dates or stations.")
    others = (c * h).sum() - c * h, (f * h).sum() - f * h
    alone = np.divide(others[0], others[1], out=np.full(len(f), np.nan), where=others[1] > 0)
    return Correction(
        1 / found.ratio.value,
        1 / found.ratio.high,
        1 / found.ratio.low,
        len(f),
        count,
        model,
        found.rmse.value,
        float(np.sqrt(np.nanmean((f * alone - c) ** 2))),
    )
