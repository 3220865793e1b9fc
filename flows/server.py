"""Flow runs that outlive Prefect's server: work continues, and requests wait for it once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import httpx
from prefect.artifacts import create_markdown_artifact
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, PREFECT_HOME, temporary_settings

from flows.own_server import watch_own_server
from pipeline.errors import OrchestratorError
from pipeline.report.markdown import plain

_EVENT_TRIES = 2
"""Attempts to reconnect for events. From the third on Prefect pauses 7 s for each event, and no process ends
before all of them; events that fail are sent when the server is back."""

T = TypeVar("T")


class FlowRecord:
    """Prefect's record of a flow run, which is called within it; a lost server is reported once.

    Raises OrchestratorError on entering if Prefect can't start a server where none is set.

    A request waits PREFECT_CLIENT_MAX_RETRIES times (5, together a minute) for a server that is gone: time to
    restart it. When the summary has waited in vain, the end of the flow run does not wait again.
    """

    def __init__(self, say: Callable[[str], None], within: FlowRecord | None = None) -> None:
        self.is_lost = False
        self._say, self._within = say, within
        self._settings = ExitStack()

    def __enter__(self) -> FlowRecord:
        if not PREFECT_API_URL.value():
            watch_own_server()
        try:
            client = get_client(sync_client=True)
        except (RuntimeError, OSError) as error:  # the server that Prefect starts where none is set
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
        self._settings.close()

    def result_of(self, flow: Callable[[], T], made: Callable[[], T | None]) -> T:
        """Return the result of a flow or, where the server is lost before it ends, what it has `made`.

        Raises OrchestratorError if that is None: there was no server to begin with.
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
        """Report that the run continues without its record."""
        if not self.is_lost:
            self.is_lost = True
            self._say("Prefect's server does not answer any more: the run continues without its record.")
        if self._within:
            self._within.lose()

    def summarise(self, markdown: str, key: str, description: str) -> None:
        """Record a summary, the last step of a flow."""
        self.keep([partial(create_markdown_artifact, markdown, key=key, description=plain(description))])

    def keep(self, artifacts: Iterable[Callable[[], object]]) -> None:
        """Record artifacts by functions of Prefect, the last step of a flow; a failure is only reported."""
        if self.is_lost:
            self._skip_retries()
        try:
            for create in artifacts:
                create()
        except Exception as error:  # noqa: BLE001 the layers are complete, whatever happens to their record
            if is_lost_server(error):
                self.lose()
                self._skip_retries()
                return
            why = " ".join(str(error).split()) or type(error).__name__
            self._say(f"Prefect's pages lack results of this run ({why}); its layers are complete.")

    def _skip_retries(self) -> None:
        self._settings.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}))


def is_lost_server(error: BaseException) -> bool:
    """Return whether Prefect's server caused an error: it does not answer, fails, or has lost the run."""
    if isinstance(error, httpx.HTTPError | ObjectNotFound):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith("Failed to reach API")


def server_answers() -> bool:
    """Ask Prefect's server once, without retries."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        return get_client(sync_client=True).api_healthcheck() is None


def _raise_interruption(error: BaseException) -> None:
    """Raise Ctrl-C or SIGTERM again, where Prefect met one and then failed to report it."""
    cause = error.__context__
    while cause is not None:
        if isinstance(cause, TerminationSignal):  # as Prefect does after its report
            signal.raise_signal(cause.signal)
        if isinstance(cause, KeyboardInterrupt):
            raise cause
        cause = cause.__context__
