"""Flow of trucks on a segment, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from pipeline.layers.snapping import Snapped, numbers

SPEED_SPREAD_KMH = 8.0
"""Standard deviation of speed between trucks, for the error of a mean of few."""


FALLBACK_SPEED_KMH, FALLBACK_SIGMA_KMH = 80.0, 10.0
"""Speed for flows of scenes in which no truck has a speed."""


_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Recall:
    """Recall of a detector, 0-1, and its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of_card(cls, quality: Mapping[str, Any], near_roads: bool = True) -> Recall | None:
        """Return the recall on a model card's labelled places, or its simulated scenes; None without one."""
        area = "near_roads" if near_roads else "everywhere"
        for place in ("labelled_places_together", "simulated_held_out"):
            try:
                value, (low, high) = (
                    quality[place][area]["recall"],
                    quality[place][area]["interval_95"]["recall"],
                )
                if value > 0:
                    return cls(float(value), max(float(low), 0.01), float(high))
            except (KeyError, TypeError, ValueError):  # cards may have any quality figures
                continue
        return None


def observe(
    snapped: Snapped, segments: gpd.GeoDataFrame, seen_m: NDArray[np.float64], recall: Recall | None
) -> pd.DataFrame:
    """Return a row for each direction of each searched segment: `segment` and figures.

    `count` trucks have this direction; `count_unresolved` on the segment have an uncertain one, and each
    direction gets half of them.

        flow = (count + unresolved / 2) / seen length / recall x speed

    with the mean speed of the trucks of this direction and the unresolved ones. Without a speed it is that of
    the road class in this scene, of the scene, or `FALLBACK_SPEED_KMH`. Weights are inverse variances: of the
    speed and `SPEED_SPREAD_KMH`.

    The 95 % interval combines three: the count by Garwood ("Fiducial limits for the Poisson distribution",
    1936), its lower end without the unresolved, its upper end with all; the recall as given; the speed by its
    standard error. MOVER combines them on the logarithmic scale (Zou and Donner, "Construction of
    confidence limits about effect measures", 2008). False alarms are not subtracted.
    """
    seen = np.flatnonzero(seen_m > 0)
    oneway = segments["oneway"].to_numpy()[seen]
    rows = pd.concat(
        [
            pd.DataFrame({"segment": seen[oneway * direction >= 0], "direction": direction})
            for direction in (1, -1)
        ],
        ignore_index=True,
    ).sort_values(["segment", "direction"], ascending=[True, False], ignore_index=True)
    segment, direction = rows["segment"].to_numpy(), rows["direction"].to_numpy()
    size = len(segments)
    counts = {
        way: np.bincount(snapped.segment[(snapped.segment >= 0) & (snapped.direction == way)], minlength=size)
        for way in (1, -1, 0)
    }
    rows["count"] = np.where(direction > 0, counts[1][segment], counts[-1][segment])
    rows["count_unresolved"] = counts[0][segment]
    rows["seen_km"] = seen_m[segment] / 1000
    expected = rows["count"] + rows["count_unresolved"] / 2
    rows["trucks_per_km"] = expected / rows["seen_km"]
    speed, error = _speeds(snapped, segments, segment, direction)
    rows["mean_speed_kmh"], rows["speed_se_kmh"] = speed["own"], error["own"]
    rows["flow_speed_kmh"], rows["flow_speed_se_kmh"] = speed["used"], error["used"]
    found = Recall(1.0, 1.0, 1.0) if recall is None else recall
    per_truck = rows["flow_speed_kmh"] / rows["seen_km"] / found.value
    rows["flow_per_hour"] = expected * per_truck
    rows["flow_low"], rows["flow_high"] = flow_interval(
        rows["count"].to_numpy(np.float64),
        expected.to_numpy(np.float64),
        (rows["count"] + rows["count_unresolved"]).to_numpy(np.float64),
        per_truck.to_numpy(),
        error["used"] / speed["used"],
        found,
    )
    rows["recall_used"] = np.nan if recall is None else recall.value
    return rows


