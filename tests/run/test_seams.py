"""Scene formats and output products that are added from outside, without a change in `pipeline/`."""

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import pystac
import pytest

from pipeline.config import load_config
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.run import Request, run_directly
from pipeline.run.products import PRODUCTS, Outputs, Product, RunContext
from pipeline.scenes.open import READERS, open_scene
from pipeline.scenes.readers.reader import Reader
from tests.run.conftest import FAST


@contextmanager
def listed(entries: list, entry):
    """An entry at the end of a list, for the time of the block."""
    entries.append(entry)
    try:
        yield
    finally:
        entries.remove(entry)


def request(scene: Path, out: Path) -> Request:
    return Request(str(scene), out, load_config(None, [*FAST, "landcover.enabled=false"]))


def centres(context: RunContext) -> Outputs:
    """Truck centres as points."""
    trucks, file = context.layers["trucks"], context.folder / "centres.gpkg"
    points = trucks[["id"]].set_geometry(trucks.geometry.centroid)
    write_gpkg(file, {"centres": points}, {})
    return Outputs({file.name: file}, {"centres": points})


def test_a_product_that_was_added_is_an_output_of_a_run(product, tmp_path):
    with listed(PRODUCTS, Product("centres", centres, needs=("trucks",))):
        result = run_directly(request(product.safe, tmp_path))
    run = json.loads((result.folder / "run.json").read_text())
    assert "centres.gpkg" in run["outputs"]
    assert run["counts"]["centres"] == run["counts"]["trucks"] > 0
    assert "centres" in run["seconds"]
    assert len(gpd.read_file(result.folder / "centres.gpkg")) == run["counts"]["centres"]
    assert "centres.gpkg" in pystac.Item.from_file(str(result.folder / "item.json")).assets
    again = run_directly(request(product.safe, tmp_path))  # without it
    assert "centres.gpkg" not in again.run["outputs"]
    assert not (result.folder / "centres.gpkg").exists()


def test_a_product_in_the_background_ends_before_the_run(product, tmp_path):
    def slow(context: RunContext) -> Outputs:
        file = context.folder / "slow.txt"
        file.write_text(str(len(context.predictions.detections)))
        return Outputs({file.name: file}, metrics={"slow": 1})

    with listed(PRODUCTS, Product("slow", slow, in_background=True)):
        result = run_directly(request(product.safe, tmp_path))
    assert "slow.txt" in result.run["outputs"]
    assert result.run["metrics"] == {"slow": 1}


@pytest.mark.parametrize("in_background", [False, True])
def test_a_product_that_fails_ends_the_run(product, tmp_path, in_background):
    def fails(context: RunContext) -> Outputs:
        raise ValueError("no such thing")

    with (
        listed(PRODUCTS, Product("fails", fails, in_background=in_background)),
        pytest.raises(ValueError, match="no such thing"),
    ):
        run_directly(request(product.safe, tmp_path))
    assert not (tmp_path / product.safe.stem / "run.json").exists()


def test_a_scene_format_that_was_added_is_opened(product, tmp_path):
    pointer = tmp_path / "scene.pointer"
    pointer.write_text(str(product.safe))

    def opened(path, bands):
        return replace(open_scene(Path(path).read_text(encoding="utf-8")), id="pointed-to")

    reader = Reader("a pointer to a scene", lambda path: path.endswith(".pointer"), opened)
    with listed(READERS, reader):
        result = run_directly(request(pointer, tmp_path / "out"))
    assert result.run["scene"] == "pointed-to"
    assert result.run["counts"]["trucks"] > 0
