"""The simulated product: rasters, offsets, coarse bands, truth."""

import os

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from pipeline.errors import OutputError
from pipeline.scenes.readers.safe import open_safe
from pipeline.simulation.product import scene_classification
from pipeline.simulation.simulate import simulate
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.stage import Stage
from pipeline.storage.atomic import temporary
from tests.simulation.test_simulate import digests

SIZE, SEED = 250, 4


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("product"), SIZE, SEED)


def image(product, pattern):
    return next(product.safe.glob(f"GRANULE/*/{pattern}"))


def test_layout_opens_with_rasterio(product):
    for pattern, gsd, side, dtype in (
        ("IMG_DATA/R10m/*_B04_10m.jp2", 10, 250, "uint16"),
        ("IMG_DATA/R10m/*_TCI_10m.jp2", 10, 250, "uint8"),
        ("IMG_DATA/R20m/*_B12_20m.jp2", 20, 125, "uint16"),
        ("IMG_DATA/R20m/*_SCL_20m.jp2", 20, 125, "uint8"),
        ("IMG_DATA/R60m/*_B09_60m.jp2", 60, 42, "uint16"),
        ("QI_DATA/MSK_DETFOO_B02.jp2", 10, 250, "uint8"),
        ("QI_DATA/MSK_DETFOO_B01.jp2", 60, 42, "uint8"),
    ):
        with rasterio.open(image(product, pattern)) as file:
            assert file.driver == "JP2OpenJPEG"
            assert (file.width, file.height, file.dtypes[0]) == (side, side, dtype)
            assert file.crs.to_epsg() == 32632
            assert file.transform.to_gdal() == (600000, gsd, 0, 5900040, 0, -gsd)


def test_digital_numbers_have_offset_and_no_nodata(product, scene):
    for band in ("B02", "B08"):
        with rasterio.open(image(product, f"IMG_DATA/R10m/*_{band}_10m.jp2")) as file:
            digital = file.read(1)
        expected = scene.reflectance[scene.bands.index(band)] * 10000 + 1000
        assert digital.min() > 0
        np.testing.assert_allclose(digital, np.clip(expected, 1, 65534), atol=0.51)


def test_coarse_bands_average_the_fine_ones(product, scene):
    with rasterio.open(image(product, "IMG_DATA/R20m/*_B11_20m.jp2")) as file:
        reflectance = (file.read(1).astype(float) - 1000) / 10000
    fine = scene.reflectance[scene.bands.index("B11")]
    np.testing.assert_allclose(reflectance, fine.reshape(125, 2, 125, 2).mean(axis=(1, 3)), atol=1e-4)


def test_our_own_opener_reads_it_as_simulated(product):
    opened = open_safe(product.safe)
    assert opened.simulated
    assert (opened.level, opened.baseline, opened.platform) == ("L2A", "05.09", "sentinel-2a")
    assert opened.shape == (SIZE, SIZE)
    assert opened.bands["B04"].offset == pytest.approx(-0.1)


def test_truth_tables(product, scene):
    trucks = gpd.read_file(product.trucks, layer="trucks")
    assert trucks.crs.to_epsg() == 32632
    assert len(trucks) == len(scene.vehicles)
    assert {"id", "confidence", "travel_deg", "speed_kmh", "length_m", "width_m"} <= set(trucks.columns)
    assert ((trucks["length_m"] >= 8) == (trucks["vehicle"] == "heavy")).all()
    assert set(trucks["vehicle"]) == {"heavy", "light"}
    assert set(trucks["confidence"]) <= {"high", "low", "ignore"}
    x0, y0, x1, y1 = scene.vehicles[0].box
    expected = (600000 + 10 * x0, 5900040 - 10 * y1, 600000 + 10 * x1, 5900040 - 10 * y0)
    assert trucks.geometry.iloc[0].bounds == pytest.approx(expected, abs=1e-6)
    roads = gpd.read_file(product.roads, layer="roads")
    assert "motorway" in set(roads["road_class"])
    assert {"ref", "lanes"} <= set(roads.columns)
    with rasterio.open(product.landcover) as file:
        assert file.nodata == 255
        np.testing.assert_array_equal(file.read(1), scene.landcover)


def test_scene_classification_tells_cloud_and_water():
    stage = Stage.of(360, 1)
    block = next(stage.render(BANDS))
    scl = scene_classification(block)
    assert set(np.unique(scl)) <= {3, 4, 5, 6, 8, 9, 10}
    thick = block.sky.cloud.reshape(scl.shape[0], 2, -1, 2).min(axis=(1, 3)) > 0.7
    assert thick.any()
    assert set(np.unique(scl[thick])) == {9}
    clear_water = (block.landcover == 0) & (block.sky.cloud + block.sky.shadow + block.sky.cirrus == 0)
    open_water = clear_water.reshape(scl.shape[0], 2, -1, 2).all(axis=(1, 3))
    assert (scl[open_water] == 6).all()


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = temporary(tmp_path / "simulate").name.replace(f"-{os.getpid()}.", "-99999999.")
    (tmp_path / left).mkdir()
    simulate(tmp_path, 64, 3)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".SAFE"]


def test_existing_product_is_not_touched(product):
    before = digests(product.safe.parent)
    with pytest.raises(OutputError, match="exists already"):
        simulate(product.safe.parent, SIZE, SEED)
    assert digests(product.safe.parent) == before
