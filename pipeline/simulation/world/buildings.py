"""Roofs, parked vehicles and other static rectangles of a simulated world."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import cos, sin

import numpy as np
import shapely

from pipeline.simulation.rendering import PIXEL_M
from pipeline.simulation.world.network import Road
from pipeline.simulation.world.objects import Town, World, Zone
from pipeline.simulation.world.spectra import MATERIALS, PAINTS, ROOFS

STREET_ALONG, STREET_ACROSS = 9.0, 5.2
"""Spacing of a town's streets along and across its angle, in pixels."""

_HOUSES = (("tile", 0.40), ("brown", 0.22), ("slate", 0.15), ("grey", 0.13), ("light", 0.07), ("red", 0.03))
_HALLS = (("white", 0.20), ("light", 0.28), ("grey", 0.27), ("slate", 0.19), ("tile", 0.04), ("red", 0.02))
Spectrum = tuple[float, ...]
"""Reflectance by band, in the order of `spectra.BANDS`."""


@dataclass(frozen=True)
class Roof:
    """Rectangle from above: a building or a parked vehicle. Lengths in pixels."""

    x: float
    y: float
    heading_deg: float
    length: float
    width: float
    reflectance: Spectrum
    shadow: float = 0.0
    """Length of its shadow."""


def make_roofs(world: World, objects_per_km: float = 0.4) -> tuple[Roof, ...]:
    """Return all buildings and parked vehicles, in the order in which they are painted.

    `objects_per_km` stand on the shoulders and in the median of motorways.
    """
    rng = np.random.default_rng([world.seed, 303])
    shade = float(np.tan(np.deg2rad(world.season.sun_zenith_deg))) / 10
    roofs: list[Roof] = []
    for town in world.towns:
        roofs += _houses(town, shade, rng)
    for zone in world.zones:
        if zone.kind == "industry":
            roofs += _halls(zone, shade, rng)
        elif zone.kind == "rest_area":
            roofs += _parked(zone, rng, 0.55)
        elif zone.kind in {"greenhouses", "solar"}:
            roofs += _rows(zone, rng)
    for _ in range(round(24 * (world.size / 1024) ** 2)):
        roofs += _farm(rng.uniform(0, world.size, 2), shade, rng)
    return (*_beside_roads(roofs, world), *_on_roads(world, objects_per_km))


def _beside_roads(roofs: list[Roof], world: World) -> tuple[Roof, ...]:
    """Return the roofs that are not on a road."""
    if not roofs:
        return ()
    centres = shapely.points([(one.x, one.y) for one in roofs])
    reach = np.array([max(one.length, one.width) / 2 for one in roofs])
    free = np.ones(len(roofs), bool)
    tree = shapely.STRtree(centres)
    for road in (*world.roads, *world.railways):
        near = tree.query(road.line, predicate="dwithin", distance=float(reach.max()) + 3)
        free[near] &= shapely.distance(road.line, centres[near]) > reach[near] + road.half_width_m / PIXEL_M
    return tuple(one for one, keep in zip(roofs, free, strict=True) if keep)


def _on_roads(world: World, objects_per_km: float) -> list[Roof]:
    """Return bridges, sign gantries, and objects on shoulders and in the median: works, signs, lorries."""
    rng = np.random.default_rng([world.seed, 304])
    shade = float(np.tan(np.deg2rad(world.season.sun_zenith_deg))) / 10
    motorways = [road for road in world.roads if road.road_class == "motorway"]
    minor = [road for road in world.roads if road.road_class in {"secondary", "tertiary"}]
    roofs = []
    for below, above in product(motorways, minor):
        crossings = shapely.get_parts(below.line.intersection(above.line))
        for crossing in (part for part in crossings if part.geom_type == "Point"):
            length, width = 2 * below.half_width_m + rng.uniform(10, 30), 2 * above.half_width_m + 3
            deck = _worn(MATERIALS["concrete" if rng.random() < 0.6 else "asphalt"].spectrum, rng)
            at = above.line.project(crossing)
            roofs.append(_along(above, at, 0.0, length, width, deck, 6 * shade))
    for road in motorways:
        km = road.line.length * PIXEL_M / 1000
        for at in rng.uniform(0, road.line.length, rng.poisson(0.2 * km)):
            gantry = _worn(ROOFS["light"], rng)
            side, lanes = rng.choice([-1, 1]), road.carriageway_m
            middle = float(side * (road.median_m + lanes) / 2)
            roofs.append(_along(road, at, middle, rng.uniform(0.6, 1.5), lanes, gantry))
        for at in rng.uniform(0, road.line.length, rng.poisson(objects_per_km * km)):
            edge = float(rng.choice([-1, 0, 1])) * (road.half_width_m - 1.3)
            spectrum = _worn(PAINTS[str(rng.choice(["white", "grey", "grey", "yellow", "red", "dark"]))], rng)
            roofs.append(_along(road, at, edge, rng.uniform(3, 17), rng.uniform(1.0, 2.5), spectrum))
    return roofs


