"""One scene's job in stages that any orchestrator can call: prepare, run each shard, finish."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import platform
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import geopandas as gpd

from pipeline.config import Config
from pipeline.errors import ConfigError, OutputError, UnlikeWorkerError
from pipeline.evaluation.labels import read_landcover_labels, read_truck_labels
from pipeline.files import remove_abandoned, replacing, temporary
from pipeline.inference.engine import ENGINE_VERSION, Search, predict_shards, widest_tile
from pipeline.inference.memory import give_back_memory
from pipeline.inference.merging import merge_shards
from pipeline.inference.networks import Models, close_networks, threads_of
from pipeline.inference.predictions import Detections, Predictions
from pipeline.inference.runtime import backend, half_precision
from pipeline.inference.shard_stores import LocalShards, ShardStore, SharedShards, open_shared
from pipeline.inference.shards import Shard, content_key
from pipeline.layers.catalog import CATALOG_FILES, build_item, write_catalog, write_item
from pipeline.layers.export import check_formats, write_formats, write_gpkg, write_trucks_geojson
from pipeline.layers.landcover import polygonise, write_cog
from pipeline.layers.panoptic import write_panoptic
from pipeline.layers.seen import seen_layers
from pipeline.layers.styles import (
    landcover_style,
    not_seen_style,
    road_segment_style,
    seen_style,
    truck_style,
)
from pipeline.layers.traffic import road_traffic, write_traffic
from pipeline.layers.trucks import WEAKEST_SCORE, found_trucks, nearly_trucks
from pipeline.leftovers import remove_leftovers, set_aside
from pipeline.logs import labelled
from pipeline.models.bundle import Bundle, LegendClass, open_bundle
from pipeline.publishing import SETTING as PUBLISH_URL
from pipeline.publishing import publish, publish_beside
from pipeline.report.evaluation import write_evaluation
from pipeline.report.page import ReportContext, copernicus_notice, write_run_report
from pipeline.report.pictures import quicklook
from pipeline.scenes.blocks import CACHE
from pipeline.scenes.clouds import has_clouds_information
from pipeline.scenes.opening import open_scene
from pipeline.scenes.overpass import overpass_roads
from pipeline.scenes.roads import read_roads
from pipeline.scenes.scene import Scene
from pipeline.stores import open_store
from pipeline.tiling import Tile, plan, shard

log = logging.getLogger(__name__)

_PACKAGES = ("truckscape", "torch", "torchvision", "rasterio", "geopandas", "shapely", "numpy", "prefect")
_ROADS_MARGIN_M = 5000.0
"""Roads are read this far around a scene: where they meet others tells how they are cut into segments."""
OVERPASS = "overpass"
"""Given for a file of roads: they are fetched."""
_HIDDEN = ".shards"
_CACHE_FOR_CHIPS = 64_000_000
_SMALL_PX = 2**22
"""Layers of scenes up to so many pixels need little memory: the networks stay open for the next scene."""
_NOT_COMPUTED_WITH = {
    "quality",
    "training_data",
    "limitations",
    "licence",
    "score_threshold",
    "score_threshold_near_roads",
    "calibration",
    "calibration_near_roads",
}
"""What a card says that no shard depends on, or only in one of two cases."""


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    scene: str
    out: Path
    config: Config = field(default_factory=Config)
    bands: tuple[str, ...] | None = None
    """Names of the bands of a GeoTIFF without descriptions, in order."""
    roads: Path | None = None
    """A file of lines, or `overpass`."""
    truck_labels: Path | None = None
    landcover_labels: Path | None = None
    catalog: bool = True
    """Whether to bring the catalogue of `out` up to date: of many scenes, a batch does that once."""


@dataclass(frozen=True)
class Job:
    """A request that was checked and cut into shards. It can be sent to another process.

    To compute a shard that process needs the scene, the bundles that are not shipped, and the store, each by
    the address that is in here; nothing else is asked of its disks.
    """

    request: Request
    scene: Scene
    models: Models
    roads: gpd.GeoDataFrame | None
    shards: tuple[tuple[Tile, ...], ...]
    keys: tuple[str, ...]
    store: ShardStore
    """Where the shards lie; what a crashed run left there is used again."""
    inputs: dict[str, str]
    """SHA-256 of every local input file, by path."""
    started: float
    """When it was prepared, by this machine's monotonic clock, which nobody sets."""

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.request.out / self.scene.id

    @property
    def hidden(self) -> Path:
        """Beside the results: the shards, unless a store for them is set, and what is under way."""
        return self.folder / _HIDDEN

    @property
    def previous(self) -> Path:
        """Where the record of the previous run lies while this one writes."""
        return self.hidden / "previous.json"

    @property
    def work(self) -> Path:
        """Rasters on their way into layers; this process's own."""
        return temporary(self.hidden / "merging")

    @property
    def score_threshold(self) -> float | None:
        """From which score on a detection is a truck: as set, else as the card says; None without trucks."""
        return _score_threshold(self.request, self.models)

    @property
    def least_score(self) -> float:
        """From which score on detections are kept: trucks, and what nearly was one."""
        return _least_score(self.request, self.models)

    def shard_file(self, index: int) -> Path:
        """The file of one shard, where they lie in `out`."""
        return Path(self.store.address(self.keys[index]))

    def missing(self) -> list[int]:
        """Shards that are still to be computed."""
        whole = self.store.whole(self.keys)
        return [index for index, key in enumerate(self.keys) if key not in whole]


