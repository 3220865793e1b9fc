import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from RangeHTTPServer import RangeRequestHandler
from rasterio.windows import Window

from pipeline.errors import (
    CorruptImageError,
    MissingBandError,
    NotAProductError,
    SceneNotFoundError,
    UnreachableError,
    is_transient,
)
from pipeline.scenes.raster.read import read_classes, read_pixels
from pipeline.scenes.readers.stac import open_stac_item
from tests.scenes.products import write_raster

SIDE = 600
KEYS = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "nir08": "B8A", "rededge1": "B05"}


def values(band: str, side: int = SIDE) -> np.ndarray:
    side = side if band in ("B02", "B03", "B04", "B08") else side // 2
    return np.random.default_rng([*band.encode()]).integers(1001, 6000, (side, side)).astype(np.uint16)


def write_item(folder: Path, raster: dict | None = None, drop=(), side: int = 60, **properties) -> Path:
    """An item as Earth Search writes it, with COGs beside it."""
    assets = {}
    raster = (
        {"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1} if raster is None else raster
    )
    for key, band in KEYS.items():
        gsd = 10 if band in ("B02", "B03", "B04", "B08") else 20
        path = folder / f"{band}.tif"
        if not path.exists():
            write_raster(path, values(band, side), gsd, driver="COG", BLOCKSIZE=128)
        assets[key] = {
            "href": f"./{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data", "reflectance"],
            "eo:bands": [{"name": key, "common_name": "rededge" if key == "rededge1" else key}],
            "gsd": gsd,
            "raster:bands": [raster],
        }
        assets[f"{key}-jp2"] = assets[key] | {"href": f"s3://nowhere/{band}.jp2", "type": "image/jp2"}
    assets["visual"] = {
        "href": "./TCI.tif",
        "roles": ["visual"],
        "eo:bands": [{"name": name, "common_name": name} for name in ("red", "green", "blue")],
    }
    if not (folder / "SCL.tif").exists():
        write_raster(folder / "SCL.tif", np.full((side // 2, side // 2), 9, np.uint8), 20, driver="COG")
    assets["scl"] = {"href": "./SCL.tif", "type": "image/tiff", "roles": ["data"], "gsd": 20}
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2A_32UPD_20240615_0_L2A",
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Point", "coordinates": [10.4, 52.3]},
        "bbox": [10.4, 52.3, 10.4, 52.3],
        "properties": {
            "datetime": "2024-06-15T10:23:45.678000Z",
            "platform": "sentinel-2a",
            "grid:code": "MGRS-32UPD",
            "s2:processing_baseline": "05.10",
            "earthsearch:boa_offset_applied": False,
        }
        | properties,
        "links": [{"rel": "self", "href": "https://catalogue.invalid/items/1"}],
        "assets": {key: asset for key, asset in assets.items() if key not in drop},
    }
    path = folder / "item.json"
    path.write_text(json.dumps(item))
    return path


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stac")
    write_item(folder, side=SIDE)
    return folder


class Faulty(RangeRequestHandler):
    """Answers ranges; `faults[path]` lists 500s and bodies cut short, used up in turn."""

    faults: dict[str, list[str]] = {}  # noqa: RUF012
    ranges: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:  # noqa: N802
        pending = self.faults.get(self.path, [])
        if "Range" in self.headers:
            self.ranges.append(self.path)
        if pending and pending.pop(0) == "500":
            self.send_error(500)
        elif pending:
            pending.pop(0)
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"short")
            self.close_connection = True
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(catalogue) -> Iterator[str]:
    Faulty.faults, Faulty.ranges = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Faulty, directory=str(catalogue))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def check_pixels(scene) -> None:
    pixels = read_pixels(scene, Window(100, 200, 50, 40), ["B04", "B02"])
    expected = (values("B04")[200:240, 100:150] - 1000.0) / 10000
    np.testing.assert_allclose(pixels.reflectance[0], expected, atol=1e-6)
    assert pixels.valid.all()


def test_item_in_a_file(catalogue):
    scene = open_stac_item(str(catalogue / "item.json"))
    assert scene.id == "S2A_32UPD_20240615_0_L2A"
    assert scene.acquired == datetime(2024, 6, 15, 10, 23, 45, 678000, tzinfo=UTC)
    assert (scene.platform, scene.level, scene.baseline, scene.tile) == (
        "sentinel-2a",
        "L2A",
        "05.10",
        "32UPD",
    )
    assert list(scene.bands) == ["B02", "B03", "B04", "B05", "B08", "B8A"]
    assert scene.bands["B8A"].gsd == 20
    assert all(source.href.endswith(".tif") for source in scene.bands.values())
    assert (read_classes(scene, scene.scl, Window(0, 0, 5, 5)) == 9).all()
    assert len(scene.files) == 8
    check_pixels(scene)


def test_item_behind_a_url_is_read_by_ranges(server):
    scene = open_stac_item(f"{server}/item.json")
    assert scene.bands["B02"].href == f"/vsicurl/{server}/B02.tif"
    assert scene.files == ()
    check_pixels(scene)
    assert "/B04.tif" in Faulty.ranges


def test_transient_faults_are_outlived(server):
    Faulty.faults = {"/item.json": ["500"] * 2, "/B02.tif": ["500"] * 2}
    scene = open_stac_item(f"{server}/item.json")
    Faulty.faults = {"/B04.tif": ["short", ""] * 2}
    check_pixels(scene)
    Faulty.faults = {"/B04.tif": ["short", ""] * 2}
    corner = read_pixels(scene, Window(500, 480, 100, 120), ["B04"])
    np.testing.assert_allclose(corner.reflectance[0], (values("B04")[480:, 500:] - 1000.0) / 10000, atol=1e-6)
    assert not Faulty.faults["/B04.tif"]


