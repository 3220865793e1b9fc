"""The shards of a job: computed if missing, by any process, and read again."""

from __future__ import annotations

import contextlib
import logging
import platform
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import OutputError, WorkerMismatchError
from pipeline.inference.predictions import Predictions
from pipeline.inference.shards import Shard
from pipeline.logs import labelled
from pipeline.run.inputs import check_same, files_of_scene, verified
from pipeline.run.keys import environment
from pipeline.run.prepare import Job

if TYPE_CHECKING:  # torch takes seconds, and inputs are checked first
    from pipeline.inference.engine import OnTile

log = logging.getLogger(__name__)

_MOST_TILES = 4096


def run_shard(job: Job, index: int, on_tile: OnTile | None = None) -> str:
    """Compute one shard unless it is stored; return its address. Errors as `run_shards`."""
    run_shards(job, [index], on_tile)
    return job.store.address(job.keys[index])


def run_shards(job: Job, indices: Sequence[int], on_tile: OnTile | None = None) -> None:
    """Compute those shards that are not stored, without a pause between them.

    Raises
    ------
    CorruptImageError
        If pixels can't be decoded.
    OutputError
        If the store can't be read, or a shard can't be written.
    WorkerMismatchError
        If this machine would compute something else than the one that prepared the job.
    BundleError
        If a bundle is not there, or is another one.
    InputChangedError
        If a file of the scene is not, or does not stay, the one that was hashed; such a shard is not stored.
    """
    whole = job.store.whole([job.keys[index] for index in indices])
    missing = [index for index in indices if job.keys[index] not in whole]
    if not missing:
        return
    from pipeline.inference.engine import Search, predict_shards

    _check_worker(job)
    files = files_of_scene(job.scene)
    before = verified(files, job.inputs, job.states)
    trucks = job.request.config.trucks
    search = Search(job.roads_in_view, trucks.road_buffer_m, job.min_network_scores)
    runner, engine = job.request.config.runner, job.request.config.engine
    probabilities = job.request.config.landcover.probabilities
    processes = 1 if runner.kind == "threads" else runner.workers
    for part in _parts(job, missing):
        shards = [job.shards[index] for index in part]
        made = predict_shards(
            job.scene, shards, job.models, search, engine, processes, on_tile, probabilities
        )
        with contextlib.closing(made):
            for index in part:
                shard = next(made)
                check_same(before, files)  # else it would be kept under the key of other pixels
                job.store.write(job.keys[index], shard)
                del shard  # the next one needs the memory
                tell_stored(job, index)


def _parts(job: Job, indices: Sequence[int]) -> Iterator[list[int]]:
    """Yield consecutive shards of which all blocks may be announced at once: that takes a kilobyte a tile
    and band, a gigabyte in a mosaic.
    """
    part: list[int] = []
    tiles = 0
    for index in indices:
        tiles += len(job.shards[index])
        if part and tiles > _MOST_TILES:
            yield part
            part, tiles = [], len(job.shards[index])
        part.append(index)
    yield part


def stored_shard(job: Job, index: int) -> Shard:
    """Return a shard; one that is missing or damaged is computed again.

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


def merged(job: Job, calibrated: bool = True) -> Predictions:
    """Merge the shards of a job in `job.work`; without calibration all scores are the network's.

    Errors as `run_shards`, for shards that are missing or damaged.
    """
    from pipeline.inference.merge import merge_shards

    shutil.rmtree(job.work, ignore_errors=True)
    job.work.mkdir(parents=True)
    shards = (stored_shard(job, index) for index in range(len(job.shards)))
    if calibrated:
        return merge_shards(
            shards, job.scene.grid, job.work, job.calibration, job.min_scores, job.vehicle_calibration
        )
    return merge_shards(shards, job.scene.grid, job.work)


def tell_stored(job: Job, index: int) -> None:
    """Log that a shard is stored, also for shards of other processes."""
    with labelled(shard=index):
        log.info("shard %d of %d stored", index + 1, len(job.shards))


def _check_worker(job: Job) -> None:
    """Refuse a machine that would write other bytes under the keys of the job."""
    here, there = environment(job.request.config.engine), job.environment
    if here != there:
        differences = "; ".join(
            f"{name} {here.get(name, 'missing')} instead of {there.get(name, 'missing')}"
            for name in sorted({*here, *there})
            if here.get(name) != there.get(name)
        )
        raise WorkerMismatchError(
            f"{platform.node()} would compute other shards of {job.scene.id} than the machine that began the "
            f"run: {differences}. Install the same versions on both, and set engine.precision and "
            "engine.backend instead of auto."
        )
