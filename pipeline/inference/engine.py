"""Both networks over a stretch of a scene: each pixel is decoded once, each tile gives exactly its core."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from math import lcm

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor, nn
from torch.nn import functional

from pipeline.config import Engine
from pipeline.inference.motion import evidence, measure_displacement
from pipeline.inference.predictions import CLOUD, MOTION_BANDS, NO_ROAD, NODATA, SCREENED, SEEN, Detections
from pipeline.inference.shards import Shard
from pipeline.models.bundle import Bundle, open_bundle
from pipeline.models.detector import build_detector
from pipeline.models.inputs import normalise
from pipeline.models.screener import BLOCK_PX, accepted, build_screener
from pipeline.models.segmenter import build_segmenter
from pipeline.scenes.clouds import cloud_mask
from pipeline.scenes.roads import road_mask
from pipeline.scenes.scene import Pixels, Scene
from pipeline.tiling import Tile, parts, round_up

log = logging.getLogger(__name__)

ENGINE_VERSION = 2
"""Raise it when the same input gives another result: shards of older versions are then computed again."""

NO_CLASS = 255
_ON_GROUND = (SEEN, NO_ROAD, SCREENED)
"""Where there is land cover: wherever there are data and no cloud."""
_CLAIM_PX = 0.5
_PART_PX = 64


@dataclass(frozen=True)
class Models:
    """The networks of a run; either may be missing."""

    detector: Bundle | None
    segmenter: Bundle | None
    screener: Bundle | None = None
    """Blocks of the scene that it rejects are not searched for trucks."""

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """Those that are there."""
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
        """Further bands to decode, each once: a bundle's optional ones, if the scene has all of them."""
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
        """What the origins of windows are multiples of, so that all networks sample the same pixels."""
        return lcm(*(bundle.card.stride for bundle in self.bundles))


@dataclass(frozen=True)
class Search:
    """Where trucks are looked for."""

    roads: gpd.GeoDataFrame | None = None
    """In the scene's CRS; None to look everywhere."""
    road_buffer_m: float = 30.0


def report_tiles(count: int) -> None:
    """Tell whoever listens to this module's log (a progress bar, say) that tiles are done."""
    log.info("tiles done", extra={"tiles_done": count})


def half_precision(engine: Engine) -> bool:
    """Whether the networks compute in bfloat16: if asked for, or by themselves where the processor can."""
    if engine.precision == "auto":
        return bool(torch.backends.cpu.get_cpu_capability() == "AVX512" and _has_bfloat16())
    return engine.precision == "bfloat16"


def _has_bfloat16() -> bool:
    try:
        return bool(torch.cpu._is_avx512_bf16_supported())
    except AttributeError:  # a private name: without it we compute in float32, which is always right
        return False


