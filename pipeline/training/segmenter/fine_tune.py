"""Fine-tuning of a land-cover network on one's own labels: polygons or a raster of classes over a scene.

Neighbouring pixels are alike, so what is held out for the evaluation is whole blocks, and no label within a
guard band around them is learnt either. Only blocks that have labels are read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from pydantic import Field
from rasterio.windows import Window
from torch import nn

from pipeline.errors import CorruptImageError, LabelsError
from pipeline.evaluation.labels import read_polygons
from pipeline.evaluation.landcover.labels import (
    UNLABELLED,
    LandcoverLabels,
    PolygonLabels,
    read_landcover_labels,
)
from pipeline.models.bundle import Bundle, Card, open_bundle, save_bundle
from pipeline.models.legend import DYNAMIC_WORLD, LegendClass
from pipeline.models.registry import build_network
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.scene import Scene
from pipeline.storage.atomic import replacing
from pipeline.training.fit import prepare
from pipeline.training.segmenter.card import agreement, figures, segment
from pipeline.training.segmenter.scenes import Block, LabelledScene, hold_out
from pipeline.training.segmenter.train import SegmenterSettings, rounded, start_from, trained

log = logging.getLogger(__name__)

CLASS_FIELDS = ("class", "label", "category", "landcover", "fclass", "name")


class OwnLandcover(SegmenterSettings):
    """Settings of a fine-tuning on one's own labels."""

    imagery: str = Field(description="a .SAFE folder or zip, a folder of band files, a GeoTIFF, a STAC item")
    labels: Path = Field(description="polygons with a class, or a raster of class values (uint8, 255: none)")
    class_field: str | None = Field(
        None,
        description=f"column of the polygons' classes; the first of {', '.join(CLASS_FIELDS)} if not set",
    )
    bands: tuple[str, ...] | None = Field(None, description="names of a GeoTIFF's bands, where it has none")
    classes: dict[str, tuple[str | int, ...]] | None = Field(
        None,
        description="name of each class and which values of the labels mean it; each value is a class of its "
        "own if not set",
    )
    id: str = "own-landcover"
    initial: str = Field("landcover", description="bundle (name or path) to start from")
    held_out: float = Field(0.25, gt=0, lt=1, description="share of the labelled pixels kept for evaluation")
    block_px: int = Field(128, ge=32, multiple_of=16, description="side of the blocks")
    guard_px: int = Field(16, ge=0, description="labels so near to a held-out block are not used either")
    blocks: int = Field(200, ge=2, description="at most so many blocks with labels are read (3 MB each)")
    steps: int = Field(300, ge=1)
    crop_px: int = Field(128, ge=16, description="a multiple of the stride")
    batch: int = Field(6, ge=1, description="crops a step")
    licence: str = Field("not stated", description="of imagery and labels, for the card")


def fine_tune(settings: OwnLandcover, out: Path) -> Bundle:
    """Train a bundle's network on with one's own labels; `out/bundle` has it with its card and quality.

    Classes that the bundle knows by name keep what it has learnt of them; others start afresh. The scene may
    lack the bundle's optional bands. `out` also gets the checkpoint, the learning curve and
    `evaluation.json`, the confusion matrix of the held-out blocks.

    Raises
    ------
    LabelsError
        If labels are unreadable or empty, lie outside the imagery or where it has no data, hold one class
        only or one that the settings don't name, or lie in a single block.
    BundleError
        If the scene lacks a band that the bundle must have.
    """
    prepare(settings)
    start = open_bundle(settings.initial)
    scene = open_scene(settings.imagery, settings.bands)
    start.check_scene(tuple(scene.bands), abs(scene.grid.resolution.x), scene.id)
    labels = read_labels(settings, scene)
    card = start.card.model_copy(
        update={
            "id": settings.id,
            "version": settings.version,
            "classes": legend(labels.names, start.card),
            "quality": {},
            "training_data": (),
            "limitations": (),
            "weights_sha256": "",
        }
    )
    learnt, kept = labelled_blocks(settings, scene, labels, card)
    sizes = [float((block.weights > 0).sum()) for block in learnt]
    network = trained(card, [*learnt, *kept], [*sizes, *[0.0] * len(kept)], settings, out, start)
    quality = _quality(network, kept, card, out)
    names = [item.name for item in start.card.classes]
    if all(item.name in names for item in card.classes):
        before = build_network(card)
        start_from(start, before, card)
        quality["before_fine_tuning"] = _quality(before.eval(), kept, card)["held_out"]
    source = {
        "name": scene.id,
        "imagery": settings.imagery,
        "labels": str(settings.labels),
        "licence": settings.licence,
        "pixels": {"learnt": int(sum(sizes)), "held_out": quality["held_out"]["pixels"]},
    }
    started = {"name": "started from", "model": f"{start.card.id}-{start.card.version}"}
    card = card.model_copy(
        update={
            "quality": quality,
            "training_data": (source, started),
            "limitations": ("Trained and evaluated on one scene: other places and dates may differ.",),
        }
    )
    return save_bundle(out / "bundle", card, rounded(network))


