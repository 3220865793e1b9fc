"""A Prefect server for one process, with schedules; it is restarted when it ends."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

import psutil

from pipeline.errors import OrchestratorError
from pipeline.stopping import ENDING_WITH_PARENT, as_parent, end_child

_PORT = 4200
_TIMEOUT_S = 180
_POLL_S = 0.05
_ANSWER_S = 5
_END_S = 15
_PAUSE_S = 1
_LEASES = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"
"""Slots on disk: in memory, Prefect's default, slots are never free again after the server is killed."""


class PrefectServer:
    """A server for the time of the block: the one that flow runs start has no schedules.

    It keeps its data in PREFECT_HOME, so schedules outlive it. Clients retry for a minute; a restart takes
    seconds. Raises OrchestratorError if it does not start.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._over, self._lock = threading.Event(), threading.Lock()

    @property
    def address(self) -> str:
        """The address of its pages."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> PrefectServer:
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            self._port = _free_port()
            self._process = self._start()
            try:
                if is_up(self._process, self._port, deadline):
                    break
                if not _is_taken(self._port) or time.monotonic() > deadline:
                    raise OrchestratorError(
                        "Prefect's server did not start; `prefect server start` shows why."
                    )
            except BaseException:
                self._stop()
                raise
        threading.Thread(target=self._keep, name="prefect-server", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over.set()
        self._stop()

    def _start(self) -> subprocess.Popen[bytes]:
        server = ["server", "start", "--host", "127.0.0.1", "--port", str(self._port)]
        env = {_LEASES: "prefect.server.concurrency.lease_storage.filesystem", **os.environ, **as_parent()}
        command = [*ENDING_WITH_PARENT, "prefect", *server]
        return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _keep(self) -> None:
        while True:
            status = self._process.wait()
            if self._over.wait(_PAUSE_S):
                return
            with self._lock:
                if self._over.is_set():
                    return
                self._say(f"Prefect's server has ended (status {status}); it is restarted.")
                self._process = self._start()

    def _stop(self) -> None:
        end_child(self._process, _END_S)


def is_up(process: subprocess.Popen[bytes], port: int, deadline: float) -> bool:
    """Wait until the server of a process answers at this port of loopback.

    False if it has ended, as where another process took its port, or does not answer before `deadline` of the
    monotonic clock.
    """
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(port) and _is_listening(process, port):  # in this order: connections take long to list
            return True
        time.sleep(_POLL_S)
    return False


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _is_listening(process: subprocess.Popen[bytes], port: int) -> bool:
    """Return whether it is this process that listens at the port, and not the server of another run."""
    try:
        connections = psutil.Process(process.pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)


def _free_port() -> int:
    """Return Prefect's own port if it is free, else any free one."""
    for port in (_PORT, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OrchestratorError("No port is free on 127.0.0.1.")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
