"""A land-cover model at places with a reference: its maps, those of a teacher, and real labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rasterio.windows import Window

from pipeline.config import Engine, SceneSettings
from pipeline.errors import ConfigError
from pipeline.evaluation.landcover.labels import UNLABELLED, read_landcover_labels
from pipeline.inference.engine import Search, predict_shards
from pipeline.inference.machine import half_precision
from pipeline.inference.network_pool import current_networks
from pipeline.inference.networks import read_tile
from pipeline.inference.run_models import Models, thread_count
from pipeline.inference.teacher import Teacher
from pipeline.models.bundle import Bundle, Card
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.open_data.resolve import located
from pipeline.scenes.atmosphere import top_of_atmosphere
from pipeline.scenes.open import open_scene
from pipeline.scenes.plausibility import plausible
from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.scene import Scene
from pipeline.settings import PixelBlock, Settings
from pipeline.tiling import Tile, plan, strips
from pipeline.validation.landcover_metrics import Classes

Level = Literal["L1C", "L2A"]
_TILE_PX = 1024
_TEACHER_HALO_PX = 64
"""More than a teacher sees: Dynamic World's network sees 25 px to each side."""
_TEACHER_STRIDE_PX = 32
_MOST_SAMPLES = 40_000


class LandcoverPlace(Settings):
    """A scene on disk, with what is known of its land cover."""

    name: str
    scene: str = Field(description="as for `truckscape run`, or open data: data:NAME, data:NAME/file")
    level: Level | None = Field(None, description="by the scene when not set")
    labels: Path | None = Field(
        None, description="real land cover: polygons, a raster or points; null: compare with the teacher only"
    )
    within: tuple[PixelBlock, ...] = Field(
        (),
        description="blocks to keep to, such as those held out of training: first row, first column, rows, "
        "columns; empty: everywhere",
    )
    haze: float = Field(
        1.0, ge=0, le=3, description="of the model atmosphere through which the teacher sees an L2A scene"
    )
    bands: tuple[str, ...] | None = Field(None, description="names of a GeoTIFF's bands, where it has none")
    values: SceneSettings = SceneSettings()


@dataclass(frozen=True)
class OpenPlace:
    """A place whose scene is open."""

    settings: LandcoverPlace
    scene: Scene
    level: Level

    @staticmethod
    def of(place: LandcoverPlace) -> OpenPlace:
        """Open the scene of a place.

        Raises
        ------
        ConfigError
            If the level of the scene is not known.
        TruckscapeError
            As `open_scene` and `resolved` may raise.
        """
        settings = located(place)
        scene = plausible(open_scene(settings.scene, settings.bands, settings.values), settings.values.given)
        level = place.level or scene.level
        if level not in {"L1C", "L2A"}:
            raise ConfigError(
                f"Place {place.name}: the level of {scene.id} is not known. Add level: L1C or L2A."
            )
        return OpenPlace(settings, replace(scene, level=level), level)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Return the pixels that count (H, W): those of `within`."""
        if not self.settings.within:
            return np.ones(self.scene.shape, np.bool_)
        counted = np.zeros(self.scene.shape, np.bool_)
        for row, col, rows, cols in self.settings.within:
            counted[row : row + rows, col : col + cols] = True
        return counted

    def without(self, bands: Sequence[str]) -> Scene:
        """Return the scene as if it lacked some bands."""
        there = {name: source for name, source in self.scene.bands.items() if name not in bands}
        return replace(self.scene, bands=there)

    def labels(self, card: Card) -> Classes | None:
        """Return the classes of real labels; None without. Errors as of `read_landcover_labels`."""
        if self.settings.labels is None:
            return None
        rows, cols = self.scene.shape
        values = read_landcover_labels(self.settings.labels, self.scene.grid).read(Window(0, 0, cols, rows))
        index = _index({item.value: item.name for item in DYNAMIC_WORLD}, card)
        return np.where(self.counted, index[values], np.uint8(UNLABELLED))

    def teacher_classes(self, teacher: Teacher, card: Card) -> Classes | None:
        """Return the most likely classes of a teacher; None where the scene lacks a band that it needs.

        It sees an L2A scene through a model atmosphere.
        """
        bands = teacher.bands
        if not set(bands) <= set(self.scene.bands):
            return None
        index = _index(dict(enumerate(teacher.settings.classes)), card)
        classes = np.full(self.scene.shape, UNLABELLED, np.uint8)
        for tile in plan(self.scene.shape, _TILE_PX, _TEACHER_HALO_PX, _TEACHER_STRIDE_PX):
            pixels = read_pixels(self.scene, tile.window, bands)
            reflectance = pixels.reflectance
            if self.level == "L2A":
                reflectance = top_of_atmosphere(reflectance, bands, self.settings.haze)
            found = index[teacher.probabilities(reflectance, bands).argmax(axis=0)]
            there = np.where(pixels.valid, found, np.uint8(UNLABELLED))
            classes[tile.core.toslices()] = there[tile.core_in_window]
        return np.where(self.counted, classes, np.uint8(UNLABELLED))

    def found(self, bundle: Bundle, engine: Engine, without: Sequence[str] = ()) -> Classes:
        """Return the classes of a model as a run maps them: `UNLABELLED` without data and under clouds."""
        models, scene = Models(None, bundle), self.without(without)
        shards = strips(_tiles(scene, models))
        parts = [shard.landcover for shard in predict_shards(scene, shards, models, Search(), engine)]
        values = np.concatenate([part for part in parts if part is not None])
        return np.where(self.counted, _index_of_values(bundle.card)[values], np.uint8(UNLABELLED))

    def samples(
        self, bundle: Bundle, engine: Engine, reference: Classes
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return logits (N, K) and reference classes (N,) of up to about 40,000 pixels on a regular grid."""
        models = Models(None, bundle)
        networks = current_networks().open(models, engine, thread_count(engine))
        half, known = half_precision(engine), int((reference != UNLABELLED).sum())
        step = max(1, int(np.ceil(np.sqrt(known / _MOST_SAMPLES))))
        logits, classes = [np.zeros((0, len(bundle.card.classes)), np.float32)], [np.zeros(0, np.uint8)]
        for tile in _tiles(self.scene, models):
            chosen = np.zeros((tile.height, tile.width), np.bool_)
            chosen[-tile.row % step :: step, -tile.col % step :: step] = True
            truth = reference[tile.core.toslices()]
            chosen &= truth != UNLABELLED
            if chosen.any():
                image = read_tile(models, self.scene, tile, half).images[bundle.card.task]
                logits.append(networks.logits(image, tile).float().numpy()[chosen])
                classes.append(truth[chosen])
        return np.concatenate(logits), np.concatenate(classes)


