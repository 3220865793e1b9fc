"""The networks of a run: their inputs from a tile, and their results for the tile's core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor
from torch.nn import functional

from pipeline.config import Engine
from pipeline.inference.predictions import MOTION_BANDS
from pipeline.inference.probabilities import class_probabilities, likeliest_classes
from pipeline.inference.run_models import Models
from pipeline.inference.runtime import Maps, open_runtime
from pipeline.models.bundle import Card
from pipeline.models.normalise import normalise_band
from pipeline.models.registry import build_network
from pipeline.models.screener import BLOCK_PX, accepted
from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.scene import Pixels, Scene
from pipeline.tiling import Tile, round_up

_CLAIM_PX = 0.5
"""Boxes centred at most so far outside of a core are kept, so that rounding loses none between two cores."""
_TOGETHER_PX = 2**20
"""Pixels of the small windows that go through a network at once."""

Boxes = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(N, 4) boxes in pixels of the scene, and the network's scores (N, K) for them.

The first score is that of a heavy vehicle; the second, of networks that give it, that of any vehicle."""


@dataclass(frozen=True)
class TileInput:
    """The input of all networks for a tile with its halo, (H, W) each."""

    valid: NDArray[np.bool_]
    """Pixels with data in all required bands; optional ones may lack some."""
    images: dict[str, Image]
    """Images by task."""
    motion: NDArray[np.float32] | None
    """(4, H, W) reflectance of `MOTION_BANDS`; None without a detector."""


@dataclass(frozen=True)
class Image:
    """Input of a network for a tile: normalised bands (C, H, W), and their origin in the scene.

    That is the tile's core with the network's own halo, which is often smaller than the window that was read.
    """

    bands: Tensor
    top: int
    left: int
    card: Card

    @classmethod
    def empty(cls, tile: Tile, card: Card, half: bool) -> Image:
        """Return an image without data."""
        top, bottom, left, right = _around(tile, card)
        dtype = torch.bfloat16 if half else torch.float32
        return cls(torch.zeros((len(card.bands), bottom - top, right - left), dtype=dtype), top, left, card)

    def fill(self, band: str, pixels: Pixels) -> None:
        """Fill in one band of a window that contains the image, if the network uses that band."""
        if band in self.card.bands:
            part = self.part_of(pixels.window)
            normalised = normalise_band(pixels.reflectance[0][part], pixels.valid[part], self.card, band)
            self.bands[self.card.bands.index(band)] = torch.from_numpy(normalised)

    def blank(self, where: NDArray[np.bool_], window: Window) -> None:
        """Remove the data of all bands of some pixels, (H, W) of a window."""
        hidden = where[self.part_of(window)]
        if hidden.any():
            self.bands[:, torch.from_numpy(hidden)] = 0

    def part_of(self, window: Window) -> tuple[slice, slice]:
        """Return the rows and columns of a window that contains the image which are those of the image."""
        top, left = self.top - int(window.row_off), self.left - int(window.col_off)
        height, width = self.bands.shape[1:]
        return slice(top, top + height), slice(left, left + width)

    def around(self, part: Tile) -> Tensor:
        """Return the pixels (C, H, W) for a part of the tile, with the network's halo."""
        return self.part(self.bands, part)

    def part(self, layers: Tensor, part: Tile) -> Tensor:
        """Return a part of the tile, with the network's halo, of layers (L, H, W) of the image's size.

        Beyond the lower and right border of the scene they are padded with zeros up to the stride, as for the
        whole scene.
        """
        top, bottom, left, right = _around(part, self.card)
        cut = layers[:, top - self.top : bottom - self.top, left - self.left : right - self.left]
        height, width = cut.shape[-2:]
        stride = self.card.stride
        right, below = round_up(width, stride) - width, round_up(height, stride) - height
        return functional.pad(cut, (0, right, 0, below)) if right or below else cut


def read_tile(models: Models, scene: Scene, tile: Tile, half: bool) -> TileInput:
    """Read the input of each network for a tile.

    Bands are read one by one, so that one of them is in memory. A pixel without data in a required band
    has data in no band; one without data in an optional band is 0 in that band only. Errors as
    `read_pixels`.
    """
    images: dict[str, Image] = {
        bundle.card.task: Image.empty(tile, bundle.card, half) for bundle in models.bundles
    }
    valid = np.ones((int(tile.window.height), int(tile.window.width)), np.bool_)
    motion = np.empty((len(MOTION_BANDS), *valid.shape), np.float32) if models.detector else None
    for band in (*models.bands, *models.optional_bands(scene)):
        pixels = read_pixels(scene, tile.window, (band,))
        for image in images.values():
            image.fill(band, pixels)
        if motion is not None and band in MOTION_BANDS:
            motion[MOTION_BANDS.index(band)] = pixels.reflectance[0]
        if band in models.bands:
            valid = valid & pixels.valid
    for image in images.values():
        image.blank(~valid, tile.window)
    return TileInput(valid, images, motion)


def _around(tile: Tile, card: Card) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right) of a core and a network's halo in the scene."""
    reach = round_up(card.halo, card.stride)
    return (
        max(0, tile.row - reach),
        min(tile.scene_height, tile.row + tile.height + reach),
        max(0, tile.col - reach),
        min(tile.scene_width, tile.col + tile.width + reach),
    )


