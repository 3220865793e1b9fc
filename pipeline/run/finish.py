"""From the shards of a job to its outputs, and a complete run in this process."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InputChangedError, OutputError
from pipeline.inference.network_pool import NetworkPool, current_networks
from pipeline.inference.predictions import Predictions
from pipeline.input_warnings import collected_warnings
from pipeline.layers.stac import build_item, write_item
from pipeline.layers.stac_catalog import CATALOG_FILES, write_catalog
from pipeline.run.inputs import States, check_same, files_of_labels, files_of_scene, verified
from pipeline.run.predict import merged, run_shards
from pipeline.run.prepare import Job, prepare
from pipeline.run.products import PRODUCTS, Outputs, Product, RunContext
from pipeline.run.record import Clock, Result, run_record, write_record
from pipeline.run.request import Request
from pipeline.scenes.raster.cache import BlockCache, current_cache
from pipeline.storage.atomic import remove_abandoned, remove_stale_outputs, set_aside
from pipeline.storage.publish import publish, publish_beside

if TYPE_CHECKING:  # torch takes seconds, and inputs are checked first
    from pipeline.inference.engine import OnTile

log = logging.getLogger(__name__)
_CACHE_FOR_CHIPS = 64_000_000
_SMALL_PX = 2**22
"""Layers of scenes up to so many pixels need little memory: the networks stay open for the next scene."""


def run_directly(request: Request, say: Callable[[str], None] = log.info) -> Result:
    """Run the whole job in this process, without an orchestrator."""
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
    """Give a job its own blocks and networks in this context.

    After a failure, keep its finished shards for the next run, and no empty folders.
    """
    try:
        with BlockCache(), NetworkPool(current_networks()):
            yield
    except BaseException:
        shutil.rmtree(job.work, ignore_errors=True)
        with contextlib.suppress(OutputError):
            job.store.release(job.keys)
        for folder in (job.hidden, job.folder, job.request.out):
            with contextlib.suppress(OSError):  # not empty: it has something to keep
                folder.rmdir()
        raise


def finish(job: Job, say: Callable[[str], None] = log.info) -> Result:
    """Merge the shards, make all `PRODUCTS`, and write STAC item and record.

    `say` gets a line for each stage. `run.json` is written last: a folder that has one is complete.

    Raises
    ------
    OutputError
        If something can't be written.
    LabelsError
        If labels can't be compared with this scene.
    InputChangedError
        If a file of the scene or of labels was replaced since it was hashed; no layers are left then.
    """
    with collected_warnings(job.warnings) as warnings:
        return _finish(job, say, warnings)


def _finish(job: Job, say: Callable[[str], None], warnings: list[str]) -> Result:
    clock = Clock({"prepare and networks": time.monotonic() - job.started})
    folder = job.folder
    files = [*files_of_scene(job.scene), *files_of_labels(job.request)]
    before = verified(files, job.inputs, job.states)
    with clock("merge"):
        say("merging")
        context = RunContext(job, _merged(job), say, clock.seconds, warnings)
    _make_products(context, clock)
    _check_inputs(context, before, files)
    with clock("item"):
        run = run_record(context)
        remove_stale_outputs(folder, job.previous, run["outputs"])
        item = build_item(job.scene, run, context.files, context.legend, context.layers)
        write_item(item, folder / "item.json")
        if job.request.catalog:
            write_catalog(job.request.out)
    run["seconds"] = {name: round(value, 2) for name, value in clock.seconds.items()}
    write_record(run, folder / "run.json")
    _tidy(job)
    _publish(job, context.files, say)
    made = {**context.files, "item": folder / "item.json", "run": folder / "run.json"}
    return Result(folder, made, run, context.metrics, context.report)


def _check_inputs(context: RunContext, before: States, files: Iterable[Path]) -> None:
    """Raise InputChangedError if files are not as before; remove the layers, which may be of other pixels."""
    try:
        check_same(before, files)
    except InputChangedError:
        for path in context.files.values():
            if path.is_relative_to(context.job.folder):
                path.unlink(missing_ok=True)
        raise


def _make_products(context: RunContext, clock: Clock) -> None:
    """Make all products in order; those in the background end before one that needs them, or last."""
    background: dict[str, tuple[Product, Future[Outputs] | None]] = {}

    def end(name: str) -> None:
        product, outputs = background.pop(name)
        with clock(product.stage):
            if outputs:
                context.add(outputs.result())

    with ThreadPoolExecutor(1, "product") as pool:
        for product in PRODUCTS:
            for name in product.needs:
                if name in background:
                    end(name)
            wanted = product.wanted(context.job)
            if product.in_background:
                made = pool.submit(copy_context().run, product.make, context) if wanted else None
                background[product.name] = product, made
                continue
            with clock(product.stage):
                if wanted:
                    context.add(product.make(context))
        for name in list(background):
            end(name)


def _merged(job: Job) -> Predictions:
    """Merge all shards; a folder whose layers change has no `run.json`."""
    cache = current_cache()
    cache.clear()  # layers read small windows, and need the memory
    cache.budget = _CACHE_FOR_CHIPS
    if job.scene.shape[0] * job.scene.shape[1] > _SMALL_PX:
        current_networks().close()
    set_aside(job.folder / "run.json", job.previous)
    return merged(job)


def _tidy(job: Job) -> None:
    """Remove all shards but this run's, which make the next run with other thresholds or labels instant."""
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
