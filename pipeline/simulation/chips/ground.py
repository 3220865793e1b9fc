"""Ground of a chip: a part of a scene with its vehicles, or a patchwork of fields and bright strips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.simulation.rendering import strip_coverage
from pipeline.simulation.world.noise import fractal_field

CHIP_BANDS = ("B02", "B03", "B04", "B08")
Image = NDArray[np.float32]
Boxes = NDArray[np.float32]
Labels = NDArray[np.int64]
HEAVY, LIGHT = 1, 2
"""Labels of boxes."""
LOOK_ALIKE_SHARE = 0.5
"""Share of the parts of a ground with look-alikes that show one."""


def no_boxes() -> Boxes:
    """Return no boxes, (0, 4)."""
    return np.zeros((0, 4), np.float32)


def no_labels() -> Labels:
    """Return no labels, (0,)."""
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class LabelledImage:
    """Pixels with their labelled vehicles."""

    reflectance: Image
    """(4, H, W) of `CHIP_BANDS`."""
    boxes: Boxes = field(default_factory=no_boxes)
    """(N, 4) of moving vehicles: x_min, y_min, x_max, y_max in pixels."""
    labels: Labels = field(default_factory=no_labels)
    """(N,): `HEAVY` or `LIGHT`."""
    ambiguous: Boxes = field(default_factory=no_boxes)
    """(M, 4) of possible vehicles, excluded from training."""
    look_alikes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    """(K, 2) x, y of what resembles a vehicle and is none."""


def patchwork(rng: np.random.Generator, size: int) -> Image:
    """Draw a patchwork of fields with random spectra and texture, (4, size, size)."""
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


def strips(rng: np.random.Generator, image: Image) -> None:
    """Paint bright broken strips over an image in place: gravel banks, walls, platforms, tracks, shores."""
    size = image.shape[1]
    at = np.linspace(0.5, size - 0.5, size)
    for _ in range(int(rng.integers(1, 4))):
        angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.02)
        px, py = at[None, :] - rng.uniform(0, size), at[:, None] - rng.uniform(0, size)
        along = px * np.sin(angle) - py * np.cos(angle)
        across = px * np.cos(angle) + py * np.sin(angle) + bend / 2 * along**2
        share = strip_coverage(across.astype(np.float32), rng.uniform(0.2, 1.6), 0.5)
        field_of = fractal_field(at, at, rng.uniform(2, 12), int(rng.integers(2**31)), 3)
        broken = np.clip(field_of + np.float32(rng.uniform(-1, 1.5)), 0, 1)
        tint = rng.uniform((0.75, 0.9, 0.98, 1.05), (1.0, 1.02, 1.15, 1.5))
        bright = (rng.uniform(0.04, 0.45) * tint).astype(np.float32)
        image += share * broken * (bright[:, None, None] - image)


def cut(ground: LabelledImage, left: int, top: int, size: int) -> LabelledImage:
    """Return the `size` x `size` px part whose upper left pixel is (left, top), with its vehicles."""
    corner = np.array([left, top, left, top], np.float32)
    part = ground.reflectance[:, top : top + size, left : left + size].astype(np.float32)
    boxes, ambiguous = ground.boxes - corner, ground.ambiguous - corner
    here = is_inside(boxes, size)
    return LabelledImage(part, clipped(boxes[here], size), ground.labels[here], inside(ambiguous, size))


def turned(rng: np.random.Generator, ground: LabelledImage) -> LabelledImage:
    """Return a square ground in one of its eight orientations."""
    image, boxes = ground.reflectance, [ground.boxes, ground.ambiguous]
    size = image.shape[1]
    if rng.uniform() < 0.5:
        image = image[:, :, ::-1]
        boxes = [_mirrored(box, 0, size) for box in boxes]
    if rng.uniform() < 0.5:
        image = image[:, ::-1]
        boxes = [_mirrored(box, 1, size) for box in boxes]
    if rng.uniform() < 0.5:
        image = image.transpose(0, 2, 1)
        boxes = [box[:, [1, 0, 3, 2]] for box in boxes]
    return LabelledImage(np.ascontiguousarray(image), boxes[0], ground.labels, boxes[1])


def _mirrored(boxes: Boxes, axis: int, size: int) -> Boxes:
    boxes = boxes.copy()
    boxes[:, [axis, axis + 2]] = size - boxes[:, [axis + 2, axis]]
    return boxes


def is_inside(boxes: Boxes, size: int) -> NDArray[np.bool_]:
    """Return (N,): True for boxes whose centre is in a chip."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.asarray(((centre > 0) & (centre < size)).all(axis=1))


