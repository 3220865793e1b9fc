"""Scenery for a teacher to label: crops of real places in other sizes, seasons, light and neighbourhoods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from pipeline.inference.teacher import Teacher
from pipeline.scenes.atmosphere import HAZE, haze_of, surface, top_of_atmosphere
from pipeline.training.segmenter.augment import degraded, smooth_field, turned
from pipeline.training.segmenter.settings import TileSettings

_LEAST = np.float32(1e-4)
_HAZE_SPREAD = 0.2
"""Standard deviation of the haze that is put on an L2A scene."""


@dataclass(frozen=True)
class Place:
    """A scene whose pixels a teacher labels, held in memory: 40 bytes a pixel with ten bands."""

    name: str
    reflectance: NDArray[np.float32]
    """(C, H, W), 0-1; NaN in bands that are not there."""
    counts: NDArray[np.bool_]
    """(H, W), pixels that may be learned: with data, not held out, not cloud."""
    classes: NDArray[np.uint8]
    """(H, W), the teacher's classes, to find pixels of rare ones."""
    hazy: bool
    """True if the atmosphere is still in it (L1C)."""
    share: float = 1.0
    """Share of the tiles, relative to other places."""
    absent: tuple[str, ...] = ()
    """Classes that do not exist at the place, whatever the teacher says."""
    identity: tuple[Any, ...] = ()
    """Name and state of the place, for the key of its tiles."""

    @cached_property
    def centres(self) -> dict[int, NDArray[np.intp]]:
        """Flat indices of some pixels that count, by class."""
        rng = np.random.default_rng(0)
        found = {}
        for value in np.unique(self.classes[self.counts]).tolist():
            where = np.flatnonzero(self.counts & (self.classes == value))
            if len(where) >= 16:
                found[value] = rng.choice(where, min(5_000, len(where)), replace=False)
        return found

    @cached_property
    def haze(self) -> float:
        """Haze of an L1C scene; 1 for L2A."""
        if not self.hazy or not self.counts.any():
            return 1.0
        return haze_of(self.reflectance[:1, self.counts], ("B02",))


@dataclass(frozen=True)
class Scenery:
    """A drawn image, before a teacher labels it."""

    reflectance: NDArray[np.float32]
    """(C, S, S) at the surface; NaN where a band has no data."""
    counts: NDArray[np.bool_]
    """(S, S), pixels that may be learned."""
    haze: float
    """Haze of the atmosphere over it."""
    absent: tuple[str, ...] = ()

    @property
    def has_data(self) -> NDArray[np.bool_]:
        """(C, S, S), where bands have data."""
        return np.isfinite(self.reflectance)


