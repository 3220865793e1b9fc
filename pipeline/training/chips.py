"""Training chips for the truck detector: real or simulated ground, with roads, traffic and look-alikes.

Each chip draws its own world (road surface, traffic, sun, haze, optics, quantisation) as widely as scenes
differ, so that the detector learns the one thing all trucks share: the same small bright or coloured blob,
displaced along the road from band to band by speed times delay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.scenes.msi import BAND_DELAYS_S
from pipeline.training.rendering import (
    PIXEL_M,
    Vehicle,
    add_rectangle,
    add_vehicle,
    car_reflectance,
    strip_coverage,
)

CHIP_BANDS = ("B02", "B03", "B04", "B08")
Image = NDArray[np.float32]

_ROOFS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    # lowest and highest reflectance in B02, B03, B04, B08
    "white": ((0.30, 0.30, 0.30, 0.30), (0.75, 0.75, 0.75, 0.75)),
    "grey": ((0.16, 0.16, 0.16, 0.16), (0.36, 0.36, 0.36, 0.40)),
    "red": ((0.03, 0.03, 0.22, 0.26), (0.08, 0.08, 0.48, 0.55)),
    "blue": ((0.18, 0.10, 0.04, 0.10), (0.36, 0.24, 0.10, 0.40)),
    "yellow": ((0.05, 0.24, 0.34, 0.38), (0.10, 0.42, 0.58, 0.62)),
    "green": ((0.04, 0.14, 0.05, 0.16), (0.10, 0.28, 0.12, 0.45)),
    "dark": ((0.02, 0.02, 0.02, 0.02), (0.06, 0.06, 0.06, 0.10)),
}
_TRUCK_COLOURS = (
    ("white", 0.50),
    ("grey", 0.22),
    ("blue", 0.08),
    ("red", 0.07),
    ("yellow", 0.07),
    ("green", 0.06),
)
_MIN_CONTRAST = 0.010
"""Peak difference to the road, in reflectance, below which a vehicle is not called a truck: nobody could."""


@dataclass(frozen=True)
class Chip:
    """One example: what the instrument saw, and the moving trucks in it."""

    reflectance: Image
    """(4, H, W) of `CHIP_BANDS`."""
    boxes: NDArray[np.float32]
    """(N, 4): x_min, y_min, x_max, y_max in pixels."""


@dataclass(frozen=True)
class Traffic:
    """A simulated scene with its own roads and trucks, to cut examples from."""

    reflectance: Image
    """(4, H, W) of `CHIP_BANDS`."""
    boxes: NDArray[np.float32]
    """(N, 4): x_min, y_min, x_max, y_max in pixels."""


@dataclass(frozen=True)
class _World:
    """What is the same all over a chip."""

    order: int
    noise: float
    sigma: dict[str, float]
    shadow_heading: float
    shadow_length_m: float


def _world(rng: np.random.Generator) -> _World:
    common = rng.uniform(0.38, 0.62)
    return _World(
        order=int(rng.choice([-1, 1])),
        noise=float(np.exp(rng.uniform(np.log(0.0008), np.log(0.006)))),
        sigma={band: float(common + rng.normal(0, 0.03)) for band in CHIP_BANDS},
        shadow_heading=float(rng.uniform(0, 360)),
        shadow_length_m=float(rng.uniform(1.5, 9.0)),
    )


def _colour(rng: np.random.Generator, name: str) -> Image:
    low, high = (np.array(ends, dtype=np.float32) for ends in _ROOFS[name])
    level = rng.uniform()
    return np.clip(low + (high - low) * (level + rng.normal(0, 0.06, 4)), 0.01, 0.9).astype(np.float32)


# --- ground ---------------------------------------------------------------------------------------------


def patchwork(rng: np.random.Generator, size: int) -> Image:
    """A field patchwork of random spectra with texture, (4, size, size)."""
    seeds = rng.uniform(-10, size + 10, (int(rng.integers(3, 40)), 2))
    stretch = np.array([1.0, rng.uniform(0.25, 1.0)])
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).reshape(-1, 2)
    distance = ((grid @ turn * stretch)[:, None] - (seeds @ turn * stretch)[None]) ** 2
    parcel = distance.sum(-1).argmin(1).reshape(size, size)
    green = rng.uniform(size=len(seeds)) < rng.uniform(0.2, 0.9)
    vegetation = rng.uniform((0.015, 0.03, 0.02, 0.15), (0.06, 0.10, 0.08, 0.45), (len(seeds), 4))
    soil = rng.uniform(0.04, 0.20, (len(seeds), 1)) * rng.uniform(
        (0.6, 0.85, 1.1, 1.4), (0.9, 1.1, 1.5, 1.9), (len(seeds), 4)
    )
    spectra = np.where(green[:, None], vegetation, soil)
    image = spectra[parcel].transpose(2, 0, 1).astype(np.float32)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), rng.uniform(0.5, 3))
    image *= (1 + rng.uniform(0.02, 0.2) * texture / max(float(texture.std()), 1e-6)).astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(image, (0, 0.6, 0.6)), dtype=np.float32)


def _ground(rng: np.random.Generator, backgrounds: Sequence[Image], size: int) -> Image:
    if not backgrounds or rng.uniform() < 0.25:
        return patchwork(rng, size)
    areas = np.array([image.shape[1] * image.shape[2] for image in backgrounds], dtype=float) ** 0.5
    image = backgrounds[int(rng.choice(len(backgrounds), p=areas / areas.sum()))]
    for _ in range(4):
        row, col = (int(rng.integers(0, extent - size + 1)) for extent in image.shape[1:])
        crop = image[:, row : row + size, col : col + size]
        if float(crop[3].mean()) > float(crop[1].mean()):  # seas make dull examples: mostly take land
            break
    crop = np.rot90(crop, int(rng.integers(4)), (1, 2))
    if rng.uniform() < 0.5:
        crop = crop[:, :, ::-1]
    crop = crop.astype(np.float32)
    dark = np.percentile(crop, 1, axis=(1, 2), keepdims=True).astype(np.float32)
    if rng.uniform() < 0.6:  # take off the haze of top-of-atmosphere scenes, as a surface product has it
        crop = np.maximum(crop - dark * np.float32(rng.uniform(0.5, 0.95)), 0.003)
    gain = rng.uniform(0.7, 1.4) * rng.uniform(0.85, 1.15, (4, 1, 1))
    return np.clip(crop * gain, 0.002, 1.2).astype(np.float32)


def _add_buildings(rng: np.random.Generator, image: Image, world: _World) -> None:
    """Roofs of every colour that stand still, alone or as a town or an industrial estate."""
    size = image.shape[1]
    centre, spread = rng.uniform(0, size, 2), rng.uniform(4, size / 2)
    big = rng.uniform() < 0.35
    for _ in range(int(rng.integers(1, 40))):
        x, y = rng.normal(centre, spread)
        length, width = rng.uniform(1.2, 9, 2) if big else rng.uniform(0.5, 2.2, 2)
        name = rng.choice(list(_ROOFS), p=[0.3, 0.28, 0.2, 0.06, 0.03, 0.03, 0.1])
        colour = _colour(rng, str(name))
        heading = float(rng.choice([0, 90]) + rng.normal(centre[0] * 3, 4))
        for channel, band in enumerate(CHIP_BANDS):
            add_rectangle(
                image[channel], x, y, heading, length, width, float(colour[channel]), world.sigma[band]
            )


def _add_parked(rng: np.random.Generator, image: Image, world: _World) -> None:
    """Rows of parked lorries: trucks in every respect but motion."""
    size = image.shape[1]
    x, y = rng.uniform(0, size, 2)
    heading, step = rng.uniform(0, 360), rng.uniform(0.35, 1.5)
    along = np.deg2rad(heading + 90)
    for index in range(int(rng.integers(1, 12))):
        colour = _colour(rng, _truck_colour(rng))
        for channel, band in enumerate(CHIP_BANDS):
            add_rectangle(
                image[channel],
                x + index * step * np.sin(along),
                y - index * step * np.cos(along),
                heading,
                rng.uniform(0.8, 1.7),
                0.26,
                float(colour[channel]),
                world.sigma[band],
            )


# --- roads and traffic ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Road:
    """An arc of constant curvature through a point; s runs along it, d across it to the right, in pixels."""

    x: float
    y: float
    heading_deg: float
    curvature: float

    def place(self, s: float, d: float) -> tuple[float, float, float]:
        """(x, y, heading) at a distance along and across."""
        start = np.deg2rad(self.heading_deg)
        turn = self.curvature * s
        angle = start + turn
        if abs(self.curvature) < 1e-9:
            x, y = self.x + s * np.sin(start), self.y - s * np.cos(start)
        else:
            x = self.x + (np.cos(start) - np.cos(angle)) / self.curvature
            y = self.y - (np.sin(angle) - np.sin(start)) / self.curvature
        return float(x + d * np.cos(angle)), float(y + d * np.sin(angle)), float(np.rad2deg(angle) % 360)

    def distance(self, size: int) -> Image:
        """(size, size) signed distance of the pixel centres to its middle, positive on the right."""
        cols, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
        start = np.deg2rad(self.heading_deg)
        right = np.cos(start), np.sin(start)
        across = (cols - self.x) * right[0] + (rows - self.y) * right[1]
        if abs(self.curvature) < 1e-9:
            return across.astype(np.float32)
        along = (cols - self.x) * np.sin(start) - (rows - self.y) * np.cos(start)
        radius = 1 / self.curvature
        return (radius - np.sign(radius) * np.hypot(along, across - radius)).astype(np.float32)


def _asphalt(rng: np.random.Generator) -> Image:
    level = rng.uniform(0.035, 0.20) if rng.uniform() < 0.85 else rng.uniform(0.2, 0.32)
    tint = np.array(
        [rng.uniform(0.75, 1.0), rng.uniform(0.9, 1.02), rng.uniform(0.98, 1.15), rng.uniform(1.05, 1.5)]
    )
    return (level * tint).astype(np.float32)


def _truck_colour(rng: np.random.Generator) -> str:
    names, weights = zip(*_TRUCK_COLOURS, strict=True)
    return str(rng.choice(names, p=weights))


def _blend(image: Image, share: Image, colour: Image) -> None:
    image += share[None] * (colour[:, None, None] - image)


def _add_road(rng: np.random.Generator, image: Image, world: _World) -> list[tuple[Vehicle, Image]]:
    """Draw a road and its traffic; the moving trucks with the road's colour under them."""
    size = image.shape[1]
    motorway = rng.uniform() < 0.7
    lanes = int(rng.integers(2, 4)) if motorway else 1
    lane_px = rng.uniform(0.34, 0.38)
    shoulder = rng.uniform(0.1, 0.4) if motorway else rng.uniform(0, 0.1)
    median = rng.uniform(0.2, 1.2) if motorway else 0.0
    road = _Road(
        float(rng.uniform(0.15 * size, 0.85 * size)),
        float(rng.uniform(0.15 * size, 0.85 * size)),
        rng.uniform(0, 360),
        0.0 if rng.uniform() < 0.5 else rng.normal(0, 0.006),
    )
    driving_side = 1 if rng.uniform() < 0.8 else -1
    distance = road.distance(size)
    carriageway = lanes * lane_px + 2 * shoulder
    sigma = float(np.mean(list(world.sigma.values())))
    if rng.uniform() < 0.6:  # cleared or grassed verge
        verge = (
            _colour(rng, "green") * np.float32(0.6)
            if rng.uniform() < 0.6
            else _asphalt(rng) * np.float32(1.3)
        )
        width = 2 * carriageway + median + rng.uniform(0.5, 5)
        _blend(image, rng.uniform(0.3, 0.9) * strip_coverage(distance, width, 1.0), verge)
    surface = _asphalt(rng)
    surfaces = {side: surface * np.float32(rng.normal(1, 0.08)) for side in (-1, 1)}
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), rng.uniform(0.6, 2.5))
    texture = (1 + rng.uniform(0.0, 0.10) * texture / max(float(texture.std()), 1e-6)).astype(np.float32)
    share_before = image.copy()
    for side in (-1, 1):
        middle = side * (median + carriageway) / 2
        _blend(image, strip_coverage(distance - np.float32(middle), carriageway, sigma), surfaces[side])
    paved = np.clip(strip_coverage(distance, 2 * carriageway + median, sigma), 0, 1)
    image += paved[None] * image * (texture - 1)[None]
    if rng.uniform() < 0.15:  # a faint, half covered road, as under trees
        fade = np.float32(rng.uniform(0.1, 0.6))
        image += fade * (share_before - image)
    if rng.uniform() < 0.45:
        _add_standing(rng, image, world, road, median / 2 + carriageway)
    return _add_traffic(rng, image, world, road, lanes, lane_px, shoulder, median, driving_side, surfaces)


