"""Prefect's server while flows run: what has begun goes on without it, and it is not waited for twice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

import httpx
from prefect.artifacts import create_markdown_artifact
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, PREFECT_HOME, temporary_settings

from pipeline.errors import OrchestratorError

_EVENT_TRIES = 2
"""How often the connection for events is made anew. From the third time on Prefect pauses, 7 s an event, and
no process ends before each of its events has had them; those that fail are sent when the server is back."""

T = TypeVar("T")


class FlowRecord:
    """Prefect's record of a flow run, which is called within it; where the server is lost, that is told once.

    Raises OrchestratorError on entering if Prefect can't start a server where none is set.

    A request waits PREFECT_CLIENT_MAX_RETRIES times (5, together a minute) for a server that is gone: time to
    start it again. When the summary has waited in vain, the end of the flow run does not wait once more.
    """

    def __init__(self, say: Callable[[str], None], within: FlowRecord | None = None) -> None:
        self.is_lost = False
        self._say, self._within = say, within
        self._impatience = ExitStack()

    def __enter__(self) -> FlowRecord:
        try:
            client = get_client(sync_client=True)
        except RuntimeError as error:  # the server that Prefect starts where none is set
            raise OrchestratorError(
                f"Prefect's own server did not start ({error}); `prefect server start` shows why: no room in "
                f"{PREFECT_HOME.value()}, say. Or give --no-prefect."
            ) from error
        if client.server_type != ServerType.CLOUD:
            EventsWorker.set_client_override(
                PrefectEventsClient, api_url=str(client.api_url), reconnection_attempts=_EVENT_TRIES
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._impatience.close()

    def result_of(self, flow: Callable[[], T], made: Callable[[], T | None]) -> T:
        """What a flow returns or, where the server is lost before it ends, what it has `made` by then.

        Raises OrchestratorError if that is nothing: the server was not there to begin with.
        """
        try:
            return flow()
        except Exception as error:
            if not is_lost_server(error):
                raise
            _raise_interruption(error)
            result = made()
            if result is None:
                why = " ".join(str(error).split()) or type(error).__name__
                raise OrchestratorError(
                    f"Prefect's server does not answer, or fails ({why}); start it, unset PREFECT_API_URL "
                    "for one of the run's own, or give --no-prefect."
                ) from error
            self.lose()
            return result

    def lose(self) -> None:
        """Tell that the run goes on without its record."""
        if not self.is_lost:
            self.is_lost = True
            self._say("Prefect's server does not answer any more: going on without its record.")
        if self._within:
            self._within.lose()

    def summarise(self, markdown: str, key: str, description: str) -> None:
        """Put an artifact on record, which is the last that a flow does."""
        if self.is_lost:
            self._wait_no_more()
        try:
            create_markdown_artifact(markdown, key=key, description=description)
        except Exception as error:
            if not is_lost_server(error):
                raise
            self.lose()
            self._wait_no_more()

    def _wait_no_more(self) -> None:
        self._impatience.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}))


def is_lost_server(error: BaseException) -> bool:
    """Whether Prefect raised it since its server does not answer, fails, or has forgotten the run."""
    if isinstance(error, httpx.HTTPError | ObjectNotFound):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith("Failed to reach API")


def server_answers() -> bool:
    """Whether it does now, without patience."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        return get_client(sync_client=True).api_healthcheck() is None


def _raise_interruption(error: BaseException) -> None:
    """Go on with Ctrl-C or SIGTERM, where Prefect met one, and then nobody to tell of it."""
    met = error.__context__
    while met is not None:
        if isinstance(met, TerminationSignal):  # as Prefect does, when it has told
            signal.raise_signal(met.signal)
        if isinstance(met, KeyboardInterrupt):
            raise met
        met = met.__context__