@dataclass(frozen=True)
class OwnLabels:
    """Labels as indices of `names`."""

    labels: LandcoverLabels
    lookup: NDArray[np.uint8]
    """(256,) index of a value that `labels` gives; `UNLABELLED` for what is no class."""
    names: tuple[str, ...]

    def read(self, window: Window) -> NDArray[np.uint8]:
        """(H, W) class indices in a window of the scene, `UNLABELLED` where there are none."""
        return self.lookup[self.labels.read(window)]


def read_labels(settings: OwnLandcover, scene: Scene) -> OwnLabels:
    """The labels on a scene's grid, whether they are polygons or a raster.

    Raises
    ------
    LabelsError
        If they can't be read, or hold a class that `settings.classes` does not name, or fewer than two.
    """
    if not settings.labels.exists():
        raise LabelsError(f"Land-cover labels not found: {settings.labels}")
    if _is_raster(settings.labels):
        return _raster(settings, scene)
    return _polygons(settings, scene)


def _is_raster(path: Path) -> bool:
    try:
        with open_raster(str(path), "Land-cover labels") as source:
            return bool(source.count)
    except CorruptImageError:
        return False


def _raster(settings: OwnLandcover, scene: Scene) -> OwnLabels:
    labels = read_landcover_labels(settings.labels, scene.grid)
    with open_raster(str(settings.labels), "Land-cover labels") as source:
        counts = np.zeros(256, np.int64)
        for _, window in source.block_windows(1):
            values = source.read(1, window=window)
            counts += np.bincount(values.ravel(), minlength=256)
        none = {UNLABELLED, *([int(source.nodata)] if source.nodata is not None else [])}
    values = [int(value) for value in np.flatnonzero(counts) if int(value) not in none]
    known = {item.value: item.name for item in DYNAMIC_WORLD}
    if settings.classes is None and not set(values) <= set(known):
        unknown = ", ".join(str(value) for value in values if value not in known)
        raise LabelsError(
            f"{settings.labels} holds values that are no Dynamic World class ({unknown}). "
            "Say what they mean: classes: {name of a class: [its values], ...} in the configuration."
        )
    own = None if settings.classes is None else _by_value(settings.classes)
    meant = {value: known[value] if own is None else own.get(str(value)) for value in values}
    names = _names(settings, {str(value): name for value, name in meant.items()})
    lookup = np.full(256, UNLABELLED, np.uint8)
    for value, name in meant.items():
        lookup[value] = names.index(str(name))
    return OwnLabels(labels, lookup, names)


def _polygons(settings: OwnLandcover, scene: Scene) -> OwnLabels:
    crs = scene.grid.crs.to_wkt() if scene.grid.crs else None
    frame = read_polygons(settings.labels, "Land-cover labels", crs)
    if frame.empty:
        raise LabelsError(f"There is nothing to learn from: {settings.labels} holds no polygons.")
    columns = [str(name) for name in frame.columns if name != frame.geometry.name]
    wanted = [settings.class_field] if settings.class_field else list(CLASS_FIELDS)
    field = next((name for name in wanted if name in columns), None)
    if field is None:
        raise LabelsError(
            f"{settings.labels} has no column {' or '.join(wanted)} for the class. "
            f"It has: {', '.join(columns) or 'none'}. Name it with --class-field."
        )
    frame = frame[frame[field].notna()]
    values = frame[field].map(_text)
    own = None if settings.classes is None else _by_value(settings.classes)
    meant = {value: value if own is None else own.get(value) for value in sorted(set(values))}
    names = _names(settings, meant)
    index = values.map(lambda value: names.index(str(meant[value]))).astype(np.uint8)
    burnt = gpd.GeoDataFrame({"value": index}, geometry=frame.geometry, crs=frame.crs)
    lookup = np.full(256, UNLABELLED, np.uint8)
    lookup[: len(names)] = np.arange(len(names))
    return OwnLabels(PolygonLabels(burnt, scene.grid), lookup, names)


