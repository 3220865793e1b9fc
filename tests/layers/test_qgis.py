"""What QGIS itself sees in the layers of a run; started by `pytest -m qgis`.

Needs `apt-get install --no-install-recommends qgis python3-qgis qgis-providers`, QGIS 3.22 or later.
"""

import json
import os
import subprocess
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from PIL import Image

from pipeline.config import load_config
from pipeline.layers.styles import rgb
from pipeline.models.bundle import open_bundle
from pipeline.run import Request, run_directly

pytestmark = pytest.mark.qgis

PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).with_name("qgis_render.py")
SETTINGS = ["engine.threads=1", "export.formats=[parquet, flatgeobuf]", "panoptic.enabled=true"]
STYLES = {
    "trucks.gpkg|trucks": ("graduatedSymbol", "score"),
    "trucks.gpkg|vehicles": ("graduatedSymbol", "vehicle_score"),
    "trucks.gpkg|road_segments": ("graduatedSymbol", 'coalesce("flow_per_hour", -1)'),
    "trucks.gpkg|seen": ("categorizedSymbol", "status"),
    "trucks.gpkg|not_seen": ("categorizedSymbol", "reason"),
    "landcover.gpkg|landcover": ("categorizedSymbol", "class"),
    "trucks.geojson": ("graduatedSymbol", "score"),
    "vehicles.fgb": ("graduatedSymbol", "vehicle_score"),
    "trucks.fgb": ("graduatedSymbol", "score"),
    "road_segments.fgb": ("graduatedSymbol", 'coalesce("flow_per_hour", -1)'),
    "landcover.fgb": ("categorizedSymbol", "class"),
}


@pytest.fixture(scope="module")
def folder(product, tmp_path_factory) -> Path:
    """The layers of a run over a simulated scene, but only where there is a QGIS to look at them."""
    there = Path(PYTHON).exists() and subprocess.run(
        [PYTHON, "-c", "import qgis.core"], check=False, capture_output=True
    )
    if not there or there.returncode:
        pytest.skip(f"needs QGIS for {PYTHON}: apt-get install qgis python3-qgis qgis-providers")
    out = tmp_path_factory.mktemp("qgis")
    request = Request(str(product.safe), out, load_config(None, SETTINGS), roads=product.roads)
    return run_directly(request).folder


@pytest.fixture(scope="module")
def picture(folder) -> Path:
    return folder.parent / "page.png"


@pytest.fixture(scope="module")
def reported(folder, picture) -> dict:
    place = gpd.read_file(folder / "trucks.gpkg", layer="trucks").geometry.iloc[0].centroid
    done = subprocess.run(
        [PYTHON, str(SCRIPT), str(folder), str(picture), str(place.x), str(place.y)],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return json.loads(done.stdout)


def layer_of(folder: Path, name: str) -> gpd.GeoDataFrame:
    file, _, layer = name.partition("|")
    return gpd.read_file(folder / file, **({"layer": layer} if layer else {}))


@pytest.mark.parametrize("name", STYLES)
def test_a_layer_has_its_features_in_their_place(reported, folder, name):
    ours, seen = layer_of(folder, name), reported[name]
    assert seen["valid"]
    assert seen["count"] == len(ours) > 0
    assert seen["crs"] == f"EPSG:{ours.crs.to_epsg()}"
    tolerance = 1e-7 if ours.crs.is_geographic else 1e-3
    assert seen["extent"] == pytest.approx(list(ours.total_bounds), abs=tolerance)


@pytest.mark.parametrize("name", STYLES)
def test_a_layer_finds_its_style_by_itself_and_no_feature_is_without_a_symbol(reported, name):
    seen = reported[name]
    assert (seen["renderer"], seen["attribute"]) == STYLES[name]
    assert all(seen["legend"])
    assert seen["without_symbol"] == 0
    speeds = ("trucks.gpkg|trucks", "trucks.gpkg|vehicles", "trucks.geojson", "trucks.fgb", "vehicles.fgb")
    assert seen["labels"] == name.startswith(speeds)


def test_fields_have_their_types(reported):
    fields = reported["trucks.gpkg|trucks"]["fields"]
    assert {name: fields[name] for name in ("id", "score", "heading_deg", "speed_kmh", "near_cloud")} == {
        "id": "String",
        "score": "Real",
        "heading_deg": "Real",
        "speed_kmh": "Real",
        "near_cloud": "Boolean",
    }
    assert reported["trucks.geojson"]["fields"]["acquired"] == "DateTime"
    assert reported["trucks.gpkg|road_segments"]["fields"]["flow_per_hour"] == "Real"
    assert reported["landcover.gpkg|landcover"]["fields"]["class"] == "Integer64"


def test_the_raster_names_its_classes_and_nothing_else(reported):
    legend = open_bundle("landcover").card.classes
    assert reported["landcover.tif"]["legend"] == {entry.name: entry.colour.lower() for entry in legend}


@pytest.mark.parametrize(
    ("name", "renderer"), [("landcover.tif", "paletted"), ("panoptic.tif", "multibandcolor")]
)
def test_a_raster_has_its_pixels_in_their_place(reported, folder, name, renderer):
    seen = reported[name]
    assert seen["renderer"] == renderer
    with rasterio.open(folder / name) as raster:
        assert seen["size"] == [raster.width, raster.height]
        middle = next(raster.sample([raster.transform * (raster.width / 2, raster.height / 2)]))
        assert seen["middle"] == middle.tolist()
        assert seen["extent"] == pytest.approx(list(raster.bounds))
        assert seen["crs"] == f"EPSG:{raster.crs.to_epsg()}"
    assert not seen["stretched"]


def test_geoparquet_opens_where_qgis_has_a_driver_for_it(reported, folder):
    """Debian's GDAL has none."""
    seen = reported["trucks.parquet"]
    assert not seen["valid"] or seen["count"] == len(gpd.read_parquet(folder / "trucks.parquet"))


def test_the_picture_shows_land_cover_and_trucks(reported, folder, picture):
    """Colours of the land cover at half their strength on white, pointers at full strength."""
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert pixels.shape[1] == pytest.approx(1400, abs=5)
    areas = gpd.read_file(folder / "landcover.gpkg", layer="landcover")
    half = [(np.array(rgb(colour)) + 255) / 2 for colour in areas["colour"].unique()]
    covered = np.any([np.abs(pixels - colour).max(axis=-1) <= 2 for colour in half], axis=0)
    page_m2 = 0.205 * 25_000 * 0.19 * 25_000
    share_of_page = 0.205 / 0.297
    scene_m2 = min(areas.area.sum(), page_m2)
    assert covered.mean() > 0.7 * scene_m2 / page_m2 * share_of_page
    reds = np.abs(pixels - rgb("#BD0026")).max(axis=-1) <= 2
    assert reds[:, 970:].sum() > 200  # in the inset, around a truck
