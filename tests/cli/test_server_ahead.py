"""Prefect's own server of a run begins to start before the run needs it."""

import subprocess
import sys

import pytest

from pipeline.cli.server_ahead import ServerAhead


@pytest.fixture
def begun(monkeypatch):
    """The commands of processes, which are not started, in a process that has not imported Prefect."""
    commands = []

    class Process:
        def __init__(self, command, **options):
            commands.append(command)

        def terminate(self):
            commands.append("end")

        def wait(self, timeout):
            return 0

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delitem(sys.modules, "prefect", raising=False)
    return commands


def test_its_process_serves_the_port(begun):
    server = ServerAhead()
    server.start()
    assert begun == [[sys.executable, "-P", "-m", "flows.serve", str(server.port)]]
    assert server.port
    server.stop()
    assert begun[1:] == ["end"]


def test_none_starts_where_another_is_set(begun, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    server = ServerAhead()
    server.start()
    server.stop()
    assert begun == []


def test_none_starts_once_prefect_has_read_its_settings(begun, monkeypatch):
    monkeypatch.setitem(sys.modules, "prefect", sys)
    ServerAhead().start()
    assert begun == []
