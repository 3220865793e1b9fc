"""The record of a run."""

import json

import geopandas as gpd


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
