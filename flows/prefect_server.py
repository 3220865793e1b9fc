"""A Prefect server of this process's own, schedules and all; where it ends, it is started again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import httpx

from pipeline.errors import OrchestratorError

_PORT = 4200
_PATIENCE_S = 180
_PAUSE_S = 1
_LEASES = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"
"""In memory, as Prefect has it, slots that are held when the server is killed are never free again."""


class OwnServer:
    """A server for as long as the block: that of flow runs themselves has no schedules.

    What it knows is in PREFECT_HOME, so schedules outlive it; clients ask again for a minute, and it is back
    in seconds. Raises OrchestratorError if it does not start.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._port = _free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._over, self._turn = threading.Event(), threading.Lock()

    def __enter__(self) -> OwnServer:
        self._process = self._start()
        try:
            self._wait_for()
        except BaseException:
            self._stop()
            raise
        threading.Thread(target=self._keep, name="prefect-server", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._turn:
            self._over.set()
        self._stop()

    def _start(self) -> subprocess.Popen[bytes]:
        server = ["server", "start", "--host", "127.0.0.1", "--port", str(self._port)]
        env = {_LEASES: "prefect.server.concurrency.lease_storage.filesystem", **os.environ}
        command = [sys.executable, "-m", "prefect", *server]
        return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _wait_for(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.address}/api/health").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise OrchestratorError("Prefect's server did not start; `prefect server start` shows why.")

    def _keep(self) -> None:
        while True:
            status = self._process.wait()
            if self._over.wait(_PAUSE_S):
                return
            with self._turn:
                if self._over.is_set():
                    return
                self._say(f"Prefect's server has ended (status {status}); it is started again.")
                self._process = self._start()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    """Prefect's own where nobody listens there, else any."""
    for port in (_PORT, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OrchestratorError("No port is free on 127.0.0.1.")
