"""Servers for schedules, started at the same moment."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from flows import prefect_server
from flows.prefect_server import PrefectServer
from pipeline.errors import OrchestratorError
from tests.flows.processes import is_listening

ANSWERS = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Healthy).serve_forever()
"""


class Quick(PrefectServer):
    """Starts a server that answers as Prefect's does, in a fraction of its time."""

    program = ANSWERS

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", self.program, str(self._port)]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def test_a_server_of_another_process_is_not_taken_for_ones_own(monkeypatch):
    """The second process found the port free, too, before the server of the first one listened there."""
    with Quick(print) as first:
        ports, reported = iter([first._port]), []
        monkeypatch.setattr(prefect_server, "_free_port", lambda: next(ports, None) or any_port())
        with Quick(reported.append) as second:
            assert second.address != first.address
            assert is_listening(second._port)
    assert not is_listening(second._port)
    assert reported == []


def any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_does_not_start_is_an_error():
    class Broken(Quick):
        program = "raise SystemExit(1)"

    with pytest.raises(OrchestratorError, match="did not start"), Broken(print):
        pass


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_schedules_at_once_have_a_server_each(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    reported = []
    servers = [PrefectServer(reported.append), PrefectServer(reported.append)]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(PrefectServer.__enter__, servers))
    try:
        assert servers[0].address != servers[1].address
        assert all(is_listening(server._port) for server in servers)
    finally:
        for server in servers:
            server.__exit__()
    assert reported == []
