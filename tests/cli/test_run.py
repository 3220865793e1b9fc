"""`truckscape run`: what it prints, and one line for each mistake."""

import subprocess
import sys

import geopandas as gpd
import numpy as np
import pytest
from shapely import Point

from pipeline import cli
from tests.cli.test_app import refused
from tests.conftest import write_geotiff


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """`truckscape run` without an orchestrator, that is expected to fail before it writes anything."""

    def refuse(*arguments: str) -> str:
        out = tmp_path / "out"
        line = refused(capsys, monkeypatch, "run", *arguments, "--out", str(out), "--no-prefect")
        assert not out.exists()
        return line

    return refuse


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


def test_a_run_without_roads_suggests_them_in_one_line(capsys, tmp_path, scene):
    arguments = [
        "run",
        scene,
        "--out",
        str(tmp_path / "out"),
        "--no-prefect",
        "--set",
        "landcover.enabled=false",
    ]
    cli.app(arguments, standalone_mode=False)
    assert [line for line in capsys.readouterr().err.splitlines() if "--roads" in line] == [
        "roads: none; near roads more trucks and fewer look-alikes are found (--roads overpass)"
    ]


SLOW = {"geopandas", "pipeline.config", "prefect", "rich", "torch", "yaml"}
"""Modules that a mistyped path does not wait for."""


def imported_by(*arguments: str) -> tuple[list[str], set[str]]:
    """The lines on standard error of a command that fails, and which of the slow modules it has imported."""
    code = (
        "import sys\nfrom pipeline.cli import main\n"
        "try: main()\n"
        f"finally: print(*sorted({SLOW!r} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines(), set(done.stdout.split())


def test_a_mistyped_path_imports_nothing_that_takes_seconds(tmp_path):
    (line,), imported = imported_by("/nowhere/S2A.SAFE", "--out", str(tmp_path / "out"))
    assert line.startswith("error: No such file or folder: /nowhere/S2A.SAFE")
    assert imported == set()


def test_roads_are_checked_after_the_first_line_and_before_torch_and_prefect(scene, tmp_path):
    roads = tmp_path / "roads.gpkg"
    roads.write_text("none")
    (first, *_, last), imported = imported_by(scene, "--roads", str(roads), "--out", str(tmp_path / "out"))
    assert first == f"opening {scene}"
    assert last.startswith("error: ")
    assert "roads.gpkg" in last
    assert imported == SLOW - {"prefect", "torch"}
