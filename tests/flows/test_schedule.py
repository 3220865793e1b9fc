"""Schedules that fire on a real Prefect server: in one process, and by a work pool and its worker."""

import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from flows.schedule import timing
from pipeline.errors import ConfigError
from tests.flows.processes import (
    PYTHON,
    TRUCKSCAPE,
    children,
    environment,
    free_port,
    is_listening,
    prefect_server,
    started,
    wait_until,
)
from tests.operations.test_batch import write_scenes
from tests.servers import s3_server

SCENE = "T32UPD_20230601T102031"
EVERY_S = 20
HOUSE = Path(__file__).resolve().parents[2]
PREFECT = (PYTHON, "-m", "prefect", "--no-prompt")


def test_a_schedule_is_days_or_cron():
    assert timing(5, None, "UTC").interval.days == 5
    assert timing(None, "30 6 * * *", "Europe/Berlin").cron == "30 6 * * *"
    for days, cron in ((None, None), (5, "30 6 * * *")):
        with pytest.raises(ConfigError, match="--every DAYS or --cron"):
            timing(days, cron, "UTC")


@pytest.mark.parametrize(
    ("days", "cron", "zone"), [(None, "at noon", "UTC"), (5, None, "Moon"), (-1, None, "UTC")]
)
def test_a_schedule_that_is_none_is_told(days, cron, zone):
    with pytest.raises(ConfigError, match="doesn't understand the schedule"):
        timing(days, cron, zone)


# --- slow: real servers ---------------------------------------------------------------------------------


def states(out: Path) -> dict[str, tuple[str, int]]:
    """State and attempts of every scene in the ledger."""
    if not (out / "ledger.sqlite").is_file():
        return {}
    with sqlite3.connect(out / "ledger.sqlite") as connection:
        try:
            rows = connection.execute("SELECT scene, state, attempts FROM truckscape_scenes").fetchall()
        except sqlite3.OperationalError:  # its table is being made
            return {}
    return {scene: (state, attempts) for scene, state, attempts in rows}