@dataclass(frozen=True)
class Result:
    """Where the results lie, and what `run.json` says."""

    folder: Path
    outputs: dict[str, Path]
    run: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def report(self) -> Path:
        """The page to look at first."""
        evaluated = self.folder / "evaluation" / "report.html"
        return evaluated if self.metrics else self.folder / "report.html"

    def summary(self) -> dict[str, str]:
        """The figures a person wants first."""
        run, lines = self.run, {}
        counts = run["counts"]
        if "trucks" in counts:
            lines["trucks"] = str(counts["trucks"])
        if "landcover" in counts:
            lines["land-cover areas"] = str(counts["landcover"])
        lines["looked at for trucks"] = f"{run['seen_fraction']:.1%} of the scene"
        lines["tiles"] = f"{run['tiles']['total']}, {run['tiles']['skipped']} without a search for trucks"
        lines |= _scores(self.metrics)
        lines["seconds"] = f"{sum(run['seconds'].values()):.0f}"
        lines["peak memory"] = f"{run['peak_rss_mb']} MB"
        return lines


def prepare(request: Request) -> Job:
    """Open the scene, check everything that can be checked, and cut the work into shards.

    Nothing is written but the output folder, and a note in a store of shards that is set. Any TruckscapeError
    may be raised: here is where wrong input shows, before any work is done.
    """
    begun, started = time.time(), time.monotonic()
    config = request.config
    check_formats(config.export.formats)
    if config.panoptic.enabled and not (config.trucks.enabled and config.landcover.enabled):
        raise ConfigError("panoptic.enabled needs trucks.enabled and landcover.enabled, too.")
    if request.out.parts and request.out.parts[0].endswith(":"):  # what a path makes of s3://
        raise ConfigError(
            "--out is a folder of this machine; --set publish.url=s3://bucket/prefix copies what is done. "
            f"Received: {request.out}"
        )
    if config.publish.url:
        open_store(config.publish.url, PUBLISH_URL)
    if config.runner.store:
        open_shared(config.runner.store)
    scene = open_scene(request.scene, request.bands)
    models = Models(
        open_bundle(config.trucks.bundle) if config.trucks.enabled else None,
        _landcover_bundle(scene, config.landcover.bundle) if config.landcover.enabled else None,
        open_bundle(config.trucks.screener) if config.trucks.enabled and config.trucks.screener else None,
    )
    for bundle in models.bundles:
        bundle.check_scene(tuple(scene.bands), abs(scene.grid.resolution.x), scene.id)
    crs = scene.grid.crs.to_wkt() if scene.grid.crs else None
    request = _with_roads(request, scene)
    roads = read_roads(request.roads, crs, _bounds(scene, _ROADS_MARGIN_M)) if request.roads else None
    if request.truck_labels:
        read_truck_labels(request.truck_labels, crs)
    if request.landcover_labels:
        read_landcover_labels(request.landcover_labels, scene.grid)
    side = min(
        config.tiling.tile_px, widest_tile(config.engine.memory_mb, models, half_precision(config.engine))
    )
    tiles = plan(scene.shape, side, models.halo, models.stride)
    shards = tuple(tuple(part) for part in shard(tiles, config.tiling.shards))
    inputs = _hashes(scene, request)
    keys = _keys(request, scene, models, shards, inputs)
    url, folder = config.runner.store, request.out / scene.id
    store = SharedShards(url, scene.id) if url else LocalShards(folder / _HIDDEN, begun)
    _claim(folder)
    store.claim(keys)
    return Job(request, scene, models, roads, shards, keys, store, inputs, started)