def _add_standing(
    rng: np.random.Generator, image: Image, world: _World, road: _Road, half_width: float
) -> None:
    """What stands on or beside a road and is as bright as a truck: queues, bridges, signs, patches, roofs."""
    size = image.shape[1]
    gap_px = float(np.exp(rng.uniform(np.log(4), np.log(40))))
    colours = ["white", "grey"] if rng.uniform() < 0.6 else list(_ROOFS)
    s = rng.uniform(-size, -size + gap_px)
    while s < size:
        x, y, heading = road.place(s, rng.uniform(-1, 1) * (half_width + rng.choice([0.0, 1.0])))
        colour = _colour(rng, str(rng.choice(colours))) * np.float32(rng.uniform(0.5, 1.0))
        length, width = (
            rng.choice([rng.uniform(0.4, 1.9), rng.uniform(1.5, 6)], p=[0.75, 0.25]),
            rng.uniform(0.2, 0.7),
        )
        turned = heading + (90 if rng.uniform() < 0.15 else 0)
        for channel, band in enumerate(CHIP_BANDS):
            add_rectangle(
                image[channel], x, y, turned, length, width, float(colour[channel]), world.sigma[band]
            )
        s += max(2.0, rng.exponential(gap_px))


def _add_banks(rng: np.random.Generator, image: Image, world: _World) -> None:
    """Bright broken strips, as gravel banks, walls, platforms and field tracks make."""
    size = image.shape[1]
    for _ in range(int(rng.integers(1, 4))):
        line = _Road(
            float(rng.uniform(0, size)), float(rng.uniform(0, size)), rng.uniform(0, 360), rng.normal(0, 0.02)
        )
        share = strip_coverage(line.distance(size), rng.uniform(0.2, 1.6), 0.5)
        broken = np.clip(_fractal(rng, size, rng.uniform(1, 4)) + rng.uniform(-1, 1.5), 0, 1)
        _blend(image, share * broken, _asphalt(rng) * np.float32(rng.uniform(0.8, 2.5)))


