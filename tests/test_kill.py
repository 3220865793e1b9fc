"""A run that is killed at any moment and started again ends in the same bytes; only missing shards are made.

Runs are real processes that are killed.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import geopandas as gpd
import pytest
from geopandas.testing import assert_geodataframe_equal

from pipeline.config import load_config
from pipeline.run import Request, run_directly
from tests.conftest import only_on
from tests.killing import KILLED, PATIENCE_S, begin, kill_when

SETTINGS = [
    "engine.threads=1",
    "engine.precision=float32",
    "tiling.tile_px=64",
    "tiling.shards=4",
    "landcover.probabilities=true",
]
RASTERS = ("landcover.tif", "landcover_probability.tif")


@dataclass(frozen=True)
class Undisturbed:
    """A run nobody disturbed."""

    folder: Path
    seconds: float


def request(product, out: Path) -> Request:
    return Request(
        str(product.safe),
        out,
        load_config(None, SETTINGS),
        roads=product.roads,
        truck_labels=product.trucks,
        landcover_labels=product.landcover,
    )


def start(product, out: Path) -> BaseProcess:
    return begin(run_directly, request(product, out))


@pytest.fixture(scope="module")
def undisturbed(product, tmp_path_factory) -> Undisturbed:
    out = tmp_path_factory.mktemp("undisturbed")
    warm = start(product, out / "warm")  # the server imports, the files come into memory
    warm.join(PATIENCE_S)
    begun = time.monotonic()
    process = start(product, out)
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    return Undisturbed(out / product.safe.stem, time.monotonic() - begun)


def shards(folder: Path) -> dict[str, tuple[int, int]]:
    """Which shards there are: (inode, when written) by name. A file that is written again has others."""
    files = [file for file in (folder / ".shards").glob("*.npz") if not file.name.startswith(".")]
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def assert_as_undisturbed(folder: Path, undisturbed: Undisturbed, kept: dict[str, tuple[int, int]]) -> None:
    """The same files, none else; the same bytes of what the contract names; no shard computed twice."""
    assert everything(folder) == everything(undisturbed.folder)
    for name in ("trucks.geojson", *RASTERS, *(f".shards/{name}" for name in shards(folder))):
        assert digest(folder / name) == digest(undisturbed.folder / name), name
    for file, layer in (("trucks", "trucks"), ("trucks", "seen"), ("landcover", "landcover")):
        ours, theirs = (
            gpd.read_file(run / f"{file}.gpkg", layer=layer) for run in (folder, undisturbed.folder)
        )
        assert_geodataframe_equal(ours, theirs)
    assert kept.items() <= shards(folder).items()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.longer
def test_killed_among_shards_while_merging_and_while_writing(product, undisturbed, tmp_path):
    folder = tmp_path / product.safe.stem
    moments: list[Callable[[], bool]] = [
        lambda: len(shards(folder)) >= 2,
        lambda: any((folder / ".shards").glob(".merging.*")),
        (folder / "landcover.tif").exists,
    ]
    kept: dict[str, tuple[int, int]] = {}
    for moment in moments:
        process = start(product, tmp_path)
        kill_when(process, moment)
        assert process.exitcode == KILLED
        assert not (folder / "run.json").exists()
        assert kept.items() <= shards(folder).items()
        kept = shards(folder)
    assert len(kept) == 4
    again = start(product, tmp_path)
    again.join(PATIENCE_S)
    assert again.exitcode == 0
    assert_as_undisturbed(folder, undisturbed, kept)


@pytest.mark.slow
def test_killed_at_ten_random_moments(product, undisturbed, tmp_path):
    """One moment in each tenth of the time a run takes, so that every stage is hit."""
    chance = random.Random(time.time_ns())
    for tenth in range(10):
        out, moment = tmp_path / str(tenth), undisturbed.seconds * (tenth + chance.random()) / 10
        folder = out / product.safe.stem
        process = start(product, out)
        process.join(moment)
        process.kill()
        process.join()
        kept = shards(folder)
        again = start(product, out)
        again.join(PATIENCE_S)
        assert again.exitcode == 0, f"killed after {moment:.3f} s"
        assert_as_undisturbed(folder, undisturbed, kept)


@pytest.mark.slow
@only_on("linux", "darwin", why="groups of processes")
def test_killed_under_prefect(product, undisturbed, tmp_path):
    """The whole process group, with Prefect's server, as when a machine goes down."""
    folder = tmp_path / "out" / product.safe.stem
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "run",
        str(product.safe),
        "--out",
        str(tmp_path / "out"),
    ]
    labels = ["--truck-labels", str(product.trucks), "--landcover-labels", str(product.landcover)]
    given = ["--roads", str(product.roads), *labels, *(f"--set={setting}" for setting in SETTINGS)]
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "OMP_NUM_THREADS": "1"}

    def run_until(is_time: Callable[[], bool]) -> int:
        with subprocess.Popen(
            [*command, *given],
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            deadline = time.monotonic() + PATIENCE_S
            while process.poll() is None and not is_time() and time.monotonic() < deadline:
                time.sleep(0.002)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode

    assert run_until(lambda: len(shards(folder)) >= 2) == -signal.SIGKILL
    kept = shards(folder)
    assert run_until(lambda: False) == 0
    assert_as_undisturbed(folder, undisturbed, kept)
