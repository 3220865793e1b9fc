"""The command line as people meet it: help, one clear line for each mistake, exit statuses."""

import json
import os
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pytest
from shapely import Point
from typer.testing import CliRunner

from pipeline import __version__, cli
from tests.conftest import write_geotiff

HEAVY = ("torch", "scipy", "rasterio", "geopandas", "pandas", "shapely", "matplotlib", "prefect", "lightning")


def truckscape(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )


def refused(capsys, monkeypatch, *arguments: str) -> str:
    """The one line that a command ends with, exit status 1, nothing on standard output."""
    monkeypatch.setattr(sys, "argv", ["truckscape", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    streams = capsys.readouterr()
    assert end.value.code == 1
    assert streams.out == ""
    (line,) = streams.err.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """`truckscape run` without an orchestrator, that is expected to fail before it writes anything."""

    def refuse(*arguments: str) -> str:
        out = tmp_path / "out"
        line = refused(capsys, monkeypatch, "run", *arguments, "--out", str(out), "--no-prefect")
        assert not out.exists()
        return line

    return refuse


@pytest.fixture
def scene(tmp_path) -> str:
    return str(write_geotiff(tmp_path / "scene.tif", np.full((4, 20, 20), 1000, np.uint16)))


@pytest.mark.parametrize(
    "command",
    [
        *("", "run", "simulate", "evaluate trucks", "models anatomy", "models measure"),
        *("train detector", "train segmenter"),
    ],
)
def test_help_has_an_example_or_the_commands(command):
    result = CliRunner().invoke(cli.app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "truckscape" in result.output or "root" in result.output


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["run", "--help"], ["models", "--help"], ["models", "list"]]
)
def test_what_needs_no_pixels_imports_nothing_heavy(words):
    """Help must come at once; what counts is what is imported, for seconds depend on the machine."""
    code = (
        "import sys\nfrom pipeline.cli import app\n"
        f"try:\n    app({words!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('imported:', *({set(HEAVY)!r} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "imported:\n"


def test_the_version_is_the_packages():
    assert CliRunner().invoke(cli.app, ["--version"]).output == f"truckscape {__version__}\n"


def test_wrong_usage_is_status_2():
    assert truckscape("run").returncode == 2
    assert truckscape("fly").returncode == 2


def test_a_missing_scene(run):
    line = run("/nowhere/S2A.SAFE")
    assert "No such file or folder: /nowhere/S2A.SAFE" in line


def test_not_a_product(run, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "notes.txt" in run(str(tmp_path / "notes.txt"))


def test_a_missing_band_is_named_with_what_is_there(run, tmp_path):
    path = write_geotiff(tmp_path / "three.tif", np.full((4, 20, 20), 1000, np.uint16), described=False)
    line = run(str(path), "--bands", "B02,B03,B04,B05")
    assert "B08" in line
    assert "B02" in line


def test_a_scene_without_crs(run, tmp_path):
    path = write_geotiff(tmp_path / "bare.tif", np.full((4, 20, 20), 1000, np.uint16), crs=None)
    assert "coordinate reference system" in run(str(path))


def test_an_unknown_setting_names_the_nearest(run, scene):
    assert "Did you mean tiling.tile_px?" in run(scene, "--set", "tiling.tile_size_px=256")


def test_a_setting_out_of_range(run, scene):
    assert "tiling.tile_px" in run(scene, "--set", "tiling.tile_px=0")


def test_a_bundle_that_is_not_there(run, scene):
    assert "No model bundle at nothing" in run(scene, "--set", "trucks.bundle=nothing")


def test_roads_without_crs(run, scene, tmp_path):
    gpd.GeoDataFrame(geometry=[Point(0, 0)]).to_file(tmp_path / "roads.gpkg")
    assert "roads.gpkg" in run(scene, "--roads", str(tmp_path / "roads.gpkg"))


def test_labels_that_are_points(run, scene, tmp_path):
    gpd.GeoDataFrame(geometry=[Point(600050, 5799950)], crs=32632).to_file(tmp_path / "points.gpkg")
    assert "olygon" in run(scene, "--truck-labels", str(tmp_path / "points.gpkg"))


def test_brackets_in_a_message_are_printed_as_they_are(run):
    assert "/nowhere/[b]x[/b].tif" in run("/nowhere/[b]x[/b].tif")


def test_an_output_folder_that_cannot_be_made(capsys, monkeypatch, scene, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused(capsys, monkeypatch, "run", scene, "--out", str(tmp_path / "file"), "--no-prefect")
    assert "choose another --out" in line


def test_debug_shows_where(tmp_path):
    done = truckscape("--debug", "run", "/nowhere", "--out", str(tmp_path / "out"), "--no-prefect")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_run_prints_what_came_out(capsys, monkeypatch, scene, tmp_path):
    monkeypatch.setattr(
        sys, "argv", ["truckscape", "run", scene, "--out", str(tmp_path / "out"), "--no-prefect"]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    streams = capsys.readouterr()
    assert "layers" in streams.out
    assert str(tmp_path / "out" / "scene") in streams.out.replace("\n", "")
    assert "1 of 1 tiles" in streams.err


def test_models_are_listed_shown_and_taken_apart():
    listed = CliRunner().invoke(cli.app, ["models", "list"]).output
    assert "faster_rcnn" in listed
    assert "unet" in listed
    shown = CliRunner().invoke(cli.app, ["models", "show", "trucks"]).output
    for expected in ("faster_rcnn", "a detection counts from", "Learned from", "licence", "f1", "GMAC; halo"):
        assert expected in shown
    anatomy = CliRunner().invoke(cli.app, ["models", "anatomy", "landcover"], env={"COLUMNS": "200"}).output
    assert "halo 112 px; stride 16 px" in anatomy


def test_simulate_and_evaluate(capsys, monkeypatch, tmp_path):
    for arguments in (
        ["simulate", "--out", str(tmp_path / "sim"), "--size", "128", "--seed", "3"],
        [
            "evaluate",
            "trucks",
            str(tmp_path / "sim/truth/trucks.gpkg"),
            str(tmp_path / "sim/truth/trucks.gpkg"),
            "--out",
            str(tmp_path / "scores"),
        ],
        ["evaluate", "compare", *[str(tmp_path / "scores")] * 2, "--out", str(tmp_path / "compared")],
        [
            "evaluate",
            "landcover",
            str(tmp_path / "sim/truth/landcover.tif"),
            str(tmp_path / "sim/truth/landcover.tif"),
            "--out",
            str(tmp_path / "areas"),
        ],
    ):
        monkeypatch.setattr(sys, "argv", ["truckscape", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0, capsys.readouterr().err
    assert "1.000" in capsys.readouterr().out
    assert (tmp_path / "scores" / "report.html").exists()


def test_what_happens_is_told_to_a_log(scene, tmp_path, monkeypatch, capsys):
    """A line of JSON each, with the scene and the shard; a failure too."""
    log = tmp_path / "log.jsonl"
    quick = ["--set", "landcover.enabled=false", "--set", "engine.threads=1", "--no-prefect"]
    line = ["run", scene, "--out", str(tmp_path / "out"), *quick]
    assert CliRunner().invoke(cli.app, ["--log", str(log), *line]).exit_code == 0
    reported = [json.loads(text) for text in log.read_text().splitlines()]
    assert {one["scene"] for one in reported} == {"scene"}
    assert [one["shard"] for one in reported if "stored" in one["message"]] == [0]
    assert "report" in [one["message"] for one in reported]
    monkeypatch.setenv("TRUCKSCAPE_LOG", str(log))
    refused(capsys, monkeypatch, "run", "nowhere", "--out", str(tmp_path / "out"))
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["level"] == "ERROR"
    assert last["message"].startswith("failed: No such file or folder: nowhere")


def test_a_log_on_standard_error(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["truckscape", "--log", "-", "run", "nowhere", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        cli.main()
    logged, shown = capsys.readouterr().err.strip().splitlines()
    assert json.loads(logged)["level"] == "ERROR"
    assert shown.startswith("error: ")
