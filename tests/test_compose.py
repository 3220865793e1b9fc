"""compose.yaml without Docker: what it starts is started here, by the same commands and settings."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml

from pipeline.operations.checks import services
from tests.operations.postgresql import PASSWORD, postgresql

HOUSE = Path(__file__).resolve().parents[1]
PATIENCE_S = 120


@pytest.fixture(scope="module")
def parts() -> dict:
    return yaml.safe_load((HOUSE / "compose.yaml").read_text())["services"]


def test_what_it_names_is_there(parts):
    for part in parts.values():
        for other in part.get("depends_on", {}):
            assert other in parts
        for volume in part.get("volumes", ()):
            mine = volume.split(":")[0]
            assert not mine.startswith("./") or (HOUSE / mine).exists()
        if part["image"] == "truckscape":
            assert part["build"] == "."
            assert shutil.which(part["command"][0], path=Path(sys.executable).parent)


def test_nothing_is_open_to_others_and_the_password_is_nobodys(parts):
    for part in parts.values():
        assert all(port.startswith("127.0.0.1:") for port in part.get("ports", ()))
        for name, value in part.get("environment", {}).items():
            assert "PASSWORD" not in name or value.startswith("${POSTGRES_PASSWORD:?")


@contextmanager
def started(command: list[str], environment: dict[str, str], folder: Path):
    """A command of the file; ended as `docker compose stop` would."""
    program = str(Path(sys.executable).parent / command[0])
    with (folder / f"{command[1]}.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *command[1:]], env=environment, cwd=HOUSE, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def wait_until(true, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if true():
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{process.args} is not ready; exit status {process.poll()}")


@pytest.mark.slow
@pytest.mark.postgresql
def test_server_on_postgresql_worker_and_deployments(parts, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    bare |= {"PREFECT_HOME": str(tmp_path / "home"), "DO_NOT_TRACK": "1"}
    bare |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with postgresql() as address:
        database_port = address.rpartition(":")[2]
        here = {
            "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
            "PREFECT_SERVER_DATABASE_PORT": database_port,
            "PREFECT_SERVER_DATABASE_USER": "truckscape",
            "PREFECT_SERVER_DATABASE_NAME": "postgres",
            "PREFECT_SERVER_DATABASE_PASSWORD": PASSWORD,
            "PREFECT_UI_API_URL": url,
        }
        environment = parts["server"]["environment"]
        assert set(here) - {"PREFECT_SERVER_DATABASE_PORT"} <= set(environment)
        command = [*parts["server"]["command"], "--port", str(port)]
        command[command.index("--host") + 1] = "127.0.0.1"
        with started(command, {**bare, **environment, **here}, tmp_path) as server:
            wait_until(lambda: requests.get(f"{url}/health", timeout=5).ok, server)
            _, program, *check = parts["server"]["healthcheck"]["test"]
            check = [part.replace(":4200", f":{port}") for part in check]
            subprocess.run([sys.executable, *check], check=True, timeout=60)
            assert services.prefect({"PREFECT_API_URL": url})[0].state == "ok"
            client = {**bare, "PREFECT_API_URL": url}
            with started(parts["worker"]["command"], client, tmp_path) as worker:
                pool = f"{url}/work_pools/truckscape"
                wait_until(lambda: requests.get(pool, timeout=5).ok, worker)
                deploy = parts["deploy"]["command"]
                program = str(Path(sys.executable).parent / deploy[0])
                subprocess.run([program, *deploy[1:]], env=client, cwd=HOUSE, check=True, timeout=PATIENCE_S)
                found = requests.post(f"{url}/deployments/filter", json={}, timeout=30).json()
    assert {one["work_pool_name"] for one in found} == {"truckscape"}
