"""Prefect's own server in the surroundings that it meets: how long until it starts, or an error says why."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_API_URL

from flows.own_server import use_server
from tests.flows.processes import PATIENT, PYTHON, environment
from tests.servers import refusing_server

START = "from flows.server import FlowRecord\nwith FlowRecord(print): print('started')"


def started(env: dict[str, str], *before: str) -> subprocess.CompletedProcess[str]:
    """Start a server as a run does, in a process with this environment."""
    return subprocess.run(
        [*before, PYTHON, "-c", START], env=env, capture_output=True, text=True, timeout=240, check=False
    )


class Process:
    pid = os.getpid()

    def __init__(self, status: int | None) -> None:
        self.status = status

    def poll(self) -> int | None:
        return self.status


def test_a_server_that_was_started_ahead_is_used_once_it_answers(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "")  # and put back afterwards
    with refusing_server(200) as (address, asked):
        assert use_server(Process(None), int(address.rpartition(":")[2]))
        assert PREFECT_API_URL.value() == os.environ["PREFECT_API_URL"] == f"{address}/api"
        assert asked == ["GET /api/health"]
    monkeypatch.undo()
    refresh_global_settings_context()


def test_a_server_whose_process_has_ended_is_left_to_prefect(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert not use_server(Process(0), 9)
    assert "PREFECT_API_URL" not in os.environ


def test_a_server_of_another_process_at_the_port_is_not_used(monkeypatch):
    """Both processes found the port free."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with (
        refusing_server(200) as (address, _),
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"]) as process,
    ):
        assert not use_server(process, int(address.rpartition(":")[2]))
    assert "PREFECT_API_URL" not in os.environ


@pytest.mark.longer
def test_a_server_whose_process_ends_is_an_error_at_once(tmp_path):
    """Its database is in a folder that is not there; Prefect would wait for the time limit."""
    url = f"sqlite+aiosqlite:///{tmp_path}/gone/prefect.db"
    begun = time.monotonic()
    done = started(environment(tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL=url, **PATIENT))
    assert time.monotonic() - begun < 150
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "OrchestratorError: Prefect's own server did not start (" in last
    assert "unable to open database file" in last


@pytest.mark.longer
def test_it_is_spoken_to_without_the_proxies(tmp_path):
    proxies = {"http_proxy": "http://127.0.0.1:9", "all_proxy": "socks5://127.0.0.1:9"}
    env = environment(tmp_path, **PATIENT, **proxies, NO_PROXY="", no_proxy="")
    assert started(env).stdout.strip() == "started"


@pytest.mark.longer
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root, to be another user")
@pytest.mark.parametrize("home", [None, "readonly"])
def test_another_user_without_a_home(tmp_path, home):
    """As in a container: the server starts, with a temporary folder."""
    env = {name: value for name, value in environment(tmp_path, **PATIENT).items() if "HOME" not in name}
    if home:
        env["HOME"] = str(tmp_path) if home == "readonly" else home
    script = (
        "from pipeline.processes import configure_process; configure_process()\n"
        "from pipeline.cli.console import quiet_prefect; quiet_prefect()\n"
        f"{START}\nfrom prefect.settings import PREFECT_HOME; print(PREFECT_HOME.value())"
    )
    caps = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    user = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", *caps]
    done = subprocess.run(
        [*user, sys.executable, "-c", script],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    word, folder = done.stdout.split()
    assert (word, Path(folder).parent.name.startswith("truckscape-")) == ("started", True), done.stderr
    assert not Path(folder).exists()
    if home == "readonly":
        assert f"Prefect's folder {tmp_path}/.prefect can't be written" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