class Networks:
    """Models that are ready to run; threads that share them wait for each other."""

    def __init__(self, models: Models, engine: Engine, threads: int) -> None:
        bundles = models.bundles
        modules = {bundle.card.task: bundle.load_into(build_network(bundle.card)) for bundle in bundles}
        self._detector = modules.get("detection")
        self._runtime = open_runtime(
            {
                bundle.card.task: (modules[bundle.card.task], len(bundle.card.bands))
                for bundle in models.bundles
            },
            engine,
            threads,
        )
        if self._detector is not None:
            self._detector.to(self._runtime.device)  # boxes are made where the maps are
        self._postprocessing = ThreadPoolExecutor(1, "postprocess")

    def logits(self, image: Image, tile: Tile) -> Tensor:
        """Return the output of a network without boxes for a core, (H / s, W / s, K) at stride s."""
        with self._run(image, [tile]) as (maps,):
            return _core(maps, image, tile).to("cpu", copy=True)

    def segment(self, image: Image, tile: Tile) -> NDArray[np.uint8]:
        """Return the class of each pixel of a core, (H, W), as a value of the legend."""
        with self._run(image, [tile]) as (maps,):
            return _values(likeliest_classes(_core(maps, image, tile)), image.card)

    def segment_softly(self, image: Image, tile: Tile) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the class of each pixel of a core as `segment`, and the probabilities of all classes.

        Those are (K, H, W) bytes in the order of the legend; see `class_probabilities`.
        """
        with self._run(image, [tile]) as (maps,):
            logits = _core(maps, image, tile)
            likeliest = likeliest_classes(logits)
            probabilities = class_probabilities(logits, likeliest, image.card.calibration.temperature)
            return _values(likeliest, image.card), probabilities

    def screen(self, image: Image, tile: Tile) -> NDArray[np.bool_]:
        """Return the pixels of a core in blocks that the screener accepts, (H, W)."""
        with self._run(image, [tile]) as (maps,):
            blocks = _core(maps, image, tile)[..., 0].float()
            return accepted(blocks, image.card.score_threshold or 0.5, (tile.height, tile.width))

    def detect(
        self, image: Image, parts: Sequence[Tile], where: NDArray[np.bool_] | None = None
    ) -> list[Future[Boxes]]:
        """Detect trucks centred in the parts; boxes are postprocessed while the caller continues.

        Those centred within half a pixel of a part count too: see `pipeline.inference.merge`. Boxes elsewhere
        than `where`, pixels (H, W) of the image, are not asked for.
        """
        return [
            self._postprocessing.submit(self._postprocess, self._run(image, alike), image, alike, where)
            for alike in _alike(parts, image.card)
        ]

    def _run(self, image: Image, parts: Sequence[Tile]) -> Maps:
        windows = [image.around(part) for part in parts]
        images = torch.stack(windows) if len(windows) > 1 else windows[0][None]  # which copies nothing
        return self._runtime.run(image.card.task, images)

    @torch.inference_mode()
    def _postprocess(
        self, maps: Maps, image: Image, parts: Sequence[Tile], where: NDArray[np.bool_] | None
    ) -> Boxes:
        wanted = None
        if where is not None:
            windows = [image.part(torch.from_numpy(where)[None], part)[0] for part in parts]
            wanted = torch.stack(windows).to(self._runtime.device)
        with maps as found:
            results = self._detector.detections(*found, where=wanted)  # type: ignore[union-attr, operator]
        boxes, scores = [], []
        kinds = [kind for kind in ("scores", "vehicle_scores") if kind in results[0]]
        for part, result in zip(parts, results, strict=True):
            top, _, left, _ = _around(part, image.card)
            placed = result["boxes"].double().cpu().numpy() + np.array([left, top, left, top])
            mine = part.owns((placed[:, :2] + placed[:, 2:]) / 2, _CLAIM_PX)
            boxes.append(placed[mine])
            scored = torch.stack([result[kind] for kind in kinds], dim=1).double()
            scores.append(scored.cpu().numpy()[mine])
        return np.concatenate(boxes), np.concatenate(scores)


def _values(classes: Tensor, card: Card) -> NDArray[np.uint8]:
    """Return the values in the legend of classes by index."""
    return np.array([item.value for item in card.classes], np.uint8)[classes.cpu().numpy()]


def _core(maps: Tensor, image: Image, tile: Tile) -> Tensor:
    """Return the part of a network's map (1, H, W, K) that is the tile's core."""
    step = BLOCK_PX if image.card.task == "screening" else 1
    top, _, left, _ = _around(tile, image.card)
    row, col = (tile.row - top) // step, (tile.col - left) // step
    return maps[0, row : row - (-tile.height // step), col : col - (-tile.width // step)]


def _alike(parts: Sequence[Tile], card: Card) -> Iterator[list[Tile]]:
    """Group the parts by shape of their windows, with a limit of pixels a group."""
    by_shape: dict[tuple[int, int], list[Tile]] = {}
    for part in parts:
        top, bottom, left, right = _around(part, card)
        by_shape.setdefault((bottom - top, right - left), []).append(part)
    for (height, width), alike in by_shape.items():
        count = max(1, _TOGETHER_PX // (height * width))
        yield from (alike[first : first + count] for first in range(0, len(alike), count))
