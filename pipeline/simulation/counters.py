"""Counting stations of a simulated place: vehicles an hour by direction, as road authorities publish them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from pyproj import Transformer
from shapely import LineString, clip_by_rect, get_parts

from pipeline.simulation.product_metadata import EPSG, Granule
from pipeline.simulation.world.demand import Demand
from pipeline.simulation.world.network import Road
from pipeline.simulation.world.objects import World
from pipeline.simulation.world.overpass import ZONE, on_date
from pipeline.simulation.world.traffic import flow_at, passing
from pipeline.storage.atomic import replacing

_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Station:
    """Counter on both directions of a road."""

    name: str
    road: int
    """Number of its road in the world."""
    x: float
    y: float
    """Place on the middle line, in pixels."""
    directions: tuple[str, str]
    """Compass letters of travel: along the line, and against it."""


def stations(world: World) -> tuple[Station, Station]:
    """Return two stations: on the first motorway, and on the longest other road in the scene.

    Without another road, both are on the motorway.
    """
    parts = {number: _inside(road, world.size) for number, road in enumerate(world.roads) if not road.oneway}
    motorway = next(number for number in parts if world.roads[number].road_class == "motorway")
    others = [number for number in parts if number != motorway and parts[number].length]
    places = [(motorway, 0.3), (motorway, 0.7)]
    if others:
        places = [(motorway, 0.5), (max(others, key=lambda number: float(parts[number].length)), 0.5)]
    first, second = (
        _station(world.roads[number], number, parts[number], share, f"S{count}")
        for count, (number, share) in enumerate(places, start=1)
    )
    return first, second


def _inside(road: Road, size: int) -> LineString:
    """Return the longest part of a road in the scene; an empty line if it has none."""
    inside = clip_by_rect(road.line, 0, 0, size, size)
    return max(get_parts(inside), key=lambda part: float(part.length), default=LineString())


def _station(road: Road, number: int, part: LineString, share: float, name: str) -> Station:
    place = part.interpolate(share, normalized=True)
    _, (dx, dy) = road.place(road.line.project(place))
    quarter = round(float(np.rad2deg(np.arctan2(dx, -dy))) / 90)
    return Station(name, number, place.x, place.y, ("NESW"[quarter % 4], "NESW"[(quarter + 2) % 4]))


def write_counters(path: Path, world: World, demand: Demand, days: Iterable[date]) -> None:
    """Write the counts of both stations as CSV: a row for each station, direction of travel and hour.

    Columns: `station`; `lon`, `lat` (degrees, on the road's middle line); `road` (its `ref`); `direction` (N,
    E, S or W, of travel); `start` (local time with its offset from UTC); `minutes`; `vehicles` (all);
    `heavy` (of at least 8 m). All hours of each date are there: 23 or 25 where clocks change.

    Raises
    ------
    OutputError
        If the file can't be written.
    """
    counters = stations(world)
    to_degrees = Transformer.from_crs(EPSG, 4326, always_xy=True)
    to_map = Granule(world).affine(10)
    rows = []
    for station in counters:
        lon, lat = to_degrees.transform(*(to_map * (station.x, station.y)))
        for day in sorted(days):
            for start, direction, vehicles, heavy in _counts(on_date(world, day), day, station, demand):
                rows.append(
                    {
                        "station": station.name,
                        "lon": round(lon, 6),
                        "lat": round(lat, 6),
                        "road": world.roads[station.road].ref,
                        "direction": direction,
                        "start": start.isoformat(),
                        "minutes": 60,
                        "vehicles": vehicles,
                        "heavy": heavy,
                    }
                )
    with replacing(path) as part:
        pd.DataFrame(rows).to_csv(part, index=False, lineterminator="\n")


def _counts(
    world: World, day: date, station: Station, demand: Demand
) -> Iterator[tuple[datetime, str, int, int]]:
    """Yield start, direction, vehicles and heavy vehicles of each hour of a date, by direction."""
    for backwards, direction in enumerate(station.directions):
        for hour, start in enumerate(hours(day)):
            seed = [world.seed, 222, station.road, int(station.name[1:]), world.day, backwards, hour]
            flow = flow_at(world, station.road, start, demand)
            passed, heavy = passing(world.roads[station.road], flow, np.random.default_rng(seed))
            yield start, direction, passed, heavy


def hours(day: date) -> Iterator[datetime]:
    """Yield the begin of each hour of a date in local time: 24, or 23 or 25 where clocks change."""
    start, end = (
        datetime.combine(each, time(), ZONE).astimezone(UTC) for each in (day, day + timedelta(days=1))
    )
    while start < end:
        yield start.astimezone(ZONE)
        start += _HOUR
