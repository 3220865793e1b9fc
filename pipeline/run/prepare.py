"""Preparation of a job from a request: all checks, and the division into shards."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import geopandas as gpd

from pipeline.config import Config
from pipeline.errors import BundleError, ConfigError, GeoreferenceError, OutputError
from pipeline.evaluation.labels import read_truck_labels, warn_if_labels_elsewhere
from pipeline.evaluation.landcover.labels import read_landcover_labels
from pipeline.inference.machine import half_precision
from pipeline.inference.predictions import MinScores
from pipeline.inference.run_models import Models, max_shard_px, max_tile_px, thread_count
from pipeline.inference.shard_store import ShardStore, open_shared
from pipeline.input_warnings import collected_warnings, warn
from pipeline.layers.formats.export import check_formats
from pipeline.logs import labelled
from pipeline.models.bundle import Bundle, Calibration, Task, open_bundle
from pipeline.roads.elsewhere import warn_without_roads
from pipeline.roads.overpass import overpass_roads
from pipeline.roads.read import in_view, read_roads
from pipeline.run.inputs import States, check_same, files_of, hashes_of, states_below, states_of
from pipeline.run.keys import (
    calibrations,
    environment,
    keys_of,
    min_network_scores,
    min_scores,
    score_threshold,
    vehicle_threshold,
)
from pipeline.run.request import OVERPASS, Request
from pipeline.run.same_acquisition import warn_of_another_scene, warn_of_same_acquisition
from pipeline.scenes.open import open_scene
from pipeline.scenes.overrides import with_overrides
from pipeline.scenes.plausibility import plausible
from pipeline.scenes.raster.datasets import within_memory
from pipeline.scenes.readers.naming import FIRST_LIGHT
from pipeline.scenes.scene import Scene, date_text
from pipeline.storage.atomic import temporary
from pipeline.storage.object_store import open_store
from pipeline.storage.out_folder import ROADS, TRAFFIC, check_out, check_scene_folder
from pipeline.storage.out_folder import SHARDS as _HIDDEN
from pipeline.storage.publish import SETTING as PUBLISH_URL
from pipeline.tiling import Tile, plan, shard, strips

_LEAST_TILE_PX = 64
_ROADS_MARGIN_M = 5000.0
"""Margin in which roads are read: their junctions there decide how they are cut into segments."""


@dataclass(frozen=True)
class Job:
    """A request that was checked and cut into shards. It can be sent to another process.

    For a shard that process needs the scene, bundles that are not shipped, and the store, each by its address
    in the job, and nothing else of its disks.
    """

    request: Request
    scene: Scene
    models: Models
    roads: gpd.GeoDataFrame | None
    shards: tuple[tuple[Tile, ...], ...]
    keys: tuple[str, ...]
    store: ShardStore
    """It keeps the shards; those of a crashed run are used again."""
    inputs: dict[str, str]
    """SHA-256 of every local input file, by path."""
    environment: dict[str, str]
    """Versions and settings of the machine that prepared it, which decide the bytes of shards."""
    started: float
    """Start of the preparation, by this machine's monotonic clock."""
    warnings: tuple[str, ...] = ()
    """What looks odd in the inputs."""
    states: States = field(default_factory=dict)
    """Version of each local input file that was hashed, by path."""

    @property
    def roads_in_view(self) -> gpd.GeoDataFrame | None:
        """Roads near which trucks are searched: those that can be seen from above."""
        return None if self.roads is None else in_view(self.roads)

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return self.request.out / self.scene.id

    @property
    def hidden(self) -> Path:
        """Folder in the results for work in progress, and for shards unless a store for them is set."""
        return self.folder / _HIDDEN

    @property
    def previous(self) -> Path:
        """Path of the previous run's record while this run writes."""
        return self.hidden / "previous.json"

    @property
    def work(self) -> Path:
        """Folder for rasters on their way into layers, of this process only."""
        return temporary(self.hidden / "merging")

    @property
    def score_threshold(self) -> float | None:
        """Score threshold of trucks: as set, else that of the card; None without trucks."""
        return score_threshold(self.request, self.models)

    @property
    def vehicle_threshold(self) -> float | None:
        """Threshold of vehicles of any kind: as set, else that of the card; None without such a layer."""
        return vehicle_threshold(self.request, self.models)

    @property
    def thresholds(self) -> MinScores:
        """Both thresholds."""
        return MinScores(self.score_threshold or 0.0, self.vehicle_threshold)

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of the detector for this case and the scene's shadows; None without one."""
        detector = self.models.detector
        return calibrations(detector, self.request, self.scene)[0] if detector else None

    @property
    def vehicle_calibration(self) -> Calibration | None:
        """Calibration of the detector's scores of vehicles of any kind; None without a detector."""
        detector = self.models.detector
        return calibrations(detector, self.request, self.scene)[1] if detector else None

    @property
    def min_scores(self) -> MinScores:
        """Calibrated scores from which detections are kept: trucks and vehicles, and what is just below."""
        return min_scores(self.request, self.models)

    @property
    def min_network_scores(self) -> MinScores:
        """Network scores from which boxes are in a shard."""
        return min_network_scores(self.request, self.models, self.scene)

    def missing(self) -> list[int]:
        """Return the shards that are still to be computed."""
        whole = self.store.whole(self.keys)
        return [index for index, key in enumerate(self.keys) if key not in whole]