def _add_traffic(
    rng: np.random.Generator,
    image: Image,
    world: _World,
    road: _Road,
    lanes: int,
    lane_px: float,
    shoulder: float,
    median: float,
    driving_side: int,
    surfaces: dict[int, Image],
) -> list[tuple[Vehicle, Image]]:
    size = image.shape[1]
    typical = rng.uniform(62, 92) if lanes > 1 else rng.uniform(45, 80)
    gap_px = float(np.exp(rng.uniform(np.log(5), np.log(60))))
    trucks: list[tuple[Vehicle, Image]] = []
    for side in (-1, 1):
        backwards = side != driving_side
        s = rng.uniform(-size, -size + gap_px)
        while s < size:
            lane = lanes - 1 if rng.uniform() < 0.85 else int(rng.integers(0, lanes))
            x, y, heading = road.place(s, side * (median / 2 + shoulder + (lane + 0.5) * lane_px))
            if -3 < x < size + 3 and -3 < y < size + 3:
                heading = (heading + 180) % 360 if backwards else heading
                if rng.uniform() < 0.35:
                    add_vehicle(image, CHIP_BANDS, _car(rng, x, y, heading), world.order, world.sigma)
                else:
                    speed = float(np.clip(rng.normal(typical, 7), 38, 112))
                    truck = _truck(rng, x, y, heading, speed)
                    _add_truck(rng, image, world, truck, surfaces[side])
                    trucks.append((truck, surfaces[side]))
            s += max(4.5, rng.exponential(gap_px))
    return trucks