def run_shard(job: Job, index: int) -> str:
    """Compute one shard unless it is there already; returns where it lies. Errors as `run_shards`."""
    run_shards(job, [index])
    return job.store.address(job.keys[index])


def run_shards(job: Job, indices: Sequence[int]) -> None:
    """Compute those shards that are not there, without a pause between them.

    Raises
    ------
    CorruptImageError
        If pixels can't be decoded.
    OutputError
        If the store can't be read, or a shard can't be written.
    UnlikeWorkerError
        If this machine would compute something else than the one that prepared the job.
    BundleError
        If a bundle is not there, or is another one.
    """
    whole = job.store.whole([job.keys[index] for index in indices])
    missing = [index for index in indices if job.keys[index] not in whole]
    if not missing:
        return
    _check_worker(job)
    trucks = job.request.config.trucks
    search = Search(job.roads, trucks.road_buffer_m, job.least_score)
    runner, engine = job.request.config.runner, job.request.config.engine
    processes = 1 if runner.kind == "threads" else runner.workers
    shards = [job.shards[index] for index in missing]
    with contextlib.closing(predict_shards(job.scene, shards, job.models, search, engine, processes)) as made:
        for index in missing:
            job.store.write(job.keys[index], next(made))  # and forget it: the next one needs the memory
            tell_stored(job, index)


def stored_shard(job: Job, index: int) -> Shard:
    """A shard, computed again where it has gone, or turns out to be damaged though it looks whole.

    Errors as `run_shards`.
    """
    found = job.store.read(job.keys[index])
    if found is None:
        log.warning("shard %d of %d is damaged; it is computed again", index + 1, len(job.shards))
        job.store.drop(job.keys[index])
        run_shards(job, [index])
        found = job.store.read(job.keys[index])
    if found is None:
        address = job.store.address(job.keys[index])
        raise OutputError(
            f"What was just written to {address} can't be read back; choose another --out or runner.store."
        )
    return found


def tell_stored(job: Job, index: int) -> None:
    """A line of the log, which other processes than the one that computed the shard may keep."""
    with labelled(shard=index):
        log.info("shard %d of %d stored", index + 1, len(job.shards))


def finish(job: Job, say: Callable[[str], None] = log.info) -> Result:
    """Merge the shards, write all layers, and evaluate where there are labels.

    `say` is told what is being done. `run.json` is written last: a folder that has one is complete.

    Raises
    ------
    OutputError
        If something can't be written.
    LabelsError
        If labels can't be compared with this scene.
    """
    with ThreadPoolExecutor(1, "aside") as aside:
        return _finish(job, say, aside)