def predict_shard(
    scene: Scene, tiles: Sequence[Tile], models: Models, search: Search, engine: Engine, workers: int = 1
) -> Shard:
    """What both networks say about whole strips of tiles.

    Decoding of the next tile overlaps with the networks. Memory: two tiles of pixels, the networks' features
    of one tile (about 1 kB a pixel), and the two rasters of the shard.

    Raises
    ------
    CorruptImageError
        If a tile can't be decoded, naming file, band and window.
    """
    torch.set_num_threads(engine.threads or max(1, (os.cpu_count() or 1) // workers))
    first = tiles[0].row
    height = max(tile.row + tile.height for tile in tiles) - first
    status = np.full((height, tiles[0].scene_width), NODATA, np.uint8)
    landcover = np.full_like(status, NO_CLASS) if models.segmenter else None
    half = half_precision(engine)
    found: list[Detections] = []
    skipped = 0
    bands = models.bands_of(scene)
    for tile, pixels in _decoded(scene, tiles, models):
        core = (
            slice(tile.row - first, tile.row - first + tile.height),
            slice(tile.col, tile.col + tile.width),
        )
        status[core] = _status(scene, tile, pixels, search)
        there = status[core]
        if models.screener and bool((there == SEEN).any()):
            there[(there == SEEN) & ~_screen(tile, pixels, models.screener, bands, half)] = SCREENED
        if landcover is not None and models.segmenter and bool(np.isin(there, _ON_GROUND).any()):
            classes = _segment(tile, pixels, models.segmenter, bands, half)
            landcover[core] = np.where(np.isin(there, _ON_GROUND), classes, NO_CLASS)
        searched = _search(tile, pixels, there == SEEN, models.detector, bands, half)
        found += searched
        skipped += not searched
        report_tiles(1)
    return Shard(first, status, landcover, Detections.concatenate(found), len(tiles), skipped)


def _read(scene: Scene, window: Window, models: Models) -> Pixels:
    """All bands that are used; valid is where those that must be there have data; others may be NaN."""
    pixels, optional = scene.read(window, models.bands), models.optional_bands(scene)
    if not optional:
        return pixels
    further = scene.read(window, optional)
    values = np.where(further.valid, further.reflectance, np.float32(np.nan))
    return replace(pixels, reflectance=np.concatenate((pixels.reflectance, values)))


def _decoded(scene: Scene, tiles: Sequence[Tile], models: Models) -> Iterator[tuple[Tile, Pixels]]:
    """Each tile with its pixels, the next one being decoded meanwhile; a failure surfaces at its tile."""
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as decoder:
        ahead = decoder.submit(_read, scene, tiles[0].window, models)
        for tile, following in zip(tiles, [*tiles[1:], None], strict=True):
            pixels = ahead.result()
            if following:
                ahead = decoder.submit(_read, scene, following.window, models)
            yield tile, pixels


def _status(scene: Scene, tile: Tile, pixels: Pixels, search: Search) -> NDArray[np.uint8]:
    """What becomes of each pixel of the core, (H, W)."""
    valid = pixels.valid[tile.core_in_window]
    status = np.where(valid, SEEN, NODATA).astype(np.uint8)
    if search.roads is not None and valid.any():
        grid = scene.grid[tile.core.toslices()]
        status[valid & ~road_mask(search.roads, grid, search.road_buffer_m)] = NO_ROAD
    if valid.any():
        clouds = cloud_mask(scene, tile.core)
        if clouds is not None:
            status[valid & clouds] = CLOUD
    return status


@lru_cache(maxsize=4)
def _network(folder: str, sha256: str, half: bool) -> nn.Module:
    """A network ready to run; one for each process."""
    bundle = open_bundle(folder)
    build = {"segmentation": build_segmenter, "screening": build_screener}.get(bundle.card.task)
    if build:
        return bundle.load_into(build(bundle.card)).to(memory_format=torch.channels_last)
    detector = build_detector(bundle.card)
    detector.half_precision = half
    return bundle.load_into(detector).to(memory_format=torch.channels_last)


def _input(tile: Tile, pixels: Pixels, bundle: Bundle, bands: Sequence[str]) -> tuple[Tensor, int, int]:
    """The normalised input (1, C, H, W) of a network, and its origin (row, column) in the scene.

    The network's own halo is often smaller than what was read for both. Beyond the lower and right border of
    the scene zeros fill up to the stride, as they would for the scene as a whole.
    """
    card = bundle.card
    reach = round_up(card.halo, card.stride)
    top, left = max(0, tile.row - reach), max(0, tile.col - reach)
    bottom = min(tile.scene_height, tile.row + tile.height + reach)
    right = min(tile.scene_width, tile.col + tile.width + reach)
    row, col = int(pixels.window.row_off), int(pixels.window.col_off)
    part = (slice(top - row, bottom - row), slice(left - col, right - col))
    used = card.bands_used(bands)
    index = [bands.index(band) for band in used]
    tensor = normalise(pixels.reflectance[(index, *part)], pixels.valid[part], card, used)
    height, width = tensor.shape[-2:]
    padding = (0, round_up(width, card.stride) - width, 0, round_up(height, card.stride) - height)
    return functional.pad(tensor, padding)[None].contiguous(memory_format=torch.channels_last), top, left


def _logits(
    tile: Tile, pixels: Pixels, bundle: Bundle, bands: Sequence[str], half: bool
) -> tuple[Tensor, int, int]:
    """What a network without boxes says, (K, H, W), and its input's origin (row, column) in the scene."""
    network = _network(str(bundle.folder), bundle.card.weights_sha256, half)
    tensor, top, left = _input(tile, pixels, bundle, bands)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        return network(tensor)[0], top, left


def _segment(
    tile: Tile, pixels: Pixels, bundle: Bundle, bands: Sequence[str], half: bool
) -> NDArray[np.uint8]:
    """The class of each pixel of the core, (H, W)."""
    logits, top, left = _logits(tile, pixels, bundle, bands, half)
    rows = slice(tile.row - top, tile.row - top + tile.height)
    cols = slice(tile.col - left, tile.col - left + tile.width)
    index = logits[:, rows, cols].argmax(0).numpy()
    values = np.array([item.value for item in bundle.card.classes], np.uint8)
    return np.asarray(values[index])


def _screen(
    tile: Tile, pixels: Pixels, bundle: Bundle, bands: Sequence[str], half: bool
) -> NDArray[np.bool_]:
    """The pixels of the core that lie in blocks which could hold a truck, (H, W)."""
    logits, top, left = _logits(tile, pixels, bundle, bands, half)
    blocks = logits[0].float()[(tile.row - top) // BLOCK_PX :, (tile.col - left) // BLOCK_PX :]
    return accepted(blocks, bundle.card.score_threshold or 0.5, (tile.height, tile.width))


def _search(
    tile: Tile,
    pixels: Pixels,
    wanted: NDArray[np.bool_],
    bundle: Bundle | None,
    bands: Sequence[str],
    half: bool,
) -> list[Detections]:
    """The trucks of a tile, found in those parts of it where they are looked for, (H, W) `wanted`."""
    if bundle is None:
        return []
    side = round_up(_PART_PX, bundle.card.stride)
    return [
        _detect(part, pixels, bundle, bands, half) for part in parts(tile, wanted, side, bundle.card.halo)
    ]


def _detect(tile: Tile, pixels: Pixels, bundle: Bundle, bands: Sequence[str], half: bool) -> Detections:
    """The trucks whose centres the tile owns (or all but owns: see `merging.one_per_truck`)."""
    network = _network(str(bundle.folder), bundle.card.weights_sha256, half)
    tensor, top, left = _input(tile, pixels, bundle, bands)
    with torch.inference_mode():
        (result,) = network(tensor)
    boxes = result["boxes"].double().numpy() + np.array([left, top, left, top])
    scores = result["scores"].double().numpy()
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    low = np.array([tile.col, tile.row]) - _CLAIM_PX
    high = np.array([tile.col + tile.width, tile.row + tile.height]) + _CLAIM_PX
    mine = ((centres >= low) & (centres <= high)).all(axis=1)
    boxes, scores = boxes[mine], scores[mine]
    displacement, sigma = _motion(pixels, boxes, bands)
    probability = bundle.card.calibration.probability(scores, evidence(displacement, sigma))
    return Detections(boxes, probability, displacement, sigma)


def _motion(
    pixels: Pixels, boxes: NDArray[np.float64], bands: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not len(boxes):
        return np.zeros((0, 2)), np.zeros(0)
    row, col = int(pixels.window.row_off), int(pixels.window.col_off)
    order = [bands.index(band) for band in MOTION_BANDS]
    mine: NDArray[np.float64] = boxes - np.array([col, row, col, row])
    displacement, sigma = measure_displacement(pixels.reflectance[order], pixels.valid, mine)
    return displacement.astype(np.float64), sigma.astype(np.float64)


def widest_tile(memory_mb: int, models: Models, half: bool) -> int:
    """The largest side of a core, in pixels, whose networks stay within `memory_mb` of memory."""
    fixed_mb, bytes_per_pixel = 700, 500 if half else 900
    side = int(((memory_mb - fixed_mb) * 1e6 / bytes_per_pixel) ** 0.5) if memory_mb > fixed_mb else 0
    return max(64, (side - 2 * round_up(models.halo, models.stride)) // 16 * 16)