def _paint(rng: np.random.Generator, name: str) -> dict[str, float]:
    return dict(zip(CHIP_BANDS, _colour(rng, name).tolist(), strict=True))


def _car(rng: np.random.Generator, x: float, y: float, heading: float) -> Vehicle:
    paint = car_reflectance(_paint(rng, str(rng.choice(list(_ROOFS)))))
    return Vehicle(x, y, heading, rng.uniform(60, 150), rng.uniform(3.8, 5.0), rng.uniform(1.7, 1.9), paint)


def _truck(rng: np.random.Generator, x: float, y: float, heading: float, speed: float) -> Vehicle:
    length = rng.uniform(13, 19) if rng.uniform() < 0.7 else rng.uniform(8, 12)
    return Vehicle(x, y, heading, speed, length, rng.uniform(2.4, 3.0), _paint(rng, _truck_colour(rng)))


def _add_truck(rng: np.random.Generator, image: Image, world: _World, truck: Vehicle, surface: Image) -> None:
    """Its shadow, its load, and now and then a cab of another colour."""
    _add_shadow(rng, image, world, truck, surface)
    add_vehicle(image, CHIP_BANDS, truck, world.order, world.sigma)
    if rng.uniform() < 0.3:
        add_vehicle(image, CHIP_BANDS, _cab(rng, truck), world.order, world.sigma)


