"""Both networks over shards of a scene: each pixel is decoded once, each tile gives exactly its core.

Four stages run side by side. Blocks are decoded ahead of the tiles that need them; a tile is prepared (the
status of its pixels, the inputs of the networks); the networks run; their results are measured and stored.
Each stage is at most one tile ahead of the next, so memory depends on the tile, not on the scene.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from pipeline.config import Engine
from pipeline.inference.machine import half_precision
from pipeline.inference.motion import measure_displacement
from pipeline.inference.network_pool import current_networks
from pipeline.inference.networks import Boxes, Image, Networks, read_tile
from pipeline.inference.predictions import (
    ANY_SCORE,
    CLOUD,
    NO_CLASS,
    NO_ROAD,
    NODATA,
    SCREENED,
    SEEN,
    SHADOW,
    Detections,
    MinScores,
    pixels_holding,
)
from pipeline.inference.run_models import Models, kept_classes, thread_count
from pipeline.inference.shards import Shard
from pipeline.processes import give_back_memory
from pipeline.roads.mask import road_mask
from pipeline.scenes.clouds import cloud_mask, rim_mask, shadow_mask
from pipeline.scenes.raster.cache import current_cache
from pipeline.scenes.raster.prefetch import Sweep
from pipeline.scenes.scene import Pixels, Scene
from pipeline.tiling import Tile, parts, round_up

OnTile = Callable[[int], None]
"""Progress: called with the number of tiles that are done since the last call."""
_ON_GROUND = (SEEN, NO_ROAD, SHADOW)
"""Status of pixels with data and without cloud, before the screener."""
_PART_PX = 64
_MARGIN_M = 60.0
"""Distance from searched ground within which boxes compete with those on it."""

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Search:
    """The search for trucks: roads and scores."""

    roads: gpd.GeoDataFrame | None = None
    """In the scene's CRS; None to search everywhere."""
    road_buffer_m: float = 30.0
    min_scores: MinScores = ANY_SCORE
    """Network scores from which boxes are measured and kept."""


def predict_shards(
    scene: Scene,
    shards: Sequence[Sequence[Tile]],
    models: Models,
    search: Search,
    engine: Engine,
    workers: int = 1,
    on_tile: OnTile | None = None,
    probabilities: bool = False,
) -> Generator[Shard]:
    """Yield the predictions of shards, complete strips of tiles each, in the order given.

    The stages don't pause between shards. `workers` is the number of processes on this machine that run
    shards. With `probabilities` shards also have those of all classes of land cover. Memory: see
    `max_tile_px`, and the rasters of a shard.

    Raises
    ------
    CorruptImageError
        If a tile can't be decoded, naming file, band and block; at once, whatever else is under way.
    """
    threads, half = thread_count(engine, workers), half_precision(engine)
    tiles = [tile for shard in shards for tile in shard]
    bands = models.bands_of(scene)
    decoded = (*bands, "SCL") if scene.scl else bands
    with (
        Sweep(scene, [tile.window for tile in tiles], decoded) as sweep,
        _stage("decode", max(1, threads // 2)) as decoding,
        _stage("prepare") as preparing,
        _stage("postprocess") as postprocessing,
    ):
        cache = current_cache()
        cache.budget = min(max(sweep.bytes_needed(), cache.budget), _cache_bytes(engine))
        with ThreadPoolExecutor(threads, "decode") as all_cores:  # nothing else needs them yet
            sweep.prefetch(0, all_cores)
            networks = current_networks().open(models, engine, threads)

        def prepare(number: int) -> _Ready:
            if number + 1 < len(tiles):
                sweep.prefetch(number + 1, decoding)
            ready = _prepare(scene, tiles[number], models, search, half)
            sweep.done(number)
            return ready

        found = _ahead(preparing, prepare, range(len(tiles)))
        predicted = (_predict(ready, models, networks, search, probabilities) for ready in found)
        postprocessed = _ahead(postprocessing, _postprocess, predicted)
        try:
            for shard in shards:
                yield _shard(shard, postprocessed, models, probabilities, on_tile)
        finally:
            give_back_memory()


@contextmanager
def _stage(name: str, threads: int = 1) -> Iterator[ThreadPoolExecutor]:
    """Return the threads of a stage; work that has not begun when a run fails is dropped."""
    pool = ThreadPoolExecutor(threads, name)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[_Given], _Made], given: Iterable[_Given]
) -> Iterator[_Made]:
    """Yield `work` of each of `given`, in order and one ahead; errors appear in their place."""
    waiting = None
    for item in given:
        following = pool.submit(copy_context().run, work, item)
        if waiting:
            yield waiting.result()
        waiting = following
    if waiting:
        yield waiting.result()