def prepare(request: Request, checked: Callable[[], None] = lambda: None) -> Job:
    """Open the scene, check everything that can be checked, and cut the work into shards.

    `checked` is called once the inputs are found right, before they are hashed. Writes only the output
    folder, and a note in a store of shards if one is set. Any TruckscapeError may be raised, so that wrong
    input shows before any work is done.
    """
    started = time.monotonic()
    with collected_warnings() as warnings, within_memory(request.config.engine.memory_mb):
        _check_settings(request)
        before = states_below(request.scene)
        scene = _opened(request)
        with labelled(scene=scene.id):
            job = _prepare(request, scene, before, started, checked)
    return replace(job, warnings=tuple(warnings))


def _opened(request: Request) -> Scene:
    if request.opened is None:
        return open_scene(request.scene, request.bands, request.config.scene)
    return with_overrides(request.opened, request.config.scene)


def _check_settings(request: Request) -> None:
    config = request.config
    check_formats(config.export.formats)
    if config.panoptic.enabled and not (config.trucks.enabled and config.landcover.enabled):
        raise ConfigError("panoptic.enabled needs trucks.enabled and landcover.enabled, too.")
    if config.landcover.probabilities and not config.landcover.enabled:
        raise ConfigError("landcover.probabilities needs landcover.enabled, too.")
    for labels, group in ((request.truck_labels, "trucks"), (request.landcover_labels, "landcover")):
        if labels and not getattr(config, group).enabled:
            warn(
                f"Labels {labels} are not compared with anything, since {group}.enabled is false; leave them "
                f"out, or --set {group}.enabled=true."
            )
    if request.out.parts and request.out.parts[0].endswith(":"):  # a Path changes s3:// to s3:/
        raise ConfigError(
            "--out is a folder of this machine; --set publish.url=s3://bucket/prefix copies what is done. "
            f"Received: {request.out}"
        )
    check_out(request.out)
    check_stores(config)


def check_stores(config: Config) -> None:
    """Raise ConfigError or MissingExtraError if a store in the settings can't be opened; asks no server."""
    if config.publish.url:
        open_store(config.publish.url, PUBLISH_URL)
    if config.runner.store:
        open_shared(config.runner.store)


def _prepare(
    request: Request, scene: Scene, before: States, started: float, checked: Callable[[], None]
) -> Job:
    config = request.config
    check_scene_folder(request.out, scene.id, (TRAFFIC, ROADS) if request.roads else ())
    _warn_of_time(scene)
    if request.catalog:  # a batch has a ledger for that
        warn_of_same_acquisition(scene, request.out)
    bundles = (
        _bundle("trucks.bundle", config.trucks.bundle, "detection") if config.trucks.enabled else None,
        _bundle("landcover.bundle", config.landcover.bundle, "segmentation")
        if config.landcover.enabled
        else None,
        _bundle("trucks.screener", config.trucks.screener, "screening")
        if config.trucks.enabled and config.trucks.screener
        else None,
    )
    _warn_of_vehicle_threshold(config.trucks.vehicle_threshold, bundles[0])
    for bundle in filter(None, bundles):
        bundle.card.check_scene(tuple(scene.bands), abs(scene.grid.resolution.x), scene.id)
        _warn_of_missing_bands(bundle, scene)
    scene = plausible(scene, config.scene.given)
    crs = scene.grid.crs.to_wkt() if scene.grid.crs else None
    request = _with_roads(request, scene)
    files = files_of(scene, request)
    check_same(before, files)
    states = states_of(files)
    roads = _roads(request, scene, crs) if request.roads else None
    if request.truck_labels:
        labels = read_truck_labels(request.truck_labels, crs)
        warn_if_labels_elsewhere(labels, request.truck_labels, crs, _bounds(scene, 0))
    if request.landcover_labels:
        read_landcover_labels(request.landcover_labels, scene.grid)
    checked()
    models = Models(*bundles)
    shards = _shards(scene, models, config)
    inputs = hashes_of(files, scene, thread_count(config.engine))
    check_same(states, files)
    warn_of_another_scene(scene, request.out, inputs)
    here = environment(config.engine)
    keys = keys_of(request, scene, models, shards, inputs, here)
    url, folder = config.runner.store, request.out / scene.id
    store = ShardStore(f"{url.rstrip('/')}/{scene.id}" if url else (folder / _HIDDEN).absolute())
    store.claim(keys)
    _claim(folder)
    return Job(request, scene, models, roads, shards, keys, store, inputs, here, started, states=states)


def _bundle(setting: str, name: str, task: Task) -> Bundle:
    """Open a bundle; BundleError if it is for another task, as its results would be nothing."""
    bundle = open_bundle(name)
    if bundle.card.task != task:
        raise BundleError(f"{setting} needs a model for {task}; {bundle.card.id} is for {bundle.card.task}.")
    return bundle


