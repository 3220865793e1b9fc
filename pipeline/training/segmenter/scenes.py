"""Labelled scenes of land cover in memory.

A scene has labels of a class each, and may have land use of OpenStreetMap for a part, which is trusted where
the two disagree.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.ndimage import maximum_filter, minimum_filter

from pipeline.errors import BundleError, LabelsError, TrainingError
from pipeline.evaluation.landcover.labels import UNLABELLED, read_landcover_labels
from pipeline.inference.teacher import Teacher
from pipeline.models.bundle import Card
from pipeline.open_data.resolve import located
from pipeline.scenes.open import open_scene
from pipeline.scenes.plausibility import plausible
from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.scene import Scene
from pipeline.settings import PixelBlock
from pipeline.simulation.simulate import simulate_scene
from pipeline.tiling import Tile, plan
from pipeline.training.segmenter.labels import (
    DYNAMIC_WORLD_NAMES,
    Classes,
    ClassLabels,
    class_index,
    read_labels,
)
from pipeline.training.segmenter.settings import LandcoverSource, SegmenterTraining
from pipeline.training.spatial_split import block_mask, block_of, hold_out

log = logging.getLogger(__name__)

SIMULATED = "simulated"
_CLOUD_MARGIN_PX = 11
CLOUDED = 0.3
"""Opacity from which the simulator's truth can't be seen."""


@dataclass(frozen=True)
class LabelledScene:
    """Pixels and labels on one 10 m grid, held in memory: about 24 bytes a pixel with four bands."""

    name: str
    """Of its source, which may have several."""
    kind: str
    """Scenes of a kind share its part of the crops."""
    reflectance: NDArray[np.float32]
    """(C, H, W), 0-1; NaN in bands that are not there."""
    valid: NDArray[np.bool_]
    """(H, W)."""
    classes: NDArray[np.uint8]
    """(H, W), what is learned."""
    weights: NDArray[np.float32]
    """(H, W), how much a pixel counts in the loss."""
    labels: NDArray[np.uint8]
    """(H, W), the source's labels, or the simulator's truth; `UNLABELLED` where there is none."""
    trust: NDArray[np.float32]
    """(256,), how much each of `labels` counts."""
    land_use: NDArray[np.uint8] | None = None
    """(H, W), classes of OpenStreetMap's polygons."""
    held_out: tuple[PixelBlock, ...] = ()
    hazy: bool = True
    """Whether the atmosphere is still in it (L1C)."""
    taught: NDArray[np.bool_] | None = None
    """(H, W), pixels that the teacher may label; None where it labels none."""
    tiles: float = 0.0
    """Share of the teacher's tiles, relative to other scenes."""
    absent: tuple[str, ...] = ()
    """Classes that the teacher may not find here."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, cols = self.valid.shape
        return rows, cols

    @property
    def held_out_mask(self) -> NDArray[np.bool_]:
        """(H, W), True in the held-out blocks."""
        return block_mask(self.shape, self.held_out)

    @property
    def learned(self) -> int:
        """Count the pixels that are learned."""
        return int(((self.weights > 0) & self.valid).sum())

    @cached_property
    def centres(self) -> list[NDArray[np.intp]]:
        """Flat indices of some pixels that count, for each class that has any."""
        rng = np.random.default_rng(0)
        counts = (self.weights > 0) & self.valid
        values = np.unique(self.classes[counts])
        places = (np.flatnonzero(counts & (self.classes == value)) for value in values)
        return [rng.choice(place, min(20_000, len(place)), replace=False) for place in places]


def masked(scene: LabelledScene, guard_px: int) -> LabelledScene:
    """Return the scene with no weight within `guard_px` of its held-out blocks."""
    hidden = block_mask(scene.shape, scene.held_out, guard_px)
    return replace(scene, weights=np.where(hidden, np.float32(0), scene.weights))


def without_land_use(scene: LabelledScene, guard_px: int) -> LabelledScene:
    """Return the scene `masked`, with its labels everywhere and no land use."""
    if scene.land_use is None:
        return masked(scene, guard_px)
    return masked(replace(scene, classes=scene.labels, weights=scene.trust[scene.labels]), guard_px)


def simulated_scene(size: int, seed: int, card: Card, held_out: bool = False) -> LabelledScene:
    """Return a simulated L2A scene with its truth, held out completely or not at all; clouds do not count."""
    scene = simulate_scene(size, seed, card.bands)
    names = [item.name for item in card.classes]
    truth = class_index(DYNAMIC_WORLD_NAMES, names)[scene.landcover]
    labels = np.where(scene.cloud < CLOUDED, truth, np.uint8(UNLABELLED))
    trust = trusted({}, names)
    return LabelledScene(
        name=f"{SIMULATED}-{seed}",
        kind=SIMULATED,
        reflectance=scene.reflectance,
        valid=np.ones((size, size), bool),
        classes=truth,
        weights=trust[labels],
        labels=labels,
        trust=trust,
        held_out=((0, 0, size, size),) if held_out else (),
        hazy=False,
    )


def trusted(weights: Mapping[str, float], names: Sequence[str]) -> NDArray[np.float32]:
    """Return (256,) the weight of a label of each class, 1 where not given; 0 for what is no class."""
    trust = np.zeros(256, np.float32)
    trust[: len(names)] = [weights.get(name, 1.0) for name in names]
    return trust


@dataclass(frozen=True)
class OpenSource:
    """A source whose scene and labels are open, and whose pixels are not read yet."""

    source: LandcoverSource
    scene: Scene
    labels: ClassLabels | None
    """None where the teacher labels the scene."""
    land_use: ClassLabels | None

    @staticmethod
    def of(source: LandcoverSource, classes: Classes | None) -> OpenSource:
        """Open a source; errors as of `open_scene`, `read_labels` and `read_landcover_labels`."""
        source = located(source)
        scene = plausible(open_scene(source.imagery, source.bands, source.values), source.values.given)
        labels = None
        if source.labels is not None:
            labels = read_labels(source.labels, scene, source.class_field, classes)
        if source.land_use is None:
            return OpenSource(source, scene, labels, None)
        land_use = read_landcover_labels(source.land_use, scene.grid)
        names = DYNAMIC_WORLD_NAMES
        return OpenSource(source, scene, labels, ClassLabels(source.land_use, land_use, names))

    def read(
        self, card: Card, settings: SegmenterTraining, teacher: Teacher | None = None
    ) -> list[LabelledScene]:
        """Return the complete scene, or its labelled blocks, some of them held out.

        The same blocks are held out whenever the seed is the same. Labels near them have no weight. A scene
        without labels is labelled by the teacher.

        Raises
        ------
        LabelsError
            If no label is on the scene or on pixels with data, or no block can be held out.
        TrainingError
            If there are neither labels nor a teacher.
        BundleError
            If the scene lacks a band of the teacher.
        """
        if self.labels is None and teacher is None:
            raise TrainingError(
                f"{self.source.title} has no labels, and the settings name no teacher. Give one of both."
            )
        if self.labels is None or self.source.held_out is not None:
            if teacher and (self.labels is None or self.source.tiles > 0):
                self._check_teacher(teacher)
            (tile,) = plan(self.scene.shape, max(self.scene.shape), 0, 1)
            scene = replace(self._read(tile, card, settings, teacher), held_out=self.source.held_out or ())
            return [self._with_teacher(scene, settings) if teacher else scene]
        tiles, chosen = self._split(self.labels, card, settings)
        held_out = [block_of(tile) for tile, kept in zip(tiles, chosen, strict=True) if kept]
        learned, evaluated = [], []
        for tile, kept in zip(tiles, chosen, strict=True):
            scene = self._read(tile, card, settings)
            if kept and (scene.valid & (scene.labels != UNLABELLED)).any():
                top, left = (part.start for part in tile.core_in_window)
                evaluated.append(replace(scene, held_out=((top, left, tile.height, tile.width),)))
            corner = (int(tile.window.row_off), int(tile.window.col_off))
            near = block_mask(scene.shape, held_out, settings.guard_px, corner)
            scene = replace(scene, weights=np.where(near, np.float32(0), scene.weights))
            if scene.learned:
                learned.append(scene)
        if not learned or not evaluated:
            raise LabelsError(
                f"Labels of {self.source.labels} to {'evaluate with' if learned else 'learn from'} are on "
                f"pixels without data only (nodata or NaN) in {self.source.imagery}."
            )
        return [*learned, *evaluated]

    def _check_teacher(self, teacher: Teacher) -> None:
        """Raise BundleError if the scene lacks a band of the teacher."""
        missing = [band for band in teacher.bands if band not in self.scene.bands]
        if missing:
            raise BundleError(
                f"The teacher {teacher.settings.title} needs band {', '.join(missing)}, which "
                f"{self.source.title} lacks. It has: {', '.join(self.scene.bands)}. Give the scene labels, "
                "and tiles: 0."
            )

    def _with_teacher(self, scene: LabelledScene, settings: SegmenterTraining) -> LabelledScene:
        """Return the scene as one of whose ground the teacher labels tiles, but not near held-out blocks."""
        taught = scene.valid & ~block_mask(scene.shape, scene.held_out, settings.guard_px)
        if self.source.cloud_reflectance is not None:
            cloud = scene.reflectance[0] > self.source.cloud_reflectance
            taught &= ~maximum_filter(cloud, _CLOUD_MARGIN_PX)
        return replace(scene, taught=taught, tiles=self.source.tiles, absent=self.source.absent)

    def _split(
        self, labels: ClassLabels, card: Card, settings: SegmenterTraining
    ) -> tuple[list[Tile], NDArray[np.bool_]]:
        """Return blocks with labels, at most as many as allowed, and which of them are held out."""
        names, tiles, counts = [item.name for item in card.classes], [], []
        for tile in plan(self.scene.shape, settings.block_px, settings.crop_px // 2, 1):
            classes = labels.read(tile.core, names)
            by_class = np.bincount(classes.ravel(), minlength=UNLABELLED + 1)[: len(names)]
            if by_class.any():
                tiles.append(tile)
                counts.append(by_class)
        if not counts:
            west, south, east, north = (round(value) for value in self.scene.grid.boundingbox.bbox)
            raise LabelsError(
                f"None of the labels of {self.source.labels} is in {self.source.imagery}, which covers "
                f"x {west}-{east}, y {south}-{north} ({str(self.scene.grid.crs)[:40]}). "
                "Are both of the same place?"
            )
        rng = np.random.default_rng((settings.seed, 1))
        drawn = rng.permutation(len(tiles))[: settings.blocks]
        if len(drawn) < len(tiles):
            log.warning("%d of %d blocks with labels are read, drawn at random", len(drawn), len(tiles))
        held_out = hold_out(np.array(counts)[drawn], settings.held_out, rng)
        if not held_out.any():
            raise LabelsError(
                f"No block of {settings.block_px} px of {self.source.labels} can be held out without losing "
                f"a class (there are {len(counts)} with labels). Label each class in two places or more, or "
                "give smaller blocks (block_px)."
            )
        return [tiles[index] for index in drawn], held_out

    def _read(
        self, tile: Tile, card: Card, settings: SegmenterTraining, teacher: Teacher | None = None
    ) -> LabelledScene:
        """Return the window of a tile, in which only labels inside the core count.

        Land use counts `land_use_weight` times, except in pixels next to another polygon or to none: there it
        only takes the weight off a label of another class.
        """
        names = [item.name for item in card.classes]
        reflectance, valid = _pixels(self.scene, tile.window, card)
        labels, hazy = np.full(valid.shape, UNLABELLED, np.uint8), self.source.hazy
        hazy = self.scene.level != "L2A" if hazy is None else hazy
        if self.labels is not None:
            labels[tile.core_in_window] = self.labels.read(tile.core, names)
        elif teacher is not None:
            labels[valid] = _taught(teacher, reflectance, card, hazy)[valid]
        trust = trusted(self.source.trust, names)
        classes, weights, land_use = labels, trust[labels], None
        if self.land_use:
            land_use = np.full_like(labels, UNLABELLED)
            land_use[tile.core_in_window] = self.land_use.read(tile.core, names)
            amid = (minimum_filter(land_use, 3) == land_use) & (maximum_filter(land_use, 3) == land_use)
            certain = amid & (land_use != UNLABELLED)
            ambiguous = ~certain & (land_use != UNLABELLED) & (land_use != labels)
            classes = np.where(certain, land_use, labels)
            weights = np.where(ambiguous, np.float32(0), weights)
            weights = np.where(certain, np.float32(settings.land_use_weight), weights)
        return LabelledScene(
            name=self.source.title,
            kind=self.source.title,
            reflectance=reflectance,
            valid=valid,
            classes=classes,
            weights=weights,
            labels=labels,
            trust=trust,
            land_use=land_use,
            hazy=hazy,
        )


def _taught(teacher: Teacher, reflectance: NDArray[np.float32], card: Card, hazy: bool) -> NDArray[np.uint8]:
    """Return the teacher's classes (H, W) of reflectance (C, H, W), as indices of the card's classes."""
    there = [number for number, values in enumerate(reflectance) if np.isfinite(values).any()]
    found = teacher.classes(reflectance[there], [card.bands[number] for number in there], hazy)
    names = dict(enumerate(teacher.settings.classes))
    return class_index(names, [item.name for item in card.classes])[found]


def _pixels(scene: Scene, window: Window, card: Card) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the card's bands (C, H, W), optional ones NaN without data, and where the others have data."""
    pixels = read_pixels(scene, window, card.required_bands)
    valid = pixels.valid & np.isfinite(pixels.reflectance).all(axis=0)
    reflectance = np.full((len(card.bands), *valid.shape), np.nan, np.float32)
    reflectance[[card.bands.index(band) for band in card.required_bands]] = pixels.reflectance
    for band in card.bands_used(scene.bands):
        if band in card.optional_bands:
            further = read_pixels(scene, window, (band,))
            there = np.where(further.valid, further.reflectance[0], np.float32(np.nan))
            reflectance[card.bands.index(band)] = there
    return reflectance, valid