def clipped(boxes: Boxes, size: int) -> Boxes:
    """Return boxes clipped to a chip."""
    return np.clip(boxes, 0, size).astype(np.float32)


def inside(boxes: Boxes, size: int) -> Boxes:
    """Return the boxes whose centre is in a chip, clipped to it."""
    return clipped(boxes[is_inside(boxes, size)], size)


def any_ground(rng: np.random.Generator, grounds: Sequence[LabelledImage], size: int) -> LabelledImage:
    """Draw a patchwork, or a part of one of the grounds with changed light; some have bright strips."""
    if not grounds or rng.uniform() < 0.25:
        part = LabelledImage(patchwork(rng, size))
    else:
        areas = np.array([one.reflectance[0].size for one in grounds], dtype=float) ** 0.5
        ground = grounds[int(rng.choice(len(grounds), p=areas / areas.sum()))]
        for _ in range(4):
            part = cut(ground, *_corner(rng, ground, size), size)
            if float(part.reflectance[3].mean()) > float(part.reflectance[1].mean()):
                break  # seas are poor examples, so mostly land is used
        part = replace(part, reflectance=relit(rng, part.reflectance))
    if rng.uniform() < 0.12:
        strips(rng, part.reflectance)
    return part


def _corner(rng: np.random.Generator, ground: LabelledImage, size: int) -> tuple[int, int]:
    """Draw the left and top of a part of a ground; where it has look-alikes, half of the parts show one."""
    height, width = ground.reflectance.shape[1:]
    if len(ground.look_alikes) and rng.uniform() < LOOK_ALIKE_SHARE:
        x, y = rng.choice(ground.look_alikes) - size / 2 + rng.uniform(-size / 3, size / 3, 2)
        return int(np.clip(x, 0, width - size)), int(np.clip(y, 0, height - size))
    top, left = (int(rng.integers(0, extent - size + 1)) for extent in (height, width))
    return left, top


def relit(rng: np.random.Generator, image: Image) -> Image:
    """Return an image (4, H, W) with changed sunlight, mostly without haze of top-of-atmosphere scenes."""
    dark = np.percentile(image, 1, axis=(1, 2), keepdims=True).astype(np.float32)
    if rng.uniform() < 0.6:
        image = np.maximum(image - dark * np.float32(rng.uniform(0.5, 0.95)), 0.003)
    gain = rng.uniform(0.7, 1.4) * rng.uniform(0.85, 1.15, (4, 1, 1))
    return np.clip(image * gain, 0.002, 1.2).astype(np.float32)


def near_a_vehicle(rng: np.random.Generator, ground: LabelledImage, size: int) -> LabelledImage:
    """Return a part of a scene with its traffic, turned; seven of ten show a vehicle near their middle.

    Half of these vehicles are heavy ones, if there are any.
    """
    height, width = ground.reflectance.shape[1:]
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    if len(ground.boxes) and rng.uniform() < 0.7:
        heavy = np.flatnonzero(ground.labels == HEAVY)
        any_of = heavy if len(heavy) and rng.uniform() < 0.5 else np.arange(len(ground.boxes))
        x, y = ground.boxes[int(rng.choice(any_of))][:2] + rng.uniform(-size / 3, size / 3, 2)
    left = int(np.clip(x - size / 2, 0, width - size))
    top = int(np.clip(y - size / 2, 0, height - size))
    return turned(rng, cut(ground, left, top, size))
