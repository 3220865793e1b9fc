"""Process of Prefect's own server, started while a run still prepares and before it imports Prefect."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys

from pipeline.stopping import as_parent, end_child

_END_S = 5


class ServerAhead:
    """Server for one run. Where a server is set, in any of Prefect's ways, its process ends at once."""

    port = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, which ends with this one; it takes seconds until it answers."""
        if "prefect" in sys.modules or os.environ.get("PREFECT_API_URL"):
            return
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.serve", str(self.port)],
            env={**os.environ, **as_parent()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(self.stop)  # before Prefect's own, so it ends after what they still send

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            end_child(self.process, _END_S)