def _finish(job: Job, say: Callable[[str], None], aside: ThreadPoolExecutor) -> Result:
    clock = _Clock({"prepare and networks": time.monotonic() - job.started})
    folder, request, config = job.folder, job.request, job.request.config
    with clock("merge"):
        say("merging")
        predictions = _merged(job)
    status = Path(predictions.status_raster)
    landcover = Path(predictions.landcover_raster) if predictions.landcover_raster else None
    legend = job.models.segmenter.card.classes if job.models.segmenter else ()
    layers: dict[str, gpd.GeoDataFrame] = {}
    outputs: dict[str, Path] = {}
    # Outlines take as long as all that follows up to the report, and one core.
    polygons = aside.submit(_write_polygons, job, landcover, legend) if landcover else None
    with clock("land cover"):
        if landcover:
            say("land cover as a COG and as polygons")
            outputs["landcover.tif"] = folder / "landcover.tif"
            write_cog(landcover, outputs["landcover.tif"], legend)
            outputs["landcover.gpkg"] = folder / "landcover.gpkg"
    with clock("trucks"):
        seen, not_seen, fraction = seen_layers(status)
        if job.models.detector:
            say("trucks as layers")
            layers["trucks"] = trucks_of(job, predictions.detections, status, landcover, legend)
            if job.roads is not None and config.traffic.enabled:
                say("traffic on roads")
                layers |= _traffic(job, layers["trucks"], status, outputs)
            _write_trucks(folder, layers, seen, not_seen, outputs)
    context = _report_context(
        job, legend, outputs, not_seen, layers.get("road_segments"), fraction, clock.seconds
    )
    metrics: dict[str, Any] = {}
    with clock("report"):
        say("report")
        write_run_report(folder / "report.html", context, layers.get("trucks"))
    with clock("land-cover polygons"):
        if polygons:
            layers["landcover"] = polygons.result()
    with clock("further formats"):
        _write_formats(job, layers, landcover, legend, outputs)
    with clock("evaluation"):
        if request.truck_labels or request.landcover_labels:
            say("evaluation against the labels")
            nearly = _nearly_trucks(job, predictions.detections, status)
            metrics = _evaluate(job, context, layers.get("trucks"), seen, nearly, outputs)
        else:
            shutil.rmtree(folder / "evaluation", ignore_errors=True)
    with clock("item"):
        run = _run_record(job, predictions.tiles_total, predictions.tiles_skipped, layers, fraction, metrics)
        run["outputs"] = _names(folder, [*outputs.values(), folder / "report.html"])
        remove_leftovers(folder, job.previous, run["outputs"])
        _write_stac(job, run, {**outputs, "report": folder / "report.html"}, legend, layers)
    run["seconds"] = {name: round(value, 2) for name, value in clock.seconds.items()}
    _write_record(run, folder / "run.json")
    _tidy(job)
    _publish(job, outputs, say)
    return Result(folder, {**outputs, "item": folder / "item.json", "run": folder / "run.json"}, run, metrics)


def _merged(job: Job) -> Predictions:
    """What all shards say, on its way into layers; a folder whose layers change has no `run.json`."""
    CACHE.clear()  # layers read a chip here and there, and want the memory
    CACHE.budget = _CACHE_FOR_CHIPS
    if job.scene.shape[0] * job.scene.shape[1] > _SMALL_PX:
        close_networks()
    set_aside(job.folder / "run.json", job.previous)
    shutil.rmtree(job.work, ignore_errors=True)
    job.work.mkdir(parents=True)
    shards = (stored_shard(job, index) for index in range(len(job.shards)))
    return merge_shards(shards, job.scene.grid, job.work)


def run_directly(request: Request, say: Callable[[str], None] = log.info) -> Result:
    """The whole job in this process, without an orchestrator."""
    return run_prepared_directly(prepare(request), say)


def run_prepared_directly(job: Job, say: Callable[[str], None] = log.info) -> Result:
    """The rest of a prepared job in this process, without an orchestrator."""
    with tidy_after_failure(job):
        run_shards(job, range(len(job.shards)))
        return finish(job, say)


@contextlib.contextmanager
def tidy_after_failure(job: Job) -> Iterator[None]:
    """Where a job fails, leave its finished shards, which the next run takes up, and no empty folders."""
    try:
        yield
    except BaseException:
        shutil.rmtree(job.work, ignore_errors=True)
        for folder in (job.hidden, job.folder, job.request.out):
            with contextlib.suppress(OSError):  # not empty: then it holds something to keep
                folder.rmdir()
        raise


# --- layers ---------------------------------------------------------------------------------------------


def _evaluate(
    job: Job,
    context: ReportContext,
    trucks: gpd.GeoDataFrame | None,
    seen: gpd.GeoDataFrame,
    nearly: gpd.GeoDataFrame | None,
    outputs: Mapping[str, Path],
) -> dict[str, Any]:
    return write_evaluation(
        job.folder / "evaluation",
        context,
        trucks=trucks,
        truck_labels=job.request.truck_labels,
        seen=seen,
        below_threshold=nearly,
        roads=job.roads,
        landcover=outputs.get("landcover.tif"),
        landcover_labels=job.request.landcover_labels,
    )


def _report_context(
    job: Job,
    legend: Sequence[LegendClass],
    outputs: Mapping[str, Path],
    not_seen: gpd.GeoDataFrame,
    segments: gpd.GeoDataFrame | None,
    fraction: float,
    seconds: Mapping[str, float],
) -> ReportContext:
    return ReportContext(
        title=job.scene.id,
        scene=job.scene,
        picture=quicklook(job.scene),
        cards=tuple(bundle.card for bundle in (job.models.detector, job.models.segmenter) if bundle),
        seen_fraction=fraction,
        not_seen=not_seen,
        road_segments=segments,
        landcover_raster=outputs.get("landcover.tif"),
        legend=tuple(legend) or ReportContext.legend,
        roads_source=_attribution(job.roads),
        seconds=seconds,
    )


