"""Look-alikes of moving trucks: roofs, parked lorries, banks, trains and aircraft."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.simulation.chips.palette import (
    CHIP_BANDS,
    ROOFS,
    ChipWorld,
    Image,
    asphalt,
    blend,
    colour,
    fractal,
    paint,
    truck_colour,
)
from pipeline.simulation.chips.streets import Arc, Street, any_arc
from pipeline.simulation.rendering import Vehicle, add_rectangle, add_vehicle, strip_coverage

_ROOF_SHARES = {
    "white": 0.27, "grey": 0.25, "red": 0.2, "blue": 0.06, "yellow": 0.03, "green": 0.03, "dark": 0.09,
    "greenhouse": 0.04, "solar": 0.03,
}  # fmt: skip


def _stand(
    image: Image,
    world: ChipWorld,
    place: tuple[float, float, float],
    length_px: float,
    width_px: float,
    roof: Image,
) -> None:
    """Paint a static rectangle at (x, y, heading)."""
    x, y, heading = place
    for channel, band in enumerate(CHIP_BANDS):
        add_rectangle(
            image[channel], x, y, heading, length_px, width_px, float(roof[channel]), world.sigma[band]
        )


def add_buildings(rng: np.random.Generator, image: Image, world: ChipWorld) -> None:
    """Add roofs of every colour: single, a town, an industrial estate, greenhouses or a solar park."""
    size = image.shape[1]
    centre, spread = rng.uniform(0, size, 2), rng.uniform(4, size / 2)
    big = rng.uniform() < 0.35
    for _ in range(int(rng.integers(1, 40))):
        x, y = rng.normal(centre, spread)
        length, width = rng.uniform(1.2, 9, 2) if big else rng.uniform(0.5, 2.2, 2)
        roof = colour(rng, str(rng.choice(list(_ROOF_SHARES), p=list(_ROOF_SHARES.values()))))
        heading = float(rng.choice([0, 90]) + rng.normal(centre[0] * 3, 4))
        _stand(image, world, (x, y, heading), length, width, roof)


def add_parked(rng: np.random.Generator, image: Image, world: ChipWorld) -> None:
    """Add a row of parked lorries, like trucks except for motion."""
    x, y = rng.uniform(0, image.shape[1], 2)
    heading, step = rng.uniform(0, 360), rng.uniform(0.35, 1.5)
    row = Arc(x, y, heading + 90, 0.0)
    for index in range(int(rng.integers(1, 12))):
        at_x, at_y, _ = row.place(index * step, 0.0)
        _stand(
            image,
            world,
            (at_x, at_y, heading),
            rng.uniform(0.8, 1.7),
            0.26,
            colour(rng, truck_colour(rng)),
        )


def add_standing(rng: np.random.Generator, image: Image, world: ChipWorld, street: Street) -> None:
    """Add static objects on or beside a street, as bright as a truck: queues, signs, patches, roofs."""
    size = image.shape[1]
    gap_px = float(np.exp(rng.uniform(np.log(4), np.log(40))))
    colours = ["white", "grey"] if rng.uniform() < 0.6 else list(ROOFS)
    s = rng.uniform(-size, -size + gap_px)
    while s < size:
        x, y, heading = street.arc.place(s, rng.uniform(-1, 1) * (street.half_width + rng.choice([0.0, 1.0])))
        what = colour(rng, str(rng.choice(colours))) * np.float32(rng.uniform(0.5, 1.0))
        length = rng.uniform(0.4, 1.9) if rng.uniform() < 0.75 else rng.uniform(1.5, 6)
        turned = heading + (90 if rng.uniform() < 0.15 else 0)
        _stand(image, world, (x, y, turned), length, rng.uniform(0.2, 0.7), what)
        s += max(2.0, rng.exponential(gap_px))


def add_banks(rng: np.random.Generator, image: Image) -> None:
    """Add bright broken strips, like gravel banks, walls, platforms, field tracks and shores."""
    size = image.shape[1]
    for _ in range(int(rng.integers(1, 4))):
        line = any_arc(rng, size, 0.02, margin=0.0)
        _, across = line.coordinates(size)
        share = strip_coverage(across, rng.uniform(0.2, 1.6), 0.5)
        broken = np.clip(fractal(rng, size, rng.uniform(1, 4)) + rng.uniform(-1, 1.5), 0, 1)
        blend(image, share * broken, asphalt(rng) * np.float32(rng.uniform(0.8, 2.5)))


def add_train(rng: np.random.Generator, image: Image, world: ChipWorld) -> None:
    """Add a railway, with a train in six of ten cases: far longer than any truck."""
    size = image.shape[1]
    track = replace(any_arc(rng, size, 0.0, margin=0.1), curvature=0.0)
    _, across = track.coordinates(size)
    blend(image, strip_coverage(across, rng.uniform(0.6, 1.4), 0.5), asphalt(rng))
    if rng.uniform() < 0.6:
        train = Vehicle(
            track.x,
            track.y,
            track.heading_deg,
            rng.uniform(40, 220),
            rng.uniform(60, 300),
            3.0,
            paint(rng, truck_colour(rng)),
        )
        add_vehicle(image, CHIP_BANDS, train, world.order, world.sigma)


def add_aircraft(rng: np.random.Generator, image: Image, world: ChipWorld) -> None:
    """Add an aircraft in flight: ten times as fast as a truck."""
    x, y = rng.uniform(0, image.shape[1], 2)
    plane = Vehicle(
        float(x),
        float(y),
        rng.uniform(0, 360),
        rng.uniform(350, 900),
        rng.uniform(25, 60),
        4.5,
        paint(rng, "white"),
    )
    add_vehicle(image, CHIP_BANDS, plane, world.order, world.sigma)
    wings = replace(plane, length_m=5.0, width_m=plane.length_m * 0.9)
    add_vehicle(image, CHIP_BANDS, wings, world.order, world.sigma)
