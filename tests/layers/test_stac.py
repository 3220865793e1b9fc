import hashlib
import json
import socket
import warnings
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import geopandas as gpd
import pystac
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from pystac.extensions.table import TableExtension
from pystac.validation import JsonSchemaSTACValidator
from rasterio.warp import transform_bounds

from pipeline.errors import GeoreferenceError
from pipeline.layers import stac
from pipeline.layers.stac import build_item, write_item
from pipeline.layers.stac_catalog import write_catalog
from pipeline.models.legend import LegendClass
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


def validate_core(content: dict) -> None:
    """By the schemas of the STAC specification, of which pystac brings copies."""
    kind = {"Feature": "ITEM", "Collection": "COLLECTION", "Catalog": "CATALOG"}[content["type"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        JsonSchemaSTACValidator().validate_core(content, pystac.STACObjectType[kind], content["stac_version"])


def run_of(out: Path, scene: Scene, name: str, **run) -> Path:
    """The folder of a run, with one file and its item."""
    folder = out / name
    folder.mkdir(parents=True)
    (folder / "run.txt").write_text("layers")
    item = build_item(replace(scene, id=name), {**RUN, **run}, {"run.txt": folder / "run.txt"}, [], {})
    write_item(item, folder / "item.json")
    return folder


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


def test_the_raster_of_probabilities_has_a_band_for_each_class_with_its_scale(tmp_path):
    legend = [*LEGEND, LegendClass(value=6, name="built", colour="#C4281B")]
    outputs = {"landcover_probability.tif": tmp_path / "landcover_probability.tif"}
    write_item(build_item(BASE, RUN, outputs, legend, {}), tmp_path / "item.json")
    validate_core(json.loads((tmp_path / "item.json").read_text(encoding="utf-8")))
    asset = pystac.Item.from_file(tmp_path / "item.json").assets["landcover_probability.tif"]
    assert (asset.media_type, asset.roles) == (pystac.MediaType.COG, ["data"])
    assert [band["name"] for band in asset.extra_fields["bands"]] == ["shrub and scrub", "built"]
    for band in RasterExtension.ext(asset).bands:
        assert (band.data_type, band.nodata, band.scale) == ("uint8", 255, 0.005)


ODD = "a #1?x=2%41 [b]&'ü"


def local(href: str, base: Path) -> Path:
    """The file at a relative reference, as a browser finds it."""
    found = urlsplit(urljoin(base.as_uri(), href))
    assert (found.scheme, found.query, found.fragment) == ("file", "", "")
    return Path(unquote(found.path))


def test_links_to_odd_names_are_percent_encoded_and_lead_to_the_files(tmp_path):
    folder = tmp_path / ODD
    (folder / "sub #2").mkdir(parents=True)
    beside = tmp_path / "traffic #.parquet"
    outputs = {"a": folder / "trucks.gpkg", "b": folder / "sub #2" / f"{ODD}.tif", "c": beside}
    for path in outputs.values():
        path.write_text("layer")
    scene = replace(BASE, id=ODD, href=str(tmp_path / f"{ODD}.SAFE"))
    write_item(build_item(scene, RUN, outputs, LEGEND, {}), folder / "item.json")
    write_catalog(tmp_path)
    item = json.loads((folder / "item.json").read_text(encoding="utf-8"))
    assert item["assets"]["a"]["href"] == "./trucks.gpkg"
    assert item["assets"]["c"]["href"] == "../traffic%20%23.parquet"
    for key, path in outputs.items():
        assert local(item["assets"][key]["href"], folder / "item.json") == path
    (source,) = (link["href"] for link in item["links"] if link["rel"] == "derived_from")
    assert local(source, folder / "item.json") == tmp_path / f"{ODD}.SAFE"
    collection = json.loads((tmp_path / "collection.json").read_text(encoding="utf-8"))
    (link,) = (link for link in collection["links"] if link["rel"] == "item")
    assert local(link["href"], tmp_path / "collection.json") == folder / "item.json"
    assert link["title"] == ODD


def test_a_link_to_a_url_keeps_what_is_encoded_and_encodes_the_rest(tmp_path):
    item = written(tmp_path, replace(BASE, href="https://host/a%20b c/[1]?x=ü#y"))
    (source,) = (link["href"] for link in item["links"] if link["rel"] == "derived_from")
    assert source == "https://host/a%20b%20c/[1]?x=%C3%BC#y"


@pytest.mark.parametrize(
    ("href", "link"),
    [
        ("/data/S2A demo.SAFE", "file:///data/S2A%20demo.SAFE"),
        ("https://example.org/item.json", "https://example.org/item.json"),
    ],
)
def test_it_links_to_its_source(tmp_path, href, link):
    links = written(tmp_path, replace(BASE, href=href))["links"]
    assert [(entry["rel"], entry["href"]) for entry in links] == [
        ("root", "../catalog.json"),
        ("parent", "../collection.json"),
        ("collection", "../collection.json"),
        ("derived_from", link),
    ]


def test_an_unknown_time_is_a_span_that_says_so(tmp_path):
    item = written(tmp_path, replace(BASE, acquired=None))
    validate_core(item)
    assert item["properties"]["datetime"] is None
    assert item["properties"]["start_datetime"] == "2015-06-23T00:00:00Z"
    assert item["properties"]["end_datetime"] == "2026-01-02T03:04:05Z"
    assert "no acquisition time" in item["properties"]["truckscape:time_note"]


def test_a_date_without_a_time_is_the_span_of_that_day(tmp_path):
    item = written(tmp_path, replace(BASE, acquired=date(2023, 6, 13)))
    validate_core(item)
    assert item["properties"]["datetime"] is None
    assert item["properties"]["start_datetime"] == "2023-06-13T00:00:00Z"
    assert item["properties"]["end_datetime"] == "2023-06-13T23:59:59Z"
    assert "not its time" in item["properties"]["truckscape:time_note"]


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


@pytest.mark.parametrize(
    ("crs", "affine"),
    [
        ("EPSG:4326", Affine(1e-4, 0, 13.4, 0, -1e-4, 52.5)),
        ("EPSG:3857", Affine(10, 0, 1_500_000, 0, -10, 6_800_000)),
        ("EPSG:32632", Affine(10, 0, 600_000, 0, -10, 5_800_000)),
        ("EPSG:32733", Affine(10, 0, 300_000, 0, -10, 6_200_000)),
        ("EPSG:32601", Affine(10, 0, 400_000, 0, -10, 7_200_000)),
    ],
)
def test_the_footprint_is_in_place_in_every_crs(tmp_path, crs, affine):
    grid = GeoBox((100, 200), affine, crs)
    item = written(tmp_path, replace(BASE, grid=grid))
    validate_core(item)
    # GDAL's way from the CRS to longitudes and latitudes, with as many points at the edges.
    expected = transform_bounds(crs, "EPSG:4326", *grid.extent.boundingbox, densify_pts=21)
    assert item["bbox"] == pytest.approx(expected, abs=2e-6)
    assert item["properties"]["proj:bbox"] == pytest.approx(list(grid.extent.boundingbox))


def test_a_grid_beyond_180_degrees_is_wrapped(tmp_path):
    item = written(
        tmp_path, replace(BASE, grid=GeoBox((100, 200), Affine(0.001, 0, 179.9, 0, -0.001, 10), "EPSG:4326"))
    )
    validate_core(item)
    assert item["bbox"] == pytest.approx([179.9, 9.9, -179.9, 10])
    west, east = shapely.geometry.shape(item["geometry"]).geoms
    assert west.bounds == pytest.approx((179.9, 9.9, 180, 10))
    assert east.bounds == pytest.approx((-180, 9.9, -179.9, 10))


def test_files_have_size_and_checksum_and_extensions_can_be_read(tmp_path):
    content = b"pixels"
    names = ["landcover.tif", "trucks.pmtiles"]
    for name in names:
        (tmp_path / name).write_bytes(content)
    trucks = gpd.GeoDataFrame({"id": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)])
    outputs = {name: tmp_path / name for name in names}
    write_item(build_item(BASE, RUN, outputs, LEGEND, {"trucks": trucks}), tmp_path / "item.json")
    item = pystac.Item.from_file(tmp_path / "item.json")
    raster, tiles = (item.assets[name] for name in names)
    file = FileExtension.ext(raster)
    assert file.size == len(content)
    assert file.checksum == "1220" + hashlib.sha256(content).hexdigest()
    assert Path(raster.get_absolute_href()).read_bytes() == content
    assert ProjectionExtension.ext(item).epsg == 32632
    assert ProjectionExtension.ext(tiles).code == "EPSG:3857"
    assert [entry.value for entry in ClassificationExtension.ext(raster).classes] == [5, 255]
    assert [column.name for column in TableExtension.ext(item).columns] == ["id", "geometry"]


def test_only_extensions_that_are_used_are_named(tmp_path):
    write_item(build_item(BASE, RUN, {}, [], {}), tmp_path / "item.json")
    named = json.loads((tmp_path / "item.json").read_text())["stac_extensions"]
    assert [schema.split("/")[3] for schema in named] == ["projection", "processing"]


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
COLUMNS = {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"type": TEXT}}}
FIELDS = {
    "proj:code": {"type": ["string", "null"], "pattern": "^[A-Z]+:[0-9]+$"},
    "proj:shape": {"type": "array", "items": WHOLE, "minItems": 2, "maxItems": 2},
    "proj:transform": {"type": "array", "items": {"type": "number"}, "minItems": 6, "maxItems": 9},
    "proj:bbox": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
    "processing:datetime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
    "processing:software": {"type": "object", "additionalProperties": TEXT},
    "classification:classes": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["value", "name"],
            "properties": {
                "value": WHOLE,
                "name": {"type": "string", "pattern": "^[0-9A-Za-z_-]+$"},
                "title": TEXT,
                "color_hint": {"type": "string", "pattern": "^[0-9A-F]{6}$"},
                "nodata": {"type": "boolean"},
            },
        },
    },
    "table:columns": COLUMNS,
    "table:row_count": WHOLE,
    "table:primary_geometry": TEXT,
    "file:checksum": {"type": "string", "pattern": "^1220[a-f0-9]{64}$"},
    "file:size": {"type": "integer", "minimum": 0},
}


