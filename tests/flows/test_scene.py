"""The flow under a real Prefect, with its own database, as the command line starts it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import scene
from pipeline.report.page import ReportContext
from pipeline.run import Result
from tests.flows.processes import PATIENT, TRUCKSCAPE, kept_by_prefect


def run(arguments: list[str], home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line with a fresh Prefect home and no way to any network but loopback."""
    return subprocess.run(
        [*TRUCKSCAPE, *arguments],
        env={
            **os.environ,
            "PREFECT_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1,localhost",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(product, tmp_path_factory):
    """A run of the simulated product under Prefect: (process, output folder, Prefect's home)."""
    home, out = tmp_path_factory.mktemp("prefect"), tmp_path_factory.mktemp("out")
    settings = [text for setting in ("tiling.tile_px=128", "runner.workers=2") for text in ("--set", setting)]
    labels = ["--roads", str(product.roads), "--truck-labels", str(product.trucks)]
    done = run(["run", str(product.safe), "--out", str(out), *labels, *settings], home)
    assert done.returncode == 0, done.stderr
    return done, out / product.safe.stem, home


def test_the_layers_are_there(finished):
    done, folder, _ = finished
    assert (folder / "run.json").exists()
    assert "(simulated)" in done.stdout
    assert re.search(r"heavy vehicles against labels, 20 m\s+precision", done.stdout)
    assert str(folder) in done.stdout


def test_progress_is_told_in_lines_where_there_is_no_terminal(finished):
    done, _, _ = finished
    assert "2 of 2 shards to compute" in done.stderr
    assert "4 of 4 tiles" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_prefect_kept_the_run_its_tasks_and_the_summary(finished):
    _, folder, home = finished
    names = "[run.name for run in runs], [task.name for task in tasks]"
    kept = kept_by_prefect(home, f"[{names}, [artifact.data for artifact in artifacts]]")
    assert folder.name in kept
    assert "shard-0" in kept and "shard-1" in kept
    assert "landcover.gpkg" in kept


@pytest.mark.longer
def test_prefect_shows_summary_roads_and_map(finished):
    _, folder, home = finished
    artifacts = json.loads(kept_by_prefect(home, "{each.key: each.data for each in artifacts}"))
    assert set(artifacts) == {"scene-summary", "scene-roads", "scene-map"}
    assert f"(<{(folder / 'trucks.gpkg').as_uri()}>)" in artifacts["scene-summary"]
    roads = json.loads(artifacts["scene-roads"])
    assert sum(road["trucks"] or 0 for road in roads) > 0
    assert artifacts["scene-map"].startswith("data:image/webp;base64,")


@pytest.mark.longer
def test_a_failure_inside_the_flow_is_one_line(product, tmp_path):
    """The road file is good, the scene is good, but one band breaks off in the middle."""
    scene = tmp_path / product.safe.name
    shutil.copytree(product.safe, scene)
    (band,) = scene.rglob("*_B08_10m.jp2")
    band.write_bytes(band.read_bytes()[: band.stat().st_size // 2])
    done = run(["run", str(scene), "--out", str(tmp_path / "out")], tmp_path / "home")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error:") and band.name in last
    assert not (tmp_path / "out").exists()


@pytest.mark.longer
def test_the_deployments_entry_point_takes_plain_text(product, tmp_path):
    """`run_scene` as a worker calls it: all parameters are text."""
    script = f"""
from flows.scene import run_scene
print("FOLDER", run_scene(scene={str(product.safe)!r}, out={str(tmp_path / "out")!r},
    settings=["landcover.enabled=false", "tiling.shards=1"], roads={str(product.roads)!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PREFECT_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", **PATIENT},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert f"FOLDER {tmp_path / 'out' / product.safe.stem}" in done.stdout, done.stderr[-2000:]


@pytest.mark.longer
def test_processes_give_the_same(product, finished, tmp_path):
    _, folder, home = finished
    settings = ["tiling.tile_px=128", "runner.kind=processes", "runner.workers=2"]
    flat = [text for setting in settings for text in ("--set", setting)]
    done = run(["run", str(product.safe), "--out", str(tmp_path), "--roads", str(product.roads), *flat], home)
    assert done.returncode == 0, done.stderr
    other = tmp_path / product.safe.stem
    assert (other / "trucks.geojson").read_bytes() == (folder / "trucks.geojson").read_bytes()
    assert (other / "landcover.tif").read_bytes() == (folder / "landcover.tif").read_bytes()


def test_the_picture_of_the_report_is_not_kept_with_the_result(monkeypatch):
    """It has up to 10 MB, and a caller may hold the results of many scenes."""
    recorded = []
    monkeypatch.setattr(scene, "scene_artifacts", recorded.append)
    made = Result(Path("layers"), {}, {}, {}, shown=ReportContext("a report"))
    record = SimpleNamespace(keep=lambda artifacts: None)
    assert scene._work(lambda: None, lambda work: made, print, None, record).shown is None
    assert recorded == [made]
