"""One scene under Prefect: a flow whose tasks are the shards of the scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed

from flows.artifacts import scene_artifacts
from flows.blocks import storage_of_blocks
from flows.handover import OpaqueJob, named_by, run_as_flow
from flows.runners import is_lost_worker
from flows.server import FlowRecord
from flows.shard_order import ShardOrder
from pipeline.errors import WorkerLostError
from pipeline.fields import fields_of
from pipeline.operations.scene_parameters import SceneParameters
from pipeline.operations.worker_pool import RunInPool
from pipeline.processes import configure_process
from pipeline.run import Job, Request, Result, finish, prepare, run_shard, tell_stored, work_on

if TYPE_CHECKING:  # torch takes seconds, and a run that finds all its shards does not need it
    from pipeline.inference.engine import OnTile


def at_once(work: Callable[[], Result]) -> Result:
    """Run the work of a scene that is not part of a batch."""
    return work()


@task(name="shard", task_run_name="shard-{index}", cache_policy=NO_CACHE, persist_result=False)
def shard_task(job: OpaqueJob, index: int) -> str:
    """Compute one shard with both networks, unless it is stored already."""
    configure_process()
    return str(run_shard(job.job, index, job.on_tile))


@flow(name="run-scene", flow_run_name=named_by("scene"))
@fields_of(SceneParameters)
def run_scene(parameters: SceneParameters) -> str:
    """Detect trucks and map land cover in one scene; return the folder of its layers.

    Parameters are as in `truckscape run`. For deployments: all are plain text, and none is a credential. The
    shards run on the runner of the settings.
    """
    configure_process()
    say = get_run_logger().info
    with storage_of_blocks(parameters.request()) as request:
        return str(_run(prepare(request), say, "shards").folder)


def run_prepared(job: Job, say: Callable[[str], None], on_tile: OnTile | None = None) -> Result:
    """Run the flow for the command line, which checks the input before Prefect starts."""
    return _run(job, say, "run-scene", on_tile)


def _run(job: Job, say: Callable[[str], None], name: str, on_tile: OnTile | None = None) -> Result:
    return run_as_flow(
        partial(_work, lambda: job, at_once, say, on_tile),
        say,
        name=name,
        run_name=job.scene.id,
        runner=job.request.config.runner,
    )


def run_requested(
    request: Request,
    opened: Callable[[Job], None],
    say: Callable[[str], None],
    name: str,
    within: FlowRecord | None = None,
    run_in_pool: RunInPool = at_once,
) -> Result:
    """Run a scene as a flow that also opens it; `opened` is called with the job once it is open.

    The flow run may begin before it is the scene's turn, and end after it.

    Raises OrchestratorError if Prefect's server is not there to begin with.
    """

    @cache
    def job() -> Job:
        prepared = prepare(request)
        opened(prepared)
        return prepared

    return run_as_flow(
        partial(_work, job, run_in_pool, say, None),
        say,
        name="scene",
        run_name=name,
        runner=request.config.runner,
        within=within,
    )


def _work(
    job: Callable[[], Job],
    run_in_pool: RunInPool,
    say: Callable[[str], None],
    on_tile: OnTile | None,
    record: FlowRecord,
) -> Result:
    result = run_in_pool(lambda: _shards_and_layers(job(), say, on_tile))
    record.keep(scene_artifacts(result))
    return replace(result, shown=None)  # its picture has up to 10 MB, and callers may keep many results


def _shards_and_layers(job: Job, say: Callable[[str], None], on_tile: OnTile | None) -> Result:
    with work_on(job):
        missing = job.missing()
        say(f"{len(missing)} of {len(job.shards)} shards to compute")
        _in_flight(job, missing, on_tile)
        return finish(job, say)


def _in_flight(job: Job, indices: list[int], on_tile: OnTile | None) -> None:
    """Run the shards, as many at a time as there are workers; the first failure ends the run."""
    runner = job.request.config.runner
    opaque, order = OpaqueJob(job, on_tile), ShardOrder(indices, runner.workers)
    running: dict[PrefectFuture[str], tuple[int, int]] = {}
    idle = list(range(runner.workers))
    while True:
        for worker in idle:
            index = order.take(worker)
            if index is not None:
                running[shard_task.submit(opaque, index)] = worker, index
        if not running:
            return
        done = next(iter(as_completed(list(running))))
        worker, index = running.pop(done)
        idle = [worker]
        try:
            done.result()
        except Exception as error:
            if is_lost_worker(error):
                raise WorkerLostError(
                    f"A worker ended in the middle of shard {index + 1} of {len(job.shards)}: killed, or out "
                    "of memory. What is done is kept: give the same command again, with a lower "
                    "engine.memory_mb or fewer runner.workers if it happens again."
                ) from error
            raise
        if runner.kind != "threads":  # calls and logs of other processes don't arrive here
            if on_tile:
                on_tile(len(job.shards[index]))
            tell_stored(job, index)
