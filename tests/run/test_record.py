"""The record of a run."""

import json

import geopandas as gpd
import numpy as np
import rasterio

from pipeline.config import load_config
from pipeline.run import run_directly
from tests.run.conftest import FAST, request_for


def test_run_json_tells_how_it_came_about(result, product):
    run = json.loads((result.folder / "run.json").read_text())
    assert run["simulated"] is True
    assert run["clouds"] == "scl"
    assert run["tiles"] == {"total": 4, "skipped": run["tiles"]["skipped"]}
    assert 0 < run["seen_fraction"] < 1
    assert run["counts"]["trucks"] == len(gpd.read_file(result.folder / "trucks.gpkg", layer="trucks"))
    assert all(len(digest) == 64 for digest in run["inputs"].values())
    assert any(path.endswith("_B04_10m.jp2") for path in run["inputs"])
    assert str(product.roads) in run["inputs"]
    assert run["parameters"]["tiling"]["tile_px"] == 128
    assert run["packages"]["torch"]
    assert run["peak_rss_mb"] > 100
    assert run["seconds"]


def test_areas_of_classes_are_exact_sums_over_the_rasters(result, soft):
    areas = soft.run["landcover"]["area_m2"]
    with rasterio.open(soft.folder / "landcover.tif") as raster:
        classes = raster.read(1)
    with rasterio.open(soft.folder / "landcover_probability.tif") as raster:
        steps, names = raster.read().astype(np.int64), raster.descriptions
    steps[:, classes == 255] = 0
    assert areas["counted"] == {name: (classes == index).sum() * 100 for index, name in enumerate(names)}
    assert areas["from_probabilities"] == dict(zip(names, steps.sum((1, 2)) * 100 / 200, strict=True))
    assert result.run["landcover"] == {"area_m2": {"counted": areas["counted"]}}


def test_without_land_cover_there_are_no_areas(product, tmp_path):
    config = load_config(None, [*FAST, "landcover.enabled=false"])
    request = request_for(product, tmp_path, config=config, truck_labels=None, landcover_labels=None)
    assert run_directly(request).run["landcover"] is None