class Ground:
    """Draws scenery from places."""

    def __init__(self, places: Sequence[Place], bands: Sequence[str], settings: TileSettings) -> None:
        self.places, self.bands, self.settings = list(places), tuple(bands), settings
        self._shares = np.array([place.share for place in places], float)
        self._of_class: dict[int, NDArray[np.intp]] = {}
        for value in {value for place in places for value in place.centres}:
            has = [number for number, place in enumerate(places) if value in place.centres]
            self._of_class[value] = np.array(has, np.intp)
        self._classes = sorted(self._of_class)

    def draw(self, rng: np.random.Generator, teacher: Teacher) -> Scenery:
        """Return scenery of the settings' size."""
        scenery, kind = self._crop(rng), rng.random()
        settings = self.settings
        if kind < settings.mixed:
            scenery = self._mixed(scenery, self._crop(rng), rng)
        elif kind < settings.mixed + settings.transferred:
            scenery = self._in_the_light_of(scenery, self._crop(rng), rng)
        elif kind < settings.mixed + settings.transferred + settings.painted and teacher.can_paint:
            scenery = self._painted(scenery, teacher, rng)
        if rng.random() < settings.changed:
            scenery = self._changed(scenery, rng)
        return scenery

    def _crop(self, rng: np.random.Generator) -> Scenery:
        """Return a square around a pixel of any class or of one drawn evenly, at another scale, turned."""
        if rng.random() < 0.5:
            place = self.places[int(rng.choice(len(self.places), p=self._shares / self._shares.sum()))]
            values = list(place.centres)
            value = values[int(rng.integers(len(values)))] if rng.random() < 0.5 else None
        else:
            value = self._classes[int(rng.integers(len(self._classes)))]
            among = self._of_class[value]
            shares = self._shares[among] / self._shares[among].sum()
            place = self.places[int(rng.choice(among, p=shares))]
        pixels = np.concatenate(list(place.centres.values())) if value is None else place.centres[value]
        rows, cols = place.counts.shape
        row, col = divmod(int(rng.choice(pixels)), cols)
        side = round(self.settings.px * np.exp(rng.uniform(*np.log(self.settings.scales))))
        side = max(16, min(side, 2 * min(rows, cols)))
        first_row = row - int(rng.integers(side // 4, max(side // 4 + 1, 3 * side // 4)))
        first_col = col - int(rng.integers(side // 4, max(side // 4 + 1, 3 * side // 4)))
        index = np.ix_(_indices(first_row, side, rows), _indices(first_col, side, cols))
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        image = turned(place.reflectance[:, index[0], index[1]], turns, mirrored)
        counts = turned(place.counts[index], turns, mirrored)
        haze = place.haze if place.hazy else float(np.clip(rng.normal(1, _HAZE_SPREAD), *HAZE))
        if place.hazy:
            image = surface(image, self.bands, haze)
        return self._resized(Scenery(image, counts, haze, place.absent))

    def _resized(self, scenery: Scenery) -> Scenery:
        size = (self.settings.px, self.settings.px)
        image = torch.from_numpy(np.nan_to_num(scenery.reflectance))[None]
        resized = functional.interpolate(image, size, mode="bilinear", antialias=True)[0].numpy()
        counts = torch.from_numpy(scenery.counts.astype(np.float32))[None, None]
        share = functional.interpolate(counts, size, mode="bilinear", antialias=True)[0, 0].numpy()
        missing = ~np.isfinite(scenery.reflectance).any(axis=(1, 2))
        resized = np.maximum(resized, _LEAST)
        resized[missing] = np.nan
        return replace(scenery, reflectance=resized, counts=share > 0.99)

    def _mixed(self, one: Scenery, other: Scenery, rng: np.random.Generator) -> Scenery:
        """Return patches of two places side by side, or a mixture of both everywhere."""
        absent = tuple(name for name in one.absent if name in other.absent)
        if rng.random() < 0.3:
            part = np.float32(rng.uniform(0.5, 0.85))
            image = one.reflectance * part + other.reflectance * (1 - part)
            return Scenery(image, one.counts & other.counts, one.haze, absent)
        field = smooth_field(self.settings.px, rng, 2, 9)
        edge = np.quantile(field, rng.uniform(0.25, 0.75))
        inside = gaussian_filter((field > edge).astype(np.float32), rng.uniform(0.3, 1.0))
        image = one.reflectance * inside + other.reflectance * (1 - inside)
        counts = np.where(inside > 0.5, one.counts, other.counts)
        return Scenery(image, counts, one.haze if inside.mean() > 0.5 else other.haze, absent)

    def _in_the_light_of(self, scenery: Scenery, other: Scenery, rng: np.random.Generator) -> Scenery:
        """Return scenery whose mean and spread by band go towards those of another place, in logarithms.

        As the colour transfer of Reinhard et al., IEEE Computer Graphics and Applications 21(5):34, 2001.
        """
        own = np.log(np.maximum(scenery.reflectance, 1e-3))
        theirs = np.log(np.maximum(other.reflectance, 1e-3))
        axes, strength = (1, 2), rng.uniform(0.3, 1.0)
        mean, spread = own.mean(axes, keepdims=True), own.std(axes, keepdims=True) + 1e-2
        mean_b, spread_b = theirs.mean(axes, keepdims=True), theirs.std(axes, keepdims=True) + 1e-2
        ratio = np.clip(spread_b / spread, 0.4, 2.5)
        moved = (own - mean) * ratio + mean_b
        image = np.exp(own + strength * np.nan_to_num(moved - own))
        return replace(scenery, reflectance=np.asarray(image, np.float32))

    def _painted(self, scenery: Scenery, teacher: Teacher, rng: np.random.Generator) -> Scenery:
        """Return ground that the teacher draws, from the classes here or others in their place."""
        seen = top_of_atmosphere(scenery.reflectance, self.bands, scenery.haze)
        probabilities = teacher.probabilities(seen, self.bands)
        order, count = np.arange(len(probabilities)), len(probabilities)
        most = int(probabilities.mean(axis=(1, 2)).argmax())
        for _ in range(int(rng.integers(1, 4))):
            one, two = (most, int(rng.integers(count))) if rng.random() < 0.6 else rng.integers(count, size=2)
            order[[one, two]] = order[[two, one]]
        sharp = probabilities[order] ** rng.uniform(1, 4)
        drawn = teacher.paint(np.asarray(sharp / sharp.sum(axis=0), np.float32))
        bands = list(teacher.bands)
        index = [bands.index({"B8A": "B08"}.get(band, band)) for band in self.bands]
        texture = rng.normal(0, rng.uniform(0, 0.04), (1, *drawn.shape[1:]))
        image = drawn[index] * np.exp(gaussian_filter(texture, (0, 0.6, 0.6)))
        image[[band == "B8A" for band in self.bands]] *= rng.uniform(0.98, 1.08)
        image = np.asarray(image, np.float32)
        haze = haze_of(image[:1].reshape(1, -1), ("B02",))
        image = np.maximum(surface(image, self.bands, haze), _LEAST)
        return Scenery(image, np.ones(scenery.counts.shape, bool), haze)

    def _changed(self, scenery: Scenery, rng: np.random.Generator) -> Scenery:
        """Return scenery in other light, season, haze, weather and sharpness."""
        bands, image = self.bands, scenery.reflectance
        tilt = np.linspace(-1, 1, len(bands))[np.argsort(np.argsort([_order(band) for band in bands]))]
        gain = np.exp(rng.normal(0, 0.1) + rng.normal(0, 0.05) * tilt + rng.normal(0, 0.02, len(bands)))
        image = image * gain[:, None, None].astype(np.float32)
        if rng.random() < 0.4:
            image = self._in_another_season(image, rng)
        haze = scenery.haze
        if rng.random() < 0.3:
            haze = float(rng.uniform(*HAZE))
        image = degraded(image, bands, rng, clouded=0.1, blurred=0.15, blur_px=0.9, noise=0.004)
        return replace(scenery, reflectance=np.maximum(np.asarray(image, np.float32), _LEAST), haze=haze)

    def _in_another_season(self, image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return an image whose vegetation is greener or drier, by its NDVI."""
        red, near = image[self.bands.index("B04")], image[self.bands.index("B08")]
        ndvi = np.clip((near - red) / np.maximum(near + red, 1e-3), 0, 1)
        green = ndvi * np.float32(rng.uniform(-0.6, 0.6))
        infrared = np.array([_order(band) in range(5, 10) for band in self.bands])
        shortwave = np.array([_order(band) > 10 for band in self.bands])
        power = np.where(infrared, 0.7, np.where(shortwave, -0.5, -0.4)).astype(np.float32)
        return np.asarray(image * np.exp(green[None] * power[:, None, None]), np.float32)


def _order(band: str) -> int:
    """Return the place of a band in the order of wavelengths."""
    names = ("B01", "B02", "B03", "B04", "", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
    return names.index(band)


def _indices(first: int, count: int, length: int) -> NDArray[np.intp]:
    """Return `count` indices from about `first`; mirrored at the borders of a `length` that is shorter."""
    if count <= length:
        first = min(max(first, 0), length - count)
    index = np.arange(first, first + count) % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)
