"""One scene under Prefect: a flow whose tasks are the shards of the scene."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import opaque

from pipeline.config import Config, Runner, load_config
from pipeline.errors import MissingExtraError
from pipeline.job import Job, Request, Result, finish, prepare, run_shard


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


@task(name="layers", cache_policy=NO_CACHE, persist_result=False)
def layers_task(job: Job, say: Callable[[str], None]) -> Result:
    """Merge, vectorise, export, evaluate."""
    return finish(job, say)


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
    log = get_run_logger()
    result: Result = _shards_flow(tree, lambda: prepare(request), log.info)()
    return str(result.folder)


def run_prepared(job: Job, say: Callable[[str], None]) -> Result:
    """The flow for the command line, which checks the input before Prefect starts."""
    config = job.request.config
    result: Result = _shards_flow(config, lambda: job, say, name="run-scene", run_name=job.scene.id)()
    return result


def _shards_flow(
    config: Config,
    prepared: Callable[[], Job],
    say: Callable[[str], None],
    name: str = "shards",
    run_name: str | None = None,
) -> Any:
    """A flow on the runner of the settings, which Prefect wants to know before the flow starts."""

    @flow(name=name, flow_run_name=run_name, task_runner=task_runner(config.runner), persist_result=False)
    def shards() -> Result:
        job = prepared()
        missing = job.missing()
        say(f"{len(missing)} of {len(job.shards)} shards to compute")
        _in_flight(job, missing, config.runner.workers)
        result: Result = layers_task.fn(job, say)
        create_markdown_artifact(summary_markdown(result), key="scene-summary", description=job.scene.id)
        return result

    return shards


def _in_flight(job: Job, indices: list[int], workers: int) -> None:
    """Run the shards, at most `workers` at a time; the first failure ends the run with its cause."""
    waiting = list(reversed(indices))
    running: list[PrefectFuture[str]] = []
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(shard_task.submit(opaque(job), waiting.pop()))  # type: ignore[call-overload]
        done = next(iter(as_completed(running)))
        running.remove(done)
        done.result()


def summary_markdown(result: Result) -> str:
    """What came out, as tables for Prefect's pages."""
    rows = [f"| {name} | {value} |" for name, value in result.summary().items()]
    paths = [f"| `{name}` | `{path}` |" for name, path in sorted(result.outputs.items())]
    head = [f"## {result.run['scene']}", "", "| what | value |", "|---|---|"]
    return "\n".join([*head, *rows, "", "| file | path |", "|---|---|", *paths])


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