def _text(value: object) -> str:
    """A label as text; whole numbers without a fraction, however they are stored."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _by_value(classes: Mapping[str, Sequence[str | int]]) -> dict[str, str]:
    """Name of the class that each value means; a class's own name means it too."""
    return {name: name for name in classes} | {
        _text(value): name for name, values in classes.items() for value in values
    }


def _names(settings: OwnLandcover, meant: Mapping[str, str | None]) -> tuple[str, ...]:
    """Names of the classes that the labels hold, in the order of the settings or of the labels."""
    unknown = [value for value, name in meant.items() if name is None]
    if unknown:
        raise LabelsError(
            f"{settings.labels} holds {', '.join(unknown[:5])}, which classes in the configuration does not "
            f"name. It names: {', '.join(settings.classes or ())}."
        )
    there = {str(name) for name in meant.values()}
    order = list(settings.classes) if settings.classes else list(dict.fromkeys(map(str, meant.values())))
    names = tuple(name for name in order if name in there)
    if len(names) < 2:
        raise LabelsError(
            f"{settings.labels} holds {f'one class only, {names[0]}' if names else 'no class'}: "
            "a network learns to tell two or more apart."
        )
    if len(names) >= UNLABELLED:
        raise LabelsError(
            f"{settings.labels} holds {len(names)} classes; at most {UNLABELLED - 1} can be learnt."
        )
    return names


def legend(names: Sequence[str], known: Card) -> tuple[LegendClass, ...]:
    """Classes with their index as value, in the colour of a known class of that name or else of a palette."""
    colours = {item.name: item.colour for item in known.classes}
    palette = [to_hex(colour) for colour in colormaps["tab20"].colors]  # type: ignore[attr-defined]
    return tuple(
        LegendClass(value=value, name=name, colour=colours.get(name, palette[value % len(palette)]))
        for value, name in enumerate(names)
    )


def labelled_blocks(
    settings: OwnLandcover, scene: Scene, labels: OwnLabels, card: Card
) -> tuple[list[LabelledScene], list[LabelledScene]]:
    """Blocks to learn from and blocks held out; the same whenever the seed is.

    Each is read with half a crop of the scene around it, so that the network sees where it lies.

    Raises
    ------
    LabelsError
        If no label lies on the scene or on pixels with data, of one class only, or all in one block.
    """
    counts = _counts(settings, scene, labels)
    if not counts:
        west, south, east, north = (round(value) for value in scene.grid.boundingbox.bbox)
        raise LabelsError(
            f"None of the labels of {settings.labels} lies in {settings.imagery}, which covers "
            f"x {west}-{east}, y {south}-{north} ({str(scene.grid.crs)[:40]}). Are both of the same place?"
        )
    rng = np.random.default_rng((settings.seed, 1))
    places = [list(counts)[index] for index in rng.permutation(len(counts))]
    if len(places) > settings.blocks:
        log.warning("%d of %d blocks with labels are read, drawn at random", settings.blocks, len(places))
        places = places[: settings.blocks]
    held_out = _split(settings, {place: counts[place] for place in places})
    guards = [
        (
            top - settings.guard_px,
            left - settings.guard_px,
            rows + 2 * settings.guard_px,
            cols + 2 * settings.guard_px,
        )
        for top, left, rows, cols in held_out
    ]
    kept = [_read(settings, scene, labels, card, place, True, []) for place in held_out]
    learnt = [
        _read(settings, scene, labels, card, place, False, guards)
        for place in places
        if place not in held_out
    ]
    learnt, kept = [one for one in learnt if one.centres], [one for one in kept if _seen(one)]
    if not learnt or not kept:
        raise LabelsError(
            f"Labels of {settings.labels} to {'evaluate with' if learnt else 'learn from'} lie on pixels "
            f"without data only (nodata or NaN) in {settings.imagery}."
        )
    return learnt, kept


def _counts(settings: OwnLandcover, scene: Scene, labels: OwnLabels) -> dict[Block, NDArray[np.int64]]:
    """Labelled pixels by class of each block that has any."""
    rows, cols = scene.shape
    side, counts = settings.block_px, {}
    for top in range(0, rows, side):
        for left in range(0, cols, side):
            block = (top, left, min(side, rows - top), min(side, cols - left))
            classes = labels.read(Window(left, top, block[3], block[2]))
            by_class = np.bincount(classes.ravel(), minlength=UNLABELLED + 1)[: len(labels.names)]
            if by_class.any():
                counts[block] = by_class
    return counts


