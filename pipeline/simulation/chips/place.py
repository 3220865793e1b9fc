"""Small worlds for chips: a road or two with dense traffic, look-alikes and weather, on any ground."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.simulation.chips.ground import CHIP_BANDS, Image
from pipeline.simulation.world import buildings, network
from pipeline.simulation.world.demand import ROAD_CLASSES, Flow
from pipeline.simulation.world.network import Road
from pipeline.simulation.world.objects import SEASONS, Contrail, Flight, Town, World, Zone
from pipeline.simulation.world.painting import paint_roofs
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.stage import materials
from pipeline.simulation.world.traffic import Jam, Vehicles, drive, fly, sorted_vehicles, train

CLEAR = 1e-9
"""Cloud cover of a world without clouds."""
_MARGIN = 4.0
"""Pixels around a chip in which vehicles can still be seen in it."""
_BEYOND = 14.0
"""Pixels by which roads reach beyond a chip."""
_SURFACES = materials([BANDS.index(band) for band in CHIP_BANDS])


def any_place(rng: np.random.Generator, size: int) -> World:
    """Draw a world of `size` pixels with at most two roads, under any sun and sky."""
    driving_side = 1 if rng.uniform() < 0.8 else -1
    roads = int(rng.choice([0, 1, 2], p=[0.12, 0.68, 0.20]))
    built = rng.uniform() < 0.45
    town, high = built and rng.uniform() < 0.5, rng.uniform() < 0.25
    return World(
        size=size,
        seed=int(rng.integers(2**31)),
        season=replace(
            SEASONS[0], sun_zenith_deg=float(rng.uniform(20, 79)), sun_azimuth_deg=float(rng.uniform(0, 360))
        ),
        towns=(_town(rng, size),) if town else (),
        zones=(_zone(rng, size),) if built and not town else (),
        rivers=(),
        lakes=(),
        roads=tuple(any_road(rng, size, driving_side) for _ in range(roads)),
        first_detector=int(rng.integers(5, 7)),
        detector_width=1e6,
        detector_start=0.0,
        cloud_cover=float(rng.uniform(0.03, 0.6)) if rng.uniform() < 0.28 else CLEAR,
        cloud_height_m=float(rng.uniform(6000, 12000) if high else rng.uniform(0, 5000)),
        cloud_scale=float(np.exp(rng.uniform(np.log(8), np.log(110)))),
        cloud_gain=float(rng.uniform(0.48, 0.62)),
        cloud_softness=float(rng.uniform(2.0, 6.0) if high else rng.uniform(0.2, 2.0)),
        wind_ms=(float(rng.normal(0, 12 if high else 5)), float(rng.normal(0, 12 if high else 5))),
        haze=float(rng.uniform(0, 0.012)),
        railways=(_railway(rng, size),) if rng.uniform() < 0.06 else (),
        flights=(_flight(rng, size),) if rng.uniform() < 0.03 else (),
        contrails=(_contrail(rng, size),) if rng.uniform() < 0.03 else (),
        driving_side=driving_side,
    )


def any_road(rng: np.random.Generator, size: int, driving_side: int) -> Road:
    """Draw a motorway with two or three lanes each way, or a road with one."""
    motorway = rng.uniform() < 0.7
    return Road(
        _arc(rng, size, 0.0 if rng.uniform() < 0.5 else float(rng.normal(0, 0.006))),
        "motorway" if motorway else "secondary",
        "",
        lanes=int(rng.integers(2, 4)) if motorway else 1,
        median_m=float(rng.uniform(2, 12)) if motorway else 0.0,
        shoulder_m=float(rng.uniform(1, 5) if motorway else rng.uniform(0, 1)),
        driving_side=driving_side,
        shade=float(np.clip(rng.lognormal(0, 0.35), 0.4, 2.5)),
        concrete=float(rng.uniform(0.3, 0.8)) if motorway and rng.uniform() < 0.3 else 0.0,
        verge_m=float(rng.uniform(0.5, 18)),
    )


def _arc(rng: np.random.Generator, size: int, curvature: float) -> NDArray[np.float64]:
    """Return the points of an arc across a chip, in any direction, and beyond its edges."""
    along = np.arange(-1.25 * size, 1.25 * size + 6, 6.0)
    angles = rng.uniform(0, 2 * np.pi) + curvature * along
    steps = 6.0 * np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    points = np.cumsum(steps, axis=0)
    points = points - points[len(points) // 2] + rng.uniform(0.15 * size, 0.85 * size, 2)
    near = np.flatnonzero(((points > -_BEYOND) & (points < size + _BEYOND)).all(axis=1))
    return np.asarray(points[near[0] : near[-1] + 1])


def _railway(rng: np.random.Generator, size: int) -> Road:
    return Road(_arc(rng, size, 0.0), "railway", "", 1, shade=float(rng.uniform(0.7, 1.2)))


def _town(rng: np.random.Generator, size: int) -> Town:
    x, y = rng.uniform(0, size, 2).tolist()
    return Town(x, y, float(rng.uniform(3, 10)), float(rng.uniform(0, np.pi / 2)), ((0.3, 1.0),))


def _zone(rng: np.random.Generator, size: int) -> Zone:
    x, y = rng.uniform(0, size, 2).tolist()
    kind = str(rng.choice(["industry", "rest_area", "greenhouses", "solar"], p=[0.45, 0.3, 0.15, 0.1]))
    wide = rng.uniform(2, 5) if kind == "rest_area" else rng.uniform(5, 12)
    return Zone(x, y, float(rng.uniform(7, 18)), float(wide), float(rng.uniform(0, np.pi)), kind)


def _flight(rng: np.random.Generator, size: int) -> Flight:
    x, y = rng.uniform(0, size, 2).tolist()
    cruising = rng.uniform() < 0.65
    height, speed = (
        (rng.uniform(8500, 11500), rng.uniform(740, 930))
        if cruising
        else (rng.uniform(300, 2500), rng.uniform(240, 450))
    )
    length = float(rng.uniform(28, 65))
    return Flight(x, y, float(rng.uniform(0, 360)), float(speed), float(height), length)


def _contrail(rng: np.random.Generator, size: int) -> Contrail:
    x, y = rng.uniform(0, size, 2).tolist()
    opacity, width = float(rng.uniform(0.08, 0.7)), float(rng.uniform(1.2, 8))
    return Contrail(
        x, y, float(rng.uniform(0, 360)), 4.0 * size, width, opacity, float(rng.uniform(8e3, 12e3))
    )


def paint_place(rng: np.random.Generator, image: Image, world: World, sigma_px: float) -> None:
    """Paint the roads and roofs of a small world over (4, H, W) reflectance in place.

    Some roads are faint as under trees, or invisible, since any ground may be a surface.
    """
    at = np.linspace(0.5, image.shape[1] - 0.5, image.shape[1])
    tint = rng.uniform((0.8, 0.92, 0.97, 0.9), (1.08, 1.04, 1.1, 1.3)).astype(np.float32)
    surfaces = {name: tint * surface for name, surface in _SURFACES.items()}
    for road in (*world.railways, *world.roads):
        before = image.copy()
        network.paint_road(image, np.zeros_like(image[0]), road, at, at, surfaces, sigma_px)
        cover = rng.choice([1.0, rng.uniform(0.4, 0.9), 0.0], p=[0.74, 0.15, 0.11])
        image += np.float32(1 - cover) * (before - image)
    cluttered = rng.uniform() < 0.45
    per_km = float(np.exp(rng.uniform(np.log(2), np.log(25)))) if cluttered else 0.0
    roofs = [
        roof
        for roof in buildings.make_roofs(world, per_km)
        if -10 < roof.x < world.size + 10 and -10 < roof.y < world.size + 10
    ]
    azimuth = world.season.sun_azimuth_deg
    paint_roofs(image, CHIP_BANDS, roofs, azimuth, dict.fromkeys(CHIP_BANDS, sigma_px))


def any_traffic(rng: np.random.Generator, world: World) -> Vehicles:
    """Draw traffic from none to dense in any mixture, some of it in a jam, trains and aircraft."""
    found = []
    for road in world.roads:
        flow, length = any_flow(rng, road), road.line.length
        jam = None
        if rng.uniform() < 0.06:
            start = float(rng.uniform(0, 0.7) * length)
            jam = Jam(
                start, start + float(rng.uniform(20, 100)), float(rng.choice([0.0, rng.uniform(3, 40)]))
            )
        for backwards in (False, True):
            found += drive(road, backwards, flow, rng, jam)
    low, high = -_MARGIN, world.size + _MARGIN
    visible = [one for one in found if low < one.x < high and low < one.y < high]
    wagons = [wagon for railway in world.railways if rng.uniform() < 0.7 for wagon in train(railway, rng)]
    return sorted_vehicles(visible, rng, wagons, fly(world))


def any_flow(rng: np.random.Generator, road: Road) -> Flow:
    """Draw the flow on a road: heavy and light vehicles independently, at any speed."""
    heavy, light = np.exp(rng.uniform(np.log([30, 40]), np.log([1000, 3000]))).tolist()
    motorway = road.median_m > 0
    pace = float(rng.uniform(62, 92) if motorway else rng.uniform(45, 80))
    return Flow(
        heavy * (rng.uniform() > 0.1),
        light * (rng.uniform() > 0.1),
        (pace, 7.0),
        (pace * float(rng.uniform(1.0, 1.5)), 14.0),
        ROAD_CLASSES["motorway" if motorway else "secondary"].heavy_kinds,
        float(rng.uniform(0.05, 0.5)),
    )
