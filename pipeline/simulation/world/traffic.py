"""Vehicles on the roads and rails of a simulated world, and aircraft above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from pipeline.simulation.rendering import PIXEL_M, Vehicle
from pipeline.simulation.world import fleet
from pipeline.simulation.world.demand import LANE_CAPACITY, Demand, Flow, counted
from pipeline.simulation.world.network import Road
from pipeline.simulation.world.objects import World
from pipeline.simulation.world.spectra import BANDS, PAINTS

LEAST_HEADWAY_S = {"heavy": 2.0, "light": 1.2}
"""Time from the front of a vehicle to that of the next one in a platoon, by what follows."""
BUNCHED = 0.3
"""Share of the vehicles that follow another as near as they may."""
_SLACK = 0.2
"""Mean part of that time by which followers are later."""
_ALIKE = 0.35
"""Probability that a vehicle is as heavy as the one ahead, beyond chance: lorries form convoys."""
_OUTER_LANE = {"heavy": 0.9, "light": 0.4}
"""Share of the vehicles on the outer lane of several."""
_LANE_KMH = (90.0, 118.0)
"""Mean speed of all vehicles on the outer lane of a motorway, and on its inner ones."""


@dataclass(frozen=True)
class Aircraft:
    """Body, wings and height of an aircraft; its position in each band depends on the height."""

    parts: tuple[Vehicle, ...]
    height_m: float


@dataclass(frozen=True)
class Vehicles:
    """Moving objects; only vehicles of roads are in the truth."""

    heavy: tuple[Vehicle, ...] = ()
    """Lorries, trailers, buses and coaches of at least 8 m."""
    light: tuple[Vehicle, ...] = ()
    """Cars, vans and short lorries."""
    parts: tuple[Vehicle, ...] = ()
    """Cabs and loads with another colour than their lorry, which move with it."""
    wagons: tuple[Vehicle, ...] = ()
    aircraft: tuple[Aircraft, ...] = ()


@dataclass(frozen=True)
class Jam:
    """Jam on a stretch of one direction of a road, in pixels along its line, with its speed."""

    start: float
    end: float
    speed_kmh: float


def make_traffic(world: World, demand: Demand | None = None) -> Vehicles:
    """Return vehicles on every road, trains, and sometimes an aircraft.

    The flow on a road is that counted on such roads at the weekday and hour of the scene; see
    `demand.counted`. On another date the same roads have other vehicles.
    """
    rng = np.random.default_rng([world.seed, 202, world.day])
    found: list[Vehicle] = []
    for number, road in enumerate(world.roads):
        if road.oneway:
            continue
        flow = flow_at(world, number, world.local_time, demand or Demand(), rng)
        for backwards in (False, True):
            found += drive(road, backwards, flow, rng, _jam(road, rng))
    wagons = [wagon for railway in world.railways for wagon in _trains(railway, rng)]
    return sorted_vehicles(_near(world, found), rng, wagons, fly(world))


def flow_at(
    world: World, number: int, local: datetime, demand: Demand, rng: np.random.Generator | None = None
) -> Flow:
    """Return the flow in each direction of a road, by its number in the world, at a local time.

    How busy a date is depends on the place and the date only, so it is the same for all hours; a world
    without a date draws it from `rng`.
    """
    place = np.random.default_rng([world.seed, 220, number])
    day = rng if rng and not world.day else np.random.default_rng([world.seed, 221, number, world.day])
    return counted(world.roads[number], local, demand, place, day)


def passing(road: Road, flow: Flow, rng: np.random.Generator) -> tuple[int, int]:
    """Return the vehicles that pass a place in one direction within an hour: all, and the heavy ones.

    They are driven as in `drive`, so that counts agree with vehicles and speeds in an image. Those pass that
    are at most an hour away.
    """
    longest = 1.7e5 / PIXEL_M  # more than an hour of the fastest
    way = replace(road, points=np.array([[0.0, 0.0], [longest, 0.0]]))
    share = sum(part * fleet.heavy_share(fleet.KINDS[kind]) for kind, part in flow.heavy_kinds.items())
    passed = heavy_passed = 0
    for lane in range(road.lanes):
        heavy, light = _on_lane(road.lanes, lane, flow)
        places, is_heavy, leads = _platoons(way, heavy, light, lane == road.lanes - 1, flow, rng)
        speeds = _speeds(is_heavy, leads, flow, rng)
        passes = longest - places < speeds * 1000 / PIXEL_M
        passed += int(passes.sum())
        heavy_passed += int(rng.binomial((passes & is_heavy).sum(), share))
    return passed, heavy_passed


def sorted_vehicles(
    vehicles: Sequence[Vehicle],
    rng: np.random.Generator,
    wagons: Sequence[Vehicle] = (),
    aircraft: Sequence[Aircraft] = (),
) -> Vehicles:
    """Return vehicles by weight, with cabs, trailers and loads of other colours."""
    heavy = tuple(vehicle for vehicle in vehicles if fleet.is_heavy(vehicle))
    light = tuple(vehicle for vehicle in vehicles if not fleet.is_heavy(vehicle))
    parts = tuple(part for lorry in heavy for part in fleet.parts(lorry, rng))
    return Vehicles(heavy, light, parts, tuple(wagons), tuple(aircraft))


def _near(world: World, vehicles: Sequence[Vehicle]) -> list[Vehicle]:
    """Return the vehicles that may be seen in the scene."""
    margin = 10.0
    return [
        one
        for one in vehicles
        if -margin < one.x < world.size + margin and -margin < one.y < world.size + margin
    ]


def drive(
    road: Road, backwards: bool, flow: Flow, rng: np.random.Generator, jam: Jam | None = None
) -> list[Vehicle]:
    """Return the vehicles in one direction of a road at one moment.

    Headways on each lane follow Cowan's M3 (Cowan 1975): some vehicles follow as near as they may, the others
    at exponential distances beyond that. In a jam there are some metres from one vehicle to the next.
    """
    found: list[Vehicle] = []
    for lane in range(road.lanes):
        outer = lane == road.lanes - 1
        heavy, light = _on_lane(road.lanes, lane, flow)
        places, is_heavy, leads = _platoons(road, heavy, light, outer, flow, rng)
        flowing = np.ones(len(places), bool) if jam is None else (places < jam.start) | (places > jam.end)
        places, is_heavy = places[flowing], is_heavy[flowing]
        speeds = _speeds(is_heavy, leads[flowing], flow, rng)
        if jam:
            queued, is_heavy_queued = _queue(road, jam, heavy, light, rng)
            creeping = np.maximum(jam.speed_kmh + rng.uniform(-2, 2, len(queued)), 0)
            speeds = np.concatenate([speeds, creeping * (jam.speed_kmh > 0)])
            places = np.concatenate([places, queued])
            is_heavy = np.concatenate([is_heavy, is_heavy_queued])
        if len(places):
            found += _vehicles(road, backwards, lane, places, is_heavy, speeds, flow, rng)
    return found


def _on_lane(lanes: int, lane: int, flow: Flow) -> tuple[float, float]:
    """Return the heavy and light vehicles an hour on one lane, at most its capacity; 0 is the inner one."""
    if lanes == 1:
        heavy, light = flow.heavy_per_h, flow.light_per_h
    elif lane == lanes - 1:
        heavy, light = flow.heavy_per_h * _OUTER_LANE["heavy"], flow.light_per_h * _OUTER_LANE["light"]
    else:
        # lorries overtake on the next lane only
        heavy = flow.heavy_per_h * (1 - _OUTER_LANE["heavy"]) * (lane == lanes - 2)
        light = flow.light_per_h * (1 - _OUTER_LANE["light"]) / (lanes - 1)
    scale = min(1.0, LANE_CAPACITY / max(heavy + light, 1e-9))
    return heavy * scale, light * scale


def _platoons(
    road: Road, heavy: float, light: float, outer: bool, flow: Flow, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return places along a lane, which of them are heavy, and which do not follow the one ahead closely."""
    total = heavy + light
    if total <= 0:
        return np.empty(0), np.empty(0, bool), np.empty(0, bool)
    typical = flow.heavy_kmh[0] * (_LANE_KMH[not outer] / 84.0 if road.median_m else 1.1)
    pixels_a_second = typical / 3.6 / PIXEL_M
    mean_s = 3600 / total
    seconds = road.line.length / pixels_a_second
    count = int(2 * seconds / mean_s) + 20
    is_heavy = _alike(rng.random(count) < heavy / total, rng)
    least = np.where(is_heavy, LEAST_HEADWAY_S["heavy"], LEAST_HEADWAY_S["light"])
    leads = rng.random(count) >= BUNCHED
    spare = max(mean_s - (1 + _SLACK) * float(least.mean()), 0.0) / (1 - BUNCHED)
    gaps = least * (1 + rng.exponential(_SLACK, count)) + leads * rng.exponential(spare, count)
    times = np.cumsum(gaps) - rng.uniform(0, 1) * gaps[0]
    kept = times < seconds
    # the road is driven towards higher distances, so the leader of a platoon is the last of it
    places = road.line.length - times[kept] * pixels_a_second
    return places, is_heavy[kept], leads[kept]


