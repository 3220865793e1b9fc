"""Opening scenes, and what they say about themselves."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest

import truckscape as ts
from tests.conftest import write_geotiff


def item_of(path: Path, folder: Path) -> pystac.Item:
    """A STAC item in memory whose assets are bands in single files."""
    import rasterio

    item = pystac.Item("in-memory", None, None, datetime(2024, 6, 1, 10, 20, tzinfo=UTC), {})
    with rasterio.open(path) as dataset:
        for index, name in enumerate(dataset.descriptions, 1):
            profile = {**dataset.profile, "count": 1}
            with rasterio.open(folder / f"{name}.tif", "w", **profile) as band:
                band.write(dataset.read(index), 1)
            item.add_asset(name, pystac.Asset(str(folder / f"{name}.tif"), media_type=pystac.MediaType.COG))
    return item


@pytest.fixture
def tiff(tmp_path) -> Path:
    numbers = np.random.default_rng(1).integers(300, 2500, (4, 64, 80), dtype=np.uint16)
    return write_geotiff(tmp_path / "S2A_MSIL2A_20240601T102031_x.tif", numbers)


def test_a_scene_says_what_it_is(product):
    scene = ts.open(product.safe)
    text = repr(scene)
    assert product.safe.stem in text
    assert "256 x 256 pixels of 10 m, EPSG:" in text
    assert "simulated" in text
    assert "B02, " in text
    assert scene.shape == (256, 256)
    left, bottom, right, top = scene.bounds
    assert (right - left, top - bottom) == (2560, 2560)
    assert {"B02", "B08", "B12"} <= set(scene.bands)


def test_text_and_path_open_the_same(tiff):
    assert ts.open(str(tiff)).data == ts.open(tiff).data


def test_names_and_values_of_the_user(tmp_path):
    path = write_geotiff(tmp_path / "plain.tif", np.full((4, 20, 20), 700, np.uint16), described=False)
    scene = ts.open(path, bands=["B02", "B03", "B04", "B08"], scale=1e-3, acquired=datetime(2024, 6, 1, 10))
    assert scene.bands == ("B02", "B03", "B04", "B08")
    assert scene.acquired == datetime(2024, 6, 1, 10, tzinfo=UTC)
    np.testing.assert_allclose(scene.to_xarray(), 0.7)


def test_an_item_in_memory(tiff, tmp_path):
    scene = ts.open(item_of(tiff, tmp_path), offset=0)
    assert (scene.id, scene.href) == ("in-memory", None)
    np.testing.assert_allclose(scene.to_xarray(["B04"]), ts.open(tiff, offset=0).to_xarray(["B04"]))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("no/such.SAFE", ts.SceneNotFoundError, "No such file or folder: no/such.SAFE"),
        (7, ts.NotAProductError, "A scene is a path, a URL or a pystac.Item. Received: int."),
        (Path(__file__), ts.NotAProductError, "Not a Sentinel-2 scene"),
    ],
)
def test_what_is_no_scene_is_one_line(given, error, message):
    with pytest.raises(error, match=message) as raised:
        ts.open(given)
    assert isinstance(raised.value, ts.Error)
    assert "\n" not in str(raised.value)


def test_bands_of_an_item_have_their_names(tiff, tmp_path):
    with pytest.raises(ts.ConfigError, match="bands= is for GeoTIFFs only"):
        ts.open(item_of(tiff, tmp_path), bands=["B02"])


def test_messages_name_arguments_of_python(tmp_path):
    path = write_geotiff(tmp_path / "x.tif", np.full((4, 20, 20), 700, np.uint16))
    with pytest.raises(ts.ConfigError, match="scale"):
        ts.open(path, scale=10000)
