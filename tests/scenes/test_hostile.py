"""Scenes by somebody who means harm: items, archives and rasters that lead elsewhere, or burst."""

import gzip
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rasterio.windows import Window

from pipeline.errors import (
    CorruptImageError,
    GeoreferenceError,
    MetadataError,
    NotAProductError,
    SceneNotFoundError,
    TruckscapeError,
    UnreachableError,
    is_transient,
)
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.datasets import open_raster, within_memory
from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.readers.safe import open_safe
from pipeline.scenes.readers.stac import open_stac_item
from tests.operations.servers import stac_item
from tests.scenes.products import CRS, ORIGIN, write_raster
from tests.scenes.readers.test_stac import values
from tests.servers import file_server

SECRET = "X-Amz-Signature=topsecret"


@pytest.fixture
def files(tmp_path) -> Path:
    for band in ("B02", "B03", "B04", "B08"):
        write_raster(tmp_path / "bands" / f"{band}.tif", values(band, 300), driver="COG", BLOCKSIZE=128)
    return tmp_path / "bands"


@pytest.fixture
def server(files):
    with file_server(files) as server:
        yield server


def serve_item(server, files: Path, **hrefs: str) -> str:
    item = stac_item("hostile", server.url)
    for key, href in hrefs.items():
        item["assets"][key]["href"] = href
    (files / "item.json").write_text(json.dumps(item))
    return f"{server.url}/item.json"


@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/passwd",
        "file:///etc/a.tif",
        "/vsicurl/http://127.0.0.1:9/B02.tif",
        "/vsizip//vsicurl/http://127.0.0.1:9/a.zip/B02.tif",
        "/vsimem/B02.tif",
        "ftp://127.0.0.1/B02.tif",
        "http://127.0.0.1:9/B02.tif\r\nHost: elsewhere",
        "/vsicurl?url=file:///etc/a.tif",
        "/vsisubfile/0_100,/etc/a.tif",
        " FILE:///etc/a.tif",
        "vrt:///etc/a.tif",
        "data:image/tiff;base64,AAAA.tif",
        f"http://127.0.0.1:9/{'x' * 10_000}.tif",
    ],
)
def test_an_item_from_a_server_leads_to_servers_only(server, files, href):
    with pytest.raises(MetadataError, match="B02 of the STAC item hostile") as caught:
        open_stac_item(serve_item(server, files, blue=href))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("href", ["../../../../etc/passwd", "/etc/passwd", "//127.0.0.1:9/etc/passwd"])
def test_what_looks_like_a_path_is_an_address_on_that_server(server, files, href):
    message = r"B02 can't be opened: http://127\.0\.0\.1.*HTTP status 404"
    with pytest.raises(CorruptImageError, match=message):
        open_stac_item(serve_item(server, files, blue=href))


@pytest.mark.parametrize("href", ["/etc/passwd", "file:///etc/passwd", "../../etc/passwd", "/vsimem/a.tif"])
def test_an_item_on_this_machine_leads_to_rasters_only(tmp_path, href):
    item = stac_item("hostile", str(tmp_path))
    item["assets"]["blue"]["href"] = href
    (tmp_path / "item.json").write_text(json.dumps(item))
    with pytest.raises(MetadataError, match=r"The address of Band .* must be"):
        open_stac_item(str(tmp_path / "item.json"))


