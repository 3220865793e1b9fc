"""Traffic as it is counted on roads: vehicles an hour by road class, weekday and hour.

Volumes and shares are about those of Germany's automatic counters (Bundesanstalt fuer Strassenwesen, 2019):
near 50,000 vehicles a day on a motorway, 15 % of them heavy ones, and some thousands with 6 to 8 % on other
roads. One part of the light vehicles in seven is a van; Great Britain counted one in six (Department for
Transport, Road Traffic Estimates 2019). On Sundays most lorries may not drive (Germany, StVO section 30).
Curves over the hours are typical shapes, not those of one counter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

from pipeline.simulation.world.network import Road

_LIGHT_BY_HOUR = (
    0.9, 0.6, 0.5, 0.5, 0.9, 2.2, 5.0, 7.2, 6.6, 5.4, 5.3, 5.5, 5.7, 5.9, 6.4, 7.4, 8.2, 7.9, 6.3, 4.6, 3.2,
    2.4, 1.9, 1.5,
)  # fmt: skip
_WEEKEND_BY_HOUR = (
    1.5, 1.0, 0.8, 0.6, 0.6, 0.8, 1.3, 2.2, 3.6, 5.2, 6.4, 7.0, 7.0, 6.9, 7.1, 7.3, 7.4, 7.2, 6.7, 5.9, 4.8,
    3.8, 2.9, 2.0,
)  # fmt: skip
_HEAVY_BY_HOUR = (
    2.2, 2.2, 2.3, 2.7, 3.6, 4.7, 5.4, 5.6, 5.8, 6.0, 6.1, 6.0, 5.8, 5.9, 5.8, 5.5, 5.0, 4.4, 3.8, 3.2, 2.7,
    2.4, 2.2, 2.1,
)  # fmt: skip
_SATURDAY, _SUNDAY = 5, 6
_HEAVY_OF_A_WORKDAY = {_SATURDAY: 0.45, _SUNDAY: 0.12}
_LIGHT_OF_A_WORKDAY = {_SATURDAY: 0.9, _SUNDAY: 0.85}
_LEAST_SHARE = 0.03
"""Minimum share of heavy vehicles: buses, and what may drive on Sundays."""
LANE_CAPACITY = 1900.0
"""Vehicles an hour on a lane beyond which traffic does not flow."""


@dataclass(frozen=True)
class Demand:
    """Traffic of a scene in relation to what is counted on such roads at such a time."""

    heavy: float = 1.0
    """Factor of the flow of heavy vehicles; 0 is no heavy vehicle."""
    light_per_heavy: float | None = None
    """Light vehicles for each heavy one at a factor of 1; None: as counted."""
    heavy_from: tuple[date, float] | None = None
    """A change that lasts: its first date, and the factor of the flow of heavy vehicles from then on."""

    def heavy_on(self, day: date) -> float:
        """Return the factor of the flow of heavy vehicles on a date."""
        first, factor = self.heavy_from or (date.max, 1.0)
        return self.heavy * (factor if day >= first else 1.0)


@dataclass(frozen=True)
class Flow:
    """Traffic in one direction of a road."""

    heavy_per_h: float
    light_per_h: float
    heavy_kmh: tuple[float, float]
    """Mean and deviation of the free speed of heavy vehicles."""
    light_kmh: tuple[float, float]
    heavy_kinds: Mapping[str, float]
    """Share of each kind of `fleet.KINDS` among lorries and buses."""
    van_share: float = 0.14
    """Among the light vehicles."""


@dataclass(frozen=True)
class _RoadClass:
    daily: float
    """Median of the vehicles of a workday, both directions."""
    spread: float
    """Deviation of its logarithm."""
    heavy_share: float
    heavy_spread: float
    heavy_kmh: tuple[float, float]
    light_kmh: tuple[float, float]
    heavy_kinds: Mapping[str, float]


def _kinds(rigid: float, articulated: float, trailer: float, bus: float) -> dict[str, float]:
    return {
        "rigid lorry": rigid,
        "articulated lorry": articulated,
        "lorry with trailer": trailer,
        "bus": bus,
    }


ROAD_CLASSES = {
    "motorway": _RoadClass(
        48_000,
        0.4,
        0.145,
        0.45,
        (84, 5),
        (122, 14),
        _kinds(rigid=0.18, articulated=0.61, trailer=0.17, bus=0.04),
    ),
    "secondary": _RoadClass(
        6_500,
        0.5,
        0.075,
        0.4,
        (66, 8),
        (78, 12),
        _kinds(rigid=0.45, articulated=0.30, trailer=0.13, bus=0.12),
    ),
    "tertiary": _RoadClass(
        1_800, 0.5, 0.06, 0.4, (60, 9), (70, 12), _kinds(rigid=0.53, articulated=0.15, trailer=0.12, bus=0.20)
    ),
}
"""Counted traffic by road class."""


def counted(
    road: Road, local: datetime, demand: Demand, place: np.random.Generator, day: np.random.Generator
) -> Flow:
    """Return the flow in each direction of a road at a local time.

    `place` draws the road's traffic over the years, `day` how busy this day is.
    """
    kind = ROAD_CLASSES[road.road_class]
    daily = (
        kind.daily * float(np.exp(place.normal(0, kind.spread))) * (road.lanes / 2.6 if road.median_m else 1)
    )
    share = float(np.clip(kind.heavy_share * np.exp(place.normal(0, kind.heavy_spread)), _LEAST_SHARE, 0.35))
    busy_heavy, busy_light = np.exp(day.normal(0, 0.12, 2)).tolist()
    weekday = local.weekday()
    by_hour = _WEEKEND_BY_HOUR if weekday >= _SATURDAY else _LIGHT_BY_HOUR
    heavy = daily / 2 * share * _HEAVY_BY_HOUR[local.hour] / sum(_HEAVY_BY_HOUR) * busy_heavy
    heavy *= _HEAVY_OF_A_WORKDAY.get(weekday, 1.0)
    light = daily / 2 * (1 - share) * by_hour[local.hour] / sum(by_hour) * busy_light
    light *= _LIGHT_OF_A_WORKDAY.get(weekday, 1.0)
    heavy = max(heavy, _LEAST_SHARE / (1 - _LEAST_SHARE) * light)
    if demand.light_per_heavy is not None:
        light = demand.light_per_heavy * heavy
    heavy *= demand.heavy_on(local.date())
    return Flow(heavy, light, kind.heavy_kmh, kind.light_kmh, kind.heavy_kinds)