@dataclass(frozen=True)
class _Ready:
    """A tile that is ready for the networks."""

    tile: Tile
    status: NDArray[np.uint8]
    """(H, W) of the core."""
    ground: NDArray[np.bool_]
    """(H, W) of the core: pixels with land cover, those with data outside of clouds and their rims."""
    images: dict[str, Image]
    """Input of each network, by task; networks without work on this tile have none."""
    near: NDArray[np.bool_] | None
    """(H, W) of the detector's image: pixels near roads and around; None without roads."""
    motion: Pixels | None
    """The bands for motion, with their halo."""


@dataclass(frozen=True)
class _Predicted:
    """Predictions of the networks for a tile, before the motion of its trucks is measured."""

    tile: Tile
    status: NDArray[np.uint8]
    landcover: _Landcover | None
    candidates: _Candidates | None
    """None where no truck was searched for."""


@dataclass(frozen=True)
class _Landcover:
    """Land cover of a tile's core."""

    classes: NDArray[np.uint8]
    """(H, W), values of the legend, or NO_CLASS."""
    probabilities: NDArray[np.uint8] | None
    """(K, H, W) of the classes of the legend; None if they are not kept."""


@dataclass(frozen=True)
class _Candidates:
    """Candidate boxes, and the pixels for their motion."""

    found: Sequence[Future[Boxes]]
    pixels: Pixels
    min_scores: MinScores


def _prepare(scene: Scene, tile: Tile, models: Models, search: Search, half: bool) -> _Ready:
    seen = read_tile(models, scene, tile, half)
    status = _status(scene, tile, seen.valid[tile.core_in_window], search)
    ground = np.isin(status, _ON_GROUND)
    if models.segmenter and ground.any() and (rims := rim_mask(scene, tile.core)) is not None:
        ground &= ~rims
    searched = bool((status == SEEN).any())
    wanted = {
        "segmentation": bool(ground.any()),
        "detection": searched,
        "screening": searched,
    }
    images = {task: image for task, image in seen.images.items() if wanted[task]}
    motion = None
    if "detection" in images and seen.motion is not None:
        motion = Pixels(seen.motion, seen.valid, tile.window, scene.grid[tile.window.toslices()])
    near = _near(scene, images["detection"], search) if motion else None
    return _Ready(tile, status, ground, images, near, motion)


def _near(scene: Scene, image: Image, search: Search) -> NDArray[np.bool_] | None:
    """Return the pixels (H, W) of an image where a box can matter; None without roads.

    That is `_MARGIN_M` more than what is searched, so that a box is suppressed by a better one beyond the
    border, and one whose proposal is off its centre is found.
    """
    if search.roads is None:
        return None
    (height, width), top, left = image.bands.shape[1:], image.top, image.left
    grid = scene.grid[top : top + height, left : left + width]
    return road_mask(search.roads, grid, search.road_buffer_m + _MARGIN_M)


def _status(scene: Scene, tile: Tile, valid: NDArray[np.bool_], search: Search) -> NDArray[np.uint8]:
    """Return the status of each pixel of the core, (H, W) like `valid`."""
    status = np.where(valid, SEEN, NODATA).astype(np.uint8)
    if search.roads is not None and valid.any():
        grid = scene.grid[tile.core.toslices()]
        status[valid & ~road_mask(search.roads, grid, search.road_buffer_m)] = NO_ROAD
    if valid.any():
        for hidden, code in ((shadow_mask(scene, tile.core), SHADOW), (cloud_mask(scene, tile.core), CLOUD)):
            if hidden is not None:
                status[valid & hidden] = code
    return status


def _predict(
    ready: _Ready, models: Models, networks: Networks, search: Search, probabilities: bool
) -> _Predicted:
    tile, status, images = ready.tile, ready.status, ready.images
    if "screening" in images:
        status[(status == SEEN) & ~networks.screen(images["screening"], tile)] = SCREENED
    landcover = None
    if "segmentation" in images:
        landcover = _landcover(images["segmentation"], tile, ready.ground, networks, probabilities)
    candidates = None
    if models.detector and ready.motion:
        card = models.detector.card
        searched = parts(tile, status == SEEN, round_up(_PART_PX, card.stride), card.halo)
        if searched:
            found = networks.detect(images["detection"], searched, ready.near)
            candidates = _Candidates(found, ready.motion, search.min_scores)
    return _Predicted(tile, status, landcover, candidates)


