"""A whole job: what it leaves, how it resumes, and that it says no in one line before it starts."""

import json

import geopandas as gpd
import numpy as np
import rasterio

from pipeline.config import load_config
from pipeline.run import Request, run_directly
from tests.conftest import write_geotiff
from tests.run.conftest import request_for

FAST = ["engine.threads=1", "tiling.tile_px=128", "tiling.shards=2"]


FILES = {
    "detections.parquet",
    "trucks.geojson",
    "trucks.gpkg",
    "landcover.tif",
    "landcover.gpkg",
    "landcover.qml",
    "trucks.qml",
    "item.json",
    "run.json",
    "report.html",
    "evaluation",
    ".shards",
}


def test_everything_of_the_contract_is_there(result, product):
    assert {path.name for path in result.folder.iterdir()} == FILES
    assert {path.name for path in (result.folder / "evaluation").iterdir()} == {
        "metrics.json",
        "confusion_cases.gpkg",
        "confusion_cases.geojson",
        "chips",
        "report.html",
    }
    assert result.folder.name == product.safe.stem


def test_the_tiling_changes_nothing(product, tmp_path):
    config = [*FAST, "engine.precision=float32"]
    trucks, rasters = [], []
    for name, change in (("a", ["tiling.tile_px=64", "tiling.shards=4"]), ("b", ["tiling.tile_px=2048"])):
        out = run_directly(
            request_for(product, tmp_path / name, config=load_config(None, [*config, *change]))
        )
        trucks.append(gpd.read_file(out.folder / "trucks.gpkg", layer="trucks"))
        with rasterio.open(out.folder / "landcover.tif") as raster:
            rasters.append(raster.read(1))
    first, second = trucks
    assert len(first) == len(second) > 0
    assert (first.geometry.hausdorff_distance(second.geometry, align=False) < 0.1).all()
    np.testing.assert_allclose(first["score"], second["score"], atol=1e-3)
    np.testing.assert_allclose(first["speed_kmh"].astype(float), second["speed_kmh"].astype(float), atol=0.5)
    assert (rasters[0] != rasters[1]).mean() < 1e-4


def test_one_pixel(tmp_path):
    scene = write_geotiff(tmp_path / "one.tif", np.full((4, 1, 1), 1000, np.uint16))
    done = run_directly(Request(str(scene), tmp_path / "out", load_config(None, FAST)))
    assert done.run["counts"] == {"landcover": 1, "trucks": 0, "vehicles": 0, "look_alikes": 0}
    assert done.run["seen_fraction"] == 1
    assert len(gpd.read_file(done.folder / "landcover.gpkg")) == 1


def test_all_nodata(tmp_path):
    scene = write_geotiff(tmp_path / "empty.tif", np.zeros((4, 70, 50), np.uint16))
    done = run_directly(Request(str(scene), tmp_path / "out", load_config(None, FAST)))
    assert done.run["seen_fraction"] == 0
    assert done.run["counts"] == {"landcover": 0, "trucks": 0, "vehicles": 0, "look_alikes": 0}
    assert json.loads((done.folder / "trucks.geojson").read_text())["features"] == []
    assert len(gpd.read_file(done.folder / "trucks.gpkg", layer="seen")) == 0
    assert gpd.read_file(done.folder / "trucks.gpkg", layer="not_seen").area.sum() == 70 * 50 * 100


def test_labels_in_another_crs_are_brought_to_the_scene(product, tmp_path):
    there = gpd.read_file(product.trucks).to_crs(4326)
    there.to_file(tmp_path / "wgs84.gpkg")
    here = run_directly(request_for(product, tmp_path / "a"))
    moved = run_directly(request_for(product, tmp_path / "b", truck_labels=tmp_path / "wgs84.gpkg"))
    assert moved.metrics["trucks"]["centres"] == here.metrics["trucks"]["centres"]
