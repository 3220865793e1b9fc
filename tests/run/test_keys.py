"""Keys of shards change with everything that decides a shard's bytes."""

import shutil
from importlib.metadata import version
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

import pipeline
from pipeline.config import load_config
from pipeline.models.bundle import Calibration
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


def trucks_only(*settings: str):
    return load_config(None, [*FAST, "landcover.enabled=false", *settings])


def test_another_calibration_or_threshold_needs_no_new_shards(product, tmp_path, calibrated):
    def job(roads=product.roads, **changes) -> Job:
        config = trucks_only(f"trucks.bundle={calibrated(**changes)}")
        return prepare(request_for(product, tmp_path, config=config, roads=roads))

    run_shards(job(), [0, 1])
    for changes in (
        {"calibration": Calibration(temperature=2.0, offset=3.0, motion=1.0)},
        {"calibration_near_roads": Calibration(offset=-0.5)},
        {"score_threshold_near_roads": 0.01},
    ):
        assert job(**changes).missing() == []
    run_shards(job(None), [0, 1])
    assert job(None, calibration=Calibration(offset=-1.0), score_threshold=0.3).missing() == []
    assert job(None, score_threshold=0.05).missing() == []
    assert job(None, calibration=Calibration(), score_threshold=0.05).missing() == [
        0,
        1,
    ]  # keeps fainter boxes
