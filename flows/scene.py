"""One scene under Prefect: a flow whose tasks are the shards of the scene."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import opaque

from pipeline.config import Runner, load_config
from pipeline.errors import MissingExtraError
from pipeline.inference.engine import report_tiles
from pipeline.job import Job, Request, Result, finish, prepare, run_shard, tidy_after_failure


def task_runner(settings: Runner) -> TaskRunner[Any]:
    """The Prefect task runner of the settings.

    Raises
    ------
    MissingExtraError
        If it needs a package that is not installed.
    """
    if settings.kind == "threads":
        return ThreadPoolTaskRunner(max_workers=settings.workers)
    if settings.kind == "processes":
        return ProcessPoolTaskRunner(max_workers=settings.workers)
    try:
        if settings.kind == "dask":
            from prefect_dask import DaskTaskRunner

            return DaskTaskRunner(cluster_kwargs={"n_workers": settings.workers, "threads_per_worker": 1})
        from prefect_ray import RayTaskRunner

        return RayTaskRunner(init_kwargs={"num_cpus": settings.workers})
    except ImportError as error:
        raise MissingExtraError(
            f"runner.kind={settings.kind} needs the extra: pip install 'truckscape[{settings.kind}]'."
        ) from error


@task(name="shard", task_run_name="shard-{index}", cache_policy=NO_CACHE, persist_result=False)
def shard_task(job: Job, index: int) -> str:
    """Both networks over one shard; what is already on disk is left as it is."""
    return str(run_shard(job, index))


@flow(name="run-scene", flow_run_name="{scene}")
def run_scene(
    scene: str,
    out: str,
    config: str | None = None,
    settings: Iterable[str] = (),
    roads: str | None = None,
    truck_labels: str | None = None,
    landcover_labels: str | None = None,
    bands: Iterable[str] | None = None,
) -> str:
    """Trucks and land cover of one scene as map layers; returns the folder they lie in.

    `config` is a YAML file and `settings` are overrides like `tiling.tile_px=256`; everything else is as in
    `truckscape run`. For deployments: all parameters are plain text. The shards run on the runner of the
    settings.
    """
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


def run_prepared(job: Job, say: Callable[[str], None]) -> Result:
    """The flow for the command line, which checks the input before Prefect starts."""
    return _run(lambda: job, job.request, job.scene.id, say, "run-scene")


def run_requested(
    request: Request, opened: Callable[[Job], None], say: Callable[[str], None], name: str
) -> Result:
    """One scene as a flow in which it is opened, too; `opened` is called with the job once it is."""

    def job() -> Job:
        prepared = prepare(request)
        opened(prepared)
        return prepared

    return _run(job, request, name, say, "scene")


class _Handover(dict[str, tuple[Callable[[], Job], Callable[[str], None]]]):
    """Makers of jobs on their way into a flow, whose parameters Prefect stores as JSON, by token.

    Prefect pickles a flow with the globals it uses for other processes: there it is empty.
    """

    def __reduce__(self) -> tuple[type[_Handover], tuple[()]]:
        return _Handover, ()


_HANDED_OVER = _Handover()


def _run(
    job: Callable[[], Job], request: Request, run_name: str, say: Callable[[str], None], name: str
) -> Result:
    """The shards and layers of a job as a flow on the runner of the settings."""
    token = uuid4().hex
    _HANDED_OVER[token] = job, say
    runner = task_runner(request.config.runner)
    try:
        result: Result = _shards.with_options(name=name, flow_run_name=run_name, task_runner=runner)(token)
    finally:
        del _HANDED_OVER[token]
    return result


@flow(name="shards", persist_result=False)
def _shards(token: str) -> Result:
    make, say = _HANDED_OVER[token]
    job = make()
    with tidy_after_failure(job):
        missing = job.missing()
        say(f"{len(missing)} of {len(job.shards)} shards to compute")
        _in_flight(job, missing)
        result = finish(job, say)
    create_markdown_artifact(summary_markdown(result), key="scene-summary", description=job.scene.id)
    return result


def _in_flight(job: Job, indices: list[int]) -> None:
    """Run the shards, as many at a time as there are workers; the first failure ends the run."""
    runner = job.request.config.runner
    waiting = list(reversed(indices))
    running: dict[PrefectFuture[str], int] = {}
    while waiting or running:
        while waiting and len(running) < runner.workers:
            index = waiting.pop()
            running[shard_task.submit(opaque(job), index)] = index  # type: ignore[call-overload]
        done = next(iter(as_completed(list(running))))
        done.result()
        index = running.pop(done)
        if runner.kind != "threads":  # what other processes log is not heard here
            report_tiles(len(job.shards[index]))


def summary_markdown(result: Result) -> str:
    """What came out, as tables for Prefect's pages."""
    rows = [f"| {name} | {value} |" for name, value in result.summary().items()]
    paths = [f"| `{name}` | `{path}` |" for name, path in sorted(result.outputs.items())]
    head = [f"## {result.run['scene']}", "", "| what | value |", "|---|---|"]
    return "\n".join([*head, *rows, "", "| file | path |", "|---|---|", *paths])


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
