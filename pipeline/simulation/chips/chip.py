"""Training chips for the truck detector: windows of the scene simulator over real or simulated ground.

Each chip has a random small world (roads, traffic, look-alikes, sun, sky) and a random instrument, which vary
as widely as scenes do. So the detector learns the common property of all vehicles: the same small bright or
coloured blob, displaced along the road from band to band by speed times delay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.simulation.chips.ground import (
    CHIP_BANDS,
    HEAVY,
    LIGHT,
    Boxes,
    Image,
    LabelledImage,
    Labels,
    any_ground,
    clipped,
    inside,
    is_inside,
    near_a_vehicle,
    turned,
)
from pipeline.simulation.chips.instrument import any_blur, any_noise, observe
from pipeline.simulation.chips.place import CLEAR, any_place, any_traffic, paint_place
from pipeline.simulation.rendering import Vehicle
from pipeline.simulation.world import atmosphere, fleet
from pipeline.simulation.world.objects import World
from pipeline.simulation.world.painting import paint_vehicles
from pipeline.simulation.world.stage import GLIMPSED_PX, STANDING_KMH
from pipeline.simulation.world.traffic import Vehicles

__all__ = ["CHIP_BANDS", "HEAVY", "LIGHT", "LabelledImage", "draw_chip"]

CERTAIN_KMH = 42.0
"""Speed at which a vehicle is displaced by more than a pixel from B02 to B04."""
_NOISE_PX, _ROUGH_PX = 2.7, 0.7
"""Minimum contrast of a visible vehicle, in units of the noise, and of the road's deviation around it."""
_HINTED = 0.7
"""Part of that contrast from which a light vehicle may be seen."""
_VEILED, _HIDDEN = 0.35, 0.9
"""Opacities of the sky from which a vehicle is not certain, and not to be seen."""


def draw_chip(
    rng: np.random.Generator,
    grounds: Sequence[LabelledImage],
    scenes: Sequence[LabelledImage] = (),
    size: int = 64,
) -> LabelledImage:
    """Draw a random training chip of `size` pixels, with boxes of its moving vehicles.

    `grounds` have few vehicles, and traffic is drawn on them. `scenes` have their own traffic: every fifth
    chip is a part of one without further vehicles. Faint, slow and hidden vehicles are ambiguous.
    """
    noise = any_noise(rng)
    if scenes and rng.uniform() < 0.2:
        part = near_a_vehicle(rng, scenes[int(rng.integers(len(scenes)))], size)
        return replace(part, reflectance=observe(rng, part.reflectance, noise * 0.3))
    ground = any_ground(rng, grounds, size)
    world, sigma = any_place(rng, size), any_blur(rng)
    image = ground.reflectance.copy()
    paint_place(rng, image, world, float(np.mean(list(sigma.values()))))
    road = image.copy()
    traffic = any_traffic(rng, world)
    paint_vehicles(image, CHIP_BANDS, world, traffic, sigma)
    light, opacity = _add_sky(image, world)
    boxes, labels, ambiguous = judged(traffic, world.order(0, 0), road, light, opacity, noise)
    chip = LabelledImage(
        observe(rng, image, noise),
        np.concatenate([boxes, ground.boxes]),
        np.concatenate([labels, ground.labels]),
        np.concatenate([ambiguous, ground.ambiguous]),
    )
    return turned(rng, chip)


def _add_sky(image: Image, world: World) -> tuple[Image, Image]:
    """Add clouds, shadows and haze in place; return the light that reaches the ground and the opacity."""
    at = np.linspace(0.5, world.size - 0.5, world.size)
    if world.cloud_cover == CLEAR and not world.contrails:
        return np.ones_like(image[0]), np.zeros_like(image[0])
    above = atmosphere.sky(world, at, at)
    atmosphere.add_sky(image, CHIP_BANDS, world, at, at, above)
    return 1 - atmosphere.SHADE * above.shadow, 1 - (1 - above.cloud) * (1 - above.cirrus)


def judged(
    traffic: Vehicles, order: int, road: Image, light: Image, opacity: Image, noise: float
) -> tuple[Boxes, Labels, Boxes]:
    """Return boxes and labels of the vehicles that are certain, and boxes of those that are ambiguous.

    `road` is the reflectance below the vehicles, `light` and `opacity` (H, W) from 0 to 1. A vehicle is
    certain if it moves by more than a pixel and stands out of noise and road. What stands, and light vehicles
    that nobody could see, are ground.
    """
    size = len(light)
    certain: list[tuple[float, ...]] = []
    labels: list[int] = []
    ambiguous: list[tuple[float, ...]] = []
    for vehicle in (*traffic.heavy, *traffic.light):
        row, col = (int(np.clip(value, 1, size - 2)) for value in (vehicle.y, vehicle.x))
        heavy, hidden = fleet.is_heavy(vehicle), float(opacity[row, col])
        if vehicle.speed_kmh < STANDING_KMH or hidden > _HIDDEN:
            continue
        seen = _standing_out(vehicle, road[:, row - 1 : row + 2, col - 1 : col + 2], noise)
        seen *= float(light[row, col]) * (1 - hidden)
        if seen >= 1 and hidden < _VEILED and vehicle.speed_kmh >= CERTAIN_KMH:
            certain.append(vehicle.box(order))
            labels.append(HEAVY if heavy else LIGHT)
        elif heavy or seen > _HINTED:
            ambiguous.append(vehicle.box(order))
    found, doubtful = (np.array(boxes, np.float32).reshape(-1, 4) for boxes in (certain, ambiguous))
    here = is_inside(found, size)
    return clipped(found[here], size), np.array(labels, np.int64)[here], inside(doubtful, size)


def _standing_out(vehicle: Vehicle, around: NDArray[np.float32], noise: float) -> float:
    """Return the contrast of a vehicle to the pixels (4, 3, 3) below it, in units of what can be seen."""
    rough = float(around[:3].std(axis=(1, 2)).mean())
    least = max(GLIMPSED_PX, _NOISE_PX * noise, _ROUGH_PX * rough)
    return fleet.contrast(vehicle, around.mean(axis=(1, 2)).tolist(), CHIP_BANDS) / least
