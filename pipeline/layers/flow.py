"""Number and flow of trucks on a segment, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri  # scipy.stats takes a second to import

from pipeline.layers.expected import Shares, Sums
from pipeline.layers.snapping import Snapped, numbers

SPEED_SPREAD_KMH = 8.0
"""Standard deviation of speed between trucks, for the error of a mean of few."""


FALLBACK_SPEED_KMH, FALLBACK_SIGMA_KMH = 80.0, 10.0
"""Speed for flows of scenes in which no truck has a speed."""


_CONFIDENCE = 0.95


@dataclass(frozen=True)
class RoadCounts:
    """Trucks on the segments of a network: those counted, and the expected number, by direction."""

    snapped: Snapped
    """All detections that contribute."""
    shares: Shares
    resolved: Mapping[int, Sums]
    """Sums over S segments of detections that drive along (1) and against (-1) the line."""
    unresolved: Sums
    """Sums of detections of uncertain direction."""
    halved: Sums
    """The same for either direction, which has each of them with a probability of one half."""

    @classmethod
    def of(cls, snapped: Snapped, size: int, shares: Shares) -> RoadCounts:
        """Add up detections on `size` segments."""

        def on(way: int) -> NDArray[np.int64]:
            return np.where(snapped.direction == way, snapped.segment, -1)

        resolved = {way: shares.sums(on(way), size) for way in (1, -1)}
        return cls(snapped, shares, resolved, shares.sums(on(0), size), shares.sums(on(0), size, 0.5))

    def counted(self, way: int) -> NDArray[np.int64]:
        """Return (S,): detections above the threshold with this direction, 0 for an uncertain one."""
        here = (self.snapped.segment >= 0) & (self.snapped.direction == way) & self.shares.counted
        return np.bincount(self.snapped.segment[here], minlength=len(self.unresolved.noise))

    @property
    def together(self) -> Sums:
        """Sums of all detections of a segment."""
        return self.resolved[1] + self.resolved[-1] + self.unresolved


def observe(counts: RoadCounts, segments: gpd.GeoDataFrame, seen_m: NDArray[np.float64]) -> pd.DataFrame:
    """Return a row for each direction of each searched segment, as `observe_directions`."""
    oneway = segments["oneway"].to_numpy()
    seen = {way: np.where(oneway * way >= 0, seen_m, 0.0) for way in (1, -1)}
    return observe_directions(counts, segments["road_class"], seen)


def observe_directions(
    counts: RoadCounts, road_class: pd.Series, seen_m: Mapping[int, NDArray[np.float64]]
) -> pd.DataFrame:
    """Return a row for each searched direction of each of S segments, or roads: `segment` and figures.

    `road_class` is (S,); `seen_m` has the searched metres (S,) of direction 1 and -1.

    `count` trucks have this direction; `count_unresolved` on the segment have an uncertain one, and each
    direction gets half of them. `expected` is the expected number, see `pipeline.layers.expected`.

        flow = expected / visible share / seen length x speed

    with the share of trucks that is in the expected number (`layers.expected.Recall.visible`) and the mean
    speed of the trucks of this direction and the unresolved ones. Without a speed it is that of the road
    class in this scene, of the scene, or `FALLBACK_SPEED_KMH`. Weights are inverse variances: of the speed
    and `SPEED_SPREAD_KMH`.

    The 95 % interval of the flow combines two: that of the mean number, at its lower end without the
    unresolved, at its upper end with all; speed and visible share by their standard errors. MOVER combines
    them on the logarithmic scale (Zou and Donner, "Construction of confidence limits about effect measures",
    2008).
    """
    rows = pd.concat(
        [
            pd.DataFrame(
                {
                    "segment": np.flatnonzero(metres > 0),
                    "direction": direction,
                    "seen_km": metres[metres > 0] / 1000,
                }
            )
            for direction, metres in seen_m.items()
        ],
        ignore_index=True,
    ).sort_values(["segment", "direction"], ascending=[True, False], ignore_index=True)
    segment, direction = rows["segment"].to_numpy(), rows["direction"].to_numpy()
    rows["count"] = np.where(direction > 0, counts.counted(1)[segment], counts.counted(-1)[segment])
    rows["count_unresolved"] = counts.counted(0)[segment]
    rows["trucks_per_km"] = (rows["count"] + rows["count_unresolved"] / 2) / rows["seen_km"]
    speed, error = _speeds(counts, road_class, segment, direction)
    rows["mean_speed_kmh"], rows["speed_se_kmh"] = speed["own"], error["own"]
    rows["flow_speed_kmh"], rows["flow_speed_se_kmh"] = speed["used"], error["used"]
    figures = np.zeros((len(rows), len(_EXPECTED)))
    for way in (1, -1):
        figures[direction == way] = _of_direction(counts, way, segment[direction == way])
    rows[list(_EXPECTED)] = figures
    shares = counts.shares
    per_truck = (rows["flow_speed_kmh"] / rows["seen_km"]).to_numpy() / shares.visible
    fewest, most = rows.pop("fewest").to_numpy(), rows.pop("most").to_numpy()
    expected = rows["expected"].to_numpy()
    rows["flow_per_hour"] = expected * per_truck
    rows["flow_low"], rows["flow_high"] = flow_interval(
        fewest, expected, most, per_truck, np.hypot(error["used"] / speed["used"], shares.visible_error)
    )
    return rows


_EXPECTED = ("expected", "expected_low", "expected_high", "recall_used", "fewest", "most")


def _of_direction(counts: RoadCounts, way: int, segment: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (N, 6) `_EXPECTED` of segments in one direction."""
    own, half, all_ = (
        sums.take(segment)
        for sums in (
            counts.resolved[way],
            counts.resolved[way] + counts.halved,
            counts.resolved[way] + counts.unresolved,
        )
    )
    return np.stack(
        [half.expected, *half.interval, half.recall, own.mean_interval[0], all_.mean_interval[1]], axis=1
    )


