"""Layers of a run: open in place, and lie where they should."""

import hashlib
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import shapely
from geopandas.testing import assert_geodataframe_equal
from rio_cogeo.cogeo import cog_validate

from pipeline.config import load_config
from pipeline.run import run_directly
from pipeline.run.products import PRODUCTS
from tests.run.conftest import FAST, request_for


def test_traffic_lies_beside_the_scenes(result):
    """Each truck is on the segment that counts it, and the table has a row for each direction."""
    trucks, segments = (
        gpd.read_file(result.folder / "trucks.gpkg", layer=name) for name in ("trucks", "road_segments")
    )
    assert len(segments) == result.run["counts"]["road_segments"]
    counted = segments.set_index("segment_id")["count"]
    assert trucks["segment_id"].value_counts().to_dict() == counted[counted > 0].to_dict()
    assert trucks["heading_deg"].notna().equals(trucks["heading_source"].notna())
    table = pd.read_parquet(result.folder.parent / "traffic.parquet")
    assert set(table["scene_id"]) == {result.folder.name}
    seen = segments[segments["seen_km"] > 0]
    assert len(table) == (2 - seen["oneway"].abs()).sum()


def test_layers_open_in_place(result, product):
    with rasterio.open(result.folder / "landcover.tif") as raster:
        assert raster.nodata == 255
        assert raster.crs.to_epsg() == 32632
        bounds = shapely.box(*raster.bounds)
    valid, errors, _ = cog_validate(result.folder / "landcover.tif")
    assert (valid, errors) == (True, [])
    areas = gpd.read_file(result.folder / "landcover.gpkg", layer="landcover")
    assert shapely.coverage_is_valid(areas.geometry.to_numpy())
    assert areas.crs.to_epsg() == 32632
    assert bounds.buffer(0.01).contains(shapely.box(*areas.total_bounds))
    seen = gpd.read_file(result.folder / "trucks.gpkg", layer="seen")
    rest = gpd.read_file(result.folder / "trucks.gpkg", layer="not_seen")
    assert seen.area.sum() + rest.area.sum() == pytest.approx(bounds.area)
    item = pystac.Item.from_file(str(result.folder / "item.json"))
    for asset in item.assets.values():
        path = Path(asset.get_absolute_href())
        assert path.exists()
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert asset.extra_fields["file:checksum"] == f"1220{digest}"
    catalog = pystac.Catalog.from_file(str(result.folder.parent / "catalog.json"))
    assert [entry.id for entry in catalog.get_items(recursive=True)] == [item.id]


def test_probabilities_are_written_beside_the_same_land_cover(result, soft):
    assert "landcover_probability.tif" in soft.run["outputs"]
    assert "landcover_probability.tif" not in result.run["outputs"]
    assert (soft.folder / "landcover.tif").read_bytes() == (result.folder / "landcover.tif").read_bytes()
    assert (soft.folder / "trucks.geojson").read_bytes() == (result.folder / "trucks.geojson").read_bytes()
    with rasterio.open(soft.folder / "landcover.tif") as raster:
        classes = raster.read(1)
    with rasterio.open(soft.folder / "landcover_probability.tif") as raster:
        steps = raster.read()
    ground = classes != 255
    assert ground.sum() > 0
    assert (steps[:, ~ground] == 255).all()
    np.testing.assert_array_equal(steps[:, ground].argmax(0), classes[ground])
    item = pystac.Item.from_file(str(soft.folder / "item.json"))
    assert len(item.assets["landcover_probability.tif"].extra_fields["raster:bands"]) == 9
    assert "landcover_probability.tif" in (soft.folder / "report.html").read_text(encoding="utf-8")
    assert "landcover_probability.tif" not in (result.folder / "report.html").read_text(encoding="utf-8")


def test_polygons_have_the_same_borders_and_a_confidence(result, soft):
    plain, sure = (gpd.read_file(run.folder / "landcover.gpkg", layer="landcover") for run in (result, soft))
    assert sure["confidence"].between(0.1, 1).all()
    assert "confidence" not in plain
    assert_geodataframe_equal(sure.drop(columns="confidence"), plain)
    assert gpd.read_parquet(soft.folder / "landcover.parquet")["confidence"].equals(sure["confidence"])


def test_a_run_without_probabilities_removes_those_of_an_earlier_run(product, tmp_path):
    for wanted in (True, False):
        config = load_config(None, [*FAST, "trucks.enabled=false", f"landcover.probabilities={wanted}"])
        done = run_directly(
            request_for(
                product, tmp_path, config=config, roads=None, truck_labels=None, landcover_labels=None
            )
        )
        assert (done.folder / "landcover_probability.tif").exists() == wanted


def test_boxes_lie_on_their_pixels(result):
    trucks = gpd.read_file(result.folder / "trucks.gpkg", layer="trucks")
    world = gpd.read_file(result.folder / "trucks.geojson")
    assert list(trucks["id"]) == list(world["id"])
    apart = world.to_crs(trucks.crs).geometry.hausdorff_distance(trucks.geometry, align=False)
    assert (apart < 1).all()  # metres: a tenth of a pixel


def test_every_product_comes_after_those_it_needs():
    names = [product.name for product in PRODUCTS]
    assert len(set(names)) == len(names)
    for index, product in enumerate(PRODUCTS):
        assert set(product.needs) <= set(names[:index])


def test_roads_are_credited_once(result):
    for page in ("report.html", "evaluation/report.html"):
        footer = (result.folder / page).read_text(encoding="utf-8").rpartition("<footer")[2]
        assert footer.partition("</footer>")[0].count("Roads:") == 1
        assert footer.partition("</footer>")[0].count("OpenStreetMap contributors") == 1
