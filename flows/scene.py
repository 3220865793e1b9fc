"""One scene under Prefect: a flow whose tasks are the shards of the scene."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed

from flows.handover import FlowContext, Handover, OpaqueJob
from flows.runners import is_lost_worker, one_server_for_all, task_runner
from flows.server import FlowRecord
from flows.shard_order import ShardOrder
from pipeline.config import load_config
from pipeline.errors import WorkerLostError
from pipeline.inference.engine import OnTile
from pipeline.processes import configure_process
from pipeline.run import (
    Job,
    Request,
    Result,
    finish,
    prepare,
    run_shard,
    tell_stored,
    work_on,
)

if TYPE_CHECKING:
    from pipeline.operations.batch import InTurn


def at_once(work: Callable[[], Result]) -> Result:
    """It is the scene's turn."""
    return work()


@task(name="shard", task_run_name="shard-{index}", cache_policy=NO_CACHE, persist_result=False)
def shard_task(parcel: OpaqueJob, index: int) -> str:
    """Both networks over one shard; what is already on disk is left as it is."""
    configure_process()
    return str(run_shard(parcel.job, index, parcel.on_tile))


@flow(name="run-scene", flow_run_name="{scene}")
def run_scene(
    scene: str,
    out: str,
    config: str | None = None,
    settings: tuple[str, ...] = (),
    roads: str | None = None,
    truck_labels: str | None = None,
    landcover_labels: str | None = None,
    bands: tuple[str, ...] | None = None,
) -> str:
    """Trucks and land cover of one scene as map layers; returns the folder they lie in.

    `config` is a YAML file and `settings` are overrides like `tiling.tile_px=256`; everything else is as in
    `truckscape run`. For deployments: all parameters are plain text. The shards run on the runner of the
    settings.
    """
    configure_process()
    tree = load_config(Path(config) if config else None, settings)
    request = Request(
        scene=scene,
        out=Path(out),
        config=tree,
        bands=tuple(bands) if bands else None,
        roads=_path(roads),
        truck_labels=_path(truck_labels),
        landcover_labels=_path(landcover_labels),
    )
    job = prepare(request)
    return str(_run(lambda: job, request, job.scene.id, get_run_logger().info, "shards").folder)


def run_prepared(job: Job, say: Callable[[str], None], on_tile: OnTile | None = None) -> Result:
    """Run the flow for the command line, which checks the input before Prefect starts."""
    return _run(lambda: job, job.request, job.scene.id, say, "run-scene", on_tile=on_tile)


def run_requested(
    request: Request,
    opened: Callable[[Job], None],
    say: Callable[[str], None],
    name: str,
    within: FlowRecord | None = None,
    in_turn: InTurn = at_once,
) -> Result:
    """One scene as a flow in which it is opened, too; `opened` is called with the job once it is.

    The flow run may begin before it is the scene's turn, and end after it.

    Raises OrchestratorError if Prefect's server is not there to begin with.
    """

    def job() -> Job:
        prepared = prepare(request)
        opened(prepared)
        return prepared

    return _run(job, request, name, say, "scene", within, in_turn)


_FRESH_STARTS = 2
"""How often a run gets new workers. A pool of processes ends as a whole when it loses one."""


_HANDED_OVER = Handover()


def _run(
    job: Callable[[], Job],
    request: Request,
    run_name: str,
    say: Callable[[str], None],
    name: str,
    within: FlowRecord | None = None,
    in_turn: InTurn = at_once,
    on_tile: OnTile | None = None,
) -> Result:
    """The shards and layers of a job as a flow on the runner of the settings.

    Where a worker is lost, the flow is run again on fresh ones, for the shards that are missing.
    """
    token = uuid4().hex
    with FlowRecord(say, within) as record:
        errand = _HANDED_OVER[token] = FlowContext(job, say, record, in_turn, on_tile)
        try:
            return record.result_of(
                lambda: _on_fresh_workers(lambda: _flow(request, run_name, name, token), say),
                lambda: errand.result,
            )
        finally:
            del _HANDED_OVER[token]


def _on_fresh_workers(flow: Callable[[], Result], say: Callable[[str], None]) -> Result:
    """Again where a worker is lost, a few times."""
    for _ in range(_FRESH_STARTS):
        try:
            return flow()
        except WorkerLostError as error:
            say(f"{error} Going on with fresh workers.")
    return flow()


def _flow(request: Request, run_name: str, name: str, token: str) -> Result:
    settings = request.config.runner
    runner = task_runner(settings)
    with one_server_for_all(settings):
        result: Result = _shards.with_options(name=name, flow_run_name=run_name, task_runner=runner)(token)
    return result


@flow(name="shards", persist_result=False, validate_parameters=False)
def _shards(token: str) -> Result:
    errand = _HANDED_OVER[token]
    result = errand.result = errand.in_turn(partial(_work, errand))
    errand.record.summarise(summary_markdown(result), "scene-summary", result.run["scene"])
    return result


def _work(errand: FlowContext) -> Result:
    job = errand.job = errand.job or errand.make()
    with work_on(job):
        missing = job.missing()
        errand.say(f"{len(missing)} of {len(job.shards)} shards to compute")
        _in_flight(job, missing, errand.on_tile)
        return finish(job, errand.say)


def _in_flight(job: Job, indices: list[int], on_tile: OnTile | None) -> None:
    """Run the shards, as many at a time as there are workers; the first failure ends the run."""
    runner = job.request.config.runner
    parcel, turns = OpaqueJob(job, on_tile), ShardOrder(indices, runner.workers)
    running: dict[PrefectFuture[str], tuple[int, int]] = {}
    idle = list(range(runner.workers))
    while True:
        for worker in idle:
            index = turns.take(worker)
            if index is not None:
                running[shard_task.submit(parcel, index)] = worker, index
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


def summary_markdown(result: Result) -> str:
    """What came out, as tables for Prefect's pages."""
    rows = [f"| {name} | {value} |" for name, value in result.summary().items()]
    paths = [f"| `{name}` | `{path}` |" for name, path in sorted(result.outputs.items())]
    head = [f"## {result.run['scene']}", "", "| what | value |", "|---|---|"]
    return "\n".join([*head, *rows, "", "| file | path |", "|---|---|", *paths])


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
