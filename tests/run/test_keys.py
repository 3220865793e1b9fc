"""Keys of shards change with everything that decides a shard's bytes."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely

import pipeline
from pipeline.config import load_config
from pipeline.inference.motion import AMPLE_EVIDENCE
from pipeline.models.bundle import Calibration, open_bundle, save_card
from pipeline.run import Job, Request, keys, prepare, run_shards
from tests.conftest import write_geotiff
from tests.run.conftest import request_for

FAST = ["engine.threads=1", "tiling.tile_px=128", "tiling.shards=2"]


@pytest.fixture
def job(tmp_path):
    scene = write_geotiff(tmp_path / "scene.tif", np.full((4, 64, 64), 1000, np.uint16))

    def prepared(*settings: str) -> Job:
        config = load_config(None, ["landcover.enabled=false", "engine.precision=float32", *settings])
        return prepare(Request(str(scene), tmp_path / "out", config))

    return prepared


@pytest.mark.parametrize("name", ["truckscape", "torch", "torchvision", "rasterio", "numpy"])
def test_an_upgrade_of_a_package_recomputes(job, monkeypatch, name):
    before = job().keys
    assert job().keys == before
    monkeypatch.setattr(keys, "version", lambda asked: "99" if asked == name else version(asked))
    assert not set(job().keys) & set(before)


def test_an_upgrade_of_gdal_recomputes(job, monkeypatch):
    before = job().keys
    monkeypatch.setattr(rasterio, "__gdal_version__", "99")
    assert not set(job().keys) & set(before)


def test_another_precision_recomputes(job):
    assert not set(job("engine.precision=bfloat16").keys) & set(job().keys)


@pytest.mark.parametrize("file", ["inference/motion.py", "scenes/raster/resample.py", "tiling.py"])
def test_a_change_of_the_code_that_makes_shards_recomputes(tmp_path, file):
    package = Path(pipeline.__file__).parent
    copy = tmp_path / "pipeline"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("bundles", "static", "__pycache__"))
    same = keys.source_hash(package)
    (copy / "layers" / "trucks.py").write_text("")
    assert keys.source_hash(copy) == same
    (copy / file).write_text((copy / file).read_text() + "#")
    keys.source_hash.cache_clear()
    assert keys.source_hash(copy) != same


def test_other_roads_are_other_shards_but_other_labels_are_not(result, product):
    job = prepare(request_for(product, result.folder.parent, truck_labels=None))
    assert job.missing() == []
    assert prepare(request_for(product, result.folder.parent, roads=None)).missing() == [0, 1]


def test_another_layer_of_the_same_file_of_roads_is_other_shards(tmp_path):
    scene = write_geotiff(tmp_path / "scene.tif", np.full((4, 64, 64), 1000, np.uint16))
    with rasterio.open(scene) as source:
        (left, _, right, top), crs = source.bounds, source.crs
    for name, y in (("north", top - 100), ("south", top - 400)):
        line = gpd.GeoDataFrame(geometry=[shapely.LineString([(left, y), (right, y)])], crs=crs)
        line.to_file(tmp_path / "r.gpkg", layer=name)

    def job(layer: str) -> Job:
        return prepare(
            Request(str(scene), tmp_path / "out", trucks_only(), roads=tmp_path / f"r.gpkg:{layer}")
        )

    north, south = job("north"), job("south")
    assert north.inputs == south.inputs
    assert set(north.inputs) == {str(scene), str(tmp_path / "r.gpkg")}
    assert not set(north.keys) & set(south.keys)
    assert (job("north").keys, job("north").roads["geometry"][0].bounds[1]) == (north.keys, top - 100)


@pytest.fixture
def four_bands(tmp_path):
    """A GeoTIFF of four bands that are named by the user, and its job."""
    numbers = np.stack([np.full((64, 64), 1000 + band, np.uint16) for band in range(4)])
    write_geotiff(tmp_path / "scene.tif", numbers, described=False)

    def job(bands="B02 B03 B04 B08", **given) -> Job:
        scene = str(tmp_path / "scene.tif")
        return prepare(Request(scene, tmp_path / "out", trucks_only(), bands=tuple(bands.split()), **given))

    return job


def test_the_same_file_with_its_bands_in_another_order_is_other_shards(four_bands):
    assert not set(four_bands().keys) & set(four_bands("B04 B03 B02 B08").keys)
    assert four_bands().keys == four_bands().keys


def test_band_files_that_changed_places_are_other_shards(tmp_path):
    folder = tmp_path / "T32UPC_20230613T102031"
    folder.mkdir()
    files = {}
    for number, name in enumerate(("B02", "B03", "B04", "B08")):
        whole = write_geotiff(tmp_path / f"{name}.tif", np.full((4, 64, 64), 900 + number, np.uint16))
        files[name] = folder / f"{folder.name}_{name}.tif"
        with rasterio.open(whole) as source:
            profile = {**source.profile, "count": 1}
            with rasterio.open(files[name], "w", **profile) as target:
                target.write(source.read(1), 1)
    before = prepare(Request(str(folder), tmp_path / "out", trucks_only())).keys
    files["B02"].rename(tmp_path / "aside")
    files["B04"].rename(files["B02"])
    (tmp_path / "aside").rename(files["B04"])
    assert not set(before) & set(prepare(Request(str(folder), tmp_path / "out", trucks_only())).keys)


def test_files_beside_roads_are_part_of_them(tmp_path, four_bands):
    with rasterio.open(tmp_path / "scene.tif") as source:
        (left, _, right, top), crs = source.bounds, source.crs
    line = shapely.LineString([(left, top - 100), (right, top - 100)])
    gpd.GeoDataFrame({"name": ["A"]}, geometry=[line], crs=crs).to_file(tmp_path / "r.shp")
    before = four_bands(roads=tmp_path / "r.shp")
    names = ("r.cpg", "r.dbf", "r.prj", "r.shp", "r.shx", "scene.tif")
    assert set(before.inputs) == {str(tmp_path / name) for name in names}
    (tmp_path / "r.prj").write_text(pyproj.CRS(32631).to_wkt("WKT1_ESRI"))
    after = four_bands(roads=tmp_path / "r.shp")
    assert not set(before.keys) & set(after.keys)
    assert before.inputs[str(tmp_path / "r.shp")] == after.inputs[str(tmp_path / "r.shp")]


def test_one_file_of_roads_and_labels_is_part_of_the_keys(tmp_path, four_bands):
    path = tmp_path / "both.gpkg"
    with rasterio.open(tmp_path / "scene.tif") as source:
        (left, _, right, top), crs = source.bounds, source.crs
    truck = shapely.box(left + 50, top - 80, left + 70, top - 60)
    gpd.GeoDataFrame(geometry=[truck], crs=crs).to_file(path, layer="trucks")

    def job(y: float) -> Job:
        line = shapely.LineString([(left, y), (right, y)])
        gpd.GeoDataFrame(geometry=[line], crs=crs).to_file(path, layer="roads")
        return four_bands(roads=Path(f"{path}:roads"), truck_labels=Path(f"{path}:trucks"))

    assert not set(job(top - 100).keys) & set(job(top - 300).keys)


def test_look_alikes_beside_truck_labels_are_an_input(tmp_path, four_bands):
    with rasterio.open(tmp_path / "scene.tif") as source:
        (left, _, _, top), crs = source.bounds, source.crs
    for name in ("a_trucks.gpkg", "a_lookalikes.gpkg"):
        box = shapely.box(left + 50, top - 80, left + 70, top - 60)
        gpd.GeoDataFrame(geometry=[box], crs=crs).to_file(tmp_path / name)
    inputs = four_bands(truck_labels=tmp_path / "a_trucks.gpkg").inputs
    assert {Path(path).name for path in inputs} == {"scene.tif", "a_trucks.gpkg", "a_lookalikes.gpkg"}


def trucks_only(*settings: str):
    return load_config(None, [*FAST, "landcover.enabled=false", *settings])


def test_probabilities_and_their_temperature_are_other_shards(product, tmp_path):
    shipped = open_bundle("landcover")
    (tmp_path / "bundle").mkdir()
    shutil.copyfile(shipped.weights, tmp_path / "bundle" / shipped.weights.name)

    def keys_with(probabilities: bool, temperature: float) -> set[str]:
        card = shipped.card.model_copy(update={"calibration": Calibration(temperature=temperature)})
        bundle = f"landcover.bundle={save_card(tmp_path / 'bundle', card).folder}"
        settings = [*FAST, "trucks.enabled=false", bundle, f"landcover.probabilities={probabilities}"]
        return set(prepare(request_for(product, tmp_path, config=load_config(None, settings))).keys)

    plain, soft = keys_with(False, 1.0), keys_with(True, 1.0)
    assert keys_with(False, 2.0) == plain
    assert not soft & plain
    assert not keys_with(True, 2.0) & soft


def test_another_calibration_or_threshold_needs_no_new_shards(product, tmp_path, calibrated):
    def job(roads=product.roads, **changes) -> Job:
        config = trucks_only(f"trucks.bundle={calibrated(**changes)}")
        return prepare(request_for(product, tmp_path, config=config, roads=roads))

    run_shards(job(), [0, 1])
    for changes in (
        {"calibration": Calibration(temperature=2.0, offset=-3.0)},
        {"calibration_near_roads": Calibration(offset=-1.2)},
        {"score_threshold_near_roads": 0.1},
    ):
        assert job(**changes).missing() == []
    assert job(score_threshold_near_roads=0.01).missing() == [0, 1]  # keeps fainter boxes
    run_shards(job(None), [0, 1])
    assert job(None, calibration=Calibration(offset=-1.0), score_threshold=0.3).missing() == []
    assert job(None, score_threshold=0.15).missing() == []
    assert job(None, calibration=Calibration(), score_threshold=0.05).missing() == [
        0,
        1,
    ]  # keeps fainter boxes


@pytest.mark.parametrize("near_roads", [True, False])
def test_what_no_shard_keeps_would_not_count_however_clearly_it_moves(product, tmp_path, near_roads):
    roads = product.roads if near_roads else None
    job = prepare(request_for(product, tmp_path, config=trucks_only(), roads=roads))
    kept, counts = job.min_network_scores, job.min_scores
    assert kept.heavy > 0.05
    assert job.calibration.probability(kept.heavy - 1e-6, AMPLE_EVIDENCE) < counts.heavy
    assert job.vehicle_calibration.probability(kept.vehicle - 1e-6, AMPLE_EVIDENCE) < counts.vehicle


def test_long_shadows_raise_chances_and_keep_fainter_boxes(product, tmp_path, calibrated):
    bundle = calibrated(calibration_near_roads=Calibration(shadow=1.0))
    config = trucks_only(f"trucks.bundle={bundle}")
    summer = prepare(request_for(product, tmp_path, config=config, roads=product.roads))
    december = datetime(2023, 12, 11, 10, 20, tzinfo=UTC)
    winter = replace(summer, scene=replace(summer.scene, acquired=december))
    assert winter.calibration.offset > summer.calibration.offset + 1
    assert winter.min_network_scores.heavy < summer.min_network_scores.heavy


def test_a_threshold_of_vehicles_needs_new_shards_only_where_it_keeps_fainter_boxes(product, tmp_path):
    def keys_with(threshold: str, roads=None) -> tuple[str, ...]:
        config = trucks_only(f"trucks.vehicle_threshold={threshold}")
        return prepare(request_for(product, tmp_path, config=config, roads=roads)).keys

    assert keys_with("0.9") == keys_with("0.8")
    assert not set(keys_with("0.000001")) & set(keys_with("0.8"))
    assert keys_with("0.9", product.roads) == keys_with("0.8", product.roads)
