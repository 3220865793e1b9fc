"""A training under a real Prefect, as the command line starts it and as a deployment does."""

import subprocess
from pathlib import Path

import pytest

from pipeline.models.bundle import open_bundle
from tests.flows.test_scene import run

TINY = "{channels: [8, 8, 8], features: 8, anchor_sizes: [4.0], anchor_ratios: [1.0], head: 8}"
SMALL = [
    *("steps=2", "batch=2", "chip_px=32", "simulated=[3]", "simulated_px=128", "threads=1"),
    f"arguments={TINY}",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("training")
    settings = [text for setting in SMALL for text in ("--set", setting)]
    folders = ["--out", str(out / "run"), "--publish", str(out / "models")]
    done = run(["train", "detector", *folders, *settings], tmp_path_factory.mktemp("prefect"))
    assert done.returncode == 0, done.stderr[-2000:]
    return done, out


@pytest.mark.longer
def test_it_ends_in_a_bundle_that_is_published(trained):
    done, out = trained
    published = open_bundle(str(out / "models" / "trucks"))
    assert published.card == open_bundle(str(out / "run" / "bundle")).card
    assert str(out / "models" / "trucks") in done.stdout.replace("\n", "")


@pytest.mark.longer
def test_progress_is_told_in_lines_where_there_is_no_terminal(trained):
    done, _ = trained
    assert "step 2 of 2: " in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.longer
def test_a_failure_inside_the_flow_is_one_line(trained, tmp_path):
    """The settings are good, but the folder holds a training with others."""
    _, out = trained
    settings = [text for setting in (*SMALL, "seed=5") for text in ("--set", setting)]
    done = run(["train", "detector", "--out", str(out / "run"), *settings], tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error:") and "another seed: 0, now 5" in last
