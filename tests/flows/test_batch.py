"""A batch under a real Prefect, as the command line starts it and as a deployment calls it."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import write_geotiff
from tests.flows.processes import PATIENT, kept_by_prefect
from tests.flows.test_scene import run

GOOD = ("T32UPD_20230601T102031", "T32UPD_20230606T102031")
BROKEN = "T32UPD_20230603T102031"
SETTINGS = ["--set", "landcover.enabled=false", "--set", "engine.threads=1"]


@pytest.fixture(scope="module")
def worked_off(tmp_path_factory):
    """A batch of three scenes, one of them broken: (process, input, output, Prefect's home)."""
    incoming, out = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    home = tmp_path_factory.mktemp("prefect")
    for seed, name in enumerate((*GOOD, BROKEN)):
        pixels = np.random.default_rng(seed).integers(1000, 2500, (4, 64, 64)).astype(np.uint16)
        write_geotiff(incoming / f"{name}.tif", pixels)
    broken = incoming / f"{BROKEN}.tif"
    broken.write_bytes(broken.read_bytes()[:-3000])
    done = run(["batch", "--folder", str(incoming), "--out", str(out), *SETTINGS], home)
    return done, incoming, out, home


@pytest.mark.longer
def test_it_ends_with_a_table_and_a_status_of_its_own(worked_off):
    done, _, out, _ = worked_off
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["done", "2"] in lines
    assert ["quarantined", "1"] in lines
    assert "--retry-quarantined" in done.stdout
    assert str(out / "catalog.json") in done.stdout
    assert re.search(rf"\d of 3: {BROKEN}: quarantined", done.stderr)
    assert {path.parent.name for path in out.glob("*/run.json")} == set(GOOD)


@pytest.mark.longer
def test_every_scene_is_a_sub_flow_and_the_batch_has_an_artifact(worked_off):
    _, _, _, home = worked_off
    kept = kept_by_prefect(
        home,
        "[{run.name: [run.state_name, run.parent_task_run_id is not None] for run in runs},"
        " [artifact.data for artifact in artifacts if artifact.key == 'batch-summary']]",
    )
    for name, state in ((GOOD[0], "Completed"), (GOOD[1], "Completed"), (BROKEN, "Failed")):
        assert f'"{name}.tif": ["{state}", true]' in kept
    assert "| quarantined | 1 |" in kept


@pytest.mark.longer
def test_status_shows_the_ledger(worked_off):
    _, _, out, home = worked_off
    shown = run(["status", str(out)], home)
    assert shown.returncode == 0
    assert BROKEN in shown.stdout
    assert GOOD[0] not in shown.stdout
    assert "truncated or damaged" in " ".join(shown.stdout.split())
    assert GOOD[0] in run(["status", str(out), "--all"], home).stdout


def test_status_of_a_folder_without_a_batch_is_one_line(tmp_path):
    shown = run(["status", str(tmp_path)], tmp_path)
    assert shown.returncode == 1
    assert shown.stderr.startswith("error: No batch ran into")


def test_a_batch_of_nothing_is_one_line(tmp_path):
    done = run(["batch", "--out", str(tmp_path)], tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: No scene was named; give scenes, --list, --folder or --stac."


@pytest.mark.longer
def test_the_deployments_entry_point_takes_plain_text(worked_off):
    """The same scenes once more: what is done stays, what is broken is told."""
    _, incoming, out, home = worked_off
    script = f"""
from flows.batch import batch
print("COUNTS", batch(out={str(out)!r}, folder={str(incoming)!r},
    settings=["landcover.enabled=false", "engine.threads=1"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PREFECT_HOME": str(home), **PATIENT},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "COUNTS {'done': 0, 'done before, or by another batch': 2, 'quarantined': 1" in done.stdout, (
        done.stderr[-2000:]
    )