def poisson_interval(count: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the exact 95 % interval of a Poisson mean for counts (N,) (Garwood, 1936)."""
    tail = (1 - _CONFIDENCE) / 2
    low = np.where(count > 0, stats.chi2.ppf(tail, np.maximum(2 * count, 1)) / 2, 0.0)
    return low, np.asarray(stats.chi2.ppf(1 - tail, 2 * (count + 1)) / 2)


def flow_interval(
    least: NDArray[np.float64],
    expected: NDArray[np.float64],
    most: NDArray[np.float64],
    per_truck: NDArray[np.float64],
    speed_error: NDArray[np.float64],
    recall: Recall,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends (N,) of the flow for counts from `least` to `most` and the flow of one truck."""
    speed = (stats.norm.ppf((1 + _CONFIDENCE) / 2) * speed_error) ** 2
    fewest, most_of_all = poisson_interval(least)[0], poisson_interval(most)[1]
    some = np.where(expected > 0, expected, 1.0)
    down = np.sqrt(
        np.log(np.where(fewest > 0, fewest, 1.0) / some) ** 2
        + np.log(recall.high / recall.value) ** 2
        + speed
    )
    wider = np.log(recall.value / recall.low) ** 2 + speed
    up = np.sqrt(np.log(most_of_all / some) ** 2 + wider)
    low = np.where(fewest > 0, expected * np.exp(-down), 0.0)
    # Zero has no logarithm: the other errors are added to its upper count.
    high = np.where(expected > 0, expected * np.exp(up), most_of_all * np.exp(np.sqrt(wider)))
    return low * per_truck, high * per_truck


def _speeds(
    snapped: Snapped, segments: gpd.GeoDataFrame, segment: NDArray[np.int64], direction: NDArray[np.int64]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Return mean speeds and their standard errors by row: `own` (NaN without any), and `used`."""
    speed, sigma = (numbers(snapped.trucks, name) for name in ("speed_kmh", "speed_kmh_sigma"))
    known = (snapped.segment >= 0) & np.isfinite(speed) & np.isfinite(sigma)
    weight = np.where(known, 1 / (np.nan_to_num(sigma) ** 2 + SPEED_SPREAD_KMH**2), 0.0)
    moved = weight * np.nan_to_num(speed)
    size = len(segments)

    def sums(values: NDArray[np.float64], way: int) -> NDArray[np.float64]:
        here = known & (snapped.direction == way)
        return np.bincount(snapped.segment[here], values[here], size).astype(np.float64)

    def by_row(values: NDArray[np.float64]) -> NDArray[np.float64]:
        each = {way: sums(values, way) for way in (1, -1, 0)}
        return np.where(direction > 0, each[1][segment], each[-1][segment]) + each[0][segment]

    def mean(total: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.divide(total, of, out=np.full(len(of), np.nan), where=of > 0)

    weights = by_row(weight)
    own, own_error = mean(by_row(moved), weights), mean(np.ones(len(weights)), np.sqrt(weights))
    _, kind = np.unique(segments["road_class"].astype(object).fillna("").to_numpy(str), return_inverse=True)
    used, used_error = own, own_error
    everywhere = np.zeros(size, np.intp)
    for group in (kind, everywhere):
        of, total = (
            np.bincount(group[snapped.segment[known]], values[known], size).astype(np.float64)
            for values in (weight, moved)
        )
        theirs, theirs_error = (
            mean(total, of)[group[segment]],
            mean(np.ones(size), np.sqrt(of))[group[segment]],
        )
        lacks = np.isnan(used)
        used = np.where(lacks, theirs, used)
        used_error = np.where(lacks, np.hypot(theirs_error, SPEED_SPREAD_KMH), used_error)
    lacks = np.isnan(used)
    used = np.where(lacks, FALLBACK_SPEED_KMH, used)
    used_error = np.where(lacks, FALLBACK_SIGMA_KMH, used_error)
    return {"own": own, "used": used}, {"own": own_error, "used": used_error}
