"""New scenes at intervals: a flow for schedules, and the ways to schedule it."""

from __future__ import annotations

import logging
import os
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
from flows.blocks import storage_of_blocks
from flows.handover import named_by
from flows.prefect_server import PrefectServer
from pipeline.errors import ConfigError, OrchestratorError
from pipeline.fields import fields_of
from pipeline.operations.new_scenes import run_new_scenes
from pipeline.operations.parameters import ScheduleParameters
from pipeline.processes import configure_process

Say = Callable[[str], None]
_FIRST_AFTER = timedelta(seconds=5)


@flow(name="new-scenes", flow_run_name=named_by("out", unique=True))
@fields_of(ScheduleParameters)
def new_scenes(parameters: ScheduleParameters) -> dict[str, int]:
    """Detect trucks and map land cover in new scenes; return the number of scenes by result.

    Parameters are as in `truckscape schedule`. For deployments: all are plain text, and none is a credential.
    """
    configure_process()
    say = get_run_logger().info
    with storage_of_blocks(parameters.request()) as request:
        summary = run_new_scenes(parameters.watched(), request, lambda due: run_listed(due, say))
    if summary is None:
        say("no new scenes")
        return {}
    return summary.counts


def timing(days: float | None, cron: str | None, timezone: str) -> Schedule:
    """Return a schedule: every so many days, the first time at once, or by cron. Raises ConfigError."""
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
    """Run the schedule in this process until it is stopped; with its own server if none is set."""
    for observer in ("FlowRunCancellingObserver", "FlowRunSuspendingObserver"):
        get_logger(observer).addFilter(without_traceback)
    with _server(say):
        new_scenes.serve(
            name=name,
            schedule=schedule,
            parameters=dict(parameters),
            limit=1,
            print_starting_message=False,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )


def without_traceback(record: logging.LogRecord) -> bool:
    """Filter of logs: a server that is lost for a moment is one line, but with `--debug`."""
    if not os.environ.get("TRUCKSCAPE_DEBUG"):
        record.exc_info = None
    return True


def deploy(name: str, parameters: Mapping[str, Any], schedule: Schedule, pool: str) -> None:
    """Put the schedule on a server, for the workers of a pool.

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
    """Use the Prefect server that is set, or start one for the time of the block."""
    if PREFECT_API_URL.value():
        say(f"schedules are kept at {PREFECT_API_URL.value()}")
        yield
        return
    with PrefectServer(say) as server:
        say(f"Prefect's server runs at {server.address} as long as this command")
        with temporary_settings({PREFECT_API_URL: f"{server.address}/api"}):
            yield