def _cab(rng: np.random.Generator, truck: Vehicle) -> Vehicle:
    dx, dy = truck.direction
    ahead = (truck.length_m / 2 - 1.2) / PIXEL_M
    x, y = truck.x + ahead * dx, truck.y + ahead * dy
    return replace(truck, x=x, y=y, length_m=2.4, reflectance=_paint(rng, _truck_colour(rng)))


def _add_shadow(
    rng: np.random.Generator, image: Image, world: _World, truck: Vehicle, surface: Image
) -> None:
    """The truck's shadow on the road, which moves with it."""
    angle = np.deg2rad(world.shadow_heading)
    shift = world.shadow_length_m / 2 / PIXEL_M
    dark = (surface * np.float32(rng.uniform(0.3, 0.6))).tolist()
    across = abs(np.sin(angle - np.deg2rad(truck.heading_deg))) * world.shadow_length_m
    if across < 0.3:
        return
    shadow = replace(
        truck,
        x=truck.x + shift * np.sin(angle),
        y=truck.y - shift * np.cos(angle),
        width_m=float(across),
        reflectance=dict(zip(CHIP_BANDS, dark, strict=True)),
    )
    add_vehicle(image, CHIP_BANDS, shadow, world.order, world.sigma)


def _visible(truck: Vehicle, road: Image, world: _World) -> bool:
    """Whether a person could tell: a peak above noise in two of the three visible bands."""
    area = truck.length_m * truck.width_m / PIXEL_M**2
    roof = np.array([truck.reflectance[band] for band in CHIP_BANDS[:3]])
    peak = np.abs(roof - road[:3]) * min(1.0, area) * 0.75
    return bool(
        (peak > max(_MIN_CONTRAST, 2.0 * world.noise)).sum() >= 2
        or peak.max() > 3 * max(_MIN_CONTRAST, 2 * world.noise)
    )