def test_a_raster_that_is_a_recipe_for_reading_other_files_is_not_followed(server, files):
    """A VRT may name any file of this machine; a GeoTIFF may not."""
    write_raster(files.parent / "private.tif", values("B02", 300))
    recipe = f"""<VRTDataset rasterXSize="300" rasterYSize="300"><VRTRasterBand dataType="UInt16" band="1">
        <SimpleSource><SourceFilename>{files.parent / "private.tif"}</SourceFilename>
        <SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""
    (files / "B02.tif").write_text(recipe)
    with pytest.raises(CorruptImageError, match="B02 can't be opened"):
        open_stac_item(serve_item(server, files))


@pytest.mark.parametrize("suffix", [".ovr", ".msk", ".aux.xml"])
def test_a_recipe_beside_a_raster_is_not_followed(tmp_path, suffix):
    """GDAL opens overviews and masks that lie beside a raster with any driver."""
    secret = write_raster(tmp_path / "private.tif", np.full((1, 256, 256), 77, np.uint16))
    write_raster(tmp_path / "B02.tif", np.ones((1, 512, 512), np.uint16))
    recipe = f"""<VRTDataset rasterXSize="256" rasterYSize="256">
        <Metadata><MDI key="INTERNAL_MASK_FLAGS_1">2</MDI></Metadata>
        <VRTRasterBand dataType="UInt16" band="1"><SimpleSource><SourceFilename>{secret}</SourceFilename>
        <SourceBand>1</SourceBand></SimpleSource>
        </VRTRasterBand></VRTDataset>"""
    if suffix == ".aux.xml":
        (tmp_path / "recipe.vrt").write_text(recipe)
        recipe = f"""<PAMDataset><Metadata domain="OVERVIEWS">
            <MDI key="OVERVIEW_FILE">{tmp_path}/recipe.vrt</MDI></Metadata></PAMDataset>"""
    (tmp_path / f"B02.tif{suffix}").write_text(recipe)
    if suffix == ".msk":  # which would change what is valid, so it is not ignored without a word
        with pytest.raises(CorruptImageError, match="its mask is in another file"):
            open_raster(str(tmp_path / "B02.tif"), "The band")
        return
    with open_raster(str(tmp_path / "B02.tif"), "The band") as dataset:
        assert dataset.overviews(1) == []
        assert (dataset.read(1, out_shape=(256, 256)) == 1).all()


def test_redirects_to_files_are_not_followed(server, files):
    href = serve_item(server, files)
    server.faults["/item.json"] = ["file:///etc/passwd"] * 9
    with pytest.raises(SceneNotFoundError, match="can't be fetched") as caught:
        open_stac_item(href)
    assert not is_transient(caught.value)
    server.faults = {"/B02.tif": [f"file://{files}/B03.tif"] * 99}
    with pytest.raises(CorruptImageError, match="B02 can't be opened"):
        open_stac_item(href)


def test_redirects_in_circles_come_to_an_end(server, files):
    href = serve_item(server, files)
    server.faults["/item.json"] = [href] * 99
    with pytest.raises(SceneNotFoundError, match="Exceeded 30 redirects"):
        open_stac_item(href)
    server.faults = {"/B02.tif": [f"{server.url}/B02.tif"] * 9999}
    with pytest.raises(CorruptImageError, match="B02 can't be opened"):
        open_stac_item(href)


def test_an_item_that_bursts_when_unpacked_is_not_unpacked_to_its_end(server, files):
    """Half a gigabyte of blanks, sent as half a megabyte."""
    (files / "item.json").write_bytes(gzip.compress(b" " * 2**29, 1))
    server.headers["/item.json"] = {"Content-Encoding": "gzip"}
    tracemalloc.start()
    try:
        with pytest.raises(NotAProductError, match="larger than 17 MB"):
            open_stac_item(f"{server.url}/item.json")
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_the_body_of_a_redirect_is_not_read(server, files):
    href = serve_item(server, files)
    server.redirect_body = gzip.compress(b" " * 2**29, 1)
    server.faults["/item.json"] = [href]
    tracemalloc.start()
    try:
        assert open_stac_item(href).id == "hostile"
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_an_item_larger_than_any_is_not_read_to_its_end(server, files):
    with (files / "item.json").open("wb") as file:
        file.truncate(2**30)
    for href in (f"{server.url}/item.json", str(files / "item.json")):
        with pytest.raises(NotAProductError, match="larger than 17 MB"):
            open_stac_item(href)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"type": "Feature", "assets": ' + "9" * 5000 + "}",
        '{"type": "Feature", "assets": {}, "id": "x", "properties": ' + "[" * 900 + "]" * 900 + "}",
        json.dumps({"type": "Feature", "assets": {str(number): {"href": ""} for number in range(1001)}}),
    ],
    ids=["lists", "objects", "number", "nested", "assets"],
)
def test_json_that_breaks_parsers_is_refused(tmp_path, text):
    (tmp_path / "item.json").write_text(text)
    with pytest.raises(NotAProductError, match="STAC item"):
        open_stac_item(str(tmp_path / "item.json"))


@pytest.mark.parametrize("name", ["scale", "offset"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_that_give_no_reflectance_are_refused(files, name, value):
    item = stac_item("odd", str(files))
    item["assets"]["blue"]["raster:bands"] = [item["assets"]["blue"]["raster:bands"][0] | {name: value}]
    (files / "item.json").write_text(json.dumps(item))
    with pytest.raises(MetadataError, match=f"{name} of a band of odd gives no reflectance: {value}"):
        open_stac_item(str(files / "item.json"))


@pytest.mark.parametrize("scale", [0, -0.0001])
def test_a_scale_is_positive(files, scale):
    item = stac_item("odd", str(files))
    item["assets"]["blue"]["raster:bands"] = [{"scale": scale, "offset": -0.1}]
    (files / "item.json").write_text(json.dumps(item))
    with pytest.raises(MetadataError, match="scale of a band of odd gives no reflectance"):
        open_stac_item(str(files / "item.json"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\x00b\nc\x1b[2J\u202ed\ud800", "a_b_c__2J_d_"),
        ("..", "item"),
        ("ledger.sqlite-journal", "ledger_sqlite-journal"),
        ("collection.JSON", "collection_JSON"),
        ("traffic.parquet", "traffic_parquet"),
        ("S2A_MSIL2A.SAFE", "S2A_MSIL2A.SAFE"),
    ],
)
def test_an_id_names_a_folder_that_is_nothing_else(files, given, expected):
    """Nor a file that lies beside those of scenes: a folder in its place would stop all others."""
    item = stac_item(given, str(files))
    (files / "item.json").write_text(json.dumps(item))
    assert open_stac_item(str(files / "item.json")).id == expected


def test_ids_longer_than_names_of_files_stay_apart(files):
    names = []
    for letter in ("\u0416", "x"):
        for end in "ab":
            (files / "item.json").write_text(json.dumps(stac_item(letter * 10_000 + end, str(files))))
            names.append(open_stac_item(str(files / "item.json")).id)
    assert len(set(names)) == 4
    assert all(len(name.encode()) <= 200 for name in names)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [
    ("id",), ("properties",), ("links",), ("assets",), ("stac_version",), ("collection",), ("geometry",),
    ("stac_extensions",), ("properties", "datetime"), ("properties", "platform"),
    ("properties", "s2:processing_baseline"), ("assets", "blue"), ("assets", "blue", "href"),
    ("assets", "blue", "roles"), ("assets", "blue", "type"), ("assets", "blue", "gsd"),
    ("assets", "blue", "eo:bands"), ("assets", "blue", "raster:bands"), ("assets", "blue", "bands"),
]  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PLACES), ANYTHING)
def test_whatever_an_item_says_the_answer_is_a_scene_or_one_clear_error(files, place, value):
    item = stac_item("odd", str(files))
    *way, last = place
    node = item
    for step in way:
        node = node[step]
    node[last] = value
    path = files / "odd.json"
    path.write_text(json.dumps(item))
    try:
        scene = open_stac_item(str(path))
    except TruckscapeError as error:
        assert str(error)
    else:
        assert Path(scene.id).name == scene.id


# --- servers that fail ----------------------------------------------------------------------------------


def test_faults_of_every_kind_are_outlasted_and_pixels_are_the_same(server, files, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")
    href = serve_item(server, files)
    quiet = read_pixels(open_stac_item(href), Window(0, 0, 300, 300), ["B02", "B03", "B04", "B08"])
    other = files.parent / "again"
    files.rename(other)
    with file_server(other) as again:
        href = serve_item(again, other)
        again.faults = {
            "/item.json": ["503", "half", "close"],
            "/B02.tif": ["503"] * 7,
            "/B03.tif": ["close"] * 3,
            "/B04.tif": ["half"] * 2,
            "/B08.tif": ["hang"],
        }
        noisy = read_pixels(open_stac_item(href), Window(0, 0, 300, 300), ["B02", "B03", "B04", "B08"])
        assert again.pending == 0
    assert (noisy.reflectance == quiet.reflectance).all()
    assert noisy.valid.all()


def test_what_signs_an_address_is_in_no_message(server, files, caplog):
    href = serve_item(
        server, files, **dict.fromkeys(("blue", "green", "red"), f"{server.url}/none.tif?{SECRET}")
    )
    for address in (
        href + f"?{SECRET}",
        f"{server.url}/none.json?{SECRET}",
        f"http://u:topsecret@127.0.0.1:9/?{SECRET}",
    ):
        with pytest.raises(TruckscapeError) as caught:
            open_stac_item(address)
        error: BaseException | None = caught.value
        while error is not None:
            assert "topsecret" not in str(error)
            error = error.__cause__
    assert "topsecret" not in caplog.text


def test_a_scene_keeps_no_signature_but_reads_with_it(server, files):
    href = serve_item(server, files, blue=f"{server.url}/B02.tif?{SECRET}")
    scene = open_stac_item(f"{href}?{SECRET}")
    assert scene.href == href
    assert read_pixels(scene, Window(0, 0, 9, 9), ["B02"]).valid.all()


def test_a_server_that_hangs_or_is_busy_for_good_is_unreachable(server, files):
    href = serve_item(server, files)
    server.faults["/item.json"] = ["503"] * 99
    with pytest.raises(UnreachableError, match="HTTP status 503") as caught:
        open_stac_item(href)
    assert is_transient(caught.value)


# --- rasters that burst ---------------------------------------------------------------------------------


def empty_raster(path: Path, side: int, block: int) -> Path:
    """All nodata, in a file of a few kilobytes."""
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=1, dtype="uint16", crs=CRS,
        transform=from_origin(*ORIGIN, 10, 10), tiled=True, blockxsize=block, blockysize=block,
        compress="deflate", SPARSE_OK=True, BIGTIFF="YES",
    ) as dataset:  # fmt: skip
        dataset.descriptions = ("B02",)
    assert path.stat().st_size < 10**6
    return path


def test_a_block_that_would_fill_the_memory_is_not_decoded(tmp_path):
    with pytest.raises(CorruptImageError, match=r"has blocks of 32768 x 32768 pixels.* in tiles"):
        open_scene(str(empty_raster(tmp_path / "bomb.tif", 32768, 32768)))


def test_the_memory_of_a_run_decides_how_large_a_block_may_be(tmp_path):
    path = str(empty_raster(tmp_path / "bomb.tif", 8192, 8192))  # 134 MB a block
    assert open_scene(path).shape == (8192, 8192)
    with (
        within_memory(1000),
        pytest.raises(CorruptImageError, match=r"134 MB each.*memory for 125 MB.*engine\.memory_mb=1074"),
    ):
        open_scene(path)


def test_a_grid_larger_than_a_continent_is_refused(tmp_path):
    with pytest.raises(GeoreferenceError, match=r"at most 1e\+11 pixels of 10 m.* of 2000000 x 2000000"):
        open_scene(str(empty_raster(tmp_path / "bomb.tif", 2_000_000, 8192)))


# --- archives that burst --------------------------------------------------------------------------------


def test_metadata_that_burst_are_not_unpacked(tmp_path):
    """A gigabyte of zeros is a megabyte in a zip."""
    bomb = tmp_path / "S2A_MSIL2A_bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("X.SAFE/MTD_MSIL2A.xml", "w") as member:
            for _ in range(80):
                member.write(bytes(2**20))
        archive.writestr("X.SAFE/GRANULE/L2A/MTD_TL.xml", "<x/>")
    tracemalloc.start()
    try:
        with pytest.raises(MetadataError, match="has 83886080 bytes"):
            open_safe(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