def _alike(drawn: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the same vehicles on average, of which some are as heavy as the one ahead."""
    own = rng.random(len(drawn)) >= _ALIKE
    own[:1] = True
    return np.asarray(drawn[np.maximum.accumulate(np.where(own, np.arange(len(drawn)), 0))])


def _speeds(
    is_heavy: NDArray[np.bool_], leads: NDArray[np.bool_], flow: Flow, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return km/h: free speeds, and in a platoon at most that of the vehicle that leads it."""
    mean, deviation = np.where(is_heavy[:, None], flow.heavy_kmh, flow.light_kmh).T
    limit = np.where(is_heavy, 98.0, 165.0)
    own = np.clip(rng.normal(mean, deviation), 0.55 * mean, np.maximum(limit, 0.55 * mean))
    if not len(own):
        return own
    leads = leads.copy()
    leads[0] = True
    leader = own[np.maximum.accumulate(np.where(leads, np.arange(len(own)), 0))]
    return np.where(leads, own, np.maximum(np.minimum(own, leader) + rng.uniform(-2, 2, len(own)), 0))


def _jam(road: Road, rng: np.random.Generator) -> Jam | None:
    """Return, on a few motorways, a stretch of 1 to 3 km with standing or creeping traffic."""
    if road.road_class != "motorway" or rng.random() > 0.08:
        return None
    start = float(rng.uniform(0, 0.8) * road.line.length)
    return Jam(start, start + float(rng.uniform(100, 300)), float(rng.choice([0.0, rng.uniform(3, 30)])))


def _queue(
    road: Road, jam: Jam, heavy: float, light: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return places along a lane in a jam, and which are heavy."""
    if heavy + light <= 0:
        return np.empty(0), np.empty(0, bool)
    length = max(min(jam.end, road.line.length) - jam.start, 0.0) * PIXEL_M
    is_heavy = rng.random(int(length / 6) + 1) < heavy / (heavy + light)
    gaps = np.where(is_heavy, 17.0, 4.5) + rng.uniform(2, 8, len(is_heavy)) + 1.5 * jam.speed_kmh / 3.6
    along = np.cumsum(gaps)
    return jam.start + along[along < length] / PIXEL_M, is_heavy[along < length]


def _vehicles(
    road: Road,
    backwards: bool,
    lane: int,
    places: NDArray[np.float64],
    is_heavy: NDArray[np.bool_],
    speeds: NDArray[np.float64],
    flow: Flow,
    rng: np.random.Generator,
) -> list[Vehicle]:
    """Return vehicles of random kinds at places along a lane."""
    points, tangents = road.places(road.line.length - places if backwards else places)
    tangents = -tangents if backwards else tangents
    points = points + tangents[:, ::-1] * [-1, 1] * road.lane_offset_m(lane) / PIXEL_M
    headings = np.rad2deg(np.arctan2(tangents[:, 0], -tangents[:, 1])) % 360
    names = np.where(rng.random(len(places)) < flow.van_share, "van", "car").astype(object)
    kinds, shares = zip(*flow.heavy_kinds.items(), strict=True)
    names[is_heavy] = rng.choice(np.array(kinds, object), int(is_heavy.sum()), p=shares)
    found: list[Vehicle] = []
    for name, kind in fleet.KINDS.items():
        own = np.flatnonzero(names == name)
        if not len(own):
            continue
        looks = zip(fleet.sizes(kind, len(own), rng).tolist(), fleet.paints(kind, len(own), rng), strict=True)
        for at, ((length, width), paint) in zip(own.tolist(), looks, strict=True):
            x, y = points[at].tolist()
            found.append(Vehicle(x, y, float(headings[at]), float(speeds[at]), length, width, paint, name))
    return found


def _trains(railway: Road, rng: np.random.Generator) -> list[Vehicle]:
    """Return the wagons of the trains on a railway, one in 10 km at a time."""
    wagons: list[Vehicle] = []
    for _ in range(rng.poisson(0.1 * railway.line.length * PIXEL_M / 1000)):
        wagons += train(railway, rng)
    return wagons


def train(railway: Road, rng: np.random.Generator) -> list[Vehicle]:
    """Return the wagons of a train: a passenger train has one colour, a goods train some."""
    goods, backwards = rng.random() < 0.5, rng.random() < 0.5
    speed = float(rng.uniform(50, 100) if goods else rng.uniform(80, 200))
    size = (float(rng.uniform(13, 20)), 2.9) if goods else (25.8, 2.85)
    colours = fleet.paints(fleet.KINDS["articulated lorry"], int(rng.integers(1, 4)) if goods else 1, rng)
    dirt = rng.uniform(0.25, 0.6) if goods else rng.uniform(0.4, 0.8)
    pitch = (size[0] + 1.0) / PIXEL_M
    count = int(rng.integers(10, 32) if goods else rng.integers(3, 13))
    start = float(rng.uniform(0, railway.line.length))
    places = np.linspace(start, start + (count - 1) * pitch, count)
    points, tangents = railway.places(places[places < railway.line.length])
    points = points + (-tangents if backwards else tangents)[:, ::-1] * [-1, 1] * (
        railway.lane_offset_m(0) / PIXEL_M
    )
    headings = np.rad2deg(np.arctan2(tangents[:, 0], -tangents[:, 1])) + 180 * backwards
    wagons = []
    for (x, y), heading in zip(points.tolist(), (headings % 360).tolist(), strict=True):
        paint = colours[int(rng.integers(len(colours)))]
        dirty = {band: dirt * value for band, value in paint.items()}
        wagons.append(Vehicle(x, y, heading, speed, *size, dirty))
    return wagons


def fly(world: World) -> tuple[Aircraft, ...]:
    """Return the aircraft of the flights of a world."""
    white = dict(zip(BANDS, PAINTS["white"], strict=True))
    aircraft = []
    for flight in world.flights:
        body = Vehicle(
            flight.x,
            flight.y,
            flight.heading_deg,
            flight.speed_kmh,
            flight.length_m,
            0.13 * flight.length_m,
            white,
        )
        wings = replace(body, length_m=0.13 * flight.length_m, width_m=0.9 * flight.length_m)
        aircraft.append(Aircraft((body, wings), flight.height_m))
    return tuple(aircraft)
