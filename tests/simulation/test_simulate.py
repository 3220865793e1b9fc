"""A simulated scene is repeatable, is laid out like a real product, and its truth is true."""

import dataclasses
import hashlib
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from pipeline.errors import ConfigError, OutputError
from pipeline.scenes.detectors import detector_at
from pipeline.scenes.readers.safe import open_safe
from pipeline.simulation import product_metadata
from pipeline.simulation.product import scene_classification
from pipeline.simulation.simulate import simulate, simulate_scene
from pipeline.simulation.world.atmosphere import LINE_OF_SIGHT_KM, cloud_field
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.noise import fractal_field, hashed, uniform
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.stage import Stage
from pipeline.simulation.world.traffic import Traffic

VISIBLE = ("B02", "B03", "B04")
SIZE, SEED = 250, 4


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("product"), SIZE, SEED)


@pytest.fixture(scope="module")
def scene():
    return simulate_scene(SIZE, SEED)


@pytest.fixture(scope="module")
def only_trucks():
    """What trucks add to the visible bands of a scene, (3, H, W), and the trucks."""
    stage = Stage.of(360, 7)
    with_trucks = dataclasses.replace(stage, traffic=Traffic(stage.traffic.trucks))
    without = dataclasses.replace(stage, traffic=Traffic())
    pictures = [next(each.render(VISIBLE)).reflectance for each in (with_trucks, without)]
    return pictures[0] - pictures[1], with_trucks.trucks()


def image(product, pattern):
    return next(product.safe.glob(f"GRANULE/*/{pattern}"))


def digests(folder: Path):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_same_seed_same_scene(scene):
    again = simulate_scene(SIZE, SEED)
    np.testing.assert_array_equal(again.reflectance, scene.reflectance)
    np.testing.assert_array_equal(again.landcover, scene.landcover)
    assert [truck.box for truck in again.trucks] == [truck.box for truck in scene.trucks]


def test_other_seed_other_scene(scene):
    other = simulate_scene(SIZE, SEED + 1, bands=("B04",))
    assert np.abs(other.reflectance[0] - scene.reflectance[scene.bands.index("B04")]).mean() > 0.01


def test_bands_do_not_depend_on_each_other(scene):
    alone = simulate_scene(SIZE, SEED, bands=("B08", "B03"))
    for channel, band in enumerate(alone.bands):
        np.testing.assert_array_equal(alone.reflectance[channel], scene.reflectance[scene.bands.index(band)])


def test_same_seed_same_files(tmp_path):
    for name in "ab":
        simulate(tmp_path / name, 64, 3)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_window_does_not_depend_on_what_was_rendered_around_it():
    xs, ys = np.arange(0.5, 60), np.arange(10.5, 50)
    whole = fractal_field(xs, ys, 9.0, 1)
    np.testing.assert_allclose(fractal_field(xs[20:30], ys[5:9], 9.0, 1), whole[5:9, 20:30], atol=1e-5)
    assert abs(float(fractal_field(np.arange(900.0), np.arange(900.0), 9.0, 1).std()) - 1) < 0.1


def test_hashed_numbers_are_spread_evenly():
    values = uniform(5, np.arange(300)[:, None], np.arange(300)[None, :])
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    assert values.std() == pytest.approx(12**-0.5, abs=0.01)
    assert len(np.unique(hashed(5, np.arange(1000)))) == 1000


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


def test_viewing_angles_give_the_order_of_the_truth(tmp_path):
    made = simulate(tmp_path, 300, 7)
    trucks = gpd.read_file(made.trucks, layer="trucks")
    msi = open_safe(made.safe).msi
    at = trucks.geometry.centroid
    assert set(trucks["msi_detector"] % 2) == {0, 1}
    for x, y, detector, order in zip(at.x, at.y, trucks["msi_detector"], trucks["band_order"], strict=True):
        assert detector_at(msi, x, y) == detector
        assert msi.band_order(detector) == order
        assert msi.delay_s(detector) == pytest.approx(1.005 if order == "blue_first" else -1.005, rel=0.03)


@pytest.mark.parametrize("parity", [1, -1])
def test_lines_of_sight_are_those_of_real_products(parity):
    granule = product_metadata.Granule(plan_world(1024, 1))
    detector = next(number for number in granule.detectors() if (number % 2 == 1) == (parity == 1))
    along = {}
    for band in ("B02", "B04"):
        zenith, azimuth = np.deg2rad(granule.viewing_angles(band, detector))
        along[band] = np.nanmean(786 * np.tan(zenith) * np.cos(azimuth))
    assert along["B04"] - along["B02"] == pytest.approx(parity * LINE_OF_SIGHT_KM["B04"])
    assert LINE_OF_SIGHT_KM["B04"] == pytest.approx(-7.3, abs=0.1)


