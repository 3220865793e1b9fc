"""Tiles drawn from places of the whole recipe and labelled by a teacher, for a student to learn its function.

A tile is a function of the seed and its number. It is drawn and labelled when it is first needed, by the
process that makes examples, and kept in a file.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pipeline.inference.shards import content_key
from pipeline.inference.teacher import Teacher, TeacherSettings
from pipeline.models.bundle import Card
from pipeline.models.normalise import normalise
from pipeline.open_data.resolve import located
from pipeline.scenes.atmosphere import HAZE, PATH_RADIANCE, top_of_atmosphere
from pipeline.storage.atomic import replacing
from pipeline.training.segmenter.augment import by_band, drop_bands
from pipeline.training.segmenter.examples import Example
from pipeline.training.segmenter.ground import Ground, Place
from pipeline.training.segmenter.scenes import LabelledScene
from pipeline.training.segmenter.settings import TileSettings

_VERSION = 2
"""Version of the code that draws tiles: raise it when tiles of the same recipe change."""
_FULL = 255.0
_SHOWN = {"count", "folder", "haze_rest", "level_spread"}
"""Settings that change how tiles are shown, not the tiles."""


@dataclass(frozen=True)
class Tile:
    """A tile as it is kept."""

    image: NDArray[np.uint16]
    """(C, S, S), reflectance of the surface times 10000; 0 in bands and pixels without data."""
    target: NDArray[np.uint8]
    """(K, S, S), sharpened probabilities times 255."""
    counts: NDArray[np.bool_]
    """(S, S), pixels that are learned."""
    haze: float
    """Of the atmosphere through which the teacher saw it."""

    def save(self, path: Path) -> None:
        """Write the tile; the file appears when it is complete."""
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, image=self.image, target=self.target, counts=self.counts, haze=self.haze)

    @staticmethod
    def load(path: Path) -> Tile | None:
        """Return the tile in a file; None if there is none, or it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as kept:
                return Tile(kept["image"], kept["target"], kept["counts"], float(kept["haze"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None


def places_of(scenes: Iterable[LabelledScene]) -> list[Place]:
    """Return the scenes of whose ground the teacher labels tiles."""
    return [
        Place(
            name=scene.name,
            reflectance=scene.reflectance,
            counts=scene.taught,
            classes=scene.labels,
            hazy=scene.hazy,
            share=scene.tiles,
            absent=scene.absent,
            identity=(scene.name, scene.hazy, scene.tiles, scene.absent, _digest(scene)),
        )
        for scene in scenes
        if scene.taught is not None and scene.tiles > 0 and scene.taught.any()
    ]


def _digest(scene: LabelledScene) -> str:
    arrays = (scene.reflectance, scene.labels, scene.taught)
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


class TeacherTiles(Dataset[Example]):
    """Endless examples of `settings.count` tiles; example `i` is the same whenever recipe and seed are."""

    def __init__(
        self,
        places: Sequence[Place],
        card: Card,
        teacher: TeacherSettings,
        settings: TileSettings,
        seed: int,
        folder: Path,
        band_dropout: float = 0.0,
        in_pairs: bool = False,
    ) -> None:
        self.places, self.card, self.seed, self.band_dropout = list(places), card, seed, band_dropout
        self.in_pairs = in_pairs
        self.teacher_settings, self.settings = teacher, settings
        self.folder = folder / f"tiles-{self.key[:16]}"

    @property
    def key(self) -> str:
        """Hash of all that determines the tiles."""
        return content_key(
            {
                "version": _VERSION,
                "seed": self.seed,
                "bands": self.card.bands,
                "teacher": self.teacher_settings.model_dump(mode="json", exclude={"name", "licence"}),
                "tiles": self.settings.model_dump(mode="json", exclude=_SHOWN),
                "places": [place.identity for place in self.places],
            }
        )

    @cached_property
    def _teacher(self) -> Teacher:
        """Open the teacher in this process."""
        return Teacher(located(self.teacher_settings))

    @cached_property
    def _ground(self) -> Ground:
        return Ground(self.places, self.card.bands, self.settings)

    def tile(self, number: int) -> Tile:
        """Return a tile, from its file or drawn now."""
        path = self.folder / f"{number:06d}.npz"
        kept = Tile.load(path)
        if kept is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = self._draw(number)
            kept.save(path)
        return kept

    def _draw(self, number: int) -> Tile:
        rng = np.random.default_rng((self.seed, 7, number))
        scenery = self._ground.draw(rng, self._teacher)
        seen = top_of_atmosphere(scenery.reflectance, self.card.bands, scenery.haze)
        found = self._teacher.probabilities(seen, self.card.bands)
        sharp = found**self.settings.sharpen
        for absent in scenery.absent:
            sharp[self.teacher_settings.classes.index(absent)] = 0
        total = sharp.sum(axis=0)
        counts = scenery.counts & (total > 1e-6)
        order = [self.teacher_settings.classes.index(item.name) for item in self.card.classes]
        target = (sharp / np.maximum(total, 1e-9))[order]
        dn = np.clip(np.nan_to_num(scenery.reflectance) * 10_000, 1, 65_535)
        image = np.where(scenery.has_data, dn, 0)
        return Tile(
            np.rint(image).astype(np.uint16), np.rint(target * _FULL).astype(np.uint8), counts, scenery.haze
        )

    def frequency(self, count: int = 64) -> NDArray[np.float64]:
        """Return the share (K,) of each class in the first tiles."""
        first = [self.tile(number) for number in range(min(count, self.settings.count))]
        total = np.sum([(tile.target * tile.counts).sum(axis=(1, 2), dtype=np.float64) for tile in first], 0)
        return np.asarray(total / max(1.0, total.sum()))

    def __getitem__(self, index: int) -> Example:
        """Return a tile with or without its atmosphere, and with some bands or all.

        `in_pairs` example 2i is a tile with its atmosphere, as L1C, and 2i + 1 the same tile without, as L2A.
        Sometimes the atmosphere is a little more or less than the one that the teacher looked through, and
        without it each band is a little brighter or darker, as between the two levels of one acquisition. A
        tile is not turned, and its light stays: the teacher would label a turned tile otherwise in a sixth of
        its pixels, and one that is 2 % brighter in a tenth.
        """
        number = index // 2 if self.in_pairs else index
        tile = self.tile(number % self.settings.count)
        rng = np.random.default_rng((self.seed, 8, index))
        there = tile.image > 0
        reflectance = tile.image.astype(np.float32) / np.float32(10_000)
        rest = rng.normal(0, self.settings.haze_rest) if rng.random() < 0.5 else 0.0
        seen_through = index % 2 == 0 if self.in_pairs else rng.random() < 0.5
        if seen_through:
            haze = float(np.clip(tile.haze + rest, *HAZE))
            reflectance = top_of_atmosphere(reflectance, self.card.bands, haze)
        else:
            path = by_band(PATH_RADIANCE, self.card.bands)
            gain = np.exp(rng.normal(0, self.settings.level_spread, (len(path), 1, 1)))
            reflectance = reflectance * gain.astype(np.float32) + np.float32(rest) * path
            reflectance = np.maximum(reflectance, np.float32(1e-4))
        reflectance[~there] = np.nan
        image = normalise(reflectance, np.asarray(there.any(axis=0)), self.card)
        drop_bands(image, self.card, self.band_dropout, np.random.default_rng((self.seed, 10, number)))
        target = torch.from_numpy(tile.target.astype(np.float32) / np.float32(_FULL))
        return image, target, torch.from_numpy(tile.counts.astype(np.float32))