def _shards(scene: Scene, models: Models, config: Config) -> tuple[tuple[Tile, ...], ...]:
    """Return the tiles of each shard: more shards than are set, and smaller tiles, where memory needs it.

    Raises GeoreferenceError if the scene is too wide for tiles of one row to fit.
    """
    memory_mb, width = config.engine.memory_mb, scene.shape[1]
    probabilities = config.landcover.probabilities
    largest = max_tile_px(memory_mb, models, half_precision(config.engine), probabilities)
    shard_px = max_shard_px(memory_mb, models, probabilities)
    highest = shard_px // width
    if highest < min(_LEAST_TILE_PX, scene.shape[0]):
        needed_mb = math.ceil(memory_mb * _LEAST_TILE_PX * width / shard_px)
        raise GeoreferenceError(
            f"{scene.id} is {width} pixels of 10 m wide, too wide for the memory. Cut it, "
            f"e.g. gdal_translate -projwin, or set engine.memory_mb={needed_mb}."
        )
    side = min(config.tiling.tile_px, largest, highest)
    tiles = plan(scene.shape, side, models.halo, models.stride)
    rows = strips(tiles)
    at_once = max(1, shard_px // (rows[0][0].height * width))
    count = max(config.tiling.shards, math.ceil(len(rows) / at_once))
    return tuple(tuple(part) for part in shard(tiles, count))


def _warn_of_time(scene: Scene) -> None:
    """Warn of a scene without a time, or with one at which Sentinel-2 took no image."""
    day = date_text(scene.acquired)
    today = datetime.now(UTC).date() + timedelta(days=1)  # clocks and time zones differ
    if day is not None and not FIRST_LIGHT.isoformat() <= day <= today.isoformat():
        warn(
            f"{scene.id} is said to be acquired on {day}, but Sentinel-2 has taken images from {FIRST_LIGHT} "
            "until today. Give the right time: --acquired 2023-06-13T10:20:31Z."
        )
    if scene.acquired is None:
        warn(
            f"{scene.id} has no time of acquisition: trucks and traffic have no date, and the time series of "
            "a batch leaves it out. Give it, or its date: --acquired 2023-06-13T10:20:31Z."
        )


def _warn_of_vehicle_threshold(threshold: float | None, detector: Bundle | None) -> None:
    """Warn of a threshold of vehicles that are not scored."""
    if threshold is not None and detector is not None and not detector.card.scores_vehicles:
        warn(
            f"trucks.vehicle_threshold={threshold:g} is not used: {detector.card.id} knows heavy vehicles "
            "only, so there is no layer of vehicles of any kind. Leave it out, or set trucks.bundle."
        )


def _warn_of_missing_bands(bundle: Bundle, scene: Scene) -> None:
    """Warn of optional bands of a model that a scene lacks, with the loss of accuracy if measured."""
    card, used = bundle.card, bundle.card.bands_used(scene.bands)
    missing = [band for band in card.bands if band not in used]
    if not missing:
        return
    complete, lower = card.agreement_without(()), card.agreement_without(missing)
    figures = "" if complete is None or lower is None else f" (agreement {lower:.2f}, not {complete:.2f})"
    warn(
        f"{scene.id} lacks band {', '.join(missing)}: {card.id} is less accurate without{figures}. Give all "
        f"of {', '.join(card.bands)} if you have them."
    )


def _with_roads(request: Request, scene: Scene) -> Request:
    """Return the request with a file of roads, if it asks to fetch them."""
    if request.roads is None or str(request.roads) != OVERPASS or request.roads.exists():
        return request
    folder, server = request.out / ROADS, request.config.traffic
    path = overpass_roads(
        scene.grid,
        folder,
        margin_m=_ROADS_MARGIN_M,
        url=server.overpass_url,
        wait_s=server.overpass_wait_s,
    )
    return replace(request, roads=path)


def _roads(request: Request, scene: Scene, crs: str | None) -> gpd.GeoDataFrame:
    """Read the roads around the scene; warn if none is on it."""
    path = cast(Path, request.roads)
    roads = read_roads(path, crs, _bounds(scene, _ROADS_MARGIN_M))
    warn_without_roads(
        roads,
        path,
        crs,
        _bounds(scene, 0.0),
        buffer_m=request.config.trucks.road_buffer_m,
        margin_m=_ROADS_MARGIN_M,
    )
    return roads


def _bounds(scene: Scene, margin_m: float) -> tuple[float, float, float, float]:
    box = scene.grid.extent.boundingbox
    return box.left - margin_m, box.bottom - margin_m, box.right + margin_m, box.top + margin_m


def _claim(folder: Path) -> None:
    """Make the output folder, or raise OutputError before any work is done."""
    hidden = folder / _HIDDEN
    try:
        hidden.mkdir(parents=True, exist_ok=True)
        probe = temporary(hidden / "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"Can't write to {folder} ({error.strerror}); choose another --out.") from error
