"""Compare two detectors on the same labels, case by case, with tests of the differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from pipeline.errors import EvaluationError
from pipeline.evaluation.bootstrap import RESAMPLES, block_draws, percentile_interval
from pipeline.evaluation.trucks.blocks import TRUCK_BLOCK_M, precision_recall_f1
from pipeline.evaluation.trucks.boxes import centres
from pipeline.evaluation.trucks.matching import UNMATCHED, match
from pipeline.evaluation.trucks.scores import PRIMARY_RADIUS_M

CHANGES = ("fixed", "broken", "still wrong", "both right", "not observed")
COMPARISON_COLUMNS = (
    "id",
    "change",
    "what",
    "before",
    "after",
    "cause_before",
    "cause_after",
    "score_before",
    "score_after",
    "reference_id",
    "case_before",
    "case_after",
    "geometry",
)
_REFERENCES = ("TP", "FN", "not_seen")
_METRICS = ("precision", "recall", "f1")
_SAME_PLACE_M = PRIMARY_RADIUS_M + 1.0
"""A detection stands within the matching radius of its reference."""


@dataclass(frozen=True)
class Difference:
    """A metric before and after, and the interval and p-value of the difference."""

    before: float
    after: float
    low: float
    high: float
    """Of the difference, 95 %; NaN where there are fewer than two blocks."""
    p_value: float
    """Two-sided, of no difference: the share of resamples with the opposite sign, or none."""

    @property
    def change(self) -> float:
        """Difference: after minus before."""
        return self.after - self.before

    @property
    def significant(self) -> bool:
        """True if 0 is outside of the interval."""
        return bool(self.low > 0 or self.high < 0)

    def as_json(self) -> dict[str, Any]:
        """Return plain numbers; None where undefined."""
        numbers = {
            "before": self.before,
            "after": self.after,
            "change": self.change,
            "p_value": self.p_value,
        }
        plain = {name: float(value) if np.isfinite(value) else None for name, value in numbers.items()}
        bounds = [float(end) if np.isfinite(end) else None for end in (self.low, self.high)]
        return {**plain, "change_interval_95": bounds, "significant": self.significant}


def compare_cases(
    before: gpd.GeoDataFrame, after: gpd.GeoDataFrame, prefix: str = "", same_labels: bool = False
) -> gpd.GeoDataFrame:
    """Join cases of two evaluations against the same labels (`truck_cases`): `COMPARISON_COLUMNS`.

    `change` is one of `CHANGES`. A labelled truck (`what` is `truck`) is the same one by the id of its
    reference: `fixed` if only the second run found it, `broken` if only the first did, and `not observed` if
    neither found it and one did not observe its place. A false positive (`what` is `false alarm`) is the same
    one if both runs have one within `PRIMARY_RADIUS_M`, matched one to one: it is `still wrong`. One that is
    gone is `fixed`, a new one `broken`. Boxes are those of the second run, else of the first, in the first
    run's CRS. `id` is the change with a number, after `prefix`. With `same_labels`, known from elsewhere, a
    truck that is ignored in one run (the edge of its observed area truncates it) is `not observed`; without,
    it means that the labels differ.

    Raises
    ------
    EvaluationError
        If the references of both are not the same, or their ids are not unique.
    """
    after = after.to_crs(before.crs)
    trucks = _trucks(before, after, same_labels)
    alarms = _false_alarms(before, after)
    table = pd.concat([part for part in (trucks, alarms) if len(part)] or [trucks], ignore_index=True)
    order = pd.Categorical(table["change"], CHANGES, ordered=True)
    table = table.iloc[np.argsort(order.codes, kind="stable")].reset_index(drop=True)
    number = table.groupby("change").cumcount() + 1
    table["id"] = [
        f"{prefix}{change.replace(' ', '-')}-{nth:05d}"
        for change, nth in zip(table["change"], number, strict=True)
    ]
    return gpd.GeoDataFrame(table[list(COMPARISON_COLUMNS)], geometry="geometry", crs=before.crs)


def counts_by_block(compared: gpd.GeoDataFrame, block_m: float = TRUCK_BLOCK_M) -> NDArray[np.int64]:
    """Count TP, FP and FN before and after, (B, 2, 3), in every square of side `block_m` that has any.

    Trucks that are ignored in one run are left out.
    """
    compared = compared[
        compared["before"].notna() & compared["after"].notna() | (compared["what"] != "truck")
    ]
    truck = (compared["what"] == "truck").to_numpy()
    tallies = np.zeros((len(compared), 2, 3), dtype=np.int64)
    for run, column in enumerate(("before", "after")):
        outcome = compared[column].to_numpy(dtype=object)
        for index, name in enumerate(("TP", "FP", "FN")):
            tallies[:, run, index] = (outcome == name) & (truck == (name != "FP"))
    if not len(compared):
        return tallies
    cells = np.floor(centres(compared) / block_m).astype(np.int64)
    _, block = np.unique(cells, axis=0, return_inverse=True)
    counts = np.zeros((int(block.max()) + 1, 2, 3), dtype=np.int64)
    np.add.at(counts, block.reshape(-1), tallies)
    return counts[counts.any(axis=(1, 2))]


def truck_differences(counts: NDArray[np.int64]) -> dict[str, Difference]:
    """Return precision, recall and F1 before and after, from `counts_by_block` of one or several scenes.

    Both runs are scored on the same drawn blocks (paired bootstrap), so their common errors cancel out.
    """
    return paired_differences(counts.astype(np.float64), precision_recall_f1, _METRICS)


def paired_differences(
    counts: NDArray[np.float64], metrics: Any, names: Sequence[str], resamples: int = RESAMPLES
) -> dict[str, Difference]:
    """Return metrics before and after, by name, with intervals of their differences.

    `counts` is (B, 2, ...), of every block before and after; `metrics` makes (..., S) metrics of (..., ...)
    sums. Blocks are drawn with replacement, for both runs alike (Efron and Tibshirani, "An introduction to
    the bootstrap", 1993, chapters 13 and 15).
    """
    before, after = metrics(counts.sum(axis=0).astype(np.float64))
    if len(counts) < 2:
        undefined = np.full((2, len(names)), np.nan)
        bounds, p_values = undefined, undefined[0]
    else:
        drawn = [np.tensordot(draws, counts, axes=1) for draws in block_draws(len(counts), resamples)]
        resampled = metrics(np.concatenate(drawn))
        change = resampled[:, 1] - resampled[:, 0]
        bounds, p_values = percentile_interval(change), _p_values(change)
    return {
        name: Difference(*(float(value) for value in (before[i], after[i], *bounds[:, i], p_values[i])))
        for i, name in enumerate(names)
    }


def mcnemar(fixed: int, broken: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (1947); NaN if no truck is fixed or broken.

    If neither run finds more trucks, as many are found by the first run alone as by the second alone.
    """
    return float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else float("nan")


def _p_values(change: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = np.isfinite(change)
    total = np.maximum(defined.sum(axis=0), 1)
    below, above = ((defined & sign).sum(axis=0) for sign in (change <= 0, change >= 0))
    smallest = (np.minimum(below, above) + 1) / (total + 1)
    return np.where(defined.any(axis=0), np.minimum(1.0, 2 * smallest), np.nan)


def _trucks(before: gpd.GeoDataFrame, after: gpd.GeoDataFrame, same_labels: bool) -> pd.DataFrame:
    sides = [_by_reference(cases) for cases in (before, after)]
    if not same_labels:
        _check_same_ids(*sides)
    _check_same_places(*sides)
    ids = sides[0].index.union(sides[1].index, sort=False)
    first, second = (pd.DataFrame(side).reindex(ids) for side in sides)
    asked = (first["outcome"].notna() & second["outcome"].notna()).to_numpy()
    found = [(side["outcome"] == "TP").to_numpy() for side in (first, second)]
    blind = ((first["outcome"] == "not_seen") | (second["outcome"] == "not_seen").to_numpy()).to_numpy()
    change = np.select(
        [~asked, found[0] & found[1], found[1], found[0], blind],
        ["not observed", "both right", "fixed", "broken", "not observed"],
        "still wrong",
    )
    return _side_by_side(first, second, change, "truck").assign(reference_id=ids)


def _by_reference(cases: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return the cases of references that count, by their ids."""
    certain = cases[cases["outcome"].isin(_REFERENCES)]
    ids = certain["reference_id"].astype(str)
    if ids.duplicated().any():
        raise EvaluationError(
            f"Trucks of two runs are matched by their labels' ids, but {ids[ids.duplicated()].iloc[0]} is "
            "used twice. Give each label its own id and evaluate again."
        )
    return certain.set_index(ids.to_numpy())


def _check_same_ids(before: gpd.GeoDataFrame, after: gpd.GeoDataFrame) -> None:
    only = len(before.index.difference(after.index)), len(after.index.difference(before.index))
    if any(only):
        raise EvaluationError(
            f"Both runs must be evaluated against the same labels, but {only[0]} of {len(before)} labelled "
            f"trucks are only in the first and {only[1]} of {len(after)} only in the second. Evaluate again."
        )


def _check_same_places(before: gpd.GeoDataFrame, after: gpd.GeoDataFrame) -> None:
    ids = before.index.intersection(after.index)
    sides = before.loc[ids], after.loc[ids]
    apart = np.hypot(*(centres(sides[0]) - centres(sides[1])).T)
    slack = sum(np.where(side["outcome"] == "TP", _SAME_PLACE_M, 0.5) for side in sides)
    if (apart > slack).any():
        raise EvaluationError(
            f"Both runs must be evaluated against the same labels, but those with the id "
            f"{ids[apart > slack][0]} lie {apart.max():.0f} m apart. Evaluate both again."
        )


def _false_alarms(before: gpd.GeoDataFrame, after: gpd.GeoDataFrame) -> pd.DataFrame:
    first, second = (cases[cases["outcome"] == "FP"].reset_index(drop=True) for cases in (before, after))
    same = match(centres(first), centres(second), np.zeros(len(second), bool), PRIMARY_RADIUS_M)
    old, new = same.reference_of, np.flatnonzero(same.prediction_of == UNMATCHED)
    rows = np.append(np.arange(len(first)), np.full(len(new), UNMATCHED))
    others = np.append(old, new)
    change = np.select([rows == UNMATCHED, others == UNMATCHED], ["broken", "fixed"], "still wrong")
    return _side_by_side(_take(first, rows), _take(second, others), change, "false alarm")


def _take(cases: gpd.GeoDataFrame, rows: NDArray[np.intp]) -> pd.DataFrame:
    """Return the rows, with empty ones for `UNMATCHED`."""
    return pd.DataFrame(cases).reindex(np.where(rows == UNMATCHED, len(cases), rows))


def _side_by_side(
    first: pd.DataFrame, second: pd.DataFrame, change: NDArray[np.str_], what: str
) -> pd.DataFrame:
    def text(side: pd.DataFrame, name: str) -> NDArray[np.object_]:
        values = (
            side[name].astype(object) if name in side else pd.Series(None, index=side.index, dtype=object)
        )
        return values.where(values.notna(), None).to_numpy(dtype=object)

    shape = text(second, "geometry")
    return pd.DataFrame(
        {
            "id": "",
            "change": change.astype(object),
            "what": what,
            "before": text(first, "outcome"),
            "after": text(second, "outcome"),
            "cause_before": text(first, "cause"),
            "cause_after": text(second, "cause"),
            "score_before": pd.to_numeric(first["score"]).to_numpy(dtype=np.float64),
            "score_after": pd.to_numeric(second["score"]).to_numpy(dtype=np.float64),
            "reference_id": None,
            "case_before": text(first, "id"),
            "case_after": text(second, "id"),
            "geometry": np.where(pd.isna(shape), text(first, "geometry"), shape),
        }
    )