def _along(
    road: Road,
    at: float,
    right_m: float,
    length_m: float,
    width_m: float,
    roof: Spectrum,
    shadow: float = 0.0,
) -> Roof:
    """Return a rectangle along a road, at a distance to the right of its middle line."""
    (x, y), (dx, dy) = road.place(at)
    heading = float(np.rad2deg(np.arctan2(dx, -dy)) % 360)
    x, y = x - dy * right_m / PIXEL_M, y + dx * right_m / PIXEL_M
    return Roof(float(x), float(y), heading, length_m / PIXEL_M, width_m / PIXEL_M, roof, shadow)


def _worn(spectrum: Spectrum, rng: np.random.Generator) -> Spectrum:
    shade = rng.uniform(0.5, 1.0)
    return tuple(shade * value for value in spectrum)


def _roofs(kinds: tuple[tuple[str, float], ...], count: int, rng: np.random.Generator) -> list[Spectrum]:
    names, shares = zip(*kinds, strict=True)
    spectra = np.array([ROOFS[name] for name in names])[rng.choice(len(names), count, p=shares)]
    shades = np.minimum(spectra * np.exp(rng.normal(0, 0.22, (count, 1))), 1.0)
    return [tuple(shade) for shade in shades.tolist()]


def _roof(kinds: tuple[tuple[str, float], ...], rng: np.random.Generator) -> Spectrum:
    return _roofs(kinds, 1, rng)[0]


def _on(centre: tuple[float, float], angle: float, u: float, v: float) -> tuple[float, float]:
    c, s = cos(angle), sin(angle)
    return float(centre[0] + u * c - v * s), float(centre[1] + u * s + v * c)


def _houses(town: Town, shade: float, rng: np.random.Generator) -> list[Roof]:
    """Return houses on both sides of a town's streets, denser and bigger towards the middle."""
    reach = 2 * (int(town.radius / STREET_ACROSS) + 1)
    rows = np.add.outer(np.arange(-reach, reach + 1) * STREET_ACROSS, [-1.25, 1.25]).ravel()
    lots = np.arange(-1.9 * town.radius, 1.9 * town.radius, 2.05)
    u, v = (axis.ravel() for axis in np.meshgrid(lots, rows))
    u, v = u + rng.normal(0, 0.2, u.size), v + rng.normal(0, 0.15, v.size)
    outwards = town.outwards(u, v)
    built = (outwards < 0.97) & (rng.random(u.size) < 0.93 - 0.35 * outwards)
    u, v, outwards = u[built], v[built], outwards[built]
    count = u.size
    core = rng.random(count) < 0.10 * (1.2 - outwards) * min(1.5, town.radius / 25)
    length = np.where(core, rng.uniform(2.2, 4.5, count), rng.uniform(0.95, 1.5, count))
    width = np.where(core, rng.uniform(1.2, 2.0, count), rng.uniform(0.75, 1.1, count))
    turned = np.rad2deg(town.angle) + 90 + rng.normal(0, 4, count) + 90 * (rng.random(count) < 0.3)
    hall = core & (rng.random(count) < 0.6)
    houses, halls = _roofs(_HOUSES, count, rng), _roofs(_HALLS, count, rng)
    roofs = []
    for i in range(count):
        x, y = _on((town.x, town.y), town.angle, u[i], v[i])
        roof = halls[i] if hall[i] else houses[i]
        roofs.append(Roof(x, y, float(turned[i]), float(length[i]), float(width[i]), roof, 7 * shade))
    return roofs