def _landcover(
    image: Image, tile: Tile, ground: NDArray[np.bool_], networks: Networks, probabilities: bool
) -> _Landcover:
    """Return the land cover of a core where there is `ground`, (H, W)."""
    if not probabilities:
        classes = networks.segment(image, tile)
        classes[~ground] = NO_CLASS
        return _Landcover(classes, None)
    classes, kept = networks.segment_softly(image, tile)
    classes[~ground] = NO_CLASS
    kept[:, ~ground] = NO_CLASS
    return _Landcover(classes, kept)


@dataclass(frozen=True)
class _Postprocessed:
    """All predictions for a tile."""

    tile: Tile
    status: NDArray[np.uint8]
    landcover: _Landcover | None
    trucks: Detections | None


def _postprocess(predicted: _Predicted) -> _Postprocessed:
    candidates = predicted.candidates
    trucks = None if candidates is None else _measured(candidates, predicted.tile, predicted.status)
    return _Postprocessed(predicted.tile, predicted.status, predicted.landcover, trucks)


def _shard(
    tiles: Sequence[Tile],
    postprocessed: Iterator[_Postprocessed],
    models: Models,
    probabilities: bool,
    on_tile: OnTile | None,
) -> Shard:
    """Return a shard of the next postprocessed tiles; keeps nothing afterwards."""
    first_row, width = tiles[0].row, tiles[0].scene_width
    height = max(tile.row + tile.height for tile in tiles) - first_row
    status = np.full((height, width), NODATA, np.uint8)
    classes = np.full_like(status, NO_CLASS) if models.segmenter else None
    count = kept_classes(models, probabilities)
    soft = np.full((count, height, width), NO_CLASS, np.uint8) if count else None
    trucks: list[Detections] = []
    for found in islice(postprocessed, len(tiles)):
        rows, cols = found.tile.core.toslices()
        core = slice(rows.start - first_row, rows.stop - first_row), cols
        status[core] = found.status
        if classes is not None and found.landcover is not None:
            classes[core] = found.landcover.classes
            if soft is not None and found.landcover.probabilities is not None:
                soft[:, *core] = found.landcover.probabilities
        if found.trucks is not None:
            trucks.append(found.trucks)
        if on_tile:
            on_tile(1)
    skipped = len(tiles) - len(trucks)
    vehicles = models.detector is not None and models.detector.card.scores_vehicles
    detections = Detections.concatenate([Detections.empty(vehicles), *trucks])
    return Shard(first_row, status, classes, detections, len(tiles), skipped, soft)


def _measured(candidates: _Candidates, tile: Tile, status: NDArray[np.uint8]) -> Detections:
    """Measure the motion of all boxes that reach a score and are centred on a searched pixel."""
    pixels = candidates.pixels
    found = [boxes.result() for boxes in candidates.found]
    boxes, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
    enough = candidates.min_scores.reached(scores[:, 0], scores[:, 1] if scores.shape[1] > 1 else None)
    possible = enough & ~_centred_unseen(boxes, tile, status)
    boxes, scores = boxes[possible], scores[possible]
    row, col = int(pixels.window.row_off), int(pixels.window.col_off)
    displacement, sigma = measure_displacement(
        pixels.reflectance, pixels.valid, boxes - np.array([col, row, col, row])
    )
    return Detections(
        boxes,
        scores[:, 0],
        displacement.astype(np.float64),
        sigma.astype(np.float64),
        scores[:, 1] if scores.shape[1] > 1 else None,
    )


def _centred_unseen(boxes: NDArray[np.float64], tile: Tile, status: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (N,) whether boxes are centred on a pixel of the core that was not searched."""
    cols, rows = (pixels_holding((boxes[:, :2] + boxes[:, 2:]) / 2) - (tile.col, tile.row)).T
    inside = (rows >= 0) & (rows < tile.height) & (cols >= 0) & (cols < tile.width)
    return inside & (status[rows * inside, cols * inside] != SEEN)


def _cache_bytes(engine: Engine) -> int:
    """Return the memory for decoded blocks, those of two tiles; other blocks that are still needed are on
    disk."""
    return engine.memory_mb * 1_000_000 // 30