def completed(port: int, flow: str = "new-scenes") -> int:
    """How many firings have ended well."""
    question = {
        "flows": {"name": {"any_": [flow]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
    }
    try:
        answer = httpx.post(f"http://127.0.0.1:{port}/api/flow_runs/filter", json=question, timeout=60)
    except httpx.TransportError:  # it is busy, or not there yet
        return 0
    return len(answer.raise_for_status().json())


def written(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / SCENE).iterdir()}


def what_firings_do(out: Path, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """The first does the scene, the second nothing."""
    wait_until(lambda: states(out).get(SCENE, ("", 0))[0] == "done", process, log)
    before = written(out)
    wait_until(lambda: completed(port) >= 2, process, log, every_s=3)
    assert states(out) == {SCENE: ("done", 1)}
    assert written(out) == before
    starts = [
        line
        for line in (out / "log.jsonl").read_text().splitlines()
        if "stored" in json.loads(line)["message"]
    ]
    assert len(starts) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_process_serves_itself_on_a_schedule(tmp_path):
    incoming, out, log = write_scenes(tmp_path / "in", (SCENE,)), tmp_path / "out", tmp_path / "serve.log"
    options = ["--folder", str(incoming), "--out", str(out), "--set", "engine.threads=1"]
    command = [*TRUCKSCAPE, "schedule", "--every", str(EVERY_S / 86400), *options]
    with started(command, environment(tmp_path / "prefect"), log) as process:
        wait_until(lambda: "Prefect's server runs at" in log.read_text(), process, log)
        port = int(log.read_text().partition("http://127.0.0.1:")[2].split()[0])
        what_firings_do(out, port, process, log)
    assert not is_listening(port), "the server that it started is still there"
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_that_is_killed_under_its_schedule_is_started_again(tmp_path):
    incoming, out, log = write_scenes(tmp_path / "in", (SCENE,)), tmp_path / "out", tmp_path / "serve.log"
    options = ["--folder", str(incoming), "--out", str(out), "--set", "engine.threads=1"]
    command = [*TRUCKSCAPE, "schedule", "--every", str(EVERY_S / 86400), *options]
    with started(command, environment(tmp_path / "prefect"), log) as process:
        wait_until(lambda: states(out).get(SCENE, ("", 0))[0] == "done", process, log)
        port = int(log.read_text().partition("http://127.0.0.1:")[2].split()[0])
        (server,) = children(process.pid, str(port))
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: "it is restarted" in log.read_text(), process, log)
        wait_until(lambda: is_listening(port), process, log)
        before = completed(port)
        wait_until(lambda: completed(port) > before, process, log, every_s=3)
    assert states(out) == {SCENE: ("done", 1)}
    assert not is_listening(port), "the server that it started is still there"
    assert "Traceback" not in log.read_text()


def call(env: dict[str, str], *command: str) -> None:
    done = subprocess.run(command, env=env, cwd=HOUSE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def server(tmp_path):
    """A Prefect server: (port, the environment of its clients)."""
    port, log = free_port(), tmp_path / "server.log"
    env = environment(tmp_path / "prefect", PREFECT_API_URL=f"http://127.0.0.1:{port}/api")
    with prefect_server(port, env, log):
        yield port, env


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["truckscape schedule --pool", "prefect deploy"])
def test_a_worker_of_a_pool_does_what_the_schedule_says(server, tmp_path, way):
    port, env = server
    incoming, out, log = write_scenes(tmp_path / "in", (SCENE,)), tmp_path / "out", tmp_path / "worker.log"

    call(env, *PREFECT, "work-pool", "create", "--type", "process", "truckscape")
    if way == "prefect deploy":
        call(env, *PREFECT, "deploy", "--all", "--prefect-file", str(deployment(incoming, out, tmp_path)))
    else:
        options = ("--folder", str(incoming), "--out", str(out), "--set", "engine.threads=1")
        call(env, *TRUCKSCAPE, "schedule", "--every", str(EVERY_S / 86400), "--pool", "truckscape", *options)
    with started([*PREFECT, "worker", "start", "--pool", "truckscape"], env, log) as process:
        what_firings_do(out, port, process, log)


@pytest.mark.longer
@pytest.mark.timeout(900)
def test_prefect_yaml_works_after_three_commands(server, tmp_path):
    """A server, a worker that makes the pool, and the deployments; then a scene is a run of one of them."""
    port, env = server
    scene, out = write_scenes(tmp_path / "in", (SCENE,)) / f"{SCENE}.tif", tmp_path / "out"
    log, api = tmp_path / "worker.log", f"http://127.0.0.1:{port}/api"
    worker = [*PREFECT, "worker", "start", "--type", "process", "--pool", "truckscape"]
    with started(worker, env, log) as process:
        pool = f"{api}/work_pools/truckscape"
        wait_until(lambda: httpx.get(pool, timeout=60).is_success, process, log, every_s=1)
        call(env, *PREFECT, "deploy", "--all")
        call(env, PYTHON, "-c", SAVE_FOLDER.format(str(out)))
        given = {"scene": str(scene), "out": "local-file-system/layers", "settings": ["engine.threads=1"]}
        wanted = ("--params", json.dumps(given))
        call(env, *PREFECT, "deployment", "run", "run-scene/latest-scene", *wanted)
        wait_until((out / SCENE / "run.json").is_file, process, log, every_s=1)
        wait_until(lambda: completed(port, "run-scene"), process, log, every_s=1)
    deployment = httpx.get(f"{api}/deployments/name/run-scene/latest-scene", timeout=60).json()
    for each in deployment["parameter_openapi_schema"]["properties"].values():
        assert each["description"]
    names = {run["name"] for run in httpx.post(f"{api}/flow_runs/filter", json={}, timeout=60).json()}
    assert {scene.name, SCENE} <= names


SAVE_FOLDER = """
from prefect.filesystems import LocalFileSystem
LocalFileSystem(basepath={!r}).save("layers")
"""
SAVE_SECRETS = """
import os
from prefect.blocks.system import Secret
for block, variable in (("aws-key-id", "AWS_ACCESS_KEY_ID"), ("aws-secret", "AWS_SECRET_ACCESS_KEY")):
    Secret(value=os.environ[variable]).save(f"truckscape-{block}")
"""
FROM_BLOCKS = {
    "AWS_ACCESS_KEY_ID": "{{ prefect.blocks.secret.truckscape-aws-key-id }}",
    "AWS_SECRET_ACCESS_KEY": "{{ prefect.blocks.secret.truckscape-aws-secret }}",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_credentials_of_blocks_reach_the_store_and_nothing_that_is_kept(server, tmp_path, monkeypatch):
    """The pool's template names the blocks; no file of server, worker and run has what is in them."""
    port, env = server
    incoming, out, log = write_scenes(tmp_path / "in", (SCENE,)), tmp_path / "out", tmp_path / "worker.log"
    template = tmp_path / "pool.json"
    with s3_server(monkeypatch, "layers") as endpoint:
        secrets = {name: os.environ[name] for name in FROM_BLOCKS}
        store = pytest.importorskip("boto3").client("s3")
        call({**env, **secrets}, PYTHON, "-c", SAVE_SECRETS)
        pool = (*PREFECT, "work-pool")
        call(env, *pool, "get-default-base-job-template", "--type", "process", "--file", str(template))
        tree = json.loads(template.read_text())
        tree["variables"]["properties"]["env"]["default"] = FROM_BLOCKS
        template.write_text(json.dumps(tree))
        call(env, *pool, "create", "--type", "process", "--base-job-template", str(template), "truckscape")
        options = ("--folder", str(incoming), "--out", str(out), "--set", "publish.url=s3://layers/north")
        call(env, *TRUCKSCAPE, "schedule", "--every", "5", "--pool", "truckscape", *options)
        where = {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
        worker = [*PREFECT, "worker", "start", "--pool", "truckscape"]
        with started(worker, {**env, **where}, log) as process:
            wait_until(lambda: completed(port) >= 1, process, log, every_s=1)
        assert states(out) == {SCENE: ("done", 1)}
        published = store.get_object(Bucket="layers", Key=f"north/{SCENE}/run.json")["Body"].read()
    assert published == (out / SCENE / "run.json").read_bytes()
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    names = {path.name for path in kept}
    assert {"worker.log", "server.log", "log.jsonl", "report.html", "prefect.db"} <= names
    assert any(b"truckscape-aws-secret" in what for path, what in kept.items() if "prefect.db" in path.name)
    for value in secrets.values():
        assert [path for path, what in kept.items() if value.encode() in what] == []


def deployment(incoming: Path, out: Path, folder: Path) -> Path:
    """That of prefect.yaml, for a folder and every few seconds."""
    tree = yaml.safe_load((HOUSE / "prefect.yaml").read_text())
    (wanted,) = (each for each in tree["deployments"] if each["name"] == "new-scenes")
    wanted["parameters"] = {"folder": str(incoming), "out": str(out), "settings": ["engine.threads=1"]}
    wanted["schedules"] = [{"interval": EVERY_S, "active": True}]
    path = folder / "prefect.yaml"
    path.write_text(yaml.safe_dump({**tree, "deployments": [wanted]}))
    return path
