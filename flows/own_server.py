"""The server that Prefect starts for a process where none is set: it fails at once, in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import IO, TYPE_CHECKING, Any

from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, get_current_settings

from flows.prefect_server import is_up
from pipeline.stopping import as_parent

if TYPE_CHECKING:  # the import of the server takes a second
    from prefect.server.api.server import SubprocessASGIServer

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
    """Make the server of a process that of this one, once it answers; False if it does not."""
    deadline = time.monotonic() + PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    if not is_up(process, port, deadline):
        return False
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"  # also of workers in other processes
    refresh_global_settings_context()
    return True


class _Watched(subprocess.Popen[bytes]):
    """Process of the server in place of that of Prefect 3.8; only the last line of its errors is shown."""

    def __init__(self, server: SubprocessASGIServer) -> None:
        self._server, self._is_reported = server, False
        self._errors: IO[bytes] | None = None
        if not os.environ.get("TRUCKSCAPE_DEBUG"):
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        super().__init__(
            [sys.executable, "-P", "-m", "flows.serve", str(server.port)],
            env={
                **os.environ,
                **as_parent(),
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