# --- look-alikes that move, or seem to ------------------------------------------------------------------


def _add_train(rng: np.random.Generator, image: Image, world: _World) -> None:
    size = image.shape[1]
    track = _Road(
        float(rng.uniform(0.1, 0.9)) * size, float(rng.uniform(0.1, 0.9)) * size, rng.uniform(0, 360), 0.0
    )
    _blend(image, strip_coverage(track.distance(size), rng.uniform(0.6, 1.4), 0.5), _asphalt(rng))
    if rng.uniform() < 0.6:
        colour = _paint(rng, _truck_colour(rng))
        train = Vehicle(
            track.x, track.y, track.heading_deg, rng.uniform(40, 220), rng.uniform(60, 300), 3.0, colour
        )
        add_vehicle(image, CHIP_BANDS, train, world.order, world.sigma)


def _add_aircraft(rng: np.random.Generator, image: Image, world: _World) -> None:
    size = image.shape[1]
    colour = _paint(rng, "white")
    plane = Vehicle(
        float(rng.uniform(0, size)),
        float(rng.uniform(0, size)),
        rng.uniform(0, 360),
        rng.uniform(350, 900),
        rng.uniform(25, 60),
        4.5,
        colour,
    )
    add_vehicle(image, CHIP_BANDS, plane, world.order, world.sigma)
    wings = replace(plane, length_m=5.0, width_m=plane.length_m * 0.9)
    add_vehicle(image, CHIP_BANDS, wings, world.order, world.sigma)


def _fractal(rng: np.random.Generator, size: int, smoothest: float) -> Image:
    field = np.zeros((size, size))
    for octave in range(4):
        layer = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), smoothest / 2**octave, mode="wrap")
        field += layer / max(float(layer.std()), 1e-9) / 1.8**octave
    return (field / field.std()).astype(np.float32)


def _add_cloud(rng: np.random.Generator, image: Image, world: _World) -> Image:
    """Clouds, whose height shifts them from band to band; their opacity, (H, W)."""
    size = image.shape[1]
    field = _fractal(rng, size, rng.uniform(2, 16))
    opacity = np.clip((field - rng.uniform(0.3, 2.2)) * rng.uniform(0.3, 2.0), 0, 1) * rng.uniform(0.15, 1.0)
    bright = rng.uniform(0.3, 0.9) * np.array([1.05, 1.0, 1.0, 1.05])
    shift, angle = world.order * rng.uniform(0, 2.5), rng.uniform(0, 2 * np.pi)
    for channel, band in enumerate(CHIP_BANDS):
        part = BAND_DELAYS_S[band] / BAND_DELAYS_S["B04"] - 0.5
        moved = ndimage.shift(
            opacity, (shift * part * np.cos(angle), shift * part * np.sin(angle)), order=1, mode="nearest"
        )
        image[channel] += moved * (np.float32(bright[channel]) - image[channel])
    return opacity.astype(np.float32)


# --- the instrument -------------------------------------------------------------------------------------


def _observe(rng: np.random.Generator, image: NDArray[np.floating], world: _World) -> Image:
    """Misregistration, haze, illumination, noise and quantisation."""
    if rng.uniform() < 0.7:
        for channel in range(len(image)):
            shift = rng.normal(0, 0.09, 2)
            image[channel] = ndimage.shift(image[channel], shift, order=1, mode="nearest")
    if rng.uniform() < 0.5:
        haze = rng.uniform(0, 0.10) * np.array(
            [1.0, rng.uniform(0.5, 0.8), rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.35)]
        )
        image = image * (1 - haze[:, None, None]) + haze[:, None, None]
    image = image * rng.uniform(0.75, 1.25) * rng.normal(1, 0.04, (4, 1, 1))
    image = image + rng.normal(0, world.noise, image.shape)
    if rng.uniform() < 0.35:
        step = 1 / 255 * rng.uniform(0.6, 1.2)
        image = np.clip(np.round(image / step), 0, 255) * step
    elif rng.uniform() < 0.2:  # lossy compression: coarse, blocky steps
        step = rng.uniform(0.002, 0.006)
        image = np.round(image / step) * step
    return np.clip(image, 0, 1.5).astype(np.float32)