def test_truth_tables(product, scene):
    trucks = gpd.read_file(product.trucks, layer="trucks")
    assert trucks.crs.to_epsg() == 32632
    assert len(trucks) == len(scene.trucks)
    assert {"id", "confidence", "travel_deg", "speed_kmh", "length_m", "width_m"} <= set(trucks.columns)
    x0, y0, x1, y1 = scene.trucks[0].box
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


def test_boxes_hold_what_the_trucks_add(only_trucks):
    added, trucks = only_trucks
    shares = []
    for truck in trucks:
        x0, y0, x1, y1 = truck.box
        near = np.abs(added[:, max(0, int(y0) - 3) : int(y1) + 5, max(0, int(x0) - 3) : int(x1) + 5]).sum()
        inside = np.abs(added[:, int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]).sum()
        shares.append(inside / near)
    assert len(shares) > 10
    assert np.median(shares) > 0.85


def test_trucks_move_between_the_bands_as_the_truth_says(only_trucks):
    added, trucks = only_trucks
    rows, cols = np.mgrid[: added.shape[1], : added.shape[2]] + 0.5
    errors = []
    for truck in (truck for truck in trucks if truck.confidence == "high"):
        x0, y0, x1, y1 = truck.box
        part = (slice(max(0, int(y0) - 1), int(y1) + 2), slice(max(0, int(x0) - 1), int(x1) + 2))
        places = [
            np.array([(cols[part] * band[part]).sum(), (rows[part] * band[part]).sum()]) / band[part].sum()
            for band in (added[0], added[2])
        ]
        travelled = truck.vehicle.speed_kmh / 3.6 * 1.005 * truck.order / 10
        errors.append(np.hypot(*(places[1] - places[0] - travelled * np.array(truck.vehicle.direction))))
    # the bands are misregistered by up to 0.15 px in each direction
    assert np.median(errors) < 0.25


@pytest.mark.parametrize(("seed", "driving_side"), [(2, 1), (3, -1)])
def test_trucks_keep_apart_and_to_their_side(seed, driving_side):
    stage = Stage.of(600, seed)
    assert stage.world.driving_side == driving_side
    trucks = stage.traffic.trucks
    for i, one in enumerate(trucks):
        for other in trucks[:i]:
            if np.dot(one.direction, other.direction) > 0:
                assert np.hypot(one.x - other.x, one.y - other.y) * 10 >= 45
    motorway = next(road for road in stage.world.roads if road.road_class == "motorway")
    sides = []
    for truck in trucks:
        nearest = motorway.points[np.argmin(np.hypot(*(motorway.points - [truck.x, truck.y]).T))]
        away = np.array([truck.x, truck.y]) - nearest
        if np.hypot(*away) < 4:
            dx, dy = truck.direction
            sides.append(driving_side * float(away @ [-dy, dx]))
    assert len(sides) > 5
    assert min(sides) > 0


def test_no_firm_truck_is_under_cloud_or_cut():
    stage = Stage.of(600, 1)
    for truck in (truck for truck in stage.trucks() if truck.confidence == "high"):
        x0, y0, x1, y1 = truck.box
        assert min(x0, y0) >= 2
        assert max(x1, y1) <= 598
        opacity = cloud_field(stage.world, np.array([truck.vehicle.x]), np.array([truck.vehicle.y]))
        assert opacity[0, 0] < 0.2


@pytest.mark.parametrize("size", [1, 63, 10981])
def test_size_out_of_range_is_refused(size, tmp_path):
    with pytest.raises(ConfigError, match=f"64 to 10980 pixels a side. Received: size={size}"):
        simulate(tmp_path, size)
    assert not list(tmp_path.iterdir())


def test_unknown_band_is_refused():
    with pytest.raises(ValueError, match="Received: B10"):
        simulate_scene(64, 0, bands=("B02", "B10"))


def test_existing_product_is_not_touched(product):
    before = digests(product.safe.parent)
    with pytest.raises(OutputError, match="exists already"):
        simulate(product.safe.parent, SIZE, SEED)
    assert digests(product.safe.parent) == before


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Can't write the simulated product"):
        simulate(tmp_path / "file" / "out", 64)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
