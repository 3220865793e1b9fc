"""The public page: its names, its code as documented, its types."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import pytest

import truckscape as ts
from pipeline.errors import TruckscapeError
from pipeline.models import faster_rcnn
from pipeline.models.registry import FAMILIES
from tests.api.conftest import FAST

HOUSE = Path(__file__).resolve().parents[1]


def test_the_page_holds_no_code():
    page = ast.parse((HOUSE / "truckscape.py").read_text(encoding="utf-8"))
    docstring, *rest = page.body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(node, ast.ImportFrom | ast.Assign) for node in rest)


def test_type_checkers_see_the_same_names():
    """Types of a single module are installed as stubs (PEP 561); a package has `py.typed`."""
    page = (HOUSE / "truckscape.py").read_text(encoding="utf-8")
    stubs = (HOUSE / "truckscape-stubs" / "__init__.pyi").read_text(encoding="utf-8")
    assert page.partition('"""\n\n')[2] == stubs.partition("\n")[2]


def test_every_name_is_public_and_documented():
    imported = {name for name in vars(ts) if not name.startswith("_")} | {"__version__"}
    assert imported == set(ts.__all__)
    described = (HOUSE / "docs" / "api.md").read_text(encoding="utf-8")
    assert not [name for name in ts.__all__ if f"`{name}" not in described and f"ts.{name}" not in described]
    values = [getattr(ts, name) for name in ts.__all__]
    assert all(
        inspect.getdoc(value) for value in values if inspect.isclass(value) or inspect.isfunction(value)
    )


def test_all_errors_have_one_root():
    errors = [each for each in vars(ts).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert ts.Error is TruckscapeError
    assert all(issubclass(each, ts.Error) for each in errors)


def test_importing_it_takes_no_seconds():
    """The libraries of seconds are imported by the functions that need them."""
    code = "import truckscape, sys; print(*{'torch', 'geopandas', 'rasterio', 'xarray'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == ""


def test_it_imports_nothing_of_the_command_line():
    code = "import truckscape, sys; print(*{'typer', 'prefect', 'flows', 'pipeline.cli'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == ""


BLOCK = """
import truckscape as ts
scene  = ts.open("T32UPD.SAFE")
da     = scene.to_xarray(bands=["B04", "B03"], bounds=bounds, crs=4326)
trucks = ts.detect(scene, roads=gdf)
trucks = ts.detect(array, bands=names, transform=t, crs=c)
lc     = ts.landcover(scene, probabilities=True)
result = ts.run(scene, out="layers", roads=gdf)
table  = ts.traffic(["layers/a", "layers/b"])
score  = ts.evaluate(trucks, reference)
ts.register("detector", "mine", build)
"""
"""The promise of the API."""


def test_the_block_of_the_promise(product, tmp_path, monkeypatch):
    """The names around it are defined; nothing else is."""
    from rasterio.warp import transform_bounds

    monkeypatch.chdir(tmp_path)
    (tmp_path / "T32UPD.SAFE").symlink_to(product.safe, target_is_directory=True)
    opened = ts.open(product.safe)
    names = ["B02", "B03", "B04", "B08"]
    pixels = opened.to_xarray(bands=names)
    around = {
        "bounds": transform_bounds(opened.crs, "EPSG:4326", *opened.bounds),
        "gdf": gpd.read_file(product.roads),
        "array": pixels.values,
        "names": names,
        "t": pixels.odc.geobox.affine,
        "c": opened.crs,
        "reference": gpd.read_file(product.trucks),
        "build": faster_rcnn.FAMILY.network,
    }
    before = list(FAMILIES)
    try:
        for name in "ab":
            ts.run(opened, tmp_path / "layers" / name, roads=product.roads, settings=FAST)
        exec(BLOCK, around)
    finally:
        for family in FAMILIES:
            if family not in before:
                FAMILIES.remove(family)
    assert around["da"].shape[0] == 2
    assert around["lc"].dims == ("class", "y", "x")
    assert len(around["trucks"]) > 0
    assert set(around["result"].layers) >= {"trucks", "landcover", "road_segments"}
    assert around["table"]["trucks"].sum() > 0
    assert around["score"].metrics["trucks"]["centres"]["20m"]["recall"] > 0.3


SCRIPT = """
from pathlib import Path

import numpy as np
import truckscape as ts
from affine import Affine


def count(path: Path) -> int:
    scene: ts.Scene = ts.open(path, scale=1e-4)
    array = scene.to_xarray(bands=["B04"], bounds=scene.bounds, crs=scene.crs, chunks=512)
    values = np.zeros((4, 64, 64), np.float32)
    steps: list[str] = []

    def progress(step: str, done: int, total: int) -> None:
        steps.append(step)

    place = Affine(10.0, 0.0, 0.0, 0.0, -10.0, 0.0)
    trucks = ts.detect(values, bands=["B02", "B03", "B04", "B08"], transform=place, crs=32632)
    trucks = ts.detect(scene, roads="roads.gpkg", progress=progress)
    result = ts.run(scene, out="layers", roads=trucks, settings={"engine.threads": 1})
    score = ts.evaluate(result.layers["trucks"], "labels.gpkg")
    cover = ts.landcover(array, probabilities=True)
    try:
        ts.register("detector", "mine", dict, scores_vehicles=True)
    except ts.PluginError as error:
        print(error)
    return len(trucks) + len(score.cases) + int(cover.sum())
"""


@pytest.mark.longer
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("change", "found"), [(("", ""), 0), (("scale=1e-4", "scale='x'"), 1)])
def test_types_of_a_script_are_complete(tmp_path, change, found):
    """mypy in strict mode knows every type of the API, and finds an argument of a wrong type."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace(*change))
    command = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "--cache-dir", tmp_path]
    command += ["--follow-imports=silent"]  # as of an installed package
    said = subprocess.run([*command, script], cwd=HOUSE, capture_output=True, text=True, check=False)
    assert said.stdout.count(": error:") == found, said.stdout
