"""The server that Prefect starts for a process where none is set: it fails at once, in one line."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from typing import IO, TYPE_CHECKING, Any

import httpx
import prefect
from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, get_current_settings

from pipeline.stopping import ENDING_WITH_PARENT, as_parent

if TYPE_CHECKING:  # the import of the server takes a second
    from prefect.server.api.server import SubprocessASGIServer

_POLL_S = 0.05
_NOT_STARTED = 3
"""Exit status of uvicorn, after which Prefect tries other ports, without end if the port is not at fault."""


def watch_own_server() -> None:
    """Make Prefect's own server, started afterwards, raise RuntimeError as soon as its process ends.

    Prefect waits until its time limit is over, and lets the process print its tracebacks.
    """
    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()
    server._run_uvicorn_command = lambda: _Watched(server)  # type: ignore[method-assign]


def use_server(process: subprocess.Popen[bytes], port: int) -> bool:
    """Make the server of a process that of this one, once it answers; False if the process has ended."""
    address = f"http://127.0.0.1:{port}/api"
    end = time.monotonic() + PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    with httpx.Client(trust_env=False) as client:  # no proxy for loopback
        while process.poll() is None and time.monotonic() < end:
            try:
                if client.get(f"{address}/health").is_success:
                    os.environ["PREFECT_API_URL"] = address  # also of workers in other processes
                    refresh_global_settings_context()
                    return True
            except httpx.TransportError:
                time.sleep(_POLL_S)
    return False


class _Watched(subprocess.Popen[bytes]):
    """Process of the server, in the words of Prefect 3.8; only the last line of its errors is shown."""

    def __init__(self, server: SubprocessASGIServer) -> None:
        self._server, self._is_reported = server, False
        self._errors: IO[bytes] | None = None
        if not os.environ.get("TRUCKSCAPE_DEBUG"):
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        arguments = {
            "app-dir": str(prefect.__module_path__.parent),
            "host": "127.0.0.1",
            "port": str(server.port),
            "log-level": "error",
            "lifespan": "on",
        }
        options = [text for name, value in arguments.items() for text in (f"--{name}", value)]
        super().__init__(
            [*ENDING_WITH_PARENT, "uvicorn", *options, "--factory", "prefect.server.api.server:create_app"],
            env={
                **os.environ,
                **as_parent(),
                "PREFECT_UI_ENABLED": "0",
                "PREFECT__SERVER_EPHEMERAL": "1",
                "PREFECT__SERVER_FINAL": "1",
                **get_current_settings().to_environment_variables(exclude_unset=True),
            },
            stderr=self._errors,
        )

    def poll(self) -> Any:
        """Return the exit status; None while it runs. Raises RuntimeError, once, if it has failed."""
        status = super().poll()
        if status is None or self._is_reported:
            return status
        if status != _NOT_STARTED or self._server.is_port_available(int(self._server.port or 0)):
            self._is_reported = True  # Prefect asks again when it stops the server
            raise RuntimeError(self._last_line() or f"exit status {status}")
        return status

    def _last_line(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if "Error" in line and not line.startswith((" ", "\t"))]
        return said[-1][:200] if said else ""
