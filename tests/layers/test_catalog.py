import json
import warnings
from dataclasses import replace
from datetime import UTC, datetime

import geopandas as gpd
import pystac
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.validation import JsonSchemaSTACValidator

from pipeline.errors import GeoreferenceError
from pipeline.layers.catalog import build_item, write_item
from pipeline.models.bundle import LegendClass
from pipeline.scenes.scene import Scene

LEGEND = [LegendClass(value=5, name="shrub and scrub", colour="#DFC35A")]
RUN = {
    "finished": "2026-01-02T03:04:05Z",
    "packages": {"truckscape": "0.1.0"},
    "models": {"detection": "trucks-1"},
    "counts": {"trucks": 3},
    "seen_fraction": 0.5,
}


BASE = Scene(
    id="S2A_demo",
    href="/data/S2A demo.SAFE",
    grid=GeoBox((1000, 2000), Affine(10, 0, 600_000, 0, -10, 5_800_000), "EPSG:32632"),
    bands={},
    acquired=datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC),
    platform="sentinel-2a",
)


def written(tmp_path, scene: Scene) -> dict:
    trucks = gpd.GeoDataFrame(
        {"id": ["a"], "score": [0.5], "touches_edge": [False]}, geometry=[shapely.box(0, 0, 1, 1)]
    )
    names = ["trucks.geojson", "trucks.gpkg", "landcover.tif", "run.json", "evaluation/report.html"]
    outputs = {name: tmp_path / name for name in names}
    write_item(build_item(scene, RUN, outputs, LEGEND, {"trucks": trucks}), tmp_path / "item.json")
    assert [file.name for file in tmp_path.iterdir()] == ["item.json"]
    return json.loads((tmp_path / "item.json").read_text(encoding="utf-8"))


def validate_core(item: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        JsonSchemaSTACValidator().validate_core(item, pystac.STACObjectType.ITEM, item["stac_version"])


def test_the_core_is_valid_without_a_network(tmp_path):
    item = written(tmp_path, BASE)
    validate_core(item)
    with pytest.raises(pystac.errors.STACValidationError):
        validate_core({**item, "properties": {}})


def test_it_can_be_read_and_tells_place_and_time(tmp_path):
    written(tmp_path, BASE)
    item = pystac.Item.from_file(tmp_path / "item.json")
    assert item.datetime == BASE.acquired
    assert item.properties["proj:code"] == "EPSG:32632"
    assert item.properties["proj:shape"] == [1000, 2000]
    assert item.properties["proj:transform"] == [10, 0, 600_000, 0, -10, 5_800_000]
    assert item.properties["processing:software"] == {"truckscape": "0.1.0"}
    footprint = shapely.geometry.shape(item.geometry)
    assert footprint.exterior.is_ccw
    assert tuple(item.bbox) == footprint.bounds
    there = gpd.GeoSeries([footprint], crs="EPSG:4326").to_crs("EPSG:32632")[0]
    assert shapely.hausdorff_distance(there, shapely.box(600_000, 5_790_000, 620_000, 5_800_000)) < 0.5


def test_assets_are_relative_and_say_what_they_are(tmp_path):
    assets = written(tmp_path, BASE)["assets"]
    assert assets["evaluation/report.html"]["href"] == "./evaluation/report.html"
    assert assets["landcover.tif"]["type"] == pystac.MediaType.COG
    assert assets["run.json"]["roles"] == ["metadata"]
    assert assets["landcover.tif"]["classification:classes"] == [
        {"value": 5, "name": "shrub_and_scrub", "title": "shrub and scrub", "color_hint": "DFC35A"},
        {"value": 255, "name": "nodata", "title": "no data", "nodata": True},
    ]
    for name in ("trucks.geojson", "trucks.gpkg"):
        assert assets[name]["table:columns"] == [
            {"name": "id", "type": "string"},
            {"name": "score", "type": "number"},
            {"name": "touches_edge", "type": "boolean"},
            {"name": "geometry", "type": "geometry"},
        ]
        assert assets[name]["table:row_count"] == 1
    assert assets["trucks.geojson"]["proj:code"] == "EPSG:4326"


@pytest.mark.parametrize(
    ("href", "link"),
    [
        ("/data/S2A demo.SAFE", "file:///data/S2A%20demo.SAFE"),
        ("https://example.org/item.json", "https://example.org/item.json"),
    ],
)
def test_it_links_to_its_source(tmp_path, href, link):
    links = written(tmp_path, replace(BASE, href=href))["links"]
    assert [(entry["rel"], entry["href"]) for entry in links] == [("derived_from", link)]


def test_an_unknown_time_is_a_span_that_says_so(tmp_path):
    item = written(tmp_path, replace(BASE, acquired=None))
    validate_core(item)
    assert item["properties"]["datetime"] is None
    assert item["properties"]["start_datetime"] == "2015-06-23T00:00:00Z"
    assert item["properties"]["end_datetime"] == "2026-01-02T03:04:05Z"
    assert "no acquisition time" in item["properties"]["truckscape:time_note"]


def test_a_scene_across_the_antimeridian_has_two_parts(tmp_path):
    grid = GeoBox((100, 8000), Affine(10, 0, 150_000, 0, -10, 8_000_000), "EPSG:32701")
    item = written(tmp_path, replace(BASE, grid=grid))
    validate_core(item)
    assert item["geometry"]["type"] == "MultiPolygon"
    west, _, east, _ = item["bbox"]
    assert 179 < west < 180
    assert -180 < east < -179


def test_a_scene_without_a_crs_is_refused(tmp_path):
    grid = GeoBox((10, 10), Affine(10, 0, 0, 0, -10, 0), None)
    with pytest.raises(GeoreferenceError, match="S2A_demo has no CRS"):
        build_item(replace(BASE, grid=grid), RUN, {}, LEGEND, {})