def test_what_cannot_be_fetched(server, catalogue):
    with pytest.raises(SceneNotFoundError, match=r"can't be fetched: .*/none\.json") as caught:
        open_stac_item(f"{server}/none.json")
    assert not is_transient(caught.value)
    with pytest.raises(UnreachableError, match="no answer"):
        open_stac_item("http://127.0.0.1:9/item.json")
    Faulty.faults = {"/item.json": ["500"] * 5}
    with pytest.raises(UnreachableError):
        open_stac_item(f"{server}/item.json")
    with pytest.raises(SceneNotFoundError, match="can't be read"):
        open_stac_item(str(catalogue / "none.json"))


def test_an_asset_that_is_gone_is_named(tmp_path):
    path = write_item(tmp_path)
    (tmp_path / "B03.tif").unlink()
    scene = open_stac_item(str(path))
    with pytest.raises(CorruptImageError, match=r"B03 .*B03\.tif"):
        read_pixels(scene, Window(0, 0, 4, 4), ["B03"])


RASTER = {"nodata": 0, "scale": 0.0001}
UNSTATED = {"s2:processing_baseline": None, "earthsearch:boa_offset_applied": None}


@pytest.mark.parametrize(
    ("raster", "properties", "offset"),
    [
        (RASTER | {"offset": -0.1}, {"earthsearch:boa_offset_applied": False}, -0.1),
        (RASTER | {"offset": 0}, {"earthsearch:boa_offset_applied": True}, 0.0),
        (RASTER, {"earthsearch:boa_offset_applied": True}, 0.0),
        ({}, {"earthsearch:boa_offset_applied": None}, -0.1),
        ({}, {"earthsearch:boa_offset_applied": None, "s2:processing_baseline": "03.01"}, 0.0),
        (RASTER | {"offset": 0}, {"s2:processing_baseline": "02.14"}, 0.0),
        (RASTER | {"offset": -0.1}, UNSTATED, -0.1),
        ({}, {"s2:processing_baseline": None, "processing:version": "05.10"}, -0.1),
    ],
)  # fmt: skip
def test_the_offset_is_what_all_that_is_said_agrees_on(tmp_path, raster, properties, offset):
    scene = open_stac_item(str(write_item(tmp_path, raster, **properties)))
    assert {source.offset for source in scene.bands.values()} == {offset}
    assert {source.scale for source in scene.bands.values()} == {1e-4}


def test_stac_1_1_with_bands_and_keys_as_copernicus_writes_them(tmp_path):
    write_item(tmp_path)
    item = json.loads((tmp_path / "item.json").read_text())
    common = {
        "type": "image/tiff",
        "roles": ["data"],
        "nodata": 0,
        "raster:scale": 0.0001,
        "raster:offset": -0.1,
    }
    item["stac_version"] = "1.1.0"
    item["assets"] = {
        "B02_10m": common
        | {"href": "B02.tif", "bands": [{"name": "B02", "eo:common_name": "blue"}], "gsd": 10},
        "B02_20m": common
        | {"href": "B8A.tif", "bands": [{"name": "B02", "eo:common_name": "blue"}], "gsd": 20},
        "B8A_20m": common | {"href": "B8A.tif", "bands": [{"name": "B8A", "eo:common_name": "nir08"}]},
        "SCL_20m": {"href": "SCL.tif", "type": "image/tiff"},
        "TCI_10m": {"href": "TCI.tif", "type": "image/tiff", "roles": ["visual"]},
        "Product": {"href": "https://example.invalid/product.zip", "type": "application/zip"},
    }
    (tmp_path / "item.json").write_text(json.dumps(item))
    scene = open_stac_item(str(tmp_path / "item.json"))
    assert {name: (Path(s.href).name, s.gsd, s.offset) for name, s in scene.bands.items()} == {
        "B02": ("B02.tif", 10.0, -0.1),
        "B8A": ("B8A.tif", 20.0, -0.1),
    }
    assert scene.scl.href.endswith("SCL.tif")


def test_items_without_the_bands_are_refused(tmp_path):
    path = write_item(tmp_path, drop=[f"{key}{end}" for key in KEYS for end in ("", "-jp2")])
    with pytest.raises(NotAProductError, match="No asset"):
        open_stac_item(str(path))
    ten = [f"{key}{end}" for key in ("blue", "green", "red", "nir") for end in ("", "-jp2")]
    with pytest.raises(MissingBandError, match="has: B05, B8A"):
        open_stac_item(str(write_item(tmp_path, drop=ten)))


@pytest.mark.parametrize(
    "text",
    ["hello", "[]", "{}", '{"type": "Feature", "assets": {}}', '{"type": "FeatureCollection"}', "\x00\xff"],
)
def test_json_that_is_no_item_is_refused(tmp_path, text):
    path = tmp_path / "item.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(NotAProductError, match="STAC item"):
        open_stac_item(str(path))


def test_an_id_cannot_lead_elsewhere(tmp_path):
    path = write_item(tmp_path)
    item = json.loads(path.read_text()) | {"id": "../../else where/x"}
    path.write_text(json.dumps(item))
    assert open_stac_item(str(path)).id == "_.._else_where_x"


def test_reading_over_http_leaves_gdal_settings_alone(server):
    open_stac_item(f"{server}/item.json")
    with rasterio.Env() as env:
        assert "GDAL_DISABLE_READDIR_ON_OPEN" not in env.options