def draw_chip(
    rng: np.random.Generator, backgrounds: Sequence[Image], scenes: Sequence[Traffic] = (), size: int = 64
) -> Chip:
    """A random training chip of `size` pixels.

    `backgrounds` are (4, H, W) reflectance of `CHIP_BANDS`, without traffic; of `scenes` every fifth chip is
    cut as it is.
    """
    world = _world(rng)
    if scenes and rng.uniform() < 0.2:
        return _cut(rng, scenes[int(rng.integers(len(scenes)))], size, world)
    image = _ground(rng, backgrounds, size).copy()
    if rng.uniform() < 0.45:
        _add_buildings(rng, image, world)
    if rng.uniform() < 0.12:
        _add_banks(rng, image, world)
    if rng.uniform() < 0.06:
        _add_train(rng, image, world)
    trucks: list[tuple[Vehicle, Image]] = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.12, 0.68, 0.20]))):
        trucks += _add_road(rng, image, world)
    if rng.uniform() < 0.25:
        _add_buildings(rng, image, world) if not trucks else _add_parked(rng, image, world)
    if rng.uniform() < 0.03:
        _add_aircraft(rng, image, world)
    opacity = _add_cloud(rng, image, world) if rng.uniform() < 0.25 else np.zeros((size, size), np.float32)
    seen = [truck for truck, road in trucks if _visible(truck, road, world) and _clear(truck, opacity)]
    boxes = np.array([truck.box(world.order) for truck in seen], dtype=np.float32).reshape(-1, 4)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centre > 0) & (centre < size)).all(axis=1)
    return Chip(_observe(rng, image, world), np.clip(boxes[inside], 0, size))


def _cut(rng: np.random.Generator, scene: Traffic, size: int, world: _World) -> Chip:
    """A part of a simulated scene, as often as not with a truck near its middle, turned or mirrored."""
    height, width = scene.reflectance.shape[1:]
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    if len(scene.boxes) and rng.uniform() < 0.7:
        x, y = scene.boxes[int(rng.integers(len(scene.boxes)))][:2] + rng.uniform(-size / 3, size / 3, 2)
    left = int(np.clip(x - size / 2, 0, width - size))
    top = int(np.clip(y - size / 2, 0, height - size))
    image = scene.reflectance[:, top : top + size, left : left + size].copy()
    boxes = scene.boxes - np.array([left, top, left, top], dtype=np.float32)
    if rng.uniform() < 0.5:
        image, boxes = image[:, :, ::-1], boxes[:, [2, 1, 0, 3]]
        boxes[:, [0, 2]] = size - boxes[:, [0, 2]]
    if rng.uniform() < 0.5:
        image, boxes = image.transpose(0, 2, 1), boxes[:, [1, 0, 3, 2]]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centre > 0) & (centre < size)).all(axis=1)
    quiet = replace(world, noise=world.noise * 0.3)
    return Chip(
        _observe(rng, np.ascontiguousarray(image), quiet), np.clip(boxes[inside], 0, size).astype(np.float32)
    )


def _clear(truck: Vehicle, opacity: Image) -> bool:
    row, col = (
        int(np.clip(value, 0, extent - 1))
        for value, extent in zip((truck.y, truck.x), opacity.shape, strict=True)
    )
    return bool(opacity[row, col] < 0.35)
