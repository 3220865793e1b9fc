"""Traffic by road, direction and acquisition as one tidy table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
import tzfpy
from numpy.typing import NDArray

from pipeline.layers.flow import observe_directions
from pipeline.traffic.congestion import congested, free_speeds
from pipeline.traffic.roads import Roads, direction_lines, roads_of
from pipeline.traffic.runs import FinishedRun, Records, Runs, read_runs

log = logging.getLogger(__name__)

LeftOut = Callable[[FinishedRun], NDArray[np.bool_]]
"""Function from a run to a mask (N,) of its detections that do not count."""

_TEXT, _NUMBER, _FLAG = pa.string(), pa.float64(), pa.bool_()
TABLE_FIELDS: Mapping[str, tuple[pa.DataType, str]] = {
    "road": (_TEXT, "key of the road: its ref; without one its name, or class, and first segment"),
    "ref": (_TEXT, "its number, as A 2: the first of several; null without"),
    "name": (_TEXT, "its name on most of its length; null without"),
    "road_class": (_TEXT, "its class on most of its length, e.g. motorway"),
    "direction": (
        _TEXT,
        "direction of travel by the general course of the road: N, NE, E, SE, S, SW, W or NW; on a ring "
        "clockwise or anticlockwise",
    ),
    "bearing_deg": (
        _NUMBER,
        "bearing of that course from end to end, degrees clockwise from grid north; null for a ring",
    ),
    "scene_id": (_TEXT, "id of the scene"),
    "acquired": (pa.timestamp("ms", tz="UTC"), "time of acquisition, UTC; null if the source has none"),
    "date": (pa.date32(), "date of the local time; where there is no time, the date of acquisition"),
    "weekday": (_TEXT, "its day of the week, Monday to Sunday"),
    "local_time": (
        pa.timestamp("ms"),
        "time of acquisition on the clocks of the time zone, with daylight saving time; null without a time",
    ),
    "time_zone": (_TEXT, "time zone at the middle of the road, e.g. Europe/Berlin"),
    "trucks": (
        _NUMBER,
        "detected trucks: those of this direction, and half of those of uncertain direction; null if nothing "
        "of the road was searched",
    ),
    "expected": (_NUMBER, "expected number of trucks: probabilities of detections over recall"),
    "expected_low": (_NUMBER, "lower end of its 95 % interval: of the trucks that were there"),
    "expected_high": (_NUMBER, "upper end of its 95 % interval"),
    "recall_used": (_NUMBER, "mean recall of these trucks, 0-1; null if unknown, then without correction"),
    "seen_km": (_NUMBER, "searched length of the road in this direction, km: with data, without cloud"),
    "cloud_share": (
        _NUMBER,
        "share of the length with data that is under cloud or its shadow, 0-1; null if clouds are unknown",
    ),
    "trucks_per_km": (_NUMBER, "density of detections: trucks, divided by seen_km"),
    "flow_per_hour": (_NUMBER, "trucks per hour: expected, divided by visible and seen_km, times speed"),
    "flow_low": (_NUMBER, "lower end of the flow's 95 % interval, trucks per hour"),
    "flow_high": (_NUMBER, "upper end of the flow's 95 % interval, trucks per hour"),
    "mean_speed_kmh": (_NUMBER, "space-mean speed of those trucks, km/h; null if none has a speed"),
    "speed_se_kmh": (_NUMBER, "its standard error, km/h"),
    "flow_speed_kmh": (_NUMBER, "speed used for the flow: the mean or, without one, that of similar roads"),
    "congested": (
        _FLAG,
        "true if trucks are slow or stand in a row, false if they are fast; null if nothing can be said, as "
        "on an empty road",
    ),
    "simulated": (_FLAG, "true if the scene is simulated"),
    "model": (_TEXT, "the detector, id and version"),
}
"""Columns of the table: type, and meaning with its unit."""

_ROUNDED = {
    **dict.fromkeys(("bearing_deg", "mean_speed_kmh", "speed_se_kmh", "flow_speed_kmh"), 1),
    **dict.fromkeys(("flow_per_hour", "flow_low", "flow_high"), 1),
    **dict.fromkeys(("expected", "expected_low", "expected_high", "recall_used", "seen_km"), 3),
    **dict.fromkeys(("cloud_share", "trucks_per_km"), 3),
}

ACQUISITION_FIELDS: Mapping[str, str] = {
    "scene_id": "id of the scene",
    "folder": "folder of its run",
    "acquired": "time of acquisition, UTC; null if the source has none",
    "simulated": "true if the scene is simulated",
    "road_km": "length of all roads of the place, each carriageway once, without tunnels, km",
    "seen_km": "searched length of that",
    "cloud_km": "length under cloud or its shadow; null if clouds are unknown",
    "trucks": "detected trucks on these roads",
    "expected": "expected number of trucks on them, with its 95 % interval",
    "expected_low": "lower end",
    "expected_high": "upper end",
    "recurring": "detections that were left out",
}
"""Columns of `TrafficByRoad.acquisitions`, and their meaning."""


@dataclass(frozen=True)
class TrafficByRoad:
    """Traffic of several runs by road."""

    table: pd.DataFrame
    """`TABLE_FIELDS`: a row for each road, direction and acquisition, in this order."""
    roads: gpd.GeoDataFrame
    """A row for each road and direction: `road`, `direction`, `ref`, `name`, `road_class`, `bearing_deg`, and
    the lines that carry it, drawn that way, in degrees (EPSG:4326)."""
    scenes: int
    left_out: tuple[str, ...] = ()
    """A line for each folder that is not used."""
    apart: float = 0.0
    """Detected trucks on ramps and service roads, which are no part of the table."""
    acquisitions: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(ACQUISITION_FIELDS)))
    """`ACQUISITION_FIELDS`: a row for each acquisition, by time."""


def traffic_of(
    places: Sequence[Path] | Records, left_out: LeftOut | None = None, say: Callable[[str], None] = log.info
) -> TrafficByRoad:
    """Return the traffic by road of the finished runs in folders. Errors as `read_runs`."""
    return traffic_by_road(read_runs(places, say), left_out)


def traffic_by_road(runs: Runs, left_out: LeftOut | None = None) -> TrafficByRoad:
    """Return the traffic by road of runs. `left_out` names detections that do not count.

    A road has a row where an image shows it: with data, under cloud too. Sums over all detections of a road
    give numbers and intervals, not means of its segments.
    """
    roads = roads_of(runs.network)
    lines = _lines(runs.network, roads)
    zones = _time_zones(lines, len(roads.table))
    free_kmh = free_speeds(runs.network, roads.road, len(roads.table))
    parts, apart, acquisitions = [], 0.0, []
    for run in runs.runs:
        mask = left_out(run) if left_out else None
        rows = _observed(run, runs.network, roads, free_kmh, mask)
        parts.append(_described(rows, run, roads, zones))
        apart += _trucks_apart(run, roads, mask)
        acquisitions.append(_acquisition(run, runs.network, roads, mask))
    table = pd.concat(parts, ignore_index=True)
    order = table.assign(road_class=table["road_class"].map(_rank), at=table["acquired"])
    order = order.sort_values(["road_class", "road", "direction", "date", "at", "scene_id"], kind="stable")
    table = table.loc[order.index].reset_index(drop=True)
    each = pd.DataFrame(acquisitions, columns=list(ACQUISITION_FIELDS))
    return TrafficByRoad(table, lines, len(runs.runs), runs.left_out, apart, each)


_RANKS = ("motorway", "trunk", "primary", "secondary", "tertiary")


def _rank(road_class: str | None) -> int:
    return _RANKS.index(road_class) if road_class in _RANKS else len(_RANKS)


def _observed(
    run: FinishedRun,
    network: gpd.GeoDataFrame,
    roads: Roads,
    free_kmh: NDArray[np.float64],
    left_out: NDArray[np.bool_] | None,
) -> pd.DataFrame:
    """Return the figures of a run by road and direction; null where nothing was searched."""
    size = len(roads.table)
    counts = run.counts(roads.road, roads.way, size, left_out)
    road, way = roads.road[run.in_network], roads.way[run.in_network]
    oneway = network["oneway"].to_numpy(np.int8)[run.in_network]

    def metres(of: NDArray[np.float64], direction: int) -> NDArray[np.float64]:
        carries = (road >= 0) & (oneway * way * direction >= 0)
        return np.bincount(road[carries], of[carries], size).astype(np.float64)

    seen = {direction: metres(run.seen_m, direction) for direction in (1, -1)}
    cloud = {direction: metres(run.cloud_m, direction) for direction in (1, -1)}
    rows = observe_directions(counts, roads.table["road_class"], seen)
    rows["congested"] = congested(counts, rows, free_kmh)
    there = pd.concat(
        [
            pd.DataFrame(
                {"segment": np.arange(size), "direction": way, "cloud": cloud[way], "seen": seen[way]}
            )
            for way in (1, -1)
        ]
    )
    there = there[there["seen"] + there["cloud"].fillna(0) > 0]
    rows = there.merge(rows.drop(columns="seen_km"), on=["segment", "direction"], how="left")
    rows["seen_km"] = rows["seen"] / 1000
    rows["cloud_share"] = rows["cloud"] / (rows["cloud"] + rows["seen"])
    rows["trucks"] = rows["count"] + rows["count_unresolved"] / 2
    return rows


def _trucks_apart(run: FinishedRun, roads: Roads, left_out: NDArray[np.bool_] | None) -> float:
    """Return the number of detected trucks on ramps and service roads."""
    unit = np.where(roads.road < 0, 0, -1)
    counts = run.counts(unit, roads.way, 1, left_out)
    return float(sum(counts.counted(way)[0] for way in (1, -1, 0)))


def _acquisition(
    run: FinishedRun, network: gpd.GeoDataFrame, roads: Roads, left_out: NDArray[np.bool_] | None
) -> dict[str, Any]:
    """Return `ACQUISITION_FIELDS` of a run."""
    here = (roads.road >= 0) & network["hidden"].isna().to_numpy()
    seen = here[run.in_network]
    counts = run.counts(np.where(roads.road >= 0, 0, -1), roads.way, 1, left_out)
    low, high = counts.together.interval
    return {
        "scene_id": run.scene_id,
        "folder": run.folder,
        "acquired": run.acquired,
        "simulated": run.simulated,
        "road_km": network["length_m"].to_numpy(np.float64)[here].sum() / 1000,
        "seen_km": run.seen_m[seen].sum() / 1000,
        "cloud_km": run.cloud_m[seen].sum() / 1000,  # NaN as soon as one is unknown
        "trucks": float(sum(counts.counted(way)[0] for way in (1, -1, 0))),
        "expected": float(counts.together.expected[0]),
        "expected_low": float(low[0]),
        "expected_high": float(high[0]),
        "recurring": 0
        if left_out is None
        else int((left_out & run.detections["counted"].to_numpy(np.bool_)).sum()),
    }


def _described(
    rows: pd.DataFrame, run: FinishedRun, roads: Roads, zones: Sequence[str | None]
) -> pd.DataFrame:
    """Return rows as `TABLE_FIELDS`."""
    number, first = rows["segment"].to_numpy(), rows["direction"].to_numpy() > 0
    of = roads.table.iloc[number].reset_index(drop=True)
    bearing = of["bearing_deg"].to_numpy(np.float64, na_value=np.nan)
    clocks = [_clock(run, zones[road]) for road in number]
    days = [run.day if clock is None else clock.date() for clock in clocks]
    columns: dict[str, Any] = {
        **{name: of[name].to_numpy(object) for name in ("road", "ref", "name", "road_class")},
        "direction": [pair[0 if one else 1] for pair, one in zip(of["directions"], first, strict=True)],
        "bearing_deg": np.where(first, bearing, bearing + 180) % 360,
        "scene_id": run.scene_id,
        "acquired": pd.Series([run.acquired] * len(rows), dtype="datetime64[ms, UTC]"),
        "date": pd.Series(days, dtype=object),
        "weekday": [None if day is None else day.strftime("%A") for day in days],
        "local_time": pd.Series(clocks, dtype="datetime64[ms]"),
        "time_zone": [zones[road] for road in number],
        "simulated": run.simulated,
        "model": run.model,
    }
    table = rows.reset_index(drop=True).assign(**columns)[list(TABLE_FIELDS)]
    return table.round(_ROUNDED).astype({"date": pd.ArrowDtype(pa.date32()), "trucks": "float64"})


def _clock(run: FinishedRun, zone: str | None) -> Any:
    """Return the time of a run on the clocks of a zone, without the zone; None without either."""
    if run.acquired is None or zone is None:
        return None
    return pd.Timestamp(run.acquired.astimezone(ZoneInfo(zone)).replace(tzinfo=None))


def _lines(network: gpd.GeoDataFrame, roads: Roads) -> gpd.GeoDataFrame:
    """Return `TrafficByRoad.roads`, with null where a road has no line of a direction."""
    parts = []
    for index in (0, 1):
        bearing = roads.table["bearing_deg"].astype("Float64") + 180 * index
        part = roads.table.drop(columns=["directions"]).assign(
            direction=[pair[index] for pair in roads.table["directions"]], bearing_deg=bearing % 360
        )
        lines = direction_lines(network, roads, first=index == 0)
        parts.append(gpd.GeoDataFrame(part, geometry=lines, crs=network.crs).to_crs("EPSG:4326"))
    both = gpd.GeoDataFrame(pd.concat(parts))
    return both.sort_index(kind="stable").reset_index(drop=True)


def _time_zones(lines: gpd.GeoDataFrame, size: int) -> list[str | None]:
    """Return the time zone (R,) of each road, by the vertex in its middle; None for one that is not known."""
    zones: list[str | None] = []
    for road in range(size):
        places = shapely.get_coordinates(lines.geometry.to_numpy()[2 * road : 2 * road + 2])
        zone = tzfpy.get_tz(*places[len(places) // 2])
        try:
            ZoneInfo(zone)
        except (ValueError, ZoneInfoNotFoundError):
            log.warning("time zone %r is unknown to this system: no local time", zone)
            zone = ""
        zones.append(zone or None)
    return zones


SUMMARY_FIELDS: Mapping[str, str] = {
    **{name: TABLE_FIELDS[name][1] for name in ("road", "ref", "name", "road_class", "direction")},
    "acquisitions": "acquisitions that show the road, under cloud too",
    "observed": "of these, those in which a part of it was searched",
    "first_date": "date of the first of these",
    "last_date": "date of the last of these",
    "seen_km": "searched length, km, the sum over acquisitions",
    "trucks": "detected trucks, the sum over acquisitions",
    "expected": "expected number of trucks, the sum over acquisitions",
    "trucks_per_km": "trucks, divided by seen_km",
    "flow_per_hour": "trucks per hour at the times of acquisition: mean of the flows, by seen_km",
    "congested": "acquisitions with congestion",
}
"""Columns of the table by road, and their meaning."""


def by_road(table: pd.DataFrame) -> pd.DataFrame:
    """Return `SUMMARY_FIELDS` of a table: a row for each road and direction."""
    keys = ["road", "direction"]
    seen = table[table["seen_km"] > 0]
    seen = seen.assign(weighted=seen["flow_per_hour"] * seen["seen_km"])
    every, observed = table.groupby(keys, sort=False), seen.groupby(keys)
    found = every.agg(
        ref=("ref", "first"),
        name=("name", "first"),
        road_class=("road_class", "first"),
        acquisitions=("scene_id", "size"),
    )
    found["observed"] = observed.size()
    found["first_date"], found["last_date"] = observed["date"].min(), observed["date"].max()
    for name in ("seen_km", "trucks", "expected", "weighted"):
        found[name] = observed[name].sum()
    found["trucks_per_km"] = (found["trucks"] / found["seen_km"]).round(3)
    found["flow_per_hour"] = (found["weighted"] / found["seen_km"]).round(1)
    found["congested"] = every["congested"].sum().astype(int)
    found["observed"] = found["observed"].fillna(0).astype(int)
    return found.reset_index()[list(SUMMARY_FIELDS)]
