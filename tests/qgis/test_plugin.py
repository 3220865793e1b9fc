"""The plugin as a user installs it, in QGIS without a window; started by `pytest -m qgis`.

Needs `apt-get install --no-install-recommends qgis python3-qgis qgis-providers`, QGIS 3.22 or later.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from qgis.pack import pack

pytestmark = [pytest.mark.qgis, pytest.mark.timeout(900)]

HOUSE = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).with_name("drive.py")
SETTINGS = "engine.threads=1\n\nengine.precision=float32"
STYLES = {
    "trucks": "graduatedSymbol",
    "vehicles": "graduatedSymbol",
    "road_segments": "graduatedSymbol",
    "not_seen": "categorizedSymbol",
    "seen": "categorizedSymbol",
    "landcover": "categorizedSymbol",
    "landcover.tif": "paletted",
}
"""Layers of a run with roads, from the top of the tree."""


@pytest.fixture(scope="module")
def profiles(tmp_path_factory) -> Path:
    """A folder of QGIS's profiles, with the plugin unpacked from its zip."""
    there = Path(PYTHON).exists() and subprocess.run(
        [PYTHON, "-c", "import qgis.core"], check=False, capture_output=True, cwd="/"
    )
    if not there or there.returncode:
        pytest.skip(f"needs QGIS for {PYTHON}: apt-get install qgis python3-qgis qgis-providers")
    folder = tmp_path_factory.mktemp("profiles")
    pack(folder / "truckscape.zip")
    with zipfile.ZipFile(folder / "truckscape.zip") as archive:
        archive.extractall(folder / "profiles" / "default" / "python" / "plugins")
    return folder


@pytest.fixture(scope="module")
def command(profiles) -> Path:
    """The command line of this checkout as a program."""
    program = profiles / "truckscape command"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{HOUSE}" exec "{sys.executable}" -m pipeline.cli "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)
    return program


def drive(profiles: Path, command: Path, *jobs: dict) -> dict:
    done = subprocess.run(
        [PYTHON, str(SCRIPT), json.dumps(jobs), str(command)],
        env={
            **os.environ,
            "QGIS_CUSTOM_CONFIG_PATH": str(profiles),
            "QT_QPA_PLATFORM": "offscreen",
            "XDG_RUNTIME_DIR": str(profiles),
            "PYTHONPATH": str(profiles / "of-qgis"),  # must not reach the command
        },
        cwd=profiles,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def reported(profiles, command, product) -> dict:
    """A run with labels, the same opened again, its scores and its traffic."""
    out, truth = profiles / "layers", product.roads.parent
    scene = out / product.safe.stem
    run = {
        "SCENE": str(product.safe),
        "ROADS": f"{product.roads}|layername=roads",
        "TRUCK_LABELS": str(truth / "trucks.gpkg"),
        "LANDCOVER_LABELS": str(truth / "landcover.tif"),
        "SETTINGS": SETTINGS,
        "OUT": str(out),
    }
    scored = {"RUN": str(scene), "LABELS": str(truth / "trucks.gpkg"), "OUT": str(profiles / "scores")}
    land = {"RUN": str(scene), "LABELS": str(truth / "landcover.tif"), "OUT": str(profiles / "land")}
    return drive(
        profiles,
        command,
        {"id": "truckscape:run", "parameters": run},
        {"id": "truckscape:open", "parameters": {"RESULTS": str(out)}},
        {"id": "truckscape:evaluatetrucks", "parameters": scored},
        {"id": "truckscape:evaluatelandcover", "parameters": {**land, "LOAD": False}},
        {"id": "truckscape:traffic", "parameters": {"RUNS": str(out), "OUT": "TEMPORARY_OUTPUT"}},
    )


def test_the_toolbox_has_the_algorithms(reported):
    assert reported["icon"]
    assert reported["algorithms"] == {
        "truckscape:run": "Detect trucks and map land cover",
        "truckscape:evaluatetrucks": "Score trucks",
        "truckscape:evaluatelandcover": "Score land cover",
        "truckscape:traffic": "Traffic of several dates",
        "truckscape:open": "Open results",
    }


def test_a_run_shows_its_steps_and_tiles(reported):
    run = reported["jobs"][0]
    assert "error" not in run
    assert any(line.startswith("opening ") for line in run["lines"])
    assert max(run["percentages"]) == 100


@pytest.mark.parametrize("job", [0, 1], ids=["run", "open"])
def test_its_layers_are_in_a_group_with_their_styles(reported, product, job):
    (group,) = reported["jobs"][job]["tree"]
    assert group["name"] == product.safe.stem
    evaluation, *layers = group["inside"]
    assert {layer["name"]: layer["renderer"] for layer in layers} == STYLES
    assert [layer["name"] for layer in layers] == list(STYLES)
    assert [layer["name"] for layer in layers if layer["shown"]] == [
        "trucks",
        "road_segments",
        "landcover.tif",
    ]
    assert all(layer["count"] > 0 for layer in layers if layer["name"] != "landcover.tif")
    assert (evaluation["name"], evaluation["shown"]) == ("evaluation", False)
    assert [layer["name"] for layer in evaluation["inside"]] == ["case: trucks", "case: landcover"]


def test_scores_and_traffic_are_opened_where_that_is_wanted(reported):
    scores, land, traffic = reported["jobs"][2:]
    assert Path(scores["returned"]["REPORT"]).is_file()
    assert [layer["name"] for layer in scores["tree"][0]["inside"]] == ["case: trucks"]
    assert Path(land["returned"]["REPORT"]).is_file()
    assert land["tree"] == []
    assert Path(traffic["returned"]["REPORT"]).name == "index.html"
    assert "trucks" in [layer["name"] for layer in traffic["tree"][0]["inside"]]


def test_errors_are_the_line_of_the_command_and_cancelling_ends_it(profiles, command, product):
    run = {"SCENE": str(product.safe), "SETTINGS": SETTINGS, "OUT": str(profiles / "cancelled")}
    missing, wrong, cancelled = drive(
        profiles,
        command,
        {"id": "truckscape:run", "parameters": {**run, "SCENE": "/no/such.SAFE"}},
        {"id": "truckscape:run", "parameters": {**run, "SETTINGS": "engine.threads=many"}},
        {"id": "truckscape:run", "parameters": run, "cancel_at": "opening"},
    )["jobs"]
    assert missing["error"].startswith("No such file or folder: /no/such.SAFE.")
    assert "engine.threads" in wrong["error"]
    assert cancelled["tree"] == []
    assert not list((profiles / "cancelled").glob("*/run.json"))


def test_a_wrong_command_is_one_line_that_says_where_to_name_it(profiles):
    run = {"SCENE": "scene.zip", "OUT": str(profiles / "none")}
    (job,) = drive(profiles, profiles / "truckscape.zip", {"id": "truckscape:run", "parameters": run})["jobs"]
    assert "truckscape.zip is not a program" in job["error"]
    assert "Settings > Options > Processing" in job["error"]