def _write_polygons(job: Job, raster: Path, legend: Sequence[LegendClass]) -> gpd.GeoDataFrame:
    settings = job.request.config.landcover
    polygons = polygonise(raster, legend, settings.min_area_m2, settings.simplify_m)
    write_gpkg(job.folder / "landcover.gpkg", {"landcover": polygons}, _styles(legend))
    return polygons


def _write_trucks(
    folder: Path,
    layers: Mapping[str, gpd.GeoDataFrame],
    seen: gpd.GeoDataFrame,
    not_seen: gpd.GeoDataFrame,
    outputs: dict[str, Path],
) -> None:
    outputs["trucks.geojson"], outputs["trucks.gpkg"] = folder / "trucks.geojson", folder / "trucks.gpkg"
    write_trucks_geojson(layers["trucks"], outputs["trucks.geojson"])
    of_trucks = {name: layers[name] for name in ("trucks", "road_segments") if name in layers}
    write_gpkg(
        outputs["trucks.gpkg"],
        {**of_trucks, "seen": seen, "not_seen": not_seen},
        _styles(),
    )


def _write_formats(
    job: Job,
    layers: Mapping[str, gpd.GeoDataFrame],
    landcover: Path | None,
    legend: Sequence[LegendClass],
    outputs: dict[str, Path],
) -> None:
    """Further formats, and QGIS styles beside what can't hold one: `<layer>.qml` is for all of that name."""
    if job.request.config.panoptic.enabled and landcover:
        outputs |= write_panoptic(job.folder, job.scene, landcover, layers["trucks"], legend)
    notice = copernicus_notice(job.scene)
    outputs.update(write_formats(layers, job.folder, job.request.config.export.formats, notice))
    unstyled = {path.stem for path in outputs.values() if path.suffix != ".gpkg"}
    for name, qml in _styles(legend).items():
        if name in layers and name in unstyled:
            outputs[f"{name}.qml"] = job.folder / f"{name}.qml"
            with replacing(outputs[f"{name}.qml"]) as part:
                part.write_text(qml, encoding="utf-8")


def _write_stac(
    job: Job,
    run: Mapping[str, Any],
    outputs: Mapping[str, Path],
    legend: Sequence[LegendClass],
    layers: Mapping[str, gpd.GeoDataFrame],
) -> None:
    """The run's item, and anew the catalogue of all runs beside it."""
    write_item(build_item(job.scene, run, outputs, list(legend), layers), job.folder / "item.json")
    if job.request.catalog:
        write_catalog(job.request.out)


def _styles(legend: Sequence[LegendClass] = ()) -> dict[str, str]:
    return {
        "trucks": truck_style(),
        "road_segments": road_segment_style(),
        "seen": seen_style(),
        "not_seen": not_seen_style(),
        "landcover": landcover_style(legend),
    }


def _traffic(
    job: Job, trucks: gpd.GeoDataFrame, status: Path, outputs: dict[str, Path]
) -> dict[str, gpd.GeoDataFrame]:
    """Trucks and segments of a job with roads; its table is written beside those of other scenes."""
    config = job.request.config
    bundle: Bundle = job.models.detector  # type: ignore[assignment]
    model = f"{bundle.card.id}-{bundle.card.version}"
    traffic = road_traffic(
        trucks,
        job.roads,
        job.scene,
        status,
        config.traffic,
        buffer_m=config.trucks.road_buffer_m,
        model=model,
        quality=bundle.card.quality,
        attribution=_attribution(job.roads),
    )
    table = job.request.out / "traffic.parquet"
    outputs[table.name] = write_traffic(traffic.table, table, job.scene.id, model)
    layers = {"trucks": traffic.trucks, "road_segments": traffic.segments}
    return {name: layer for name, layer in layers.items() if name == "trucks" or len(layer)}