def _split(settings: OwnLandcover, counts: Mapping[Block, NDArray[np.int64]]) -> list[Block]:
    """Blocks to hold out: in the given order until they have their share, no class losing its last block."""
    total = sum(by_class.sum() for by_class in counts.values())
    blocks_of_class = np.sum([by_class > 0 for by_class in counts.values()], axis=0)
    held_out: list[Block] = []
    so_far = 0
    for place, by_class in counts.items():
        if so_far >= settings.held_out * total:
            break
        left = blocks_of_class - (by_class > 0)
        if (left[by_class > 0] > 0).all():
            held_out.append(place)
            blocks_of_class, so_far = left, so_far + by_class.sum()
    if not held_out:
        raise LabelsError(
            f"No block of {settings.block_px} px of {settings.labels} can be held out without losing a class "
            f"(there are {len(counts)} with labels). Label each class in two places or more, or give smaller "
            "blocks (block_px)."
        )
    return held_out


def _read(
    settings: OwnLandcover,
    scene: Scene,
    labels: OwnLabels,
    card: Card,
    place: Block,
    held_out: bool,
    guards: Sequence[Block],
) -> LabelledScene:
    """A block with its surroundings; labels count inside it only, and none within the guards."""
    top, left, rows, cols = place
    margin = settings.crop_px // 2
    first_row, first_col = max(0, top - margin), max(0, left - margin)
    end_row, end_col = min(scene.shape[0], top + rows + margin), min(scene.shape[1], left + cols + margin)
    window = Window(first_col, first_row, end_col - first_col, end_row - first_row)
    reflectance, valid = _pixels(scene, window, card)
    classes = np.full(valid.shape, UNLABELLED, np.uint8)
    inside = (
        slice(top - first_row, top - first_row + rows),
        slice(left - first_col, left - first_col + cols),
    )
    classes[inside] = labels.read(Window(left, top, cols, rows))
    weights = (classes != UNLABELLED).astype(np.float32)
    for row, col, height, width in guards:
        beyond = (
            slice(max(0, row - first_row), max(0, row - first_row + height)),
            slice(max(0, col - first_col), max(0, col - first_col + width)),
        )
        weights[beyond] = 0
    block = LabelledScene(
        name=f"{scene.id} {top}-{left}",
        kind="own",
        reflectance=reflectance,
        valid=valid,
        classes=classes,
        weights=weights,
        pseudo=classes,
        hazy=scene.level != "L2A",
    )
    return hold_out(block, ((top - first_row, left - first_col, rows, cols),), 0) if held_out else block


def _pixels(scene: Scene, window: Window, card: Card) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Reflectance of the card's bands (C, H, W), NaN for optional ones that are not there; and validity."""
    pixels = read_pixels(scene, window, card.required_bands)
    valid = pixels.valid & np.isfinite(pixels.reflectance).all(axis=0)
    reflectance = np.full((len(card.bands), *valid.shape), np.nan, np.float32)
    reflectance[[card.bands.index(band) for band in card.required_bands]] = pixels.reflectance
    optional = [band for band in card.bands_used(scene.bands) if band in card.optional_bands]
    if optional:
        further = read_pixels(scene, window, optional)
        reflectance[[card.bands.index(band) for band in optional]] = np.where(
            further.valid, further.reflectance, np.float32(np.nan)
        )
    return reflectance, valid


def _seen(block: LabelledScene) -> bool:
    return bool((block.valid & (block.classes != UNLABELLED)).any())


def _quality(
    network: nn.Module, kept: Sequence[LabelledScene], card: Card, out: Path | None = None
) -> dict[str, Any]:
    """Figures over all held-out blocks together; with `out` their confusion matrix in a file too."""
    truth, found = [], []
    side = max(max(rows, cols) for block in kept for _, _, rows, cols in block.held_out)
    for block in kept:
        ((top, left, rows, cols),) = block.held_out
        here = (slice(top, top + rows), slice(left, left + cols))
        below = ((0, side - rows), (0, side - cols))
        truth.append(np.pad(block.classes[here], below, constant_values=UNLABELLED))
        found.append(np.pad(segment(network, block, card)[here], below, constant_values=UNLABELLED))
    pooled, predicted = np.concatenate(truth), np.concatenate(found)
    everywhere = np.ones(pooled.shape, bool)
    if out is not None:
        metrics = agreement(pooled, predicted, card).metrics()
        with replacing(out / "evaluation.json") as part:
            part.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return {"held_out": {"blocks": len(kept), **figures(pooled, predicted, everywhere, card)}}
