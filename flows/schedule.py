"""What is new, again and again: a flow for schedules, and the ways to put it on one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import httpx
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.logging import get_logger
from prefect.schedules import Cron, Interval, Schedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types.entrypoint import EntrypointType

from flows.batch import run_listed
from flows.prefect_server import OwnServer
from pipeline.config import load_config
from pipeline.errors import ConfigError, OrchestratorError
from pipeline.operations.batch import BatchRequest
from pipeline.operations.new_scenes import Watch, do_news
from pipeline.operations.search import COLLECTION, Search
from pipeline.operations.sources import Sources
from pipeline.processes import configure_process

Say = Callable[[str], None]
_FIRST_AFTER = timedelta(seconds=5)


@flow(name="new-scenes")
def new_scenes(
    out: str,
    scene_list: str | None = None,
    folder: str | None = None,
    stac: str | None = None,
    collections: list[str] | None = None,
    area: str | None = None,
    since: str | None = None,
    overlap_days: float = 30.0,
    cloud_cover: float | None = None,
    config: str | None = None,
    settings: list[str] | None = None,
    roads: str | None = None,
    bands: list[str] | None = None,
) -> dict[str, int]:
    """Trucks and land cover of what is new since the last time; returns how many were done, failed, ...

    Everything is as in `truckscape schedule`. For deployments: all parameters are plain text, and credentials
    are none of them.
    """
    configure_process()
    say = get_run_logger().info
    search = Search(stac, tuple(collections or [COLLECTION]), area, None, cloud_cover) if stac else None
    sources = Sources((), _path(scene_list), _path(folder), search)
    request = BatchRequest(
        scenes=(),
        out=Path(out),
        config=load_config(_path(config), settings or ()),
        bands=tuple(bands) if bands else None,
        roads=_path(roads),
    )
    summary = do_news(Watch(sources, since, overlap_days), request, lambda due: run_listed(due, say))
    if summary is None:
        say("nothing is new")
        return {}
    return summary.counts


def timing(days: float | None, cron: str | None, timezone: str) -> Schedule:
    """A schedule: every so many days, the first time at once, or as cron says. Raises ConfigError."""
    if (days is None) == (cron is None):
        raise ConfigError("A schedule is either --every DAYS or --cron 'MINUTE HOUR DAY MONTH WEEKDAY'.")
    try:
        ZoneInfo(timezone)
        if cron:
            return Cron(cron, timezone=timezone)
        begin = datetime.now(UTC) + _FIRST_AFTER
        schedule = Interval(timedelta(days=days or 0), anchor_date=begin, timezone=timezone)
        IntervalSchedule.model_validate({"interval": schedule.interval})
    except (ValueError, OverflowError, ZoneInfoNotFoundError) as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"Prefect doesn't understand the schedule: {why}") from error
    return schedule


def serve(name: str, parameters: Mapping[str, Any], schedule: Schedule, say: Say) -> None:
    """Look, do and wait in this process until it is told to end; with a server of its own if none is set."""
    for observer in ("FlowRunCancellingObserver", "FlowRunSuspendingObserver"):
        get_logger(observer).addFilter(_in_one_line)
    with _server(say):
        new_scenes.serve(
            name=name,
            schedule=schedule,
            parameters=dict(parameters),
            limit=1,
            print_starting_message=False,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )


def _in_one_line(record: logging.LogRecord) -> bool:
    """A server that has gone for a moment is a warning, and no traceback."""
    record.exc_info = None
    return True


def deploy(name: str, parameters: Mapping[str, Any], schedule: Schedule, pool: str) -> None:
    """Put it on a server's schedule, for the workers of a pool.

    Raises
    ------
    ConfigError
        If no server is set.
    OrchestratorError
        If it refuses.
    """
    if not PREFECT_API_URL.value():
        raise ConfigError(
            "Workers need a Prefect server: `prefect server start`, then set PREFECT_API_URL, e.g. to "
            "http://127.0.0.1:4200/api."
        )
    here = Path(__file__).resolve()
    try:
        source = flow.from_source(
            str(here.parents[1]), f"{here.parent.name}/{here.name}:{new_scenes.fn.__name__}"
        )
        source.deploy(  # type: ignore[union-attr]
            name=name,
            work_pool_name=pool,
            schedule=schedule,
            parameters=dict(parameters),
            concurrency_limit=ConcurrencyLimitConfig(
                limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
            ),
            print_next_steps=False,
        )
    except (ValueError, httpx.HTTPError) as error:
        raise OrchestratorError(f"Prefect refused the schedule: {' '.join(str(error).split())}") from error


@contextmanager
def _server(say: Say) -> Iterator[None]:
    """The Prefect server that is set, or one for as long as this lasts."""
    if PREFECT_API_URL.value():
        say(f"schedules lie at {PREFECT_API_URL.value()}")
        yield
        return
    with OwnServer(say) as server:
        say(f"Prefect's server runs at {server.address} as long as this does")
        with temporary_settings({PREFECT_API_URL: f"{server.address}/api"}):
            yield


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