def trucks_of(
    job: Job, detections: Detections, status: Path, landcover: Path | None, legend: Sequence[LegendClass]
) -> gpd.GeoDataFrame:
    """The trucks of a job whose shards were merged; see `found_trucks`."""
    bundle: Bundle = job.models.detector  # type: ignore[assignment]
    threshold: float = job.score_threshold  # type: ignore[assignment]
    return found_trucks(
        detections,
        job.scene,
        status,
        job.request.config.trucks,
        threshold,
        model=f"{bundle.card.id}-{bundle.card.version}",
        landcover=landcover,
        legend=legend,
        roads=job.roads,
    )


def _nearly_trucks(job: Job, detections: Detections, status: Path) -> gpd.GeoDataFrame | None:
    if job.models.detector is None or job.score_threshold is None:
        return None
    return nearly_trucks(detections, job.scene, status, job.score_threshold)


# --- identity, records, housekeeping --------------------------------------------------------------------


def _landcover_bundle(scene: Scene, name: str | None) -> Bundle:
    """The bundle that was asked for, else the shipped one that does best with the bands there are."""
    if name:
        return open_bundle(name)
    best = open_bundle("landcover")
    return best if set(best.card.bands) <= set(scene.bands) else open_bundle("landcover-10m")


def _with_roads(request: Request, scene: Scene) -> Request:
    """The request with a file of roads, where it asks to fetch them."""
    if request.roads is None or str(request.roads) != OVERPASS or request.roads.exists():
        return request
    folder, url = request.out / ".roads", request.config.traffic.overpass_url
    return replace(request, roads=overpass_roads(scene.grid, folder, margin_m=_ROADS_MARGIN_M, url=url))


def _bounds(scene: Scene, margin_m: float) -> tuple[float, float, float, float]:
    box = scene.grid.extent.boundingbox
    return box.left - margin_m, box.bottom - margin_m, box.right + margin_m, box.top + margin_m


def _hashes(scene: Scene, request: Request) -> dict[str, str]:
    paths = [
        *scene.files,
        *(path for path in (request.roads, request.truck_labels, request.landcover_labels) if path),
    ]
    files = [path for path in sorted(set(paths)) if path.is_file()]
    with ThreadPoolExecutor(threads_of(request.config.engine)) as pool:
        return dict(zip(map(str, files), pool.map(_sha256, files), strict=True))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _score_threshold(request: Request, models: Models) -> float | None:
    chosen = request.config.trucks.score_threshold
    if models.detector is None or chosen is not None:
        return chosen
    return models.detector.card.default_threshold(near_roads=request.roads is not None)


def _calibration(request: Request, models: Models) -> dict[str, float] | None:
    if models.detector is None:
        return None
    return models.detector.card.calibration_for(near_roads=request.roads is not None).model_dump()


def _least_score(request: Request, models: Models) -> float:
    return min(WEAKEST_SCORE, _score_threshold(request, models) or 0.0)


def _keys(
    request: Request,
    scene: Scene,
    models: Models,
    shards: Sequence[Sequence[Tile]],
    inputs: dict[str, str],
) -> tuple[str, ...]:
    """What a shard's result depends on, hashed; the names of the files do not count, their contents do."""
    labels = {str(path) for path in (request.truck_labels, request.landcover_labels)}
    common = {
        "engine": ENGINE_VERSION,
        "scene": scene.id,
        "href": None if scene.files else scene.href,
        "files": sorted(digest for path, digest in inputs.items() if path not in labels),
        "bands": {
            name: [scene.bands[name].scale, scene.bands[name].offset, scene.bands[name].nodata]
            for name in models.bands_of(scene)
        },
        "models": [
            bundle.card.model_dump(mode="json", exclude=_NOT_COMPUTED_WITH) if bundle else None
            for bundle in (models.detector, models.segmenter, models.screener)
        ],
        "calibration": _calibration(request, models),
        "least_score": _least_score(request, models),
        "screener_threshold": models.screener.card.score_threshold if models.screener else None,
        "half": half_precision(request.config.engine),
        "backend": backend(request.config.engine),
        "road_buffer_m": request.config.trucks.road_buffer_m if request.roads else None,
        "clouds": has_clouds_information(scene),
    }
    return tuple(
        content_key({**common, "tiles": [[t.row, t.col, t.height, t.width, t.halo] for t in tiles]})
        for tiles in shards
    )


