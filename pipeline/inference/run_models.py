"""The models of a run: the bands that they need, and the memory and threads that they are given.

Without torch, so that a run that finds all its shards does not wait for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import lcm

from pipeline.config import Engine
from pipeline.inference.predictions import MOTION_BANDS
from pipeline.models.bundle import Bundle
from pipeline.scenes.scene import Scene
from pipeline.tiling import round_up


@dataclass(frozen=True)
class Models:
    """The networks of a run; either may be missing."""

    detector: Bundle | None
    segmenter: Bundle | None
    screener: Bundle | None = None
    """Blocks of the scene that it rejects are not searched for trucks."""

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """The bundles that are present."""
        return tuple(bundle for bundle in (self.detector, self.segmenter, self.screener) if bundle)

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that must be decoded, each once."""
        wanted: list[str] = []
        for bundle in self.bundles:
            wanted += [band for band in bundle.card.required_bands if band not in wanted]
        if self.detector:
            wanted += [band for band in MOTION_BANDS if band not in wanted]
        return tuple(wanted)

    def optional_bands(self, scene: Scene) -> tuple[str, ...]:
        """Further bands to decode, each once: a bundle's optional ones that the scene has."""
        wanted: list[str] = []
        for bundle in self.bundles:
            used = bundle.card.bands_used(scene.bands)
            wanted += [band for band in used if band not in (*self.bands, *wanted)]
        return tuple(wanted)

    def bands_of(self, scene: Scene) -> tuple[str, ...]:
        """All bands that are decoded of a scene, in order."""
        return (*self.bands, *self.optional_bands(scene))

    @property
    def halo(self) -> int:
        """Pixels to read around a core."""
        return max((bundle.card.halo for bundle in self.bundles), default=0)

    @property
    def stride(self) -> int:
        """Common stride of all networks: origins of windows are its multiples."""
        return lcm(*(bundle.card.stride for bundle in self.bundles))


def thread_count(engine: Engine, workers: int = 1) -> int:
    """Return the threads of one of `workers` processes: as set, else its share of the cores."""
    return engine.threads or max(1, (os.cpu_count() or 1) // workers)


def kept_classes(models: Models, probabilities: bool) -> int:
    """Return the number of classes whose probabilities shards have."""
    return len(models.segmenter.card.classes) if models.segmenter and probabilities else 0


def max_tile_px(memory_mb: int, models: Models, half: bool, probabilities: bool = False) -> int:
    """Return the largest side of a core, in pixels, with which a run stays within `memory_mb` of memory.

    Measured with the shipped models, version 3 of trucks and 5 of land cover, for tiles of 256 to 2048 px:
    the process with its networks and its allocator takes 1330 MB, and each pixel of a tile and its halo 633
    bytes, of which 9 a band are data between the stages, the rest features in float32. Those of bfloat16 are
    taken for two thirds, which is not measured. A granule's shard takes 60 MB. Probabilities, of which three
    tiles are under way, take 3 bytes a class. Their shards take 27 MB more on strips of 8 million pixels; a
    fortieth of the memory is kept for that.
    """
    bands = max((len(bundle.card.bands) for bundle in models.bundles), default=0)
    fixed_mb, bytes_per_pixel = 1400 + memory_mb // 30, (380 if half else 560) + 9 * bands
    if classes := kept_classes(models, probabilities):
        fixed_mb, bytes_per_pixel = fixed_mb + memory_mb // 40, bytes_per_pixel + 3 * classes
    side = int(((memory_mb - fixed_mb) * 1e6 / bytes_per_pixel) ** 0.5) if memory_mb > fixed_mb else 0
    return max(64, (side - 2 * round_up(models.halo, models.stride)) // 16 * 16)


def max_shard_px(memory_mb: int, models: Models, probabilities: bool = False) -> int:
    """Return the most pixels of a shard, which has a tenth of the memory.

    Status and classes are 2 bytes a pixel: 125 million pixels for 2500 MB, which is more than a granule.
    Probabilities are 2 bytes a class, since the compressed file is in memory beside them.
    """
    return memory_mb * 1_000_000 // (20 + 20 * kept_classes(models, probabilities))