def poisson_interval(count: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the exact 95 % interval of a Poisson mean for counts (N,) (Garwood, 1936)."""
    tail = (1 - _CONFIDENCE) / 2
    low = np.where(count > 0, gammaincinv(np.maximum(count, 0.5), tail), 0.0)
    return low, np.asarray(gammaincinv(count + 1, 1 - tail))


def flow_interval(
    fewest: NDArray[np.float64],
    expected: NDArray[np.float64],
    most: NDArray[np.float64],
    per_truck: NDArray[np.float64],
    speed_error: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends (N,) of the flow for a number of trucks between `fewest` and `most`.

    `per_truck` is the flow of one truck, `speed_error` its relative standard error.
    """
    speed = (ndtri((1 + _CONFIDENCE) / 2) * speed_error) ** 2
    some = np.where(expected > 0, expected, 1.0)
    down = np.sqrt(np.log(np.where(fewest > 0, fewest, 1.0) / some) ** 2 + speed)
    up = np.sqrt(np.log(most / some) ** 2 + speed)
    low = np.where(fewest > 0, expected * np.exp(-down), 0.0)
    # Zero has no logarithm: the speed's error is added to its upper count.
    high = np.where(expected > 0, expected * np.exp(up), most * np.exp(np.sqrt(speed)))
    return low * per_truck, high * per_truck


def _speeds(
    counts: RoadCounts, road_class: pd.Series, segment: NDArray[np.int64], direction: NDArray[np.int64]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Return mean speeds and their standard errors by row: `own` (NaN without any), and `used`."""
    snapped = counts.snapped
    speed, sigma = (numbers(snapped.trucks, name) for name in ("speed_kmh", "speed_kmh_sigma"))
    known = (snapped.segment >= 0) & counts.shares.counted & np.isfinite(speed) & np.isfinite(sigma)
    weight = np.where(known, 1 / (np.nan_to_num(sigma) ** 2 + SPEED_SPREAD_KMH**2), 0.0)
    moved = weight * np.nan_to_num(speed)
    size = len(road_class)

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
    _, kind = np.unique(road_class.astype(object).fillna("").to_numpy(str), return_inverse=True)
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