@dataclass(frozen=True)
class ObservedLandcover:
    """The maps of a model at a place beside the references, (H, W) class indices each."""

    name: str
    level: Level
    bands: tuple[str, ...]
    """Bands of the card that the scene has."""
    found: Classes
    teacher: Classes | None
    labels: Classes | None
    without: dict[tuple[str, ...], Classes]
    """Maps as if the scene lacked some bands; empty if it lacks any itself."""
    logits: NDArray[np.float32]
    """(N, K) of a sample of pixels that have a reference."""
    truth: NDArray[np.uint8]
    """(N,) their classes: of the labels where there are any, else the teacher's."""


def observe_landcover(
    place: OpenPlace,
    bundle: Bundle,
    engine: Engine,
    teacher: Callable[[OpenPlace], Classes | None],
    missing: Sequence[tuple[str, ...]],
) -> ObservedLandcover:
    """Map a place with a model: as it is, and as if it lacked the bands of each of `missing`.

    `teacher` gives the teacher's classes. Errors as a run and its labels may raise.
    """
    card, scene = bundle.card, place.scene
    card.check_scene(tuple(scene.bands), abs(scene.grid.resolution.x), scene.id)
    used, labels, taught = card.bands_used(scene.bands), place.labels(card), teacher(place)
    found = place.found(bundle, engine)
    reference = np.full(scene.shape, UNLABELLED, np.uint8) if taught is None else taught
    if labels is not None:
        reference = np.where(labels == UNLABELLED, reference, labels)
    reference = np.where(found == UNLABELLED, np.uint8(UNLABELLED), reference)
    logits, truth = place.samples(bundle, engine, reference)
    complete = used == card.bands and taught is not None
    return ObservedLandcover(
        place.settings.name,
        place.level,
        used,
        found,
        taught,
        labels,
        {bands: place.found(bundle, engine, bands) for bands in missing} if complete else {},
        logits,
        truth,
    )


def _tiles(scene: Scene, models: Models) -> list[Tile]:
    return plan(scene.shape, _TILE_PX, models.halo, models.stride)


def _index(names: dict[int, str], card: Card) -> NDArray[np.uint8]:
    """Return (256,) the index in the card of the class that each value means, else `UNLABELLED`."""
    index = np.full(256, UNLABELLED, np.uint8)
    for position, item in enumerate(card.classes):
        for value, name in names.items():
            if name == item.name:
                index[value] = position
    return index


def _index_of_values(card: Card) -> NDArray[np.uint8]:
    return _index({item.value: item.name for item in card.classes}, card)