def schema_of(prefix: str) -> dict:
    """What an extension's text asks of its fields, in properties and assets; others are wrong."""
    known = {name: rule for name, rule in FIELDS.items() if name.startswith(f"{prefix}:")}
    fields = {
        "type": "object",
        "properties": known,
        "patternProperties": {f"^{prefix}:(?!{'|'.join(name.partition(':')[2] for name in known)})": False},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"properties": fields, "assets": {"additionalProperties": fields}},
    }


def validate_offline(content: dict) -> list[str]:
    """By the core's schemas and, in place of the extensions' own, which no package brings, those above."""
    validate_core(content)
    validator = JsonSchemaSTACValidator()
    validator.schema_cache |= {uri: schema_of(prefix) for prefix, uri in stac.EXTENSIONS.items()}
    kind = {"Feature": "ITEM", "Collection": "COLLECTION"}[content["type"]]
    object_type, version = pystac.STACObjectType[kind], content["stac_version"]
    named = content["stac_extensions"]
    return [str(validator.validate_extension(content, object_type, version, uri)) for uri in named]


def test_fields_of_extensions_are_as_their_texts_say(tmp_path):
    folder = run_of(tmp_path / "out", BASE, "S2A_demo")
    write_catalog(tmp_path / "out")
    for path in (folder / "item.json", tmp_path / "out" / "collection.json"):
        content = json.loads(path.read_text())
        assert len(validate_offline(content)) == len(content["stac_extensions"]) > 0
    (tmp_path / "item").mkdir()
    item = written(tmp_path / "item", BASE)
    assert len(validate_offline(item)) >= 4
    for wrong in ({"proj:shape": [1.5, 2]}, {"proj:code": 32632}, {"proj:colour": "red"}):
        with pytest.raises(pystac.errors.STACValidationError):
            validate_offline({**item, "properties": {**item["properties"], **wrong}})


def test_the_item_is_valid_with_its_extensions(tmp_path):
    try:
        socket.create_connection(("stac-extensions.github.io", 443), timeout=3).close()
    except OSError as error:
        pytest.skip(f"the schemas of STAC extensions are not within reach: {error}")
    written(tmp_path, BASE)
    assert len(pystac.Item.from_file(tmp_path / "item.json").validate()) >= 4
