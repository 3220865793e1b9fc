"""Shards on every kind of runner: real processes, a real Dask cluster, a real Ray instance."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from flows.runners import is_lost_worker, task_runner
from pipeline.config import Runner, load_config
from pipeline.errors import ConfigError, MissingExtraError
from tests.flows.clusters import dask_cluster
from tests.flows.processes import TRUCKSCAPE, children, environment, started, wait_until

SETTINGS = [
    "tiling.tile_px=64",
    "tiling.shards=4",
    "engine.precision=float32",
    "landcover.probabilities=true",
]

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("prefect_dask") is None, reason="needs the extra dask: pip install -e '.[dask]'"
)
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("prefect_ray") is None, reason="needs the extra ray: pip install -e '.[ray]'"
)


def test_runners_are_chosen_by_name():
    assert isinstance(task_runner(Runner(kind="threads", workers=3)), ThreadPoolTaskRunner)
    assert isinstance(task_runner(Runner(kind="processes")), ProcessPoolTaskRunner)


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_cluster_is_started_or_has_an_address(kind):
    pytest.importorskip(f"prefect_{kind}")
    assert task_runner(Runner(kind=kind, workers=2)).address is None
    assert task_runner(Runner(kind=kind, address="tcp://10.0.0.1:8786")).address == "tcp://10.0.0.1:8786"


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_runner_that_is_not_installed_is_named(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, f"prefect_{kind}", None)
    with pytest.raises(MissingExtraError, match=rf"truckscape\[{kind}\]"):
        task_runner(Runner(kind=kind))


def test_an_address_is_of_a_cluster():
    with pytest.raises(ConfigError, match=r"set runner\.kind=dask or ray"):
        load_config(None, ["runner.address=tcp://10.0.0.1:8786"])


def test_a_lost_worker_is_told_from_a_task_that_failed():
    assert is_lost_worker(BrokenProcessPool("a child process terminated abruptly"))
    assert not is_lost_worker(RuntimeError("the task's own"))


# --- real ones: all of them start processes that import torch, so all but one are slow ------------------


def command(product, out: Path, *settings: str) -> list[str]:
    flat = [text for setting in (*SETTINGS, *settings) for text in ("--set", setting)]
    return [*TRUCKSCAPE, "run", str(product.safe), "--out", str(out), "--roads", str(product.roads), *flat]


@pytest.fixture(scope="module")
def by_threads(product, tmp_path_factory) -> Path:
    """The layers as one process makes them."""
    out = tmp_path_factory.mktemp("threads")
    subprocess.run([*command(product, out), "--no-prefect"], env=environment(out / ".prefect"), check=True)
    return out / product.safe.stem


def same_bytes(one: Path, other: Path) -> bool:
    names = ("trucks.geojson", "landcover.tif", "landcover_probability.tif")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def finished_shards(folder: Path) -> dict[str, int]:
    """Names and times of writing."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob(".shards/[!.]*.npz")}


@pytest.fixture
def cluster(tmp_path):
    with dask_cluster(tmp_path) as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_dask
def test_a_dask_cluster_gives_the_same(product, by_threads, cluster, tmp_path):
    address, workers = cluster
    settings = ("runner.kind=dask", f"runner.address={address}", "runner.workers=2")
    done = subprocess.run(
        command(product, tmp_path / "out", *settings),
        env=environment(tmp_path / "prefect"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert same_bytes(tmp_path / "out" / product.safe.stem, by_threads)
    assert all(worker.poll() is None for worker in workers)
    for number in range(2):
        assert "Task run" in (tmp_path / f"worker-{number}.log").read_text(), "a worker without work"


@pytest.mark.longer
@pytest.mark.timeout(900)
@needs_dask
def test_a_dask_worker_that_is_killed_costs_its_shard(product, by_threads, cluster, tmp_path):
    address, (victim, survivor) = cluster
    folder, log = tmp_path / "out" / product.safe.stem, tmp_path / "run.log"
    # All four shards wait at the workers, so that each has one in hand while its first is written.
    settings = ("runner.kind=dask", f"runner.address={address}", "runner.workers=4", "engine.threads=1")
    run = command(product, tmp_path / "out", *settings)
    with started(run, environment(tmp_path / "prefect"), log) as process:
        wait_until(lambda: finished_shards(folder), process, log)
        before = finished_shards(folder)
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda: len(finished_shards(folder)) == 4, process, log)
        after = finished_shards(folder)
        assert process.wait(240) == 0, log.read_text()
    assert len(before) < 4
    assert {name: after[name] for name in before} == before
    assert same_bytes(folder, by_threads)
    assert survivor.poll() is None


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_dask
def test_a_dask_cluster_for_the_time_of_a_run(product, by_threads, tmp_path):
    done = subprocess.run(
        command(product, tmp_path / "out", "runner.kind=dask", "runner.workers=2"),
        env=environment(tmp_path / "prefect"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert same_bytes(tmp_path / "out" / product.safe.stem, by_threads)


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_ray
def test_a_ray_instance_gives_the_same(product, by_threads, tmp_path):
    done = subprocess.run(
        command(product, tmp_path / "out", "runner.kind=ray", "runner.workers=2"),
        env=environment(tmp_path / "prefect"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert same_bytes(tmp_path / "out" / product.safe.stem, by_threads)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_pool_that_loses_a_process_is_started_again(product, by_threads, tmp_path):
    folder, log = tmp_path / "out" / product.safe.stem, tmp_path / "run.log"
    settings = ("runner.kind=processes", "runner.workers=2", "engine.threads=1")
    with started(
        command(product, tmp_path / "out", *settings), environment(tmp_path / "prefect"), log
    ) as process:
        wait_until(lambda: finished_shards(folder), process, log)
        os.kill(children(process.pid, "spawn_main")[0], signal.SIGKILL)
        assert process.wait(240) == 0, log.read_text()
    assert "A worker ended in the middle of shard" in log.read_text()
    first, again = re.findall(r"(\d) of 4 shards to compute", log.read_text())
    assert int(again) < int(first) == 4
    assert same_bytes(folder, by_threads)
