"""Summary of a place for people: its roads over the dates, what was searched, and which dates differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from pipeline.traffic.days import Days
from pipeline.traffic.rates import compare
from pipeline.traffic.table import TrafficByRoad, by_road

_KEYS = ["road", "direction"]
_LEAST_DATES = 3
"""Dates for an interval, as of `rates.compare`."""
_LATEST = 12
"""Dates that are compared with all others: each takes a second for 600 roads and directions."""


@dataclass(frozen=True)
class Comparison:
    """Rates of two sets of dates."""

    first: str
    second: str
    """Names of the sets."""
    rates: pd.DataFrame
    """Rows of `rates.compare`: `ratio` is the second over the first."""


@dataclass(frozen=True)
class PlaceSummary:
    """Traffic of a place over its dates."""

    acquisitions: pd.DataFrame
    """`table.ACQUISITION_FIELDS`, with the local `date`, `weekday`, and the shares of road length that are
    `searched`, under `cloud` and without data (`no_data`), 0-1; null where clouds are unknown."""
    roads: gpd.GeoDataFrame
    """A row for each road, in degrees: `road`, `name`, `road_class`, `flow_per_hour` of both directions, and
    its lines, each once."""
    directions: pd.DataFrame
    """`table.SUMMARY_FIELDS`: a row for each road and direction."""
    series: pd.DataFrame
    """A row for each road, direction and date: `trucks`, `expected`, `km`, `flow`, `flow_low`, `flow_high`,
    `congested`. Of two scenes of one date, numbers are added, and flows with their ends are means by searched
    length; that interval is wider than needed."""
    totals: pd.DataFrame
    """A row for each date, of all roads: `km`, `trucks`, `expected`, `expected_low`, `expected_high`."""
    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]
    """A line for each folder that is not used."""
    models: tuple[str, ...]
    """Detectors of the runs."""
    by_area: bool = False
    """True without roads: `roads` is empty, and one row stands for all ground. `km` are then searched km2."""


def summary_of(found: TrafficByRoad) -> PlaceSummary:
    """Summarize traffic by road; of fewer than three dates, or of several detectors, without comparisons."""
    acquisitions = _acquisitions(found)
    series = _series(found.table)
    directions = by_road(found.table)
    models = tuple(sorted(found.table["model"].dropna().unique()))
    return PlaceSummary(
        acquisitions,
        _roads(found.roads, directions),
        directions,
        series,
        totals(acquisitions),
        tuple(comparisons(series)) if len(models) < 2 else (),
        found.left_out,
        models,
    )


def _acquisitions(found: TrafficByRoad) -> pd.DataFrame:
    """Return the acquisitions with their local dates and shares."""
    each = found.acquisitions.reset_index(drop=True)
    local = found.table.dropna(subset="date").groupby("scene_id")["date"].first()
    dates = each["scene_id"].map(local).astype(object)
    utc = pd.Series(
        [None if pd.isna(at) else pd.Timestamp(at).date() for at in each["acquired"]], dtype=object
    )
    dates = pd.to_datetime(dates.where(dates.notna(), utc))
    length = each["road_km"].astype(float).where(lambda km: km > 0)
    shares = {"searched": each["seen_km"] / length, "cloud": each["cloud_km"].astype(float) / length}
    shares["no_data"] = (1 - shares["searched"] - shares["cloud"]).clip(lower=0)
    return each.assign(date=dates, weekday=dates.dt.day_name(), **shares)


def _series(table: pd.DataFrame) -> pd.DataFrame:
    """Return `PlaceSummary.series`."""
    seen = table[(table["seen_km"] > 0) & table["date"].notna()]
    flows = ["flow_per_hour", "flow_low", "flow_high"]
    weighted = seen[flows].astype(float).mul(seen["seen_km"], axis=0)
    rows = seen[[*_KEYS, "trucks", "expected"]].assign(
        date=pd.to_datetime(seen["date"]),
        km=seen["seen_km"],
        congested=seen["congested"].fillna(False).astype(bool),
        **{name: weighted[name] for name in flows},
    )
    grouped = rows.groupby([*_KEYS, "date"], sort=False)
    result = grouped[["trucks", "expected", "km", *flows]].sum(min_count=1)
    result["congested"] = grouped["congested"].any()
    result[flows] = result[flows].div(result["km"], axis=0)
    return result.rename(columns={"flow_per_hour": "flow"}).reset_index()


def totals(acquisitions: pd.DataFrame) -> pd.DataFrame:
    """Return `PlaceSummary.totals`. Ends of two scenes of one date are added, as if their errors were one."""
    names = ["trucks", "expected", "expected_low", "expected_high"]
    seen = acquisitions[acquisitions["seen_km"] > 0].rename(columns={"seen_km": "km"})
    return (
        seen.astype(dict.fromkeys(names, float))
        .groupby("date")[["km", *names]]
        .sum(min_count=1)
        .reset_index()
    )


def _roads(lines: gpd.GeoDataFrame, directions: pd.DataFrame) -> gpd.GeoDataFrame:
    """Return `PlaceSummary.roads`, those with the greatest flow last."""
    flow = directions.groupby("road")["flow_per_hour"].sum(min_count=1)
    first = directions.drop_duplicates("road").set_index("road")[["name", "road_class"]]
    shapes = lines.groupby("road")["geometry"].agg(_each_once)
    frame = first.assign(flow_per_hour=flow, geometry=shapes).reset_index()
    roads = gpd.GeoDataFrame(frame, geometry="geometry", crs=lines.crs)
    return roads.sort_values("flow_per_hour", kind="stable", na_position="first", ignore_index=True)


def _each_once(shapes: pd.Series) -> Any:
    """Return the lines of both directions; a line that carries both is drawn both ways, and counts once."""
    parts = shapely.get_parts(shapes.dropna().to_numpy())
    _, first = np.unique(shapely.to_wkb(shapely.normalize(parts)), return_index=True)
    return shapely.line_merge(shapely.multilinestrings(parts[np.sort(first)]))


def comparisons(series: pd.DataFrame) -> Iterator[Comparison]:
    """Compare the halves of the dates, weekdays with weekends, and each of the last dates with the others."""
    per_road = series.groupby(_KEYS).agg(dates=("date", "nunique"), expected=("expected", "sum"))
    if not ((per_road["dates"] >= _LEAST_DATES) & (per_road["expected"] > 0)).any():
        return
    dates = pd.DatetimeIndex(series["date"].unique()).sort_values()
    half = len(dates) // 2
    sets = [
        (_span(dates[:half]), _days(dates[:half]), _span(dates[half:]), _days(dates[half:])),
        ("Monday to Friday", Days.parse("Mon-Fri"), "Saturday and Sunday", Days.parse("Sat,Sun")),
    ]
    for date in dates[-_LATEST:][::-1]:
        others = dates[dates != date]
        sets.append(("all other dates", _days(others), f"{date:%Y-%m-%d}", _days([date])))
    for first, first_days, second, second_days in sets:
        if first_days.include(dates).any() and second_days.include(dates).any():
            yield Comparison(first, second, compare(series, first_days, second_days))


def _days(dates: Sequence[pd.Timestamp] | pd.DatetimeIndex) -> Days:
    return Days.parse(",".join(f"{date:%Y-%m-%d}" for date in dates))


def _span(dates: pd.DatetimeIndex) -> str:
    return " to ".join(dict.fromkeys(f"{date:%Y-%m-%d}" for date in (dates[0], dates[-1])))
