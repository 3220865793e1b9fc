"""Training chips for the truck detector: real or simulated ground with streets, traffic and look-alikes.

Each chip has a random world (road surface, traffic, sun, haze, optics, quantisation) that varies as widely as
scenes do. So the detector learns the common property of all trucks: the same small bright or coloured blob,
displaced along the road from band to band by speed times delay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.simulation.chips import lookalikes, sky, streets
from pipeline.simulation.chips.ground import Boxes, LabelledImage, any_ground, inside, near_a_truck
from pipeline.simulation.chips.instrument import observe
from pipeline.simulation.chips.palette import CHIP_BANDS, ChipWorld, Image, any_world
from pipeline.simulation.chips.traffic import Moving, add_traffic

__all__ = ["CHIP_BANDS", "Chip", "LabelledImage", "draw_chip"]


@dataclass(frozen=True)
class Chip:
    """Training example: the image and its moving trucks."""

    reflectance: Image
    """(4, H, W) of `CHIP_BANDS`."""
    boxes: Boxes
    """(N, 4) of moving trucks: x_min, y_min, x_max, y_max in pixels."""
    ignored: Boxes
    """(M, 4) of areas excluded from training: faint, slow or hidden trucks, and cars as visible as trucks."""


def draw_chip(
    rng: np.random.Generator,
    grounds: Sequence[LabelledImage],
    scenes: Sequence[LabelledImage] = (),
    size: int = 64,
) -> Chip:
    """Draw a random training chip of `size` pixels.

    `grounds` have few vehicles, and traffic is drawn on them. `scenes` have their own traffic: every fifth
    chip is a part of one without further vehicles.
    """
    world = any_world(rng)
    if scenes and rng.uniform() < 0.2:
        part = near_a_truck(rng, scenes[int(rng.integers(len(scenes)))], size)
        return Chip(observe(rng, part.reflectance, world.noise * 0.3), part.trucks, part.ambiguous)
    ground = any_ground(rng, grounds, size)
    image = ground.reflectance.copy()
    if rng.uniform() < 0.45:
        lookalikes.add_buildings(rng, image, world)
    if rng.uniform() < 0.12:
        lookalikes.add_banks(rng, image)
    if rng.uniform() < 0.06:
        lookalikes.add_train(rng, image, world)
    light, clear = np.ones((2, size, size), np.float32)
    moving: list[Moving] = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.12, 0.68, 0.20]))):
        street = streets.any_street(rng, size)
        streets.pave(rng, image, world, street)
        if rng.uniform() < 0.45:
            lookalikes.add_standing(rng, image, world, street)
        moving += add_traffic(rng, image, world, street)
        if rng.uniform() < 0.12:
            clear = clear * (1 - streets.bridge(rng, image, world, street))
    if rng.uniform() < 0.25:
        lookalikes.add_parked(rng, image, world) if moving else lookalikes.add_buildings(rng, image, world)
    if rng.uniform() < 0.03:
        lookalikes.add_aircraft(rng, image, world)
    if rng.uniform() < 0.12:
        light = sky.cloud_shadow(rng, size)
        image *= light
    if rng.uniform() < 0.25:
        clear = clear * (1 - sky.add_clouds(rng, image, world))
    if rng.uniform() < 0.03:
        clear = clear * (1 - sky.add_contrail(rng, image, world))
    trucks, ambiguous = _sorted(moving, world, light, 1 - clear)
    return Chip(
        observe(rng, image, world.noise),
        np.concatenate([inside(trucks, size), ground.trucks]),
        np.concatenate([inside(ambiguous, size), ground.ambiguous]),
    )


def _sorted(moving: Sequence[Moving], world: ChipWorld, light: Image, opacity: Image) -> tuple[Boxes, Boxes]:
    """Return the boxes of certain and of ambiguous trucks."""
    size = len(light)
    trucks, ambiguous = [], []
    for one in moving:
        row, col = (int(np.clip(value, 0, size - 1)) for value in (one.vehicle.y, one.vehicle.x))
        if one.certain(float(light[row, col]), float(opacity[row, col])):
            trucks.append(one.vehicle.box(world.order))
        elif one.ambiguous:
            ambiguous.append(one.vehicle.box(world.order))
    return tuple(np.array(boxes, np.float32).reshape(-1, 4) for boxes in (trucks, ambiguous))  # type: ignore[return-value]
