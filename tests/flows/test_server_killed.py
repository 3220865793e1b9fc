"""Prefect's server, or a flow's process, killed in the middle: no work is lost, and none is done twice.

Servers, workers and runs are real processes, ended by SIGKILL.
"""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from pipeline.models.bundle import open_bundle
from pipeline.operations.ledger.owners import Owner
from tests.conftest import write_geotiff
from tests.flows.processes import (
    PYTHON,
    TRUCKSCAPE,
    environment,
    free_port,
    prefect_server,
    started,
    wait_until,
)
from tests.flows.test_runners import same_bytes
from tests.flows.test_schedule import EVERY_S, completed, states, written
from tests.flows.test_training import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SCENES = ("T32UPD_20230601T102031", "T32UPD_20230606T102031", "T32UPD_20230611T102031")
SETTINGS = ["tiling.tile_px=64", "tiling.shards=4", "engine.precision=float32", "engine.threads=1"]
GIVEN = [text for setting in SETTINGS for text in ("--set", setting)]
IMPATIENT = {"PREFECT_CLIENT_MAX_RETRIES": "1"}
PATIENT = {"PREFECT_CLIENT_MAX_RETRIES": "7"}
"""Prefect's 5 are a minute: a busy machine may need more to start a server again."""
GONE = "Prefect's server does not answer any more: the run continues without its record."


@pytest.fixture
def address(tmp_path):
    """A port for a Prefect server, and the environment of the server and its clients."""
    port = free_port()
    return port, environment(tmp_path / "prefect", PREFECT_API_URL=f"http://127.0.0.1:{port}/api")


def write_scene(folder: Path, number: int) -> None:
    """One of four tiles, from north to south, of fields of 80 m."""
    fields = np.random.default_rng(number).integers(1000, 2500, (4, 32, 8)).astype(np.uint16)
    write_geotiff(folder / f"{SCENES[number]}.tif", fields.repeat(8, axis=1).repeat(8, axis=2))