def _halls(zone: Zone, shade: float, rng: np.random.Generator) -> list[Roof]:
    roofs: list[Roof] = []
    heading = float(np.rad2deg(zone.angle)) + 90
    v = -zone.half_width + 1.0
    while v < zone.half_width - 2:
        depth = min(float(rng.uniform(3.5, 10)), zone.half_width - v)
        u = -zone.half_length + 1.0
        while u < zone.half_length - 3:
            width = min(float(rng.uniform(4, 16)), zone.half_length - u)
            centre = _on((zone.x, zone.y), zone.angle, u + width / 2, v + depth / 2)
            if rng.random() < 0.55:
                roof = _roof(_HALLS, rng)
                roofs.append(Roof(*centre, heading, width, depth, roof, 10 * shade))
                for _ in range(int(rng.integers(0, 4))):
                    # skylights, ventilation, other parts of the roof
                    part = _on(
                        centre, zone.angle, rng.uniform(-0.35, 0.35) * width, rng.uniform(-0.3, 0.3) * depth
                    )
                    roofs.append(
                        Roof(
                            *part,
                            heading,
                            rng.uniform(0.4, 0.4 * width),
                            rng.uniform(0.3, 1.2),
                            _roof(_HALLS, rng),
                        )
                    )
            elif rng.random() < 0.5:
                yard = Zone(*centre, width / 2, depth / 2, zone.angle, "rest_area")
                roofs += _parked(yard, rng, 0.4)
            u += width + float(rng.choice([0.4, 1.0, 2.2]))
        v += depth + float(rng.choice([0.8, 1.6, 2.6]))
    return roofs


def _parked(zone: Zone, rng: np.random.Generator, share: float) -> list[Roof]:
    """Return lorries side by side in rows, as on a rest area."""
    roofs = []
    slant = zone.angle + rng.choice([0.0, 0.6, np.pi / 2])
    for v in np.arange(-zone.half_width + 1.1, zone.half_width - 0.9, 3.4):
        for u in np.arange(-zone.half_length + 1, zone.half_length - 1, 0.42):
            if rng.random() < share:
                x, y = _on((zone.x, zone.y), zone.angle, u, v)
                paint = PAINTS[str(rng.choice(["white", "silver", "grey", "blue", "red", "dark"]))]
                heading = float(np.rad2deg(slant))
                roofs.append(Roof(x, y, heading, rng.choice([1.65, 1.2, 0.45]), 0.25, paint))
    return roofs


def _rows(zone: Zone, rng: np.random.Generator) -> list[Roof]:
    """Return long parallel roofs: greenhouses, or the tables of a solar park."""
    roof = ROOFS["greenhouse" if zone.kind == "greenhouses" else "solar"]
    pitch, width = (2.6, 2.0) if zone.kind == "greenhouses" else (1.0, 0.55)
    roofs = []
    for v in np.arange(-zone.half_width + pitch / 2, zone.half_width, pitch):
        x, y = _on((zone.x, zone.y), zone.angle, 0, float(v))
        shade = tuple(np.asarray(roof) * rng.uniform(0.8, 1.2))
        roofs.append(
            Roof(x, y, float(np.rad2deg(zone.angle)) + 90, 2 * zone.half_length * 0.95, width, shade)
        )
    return roofs


def _farm(at: np.ndarray, shade: float, rng: np.random.Generator) -> list[Roof]:
    heading = float(rng.uniform(0, 180))
    roofs = []
    for _ in range(int(rng.integers(2, 7))):
        x, y = at + rng.normal(0, 2.2, 2)
        turned = heading + (90 if rng.random() < 0.4 else 0)
        size = rng.uniform(1.2, 4.5), rng.uniform(0.9, 2.2)
        kinds = _HOUSES if rng.random() < 0.7 else _HALLS
        roofs.append(Roof(float(x), float(y), turned, *size, _roof(kinds, rng), 7 * shade))
    return roofs
