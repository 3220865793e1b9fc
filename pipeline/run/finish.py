"""A job from its shards to its layers, and a whole run in this process."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import geopandas as gpd

from pipeline.errors import OutputError
from pipeline.inference.engine import OnTile
from pipeline.inference.networks import NetworkPool, current_networks
from pipeline.inference.predictions import Predictions
from pipeline.layers.search_area import seen_layers
from pipeline.layers.stac import CATALOG_FILES
from pipeline.report.page import write_run_report
from pipeline.run.predict import merged, run_shards
from pipeline.run.prepare import Job, prepare
from pipeline.run.products import (
    below_threshold_of,
    evaluate,
    report_context,
    traffic_of,
    trucks_of,
    write_further_formats,
    write_polygons,
    write_raster,
    write_stac,
    write_trucks,
)
from pipeline.run.record import Clock, Result, names_in, run_record, write_record
from pipeline.run.request import Request
from pipeline.scenes.raster.cache import BlockCache, current_cache
from pipeline.storage.atomic import remove_abandoned, remove_stale_outputs, set_aside
from pipeline.storage.publish import publish, publish_beside

log = logging.getLogger(__name__)
_CACHE_FOR_CHIPS = 64_000_000
_SMALL_PX = 2**22
"""Layers of scenes up to so many pixels need little memory: the networks stay open for the next scene."""


def run_directly(request: Request, say: Callable[[str], None] = log.info) -> Result:
    """The whole job in this process, without an orchestrator."""
    return run_prepared_directly(prepare(request), say)


def run_prepared_directly(
    job: Job, say: Callable[[str], None] = log.info, on_tile: OnTile | None = None
) -> Result:
    """Run the rest of a prepared job in this process, without an orchestrator."""
    with work_on(job):
        run_shards(job, range(len(job.shards)), on_tile)
        return finish(job, say)


@contextlib.contextmanager
def work_on(job: Job) -> Iterator[None]:
    """Give a job its own blocks and networks in this context, for the time of the block.

    Where it fails, leave its finished shards, which the next run takes up, and no empty folders.
    """
    try:
        with BlockCache(), NetworkPool(current_networks()):
            yield
    except BaseException:
        shutil.rmtree(job.work, ignore_errors=True)
        with contextlib.suppress(OutputError):
            job.store.release(job.keys)
        for folder in (job.hidden, job.folder, job.request.out):
            with contextlib.suppress(OSError):  # not empty: then it holds something to keep
                folder.rmdir()
        raise


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
    clock = Clock({"prepare and networks": time.monotonic() - job.started})
    folder, request = job.folder, job.request
    with clock("merge"):
        say("merging")
        predictions = _merged(job)
    status = Path(predictions.status_raster)
    landcover = Path(predictions.landcover_raster) if predictions.landcover_raster else None
    legend = job.models.segmenter.card.classes if job.models.segmenter else ()
    layers: dict[str, gpd.GeoDataFrame] = {}
    outputs: dict[str, Path] = {}
    # Outlines take as long as all that follows up to the report, and one core.
    polygons = aside.submit(write_polygons, job, landcover, legend) if landcover else None
    with clock("land cover"):
        if landcover:
            say("land cover as a COG and as polygons")
            write_raster(job, landcover, legend, outputs)
    with clock("trucks"):
        seen, not_seen, fraction = seen_layers(status)
        if job.models.detector:
            say("trucks as layers")
            layers["trucks"] = trucks_of(job, predictions.detections, status, landcover, legend)
            if job.roads is not None and request.config.traffic.enabled:
                say("traffic on roads")
                layers |= traffic_of(job, layers["trucks"], status, outputs)
            write_trucks(folder, layers, seen, not_seen, outputs)
    context = report_context(
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
        write_further_formats(job, layers, landcover, legend, outputs)
    with clock("evaluation"):
        if request.truck_labels or request.landcover_labels:
            say("evaluation against the labels")
            nearly = below_threshold_of(job, predictions.detections, status)
            metrics = evaluate(job, context, layers.get("trucks"), seen, nearly, outputs)
        else:
            shutil.rmtree(folder / "evaluation", ignore_errors=True)
    with clock("item"):
        run = run_record(job, predictions.tiles_total, predictions.tiles_skipped, layers, fraction, metrics)
        run["outputs"] = names_in(folder, [*outputs.values(), folder / "report.html"])
        remove_stale_outputs(folder, job.previous, run["outputs"])
        write_stac(job, run, {**outputs, "report": folder / "report.html"}, legend, layers)
    run["seconds"] = {name: round(value, 2) for name, value in clock.seconds.items()}
    write_record(run, folder / "run.json")
    _tidy(job)
    _publish(job, outputs, say)
    return Result(folder, {**outputs, "item": folder / "item.json", "run": folder / "run.json"}, run, metrics)


def _merged(job: Job) -> Predictions:
    """What all shards say, on its way into layers; a folder whose layers change has no `run.json`."""
    cache = current_cache()
    cache.clear()  # layers read a chip here and there, and want the memory
    cache.budget = _CACHE_FOR_CHIPS
    if job.scene.shape[0] * job.scene.shape[1] > _SMALL_PX:
        current_networks().close()
    set_aside(job.folder / "run.json", job.previous)
    return merged(job)


def _tidy(job: Job) -> None:
    """Leave only this run's shards, which make the next run, with other thresholds or labels, instant."""
    shutil.rmtree(job.work, ignore_errors=True)
    job.store.tidy(job.keys)
    for folder in (job.hidden, job.folder, job.folder / "evaluation", job.request.out):
        remove_abandoned(folder)


def _publish(job: Job, outputs: Mapping[str, Path], say: Callable[[str], None]) -> None:
    url, out = job.request.config.publish.url, job.request.out
    if url is None:
        return
    say(f"publishing to {url}")
    publish(job.folder, url, [path for path in outputs.values() if not path.is_relative_to(job.folder)])
    if job.request.catalog:
        publish_beside(out, [path for name in CATALOG_FILES if (path := out / name).is_file()], url)
