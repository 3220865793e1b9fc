"""Layout of a simulated world: the places of towns, water, industry, roads and MSI detectors."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from math import hypot

import numpy as np
from shapely import Point

from pipeline.simulation.world.network import Road, bent_line
from pipeline.simulation.world.objects import (
    REPEAT_DAYS,
    SEASONS,
    Contrail,
    Flight,
    Lake,
    River,
    Season,
    Town,
    World,
    Zone,
)

DETECTOR_WIDTH_PX = 2560.0


def plan_world(size: int, seed: int) -> World:
    """Lay out a world of `size` x `size` pixels of 10 m."""
    rng = np.random.default_rng([seed, 101])
    motorways = _motorways(size, rng)
    rivers = tuple(_river(size, rng) for _ in range(max(1, round(size / 3500))))
    towns = _towns(size, motorways, rng)
    secondary = _secondary(size, towns, rng)
    links = _interchanges(motorways, secondary)
    zones = _zones(size, motorways, rng)
    lakes = _lakes(size, motorways, towns, rng)
    width = min(DETECTOR_WIDTH_PX, size * rng.uniform(0.42, 0.6))
    own = np.random.default_rng([seed, 111])
    driving_side = 1 if seed == 0 or own.random() < 0.75 else -1
    roads = [_surfaced(road, driving_side, own) for road in (*motorways, *links, *secondary)]
    flights, contrails = air(size, own)
    broken = own.random() < 0.15
    season = SEASONS[int(rng.choice(len(SEASONS), p=[0.5, 0.3, 0.2]))] if seed else SEASONS[0]
    return World(
        size=size,
        seed=seed,
        season=_later(season, _shift(seed) if seed else 0),
        towns=towns,
        zones=zones,
        rivers=rivers,
        lakes=lakes,
        roads=tuple(roads),
        first_detector=int(rng.integers(3, 7)),
        detector_width=width,
        detector_start=float(rng.uniform(-0.3, 0.0)) * width,
        cloud_cover=float(rng.uniform(0.01, 0.05)) * (5 if broken else 1),
        cloud_height_m=float(rng.uniform(900, 1800)),
        cloud_scale=float(rng.uniform(40, 110)),
        cloud_gain=float(rng.uniform(0.48, 0.62)),
        cloud_softness=float(rng.uniform(0.4, 1.1)),
        wind_ms=wind(own),
        haze=float(own.uniform(0.002, 0.012)),
        railways=_railways(size, own),
        flights=flights,
        contrails=contrails,
        driving_side=driving_side,
    )


def _shift(seed: int) -> int:
    """Draw the overpasses between the middle of a season and a scene: on any weekday, seldom a Sunday."""
    return int(np.random.default_rng([seed, 258]).choice(5, p=[0.2, 0.2, 0.3, 0.1, 0.2])) - 2


def _later(season: Season, overpasses: int) -> Season:
    """Return a season some overpasses later; sun and fields stay as they are in the middle of it."""
    return replace(season, acquired=season.acquired + timedelta(days=REPEAT_DAYS * overpasses))


def _surfaced(road: Road, driving_side: int, rng: np.random.Generator) -> Road:
    """Return a road with the age and material of its surface, and sometimes another lane."""
    concrete = float(rng.uniform(0.3, 0.8)) if rng.random() < 0.3 else 0.0
    verge = {"motorway": (3, 18), "secondary": (1, 4)}.get(road.road_class, (0.5, 1.5))
    wide = road.road_class == "secondary" and rng.random() < 0.12
    # ramps are for right-hand traffic; for left-hand traffic their direction is reversed
    points = road.points[::-1] if road.oneway and driving_side < 0 else road.points
    return replace(
        road,
        points=points,
        lanes=2 if wide else road.lanes,
        driving_side=driving_side,
        shade=float(np.clip(rng.lognormal(0, 0.2), 0.65, 1.1 if concrete else 1.6)),
        verge_m=float(rng.uniform(*verge)),
        concrete=concrete if road.road_class == "motorway" else 0.0,
    )


def wind(rng: np.random.Generator) -> tuple[float, float]:
    """Draw the drift of clouds: east and south, metres per second."""
    speed, towards = rng.uniform(1, 10), rng.uniform(0, 2 * np.pi)
    return float(speed * np.cos(towards)), float(speed * np.sin(towards))


def _railways(size: int, rng: np.random.Generator) -> tuple[Road, ...]:
    """Return, in half of the worlds, a railway of two tracks from edge to edge."""
    if rng.random() < 0.5:
        return ()
    ends = rng.uniform(0.1, 0.9, 2) * size
    edges = np.array([[-30.0, ends[0]], [size + 30.0, ends[1]]])
    start, end = edges if rng.random() < 0.5 else edges[:, ::-1]
    points = bent_line(start, end, rng, 0.03)
    return (Road(points, "railway", "", 1, shade=float(rng.uniform(0.7, 1.2))),)


def air(size: int, rng: np.random.Generator) -> tuple[tuple[Flight, ...], tuple[Contrail, ...]]:
    """Return aircraft, some of them with a contrail, and contrails without aircraft."""
    flights, contrails = [], []
    for _ in range(int(rng.poisson(0.5 * min(1.0, (size / 768) ** 2) + 0.05 * (size / 1024) ** 2))):
        x, y = (rng.uniform(0.1, 0.9, 2) * size).tolist()
        heading, gone = float(rng.uniform(0, 360)), rng.random() < 0.3
        cruising = gone or rng.random() < 0.65
        height = float(rng.uniform(8500, 11500) if cruising else rng.uniform(300, 2500))
        if not gone:
            speed = float(rng.uniform(740, 930) if cruising else rng.uniform(240, 450))
            flights.append(Flight(x, y, heading, speed, height, float(rng.uniform(28, 65))))
        if gone or (cruising and rng.random() < 0.6):
            length, angle = float(rng.uniform(40, 400)), np.deg2rad(heading)
            behind = length / 2 + 6
            width = float(rng.uniform(3, 12) if gone else rng.uniform(2, 4))
            middle = float(x - behind * np.sin(angle)), float(y + behind * np.cos(angle))
            contrails.append(Contrail(*middle, heading, length, width, float(rng.uniform(0.08, 0.4)), height))
    return tuple(flights), tuple(contrails)


def _motorways(size: int, rng: np.random.Generator) -> list[Road]:
    count = max(1, round(size / 1100))
    roads = []
    for k in range(count):
        along = np.arange(-40, size + 48, 8.0)
        if k % 2 == 0:
            middle = size * (k // 2 + rng.uniform(0.35, 0.65)) / ((count + 1) // 2)
        else:
            middle = size * (k // 2 + rng.uniform(0.35, 0.65)) / (count // 2)
        slope = rng.uniform(-0.35, 0.35)
        across = middle + slope * (along - size / 2)
        for wavelength, amplitude in ((1100, 45), (420, 9)):
            phase = rng.uniform(0, 2 * np.pi)
            across = across + amplitude * min(1, size / 1024) * np.sin(2 * np.pi * along / wavelength + phase)
        points = np.stack([along, across] if k % 2 == 0 else [across, along], axis=1)
        roads.append(
            Road(points, "motorway", f"A {2 + 5 * k}", int(rng.choice([2, 3], p=[0.35, 0.65])), 4.0, 3.2)
        )
    return roads


def _river(size: int, rng: np.random.Generator) -> River:
    start, end = rng.uniform(0.1, 0.9, 2) * size
    along = np.linspace(-30, size + 30, max(8, int(size / 8)))
    across = start + (end - start) * along / size
    for wavelength, amplitude in ((700, 50), (260, 22), (110, 7)):
        across = across + min(1, size / 1024) * amplitude * rng.uniform(0.6, 1.3) * np.sin(
            2 * np.pi * along / wavelength + rng.uniform(0, 6.28)
        )
    return River(np.stack([across, along], axis=1), float(rng.uniform(3.5, 8.5)))


def _clearance(roads: list[Road], x: float, y: float) -> float:
    return min(float(np.hypot(*(road.points - [x, y]).T).min()) for road in roads)


def _towns(size: int, motorways: list[Road], rng: np.random.Generator) -> tuple[Town, ...]:
    wanted = max(2, round(13 * (size / 1024) ** 2))
    towns: list[Town] = []
    for _ in range(wanted * 12):
        radius = float(np.clip(rng.lognormal(2.95, 0.5), 9, 75)) * min(1.0, size / 400)
        x, y = rng.uniform(0.03, 0.97, 2) * size
        apart = all(hypot(t.x - x, t.y - y) > 1.6 * (t.radius + radius) + 12 for t in towns)
        if apart and _clearance(motorways, x, y) > radius + 12:
            lobes = tuple(
                (float(a), float(phase))
                for a, phase in zip([0.36, 0.24, 0.16, 0.10], rng.uniform(0, 2 * np.pi, 4), strict=True)
            )
            towns.append(Town(float(x), float(y), radius, float(rng.uniform(0, np.pi / 2)), lobes))
        if len(towns) == wanted:
            break
    return tuple(towns)


def _secondary(size: int, towns: tuple[Town, ...], rng: np.random.Generator) -> list[Road]:
    places = [np.array([t.x, t.y]) for t in towns]
    at = np.array(places).reshape(-1, 2)
    squared = ((at[:, None] - at[None]) ** 2).sum(axis=2)
    # Gabriel graph: no third town in the circle between two neighbours, so no roads run in parallel
    ends = [
        (places[i], places[j])
        for i in range(len(places))
        for j in range(i)
        if squared[i, j] < 600**2 and (squared[i] + squared[j] >= squared[i, j]).all()
    ]
    for place in places:
        if rng.random() < 0.35:
            side = int(rng.integers(4))
            edge = -20.0 if side < 2 else size + 20.0
            other = float(np.clip(place[side % 2] + rng.normal(0, size / 8), 0, size))
            border = np.array([edge, other] if side % 2 else [other, edge])
            if np.hypot(*(border - place)) < 700:
                ends.append((place, border))
    roads = []
    for k, (a, b) in enumerate(ends):
        kind = "secondary" if rng.random() < 0.6 else "tertiary"
        shoulder = 0.6 if kind == "secondary" else -0.8
        roads.append(Road(bent_line(a, b, rng, 0.05), kind, f"L {100 + 7 * k}", 1, 0.0, shoulder))
    return roads


def _interchanges(motorways: list[Road], secondary: list[Road]) -> list[Road]:
    """Return a diamond of four ramps at the first crossing of each motorway with a secondary road."""
    links = []
    for motorway in motorways:
        for road in secondary:
            crossing = motorway.line.intersection(road.line)
            if road.road_class != "secondary" or not isinstance(crossing, Point):
                continue
            at = motorway.line.project(crossing)
            on_road = road.line.project(crossing)
            for along, leaving in ((-52.0, True), (52.0, False)):
                for side in (1.0, -1.0):
                    point, tangent = motorway.place(at + along)
                    normal = np.array([-tangent[1], tangent[0]])
                    edge = point + side * normal * (motorway.half_width_m / 10 + 0.2)
                    here = np.array([crossing.x, crossing.y])
                    ahead = np.array(road.line.interpolate(min(on_road + 12, road.line.length)).coords[0])
                    behind = np.array(road.line.interpolate(max(on_road - 12, 0)).coords[0])
                    target = ahead if (ahead - here) @ normal * side > 0 else behind
                    knee = here + side * normal * 9 + (point - here) * 0.25
                    t = np.linspace(0, 1, 18)[:, None]
                    curve = (1 - t) ** 2 * edge + 2 * t * (1 - t) * knee + t**2 * target
                    outward = leaving == (side > 0)
                    points = curve if outward else curve[::-1]
                    links.append(Road(points, "motorway_link", motorway.ref, 1, 0.0, 2.0))
            break
    return links


def _zones(size: int, motorways: list[Road], rng: np.random.Generator) -> tuple[Zone, ...]:
    zones = []
    scale = min(1.0, size / 600)
    for kind, count, half_length, half_width in (
        ("industry", 3, (22, 50), (12, 26)),
        ("rest_area", 1.4, (20, 32), (4.5, 6.5)),
        ("greenhouses", 1, (8, 16), (6, 12)),
        ("quarry", 1.5, (12, 26), (8, 18)),
        ("solar", 1, (10, 20), (6, 12)),
    ):
        wanted = count * (size / 1024) ** 2
        number = max(1 if kind == "industry" else 0, round(wanted))
        if number == 0:  # in a small scene the number of rare objects is random
            number = int(rng.random() < wanted)
        for _ in range(number):
            road = motorways[int(rng.integers(len(motorways)))]
            point, tangent = road.place(rng.uniform(0.12, 0.88) * road.line.length)
            long, wide = rng.uniform(*half_length) * scale, rng.uniform(*half_width) * scale
            side = 1.0 if rng.random() < 0.5 else -1.0
            near = kind in {"industry", "rest_area"} and rng.random() < 0.85
            gap = road.half_width_m / 10 + (0.4 if kind == "rest_area" else rng.uniform(1.5, 5))
            away = gap + wide if near else rng.uniform(60, max(61, size / 3)) * scale + gap + wide
            centre = point + side * away * np.array([-tangent[1], tangent[0]])
            angle = float(np.arctan2(tangent[1], tangent[0])) + (0 if near else float(rng.uniform(-1, 1)))
            zones.append(Zone(float(centre[0]), float(centre[1]), long, wide, angle, kind))
    return tuple(zones)


def _lakes(
    size: int, motorways: list[Road], towns: tuple[Town, ...], rng: np.random.Generator
) -> tuple[Lake, ...]:
    lakes: list[Lake] = []
    for _ in range(max(1, round(3 * (size / 1024) ** 2)) * 3):
        radius = float(np.clip(rng.lognormal(2.5, 0.65), 5, 80)) * min(1.0, size / 600)
        x, y = rng.uniform(0, 1, 2) * size
        dry = _clearance(motorways, x, y) > 1.4 * radius + 8
        if dry and all(hypot(t.x - x, t.y - y) > t.radius + 1.3 * radius for t in towns):
            lakes.append(Lake(float(x), float(y), radius))
        if len(lakes) == max(1, round(4 * (size / 1024) ** 2)):
            break
    return tuple(lakes)
