"""Estimated flows at counters: pairs of a run's flow and the count of the hour of its acquisition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from pipeline.errors import CountsError
from pipeline.input_warnings import warn
from pipeline.layers.flow import observe_directions
from pipeline.traffic.runs import FinishedRun, Runs
from pipeline.traffic.stretch import Stretch, find_stretch
from pipeline.traffic.table import LeftOut

Counted = Literal["heavy", "all"]
_POINTS = {name: 45.0 * index for index, name in enumerate(("N", "NE", "E", "SE", "S", "SW", "W", "NW"))}
_LONG_NAMES = {"NORTH": "N", "EAST": "E", "SOUTH": "S", "WEST": "W"}
_HOUR = pd.Timedelta(hours=1)
_SAME_STATION_M = 500.0


@dataclass(frozen=True)
class Station:
    """One direction of a counter."""

    name: str
    lon: float
    lat: float
    direction: str
    """As the file names it."""
    bearing_deg: float
    road: str | None
    counts: pd.DataFrame
    """Its rows, ordered by time."""


def bearing_of(direction: str) -> float:
    """Return degrees clockwise from north of a direction: a point of the compass, or degrees.

    Raises
    ------
    CountsError
        If it is neither.
    """
    text = direction.strip().upper().removesuffix("BOUND")
    text = _LONG_NAMES.get(text, text)
    if text in _POINTS:
        return _POINTS[text]
    try:
        degrees = float(text)
    except ValueError:
        degrees = np.nan
    if not -360 <= degrees <= 360:
        raise CountsError(
            f"Direction {direction!r} of the counter is no point of the compass. Name the directions "
            "of travel, e.g. --direction R1=N --direction R2=S, or --direction N for a file of one direction."
        )
    return degrees % 360


def stations_of(
    counts: pd.DataFrame, place: tuple[float, float] | None, directions: Mapping[str, str]
) -> list[Station]:
    """Return the stations and directions of counts as `read_counter` returns them.

    `place` is the station as longitude and latitude; of a file with several places the one within
    `_SAME_STATION_M` is used. Without it the file has to have places. `directions` gives points of the
    compass or degrees for the file's names; the name "" is that of a file without directions.

    Raises
    ------
    CountsError
        If place or direction is not known, or the file has several stations without places.
    """
    frame = counts.assign(
        station=counts["station"].fillna("").astype(str), direction=counts["direction"].fillna("").astype(str)
    )
    located = frame[["lon", "lat"]].notna().all(axis=1).all()
    if not located:
        if place is None:
            raise CountsError("The counter file has no places. Give the station with --station LON,LAT.")
        names = frame["station"].unique()
        if len(names) > 1:
            raise CountsError(
                f"The counter file has {len(names)} stations ({', '.join(names[:5])}) without places. Give "
                "the rows of one."
            )
        frame = frame.assign(lon=place[0], lat=place[1])
    elif place is not None:
        away = _metres(frame["lon"].astype(float), frame["lat"].astype(float), *place)
        frame = frame[away <= _SAME_STATION_M]
        if frame.empty:
            raise CountsError(
                f"No station of the counter file is within {_SAME_STATION_M:.0f} m of {place[0]:g},"
                f"{place[1]:g}: the nearest is {away.min() / 1000:.1f} km away. Without it all are used."
            )
    found = []
    for (name, direction), rows in frame.groupby(["station", "direction"], sort=True):
        if directions and direction not in directions:
            continue
        roads = rows["road"].dropna().unique()
        found.append(
            Station(
                str(name),
                float(rows["lon"].iloc[0]),
                float(rows["lat"].iloc[0]),
                str(direction),
                bearing_of(directions.get(str(direction), str(direction))),
                str(roads[0]) if len(roads) == 1 else None,
                rows.sort_values("start", ignore_index=True),
            )
        )
    if not found:
        raise CountsError(
            f"The counter file has no direction {', '.join(directions)}; it has "
            f"{', '.join(map(repr, sorted(frame['direction'].unique())))}."
        )
    return found


def _metres(lon: pd.Series, lat: pd.Series, to_lon: float, to_lat: float) -> pd.Series:
    degree = 111_195.0
    east = ((lon - to_lon + 180) % 360 - 180) * np.cos(np.radians(to_lat))
    return np.hypot(east, lat - to_lat) * degree


def pairs(
    runs: Runs,
    stations: list[Station],
    count: Counted,
    left_out: LeftOut | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> pd.DataFrame:
    """Return a row for each station, direction and run whose acquisition the counter counted.

    `flow_per_hour` is that of the stretch (`traffic.stretch`): expected trucks over searched length times
    speed, as in `layers.flow`. `counted_per_hour` is the counter's: of the hour in which the scene was
    acquired, or of the intervals of one hour together whose middle is nearest to it. `hours` is the searched
    length over the speed, `unit` the number of trucks that a detected one stands for. `left_out` names
    detections that do not count.

    Raises
    ------
    CountsError
        If no carriageway fits any station, the file does not count these vehicles, or there is no pair.
    """
    column = {"heavy": "heavy", "all": "vehicles"}[count]
    rows, problems = [], list[str]()
    for station in stations:
        if station.counts[column].isna().all():
            other = "all" if count == "heavy" else "heavy"
            raise CountsError(f"The counter file has no {column} vehicles. Try --count {other}.")
        try:
            stretch = find_stretch(runs.network, station.lon, station.lat, station.bearing_deg, station.road)
        except CountsError as error:
            if len(stations) == 1:
                raise
            warn(f"Station {station.name} {station.direction} is left out. {error}")
            continue
        say(f"{station.name} {station.direction}: {_named(runs.network, stretch)}")
        for run in runs.runs:
            counted = None if run.acquired is None else hour_of(station.counts, run.acquired, column)
            flow = _flow(run, runs.network, stretch, left_out)
            if counted is None or flow is None:
                problems.append("no count" if counted is None else "not searched")
                continue
            rows.append(
                {**_described(station, stretch, run, runs.network), "counted_per_hour": counted, **flow}
            )
    if not rows and not problems:
        raise CountsError(f"None of {len(stations)} stations and directions is at a road of the runs.")
    if not rows:
        raise CountsError(
            f"Nothing to compare: of {len(problems)} acquisitions the counter has no hour in "
            f"{problems.count('no count')}, and {problems.count('not searched')} did not show the road. "
            "Check the dates of the counter and its --timezone."
        )
    return pd.DataFrame(rows)


def hour_of(counts: pd.DataFrame, moment: datetime, column: str) -> float | None:
    """Return the count of the hour around a moment; None if it is not complete.

    `counts` has the columns `start` (UTC), `minutes` and `column`, ordered by time.
    """
    at, length = pd.Timestamp(moment), pd.to_timedelta(counts["minutes"], unit="min")
    known = counts[column].notna() & (length > pd.Timedelta(0)) & (length <= _HOUR)
    start, length, values = counts["start"][known], length[known], counts[column][known]
    if start.empty:
        return None
    middle = (start + length / 2 - at).abs()
    number = round(_HOUR / length.iloc[int(middle.to_numpy().argmin())])
    chosen = middle.nsmallest(number).index
    first, last = start[chosen].min(), (start[chosen] + length[chosen]).max()
    complete = length[chosen].sum() == _HOUR and last - first == _HOUR and first <= at < last
    return float(values[chosen].sum()) if complete else None


def _flow(
    run: FinishedRun, network: gpd.GeoDataFrame, stretch: Stretch, left_out: LeftOut | None
) -> dict[str, float] | None:
    """Return the flow of a stretch in a run; None if nothing of it was searched."""
    unit, way = np.full(len(network), -1, np.int64), np.ones(len(network), np.int8)
    unit[stretch.segments], way[stretch.segments] = 0, stretch.way
    seen = float(run.seen_m[unit[run.in_network] == 0].sum())
    if not seen > 0:
        return None
    classes = network["road_class"].iloc[stretch.segments[:1]].reset_index(drop=True)
    sums = run.counts(unit, way, 1, left_out(run) if left_out else None)
    row = observe_directions(sums, classes, {1: np.array([seen]), -1: np.zeros(1)}).iloc[0]
    wanted = ("flow_per_hour", "flow_low", "flow_high", "expected", "count", "seen_km", "flow_speed_kmh")
    found = {name: float(row[name]) for name in wanted}
    hours = found["seen_km"] / found["flow_speed_kmh"]
    return found | {"hours": hours, "unit": 1 / (sums.shares.missing * sums.shares.visible)}


def _described(
    station: Station, stretch: Stretch, run: FinishedRun, network: gpd.GeoDataFrame
) -> dict[str, object]:
    road = network.iloc[stretch.segments[0]]
    return {
        "station": station.name,
        "direction": station.direction,
        "lon": station.lon,
        "lat": station.lat,
        "road": road["ref"] or road["name"] or road["road_id"],
        "road_class": road["road_class"],
        "distance_m": round(stretch.distance_m, 1),
        "scene_id": run.scene_id,
        "acquired": run.acquired,
        "model": run.model,
    }


def _named(network: gpd.GeoDataFrame, stretch: Stretch) -> str:
    road = network.iloc[stretch.segments[0]]
    length = shapely.length(network.geometry.to_numpy()[stretch.segments]).sum() / 1000
    names: Iterator[str] = (str(road[name]) for name in ("ref", "name", "road_class") if road[name])
    return f"{next(names, 'road')} at {stretch.distance_m:.0f} m, stretch of {length:.1f} km"