def _claim(folder: Path) -> None:
    """Make the output folder, or say why not, before any work is done."""
    hidden = folder / _HIDDEN
    try:
        hidden.mkdir(parents=True, exist_ok=True)
        probe = temporary(hidden / "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"Can't write to {folder} ({error.strerror}); choose another --out.") from error


def _check_worker(job: Job) -> None:
    """A shard is named by all that makes it: whoever would make another one must not write under its name."""
    if _keys(job.request, job.scene, job.models, job.shards, job.inputs) != job.keys:
        raise UnlikeWorkerError(
            f"{platform.node()} would compute the shards of {job.scene.id} otherwise than the machine that "
            "began the run: have the same version of truckscape and the same extras on both, and set "
            "engine.precision and engine.backend to the same instead of auto."
        )


def _tidy(job: Job) -> None:
    """Leave only this run's shards, which make the next run, with other thresholds or labels, instant."""
    shutil.rmtree(job.work, ignore_errors=True)
    job.store.tidy(job.keys)
    for folder in (job.hidden, job.folder, job.folder / "evaluation", job.request.out):
        remove_abandoned(folder)


def _attribution(roads: gpd.GeoDataFrame | None) -> str | None:
    if roads is None or not len(roads):
        return None
    return "Roads: as given; where they come from OpenStreetMap, (c) OpenStreetMap contributors, ODbL"


def _run_record(
    job: Job,
    tiles_total: int,
    tiles_skipped: int,
    layers: dict[str, gpd.GeoDataFrame],
    fraction: float,
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """What `run.json` says, but for the seconds, which are known when all else is written."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "scene": job.scene.id,
        "source": job.scene.href,
        "simulated": job.scene.simulated,
        "acquired": job.scene.acquired.isoformat() if job.scene.acquired else None,
        "shape": list(job.scene.shape),
        "area_km2": round(job.scene.grid.extent.area / 1e6, 4),
        "finished": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "inputs": job.inputs,
        "models": {
            bundle.card.task: f"{bundle.card.id}-{bundle.card.version}" for bundle in job.models.bundles
        },
        "bands": {
            bundle.card.task: list(bundle.card.bands_used(job.scene.bands)) for bundle in job.models.bundles
        },
        "weights": {bundle.card.task: bundle.card.weights_sha256 for bundle in job.models.bundles},
        "parameters": job.request.config.model_dump(mode="json"),
        "score_threshold": job.score_threshold,
        "precision": "bfloat16" if half_precision(job.request.config.engine) else "float32",
        "backend": backend(job.request.config.engine),
        "packages": dict(_versions()),
        "counts": {name: len(frame) for name, frame in layers.items()},
        "tiles": {"total": tiles_total, "skipped": tiles_skipped},
        "shards": list(job.keys),
        "seen_fraction": fraction,
        "metrics": metrics,
        "peak_rss_mb": round(peak / 1024),
    }


def _publish(job: Job, outputs: Mapping[str, Path], say: Callable[[str], None]) -> None:
    url, out = job.request.config.publish.url, job.request.out
    if url is None:
        return
    say(f"publishing to {url}")
    publish(job.folder, url, [path for path in outputs.values() if not path.is_relative_to(job.folder)])
    if job.request.catalog:
        publish_beside(out, [path for name in CATALOG_FILES if (path := out / name).is_file()], url)


def _names(folder: Path, paths: Iterable[Path]) -> list[str]:
    """Names of those files that lie in a folder; traffic of all scenes lies beside it."""
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.is_relative_to(folder))


def _write_record(run: Mapping[str, Any], path: Path) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(run, indent=2, allow_nan=False, default=str) + "\n", encoding="utf-8")


def _scores(metrics: dict[str, Any]) -> dict[str, str]:
    lines = {}
    trucks = metrics.get("trucks", {}).get("centres", {}).get("20m")
    if trucks:
        shown = (
            f"{name} {trucks[name]:.2f}" for name in ("precision", "recall", "f1") if trucks[name] is not None
        )
        lines["trucks against labels, 20 m"] = ", ".join(shown)
    accuracy = metrics.get("landcover", {}).get("accuracy")
    if accuracy is not None:
        lines["land cover against labels"] = f"accuracy {accuracy:.1%}"
    return lines


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            yield name, version(name)


class _Clock:
    """Seconds by stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = time.monotonic() - start
            give_back_memory()  # the outlines of the land cover, drawn beside the stages, want it