@pytest.fixture(scope="module")
def incoming(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    for number in range(len(SCENES)):
        write_scene(folder, number)
    return folder


@pytest.fixture(scope="module")
def undisturbed(incoming, tmp_path_factory) -> Path:
    """The layers of the scenes, without Prefect."""
    out = tmp_path_factory.mktemp("undisturbed")
    command = [*TRUCKSCAPE, "batch", "--folder", str(incoming), "--out", str(out), *GIVEN, "--no-prefect"]
    subprocess.run(command, env=environment(out / ".prefect"), check=True, capture_output=True)
    return out


def stored(log: Path) -> Counter[tuple[str, int]]:
    """How often each shard was computed, by scene and number."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    said = [json.loads(line) for line in lines if line.endswith("}")]
    return Counter((line["scene"], line["shard"]) for line in said if line["message"].endswith("stored"))


def once_each(*scenes: str) -> dict[tuple[str, int], int]:
    return {(scene, shard): 1 for scene in scenes for shard in range(4)}


def kill(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


# --- one scene ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", ["threads", "processes"])  # processes haven't begun their tasks then
def test_a_run_goes_on_without_its_server(address, incoming, undisturbed, tmp_path, runner):
    port, env = address
    out, log, said = tmp_path / "out", tmp_path / "log.jsonl", tmp_path / "run.log"
    options = ["--out", str(out), *GIVEN, "--set", f"runner.kind={runner}"]
    command = [*TRUCKSCAPE, "--log", str(log), "run", str(incoming / f"{SCENES[0]}.tif"), *options]
    with (
        prefect_server(port, env, tmp_path / "server.log") as server,
        started(command, {**env, **IMPATIENT}, said) as run,
    ):
        wait_until(
            lambda: stored(log) or (runner == "processes" and "to compute" in said.read_text()), run, said
        )
        kill(server)
        assert len(stored(log)) < 4, "the server was to be killed in the middle"
        assert run.wait(300) == 0, said.read_text()
    assert said.read_text().count(GONE) == 1
    assert "Traceback" not in said.read_text() and "EventsWorker" not in said.read_text()
    assert stored(log) == once_each(SCENES[0])
    assert same_bytes(out / SCENES[0], undisturbed / SCENES[0])


def test_a_run_without_its_server_ends_when_it_is_told_to(address, incoming, undisturbed, tmp_path):
    """SIGTERM counts, though Prefect can tell nobody; the same command does what is missing."""
    port, env = address
    out, log, said = tmp_path / "out", tmp_path / "log.jsonl", tmp_path / "run.log"
    scene = ["run", str(incoming / f"{SCENES[0]}.tif"), "--out", str(out), *GIVEN]
    command = [*TRUCKSCAPE, "--log", str(log), *scene]
    with (
        prefect_server(port, env, tmp_path / "server.log") as server,
        started(command, {**env, **IMPATIENT}, said) as run,
    ):
        wait_until(lambda: stored(log), run, said)
        kill(server)
        run.terminate()
        assert run.wait(300) == 128 + signal.SIGTERM, said.read_text()
    assert "Traceback" not in said.read_text() and GONE not in said.read_text()
    assert not (out / SCENES[0] / "run.json").exists()
    subprocess.run([*command, "--no-prefect"], env=env, check=True, capture_output=True)
    assert stored(log) == once_each(SCENES[0])
    assert same_bytes(out / SCENES[0], undisturbed / SCENES[0])


def test_a_server_that_is_not_there_is_one_line(address, incoming, tmp_path):
    _, env = address
    command = [*TRUCKSCAPE, "run", str(incoming / f"{SCENES[0]}.tif"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: Prefect's server does not answer")
    assert "--no-prefect" in line


def test_a_training_goes_on_without_its_server(address, tmp_path):
    port, env = address
    out, said = tmp_path / "run", tmp_path / "run.log"
    settings = [text for setting in (*SMALL, "steps=20") for text in ("--set", setting)]
    folders = ["--out", str(out), "--publish", str(tmp_path / "models")]
    with (
        prefect_server(port, env, tmp_path / "server.log") as server,
        started([*TRUCKSCAPE, "train", "detector", *folders, *settings], {**env, **IMPATIENT}, said) as run,
    ):
        wait_until(lambda: "step " in said.read_text(), run, said)
        kill(server)
        assert not (tmp_path / "models").exists(), "the server was to be killed in the middle"
        assert run.wait(300) == 0, said.read_text()
    assert said.read_text().count(GONE) == 1
    assert "Traceback" not in said.read_text()
    published = open_bundle(str(tmp_path / "models" / "trucks"))
    assert published.card == open_bundle(str(out / "bundle")).card


# --- many scenes ----------------------------------------------------------------------------------------


def batch(incoming: Path, out: Path) -> list[str]:
    return [*TRUCKSCAPE, "batch", "--folder", str(incoming), "--out", str(out), *GIVEN]


def in_the_second(out: Path) -> bool:
    return any(scene == SCENES[1] for scene, _ in stored(out / "log.jsonl"))


def assert_done_once(out: Path, undisturbed: Path) -> None:
    assert states(out) == dict.fromkeys(SCENES, ("done", 1))
    assert stored(out / "log.jsonl") == once_each(*SCENES)
    assert all(same_bytes(out / scene, undisturbed / scene) for scene in SCENES)


def test_a_batch_does_not_mind_a_server_that_is_started_again(address, incoming, undisturbed, tmp_path):
    port, env = address
    out, said = tmp_path / "out", tmp_path / "batch.log"
    with ExitStack() as stack:
        server = stack.enter_context(prefect_server(port, env, tmp_path / "first.log"))
        process = stack.enter_context(started(batch(incoming, out), {**env, **PATIENT}, said))
        wait_until(lambda: in_the_second(out), process, said)
        kill(server)
        assert not (out / SCENES[1] / "run.json").exists(), "the server was to be killed in the middle"
        time.sleep(3)
        stack.enter_context(prefect_server(port, env, tmp_path / "second.log"))
        assert process.wait(400) == 0, said.read_text()
    assert "Traceback" not in said.read_text()
    assert_done_once(out, undisturbed)


def test_a_batch_goes_on_without_its_server(address, incoming, undisturbed, tmp_path):
    port, env = address
    out, said = tmp_path / "out", tmp_path / "batch.log"
    with (
        prefect_server(port, env, tmp_path / "server.log") as server,
        started(batch(incoming, out), {**env, **IMPATIENT}, said) as process,
    ):
        wait_until(lambda: in_the_second(out), process, said)
        kill(server)
        assert process.wait(400) == 0, said.read_text()
    assert said.read_text().count(GONE) == 1
    assert "Traceback" not in said.read_text() and "quarantined after" not in said.read_text()
    assert_done_once(out, undisturbed)


# --- a schedule and the worker of a pool ----------------------------------------------------------------


@pytest.fixture
def one_scene(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    write_scene(tmp_path / "in", 0)
    return tmp_path / "in"


def put_on_schedule(env: dict[str, str], incoming: Path, out: Path) -> list[str]:
    """Enter it, every few seconds; returns the command of a worker."""
    prefect = [PYTHON, "-m", "prefect", "--no-prompt"]
    pool = [*prefect, "work-pool", "create", "--type", "process", "truckscape"]
    options = ["--folder", str(incoming), "--out", str(out), *GIVEN]
    entry = [*TRUCKSCAPE, "schedule", "--every", str(EVERY_S / 86400), "--pool", "truckscape", *options]
    for command in (pool, entry):
        subprocess.run(command, env=env, check=True, capture_output=True)
    return [*prefect, "worker", "start", "--pool", "truckscape"]


def test_a_worker_finishes_when_its_server_is_started_again(address, one_scene, undisturbed, tmp_path):
    port, env = address
    out, said = tmp_path / "out", tmp_path / "worker.log"
    with ExitStack() as stack:
        server = stack.enter_context(prefect_server(port, env, tmp_path / "first.log"))
        worker = stack.enter_context(started(put_on_schedule(env, one_scene, out), {**env, **PATIENT}, said))
        wait_until(lambda: stored(out / "log.jsonl"), worker, said)
        kill(server)
        assert states(out)[SCENES[0]] == ("running", 1), "the server was to be killed in the middle"
        time.sleep(3)
        again = tmp_path / "second.log"
        stack.enter_context(prefect_server(port, env, again))
        wait_until(lambda: states(out)[SCENES[0]][0] == "done", worker, said)
        before = written(out)
        so_far = completed(port)
        wait_until(lambda: completed(port) >= so_far + 2, worker, said, every_s=3)
    assert states(out) == {SCENES[0]: ("done", 1)}
    assert stored(out / "log.jsonl") == once_each(SCENES[0])
    assert written(out) == before
    assert same_bytes(out / SCENES[0], undisturbed / SCENES[0])


def test_the_next_firing_finishes_what_a_killed_flow_left(address, one_scene, undisturbed, tmp_path):
    """Its slot of the deployment's limit of one is free again, too: else nothing would ever fire."""
    port, env = address
    out, said = tmp_path / "out", tmp_path / "worker.log"
    with (
        prefect_server(port, env, tmp_path / "server.log"),
        started(put_on_schedule(env, one_scene, out), env, said) as worker,
    ):
        wait_until(lambda: stored(out / "log.jsonl"), worker, said)
        os.kill(working_at(out), signal.SIGKILL)
        assert states(out)[SCENES[0]] == ("running", 1), "it was to be killed in the middle"
        wait_until(lambda: states(out)[SCENES[0]][0] == "done", worker, said)
        before = written(out)
        wait_until(lambda: completed(port) >= 2, worker, said, every_s=3)
    assert states(out) == {SCENES[0]: ("done", 2)}
    assert stored(out / "log.jsonl") == once_each(SCENES[0])
    assert written(out) == before
    assert same_bytes(out / SCENES[0], undisturbed / SCENES[0])


def working_at(out: Path) -> int:
    """The process that has claimed the scene, as the ledger tells."""
    with sqlite3.connect(out / "ledger.sqlite") as connection:
        (owner,) = connection.execute("SELECT owner FROM truckscape_scenes").fetchone()
    return Owner.parse(owner).process
