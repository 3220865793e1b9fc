"""What is refused before any work, and which bundles and thresholds a run takes."""

import json
import shutil
from importlib import import_module

import geopandas as gpd
import numpy as np
import pystac
import pytest
from rio_cogeo.cogeo import cog_validate

from pipeline.config import load_config
from pipeline.errors import BundleError, ConfigError, GeoreferenceError, LabelsError, OutputError
from pipeline.models.bundle import Card, save_bundle
from pipeline.models.legend import LegendClass
from pipeline.run import Request, prepare, run_directly
from tests.conftest import write_geotiff
from tests.run.conftest import request_for
from tests.run.test_keys import trucks_only
from tests.run.test_run import FILES

FAST = ["engine.threads=1", "tiling.tile_px=128", "tiling.shards=2"]


def test_a_panoptic_layer_comes_where_asked_for_and_needs_both_models(result, product, tmp_path):
    shutil.copytree(result.folder, tmp_path / result.folder.name)
    asked = load_config(None, [*FAST, "panoptic.enabled=true"])
    again = run_directly(request_for(product, tmp_path, config=asked))
    assert {path.name for path in again.folder.iterdir()} == FILES | {"panoptic.tif", "panoptic.json"}
    assert cog_validate(again.folder / "panoptic.tif")[0]
    assets = pystac.Item.from_file(str(again.folder / "item.json")).assets
    assert "classification:classes" not in assets["panoptic.tif"].extra_fields
    described = json.loads((again.folder / "panoptic.json").read_text())["annotations"][0]["segments_info"]
    names = set(gpd.read_file(again.folder / "trucks.gpkg", layer="trucks")["id"])
    assert names == {segment["truck_id"] for segment in described if "truck_id" in segment}
    assert again.metrics["panoptic"] == result.metrics["panoptic"]
    with pytest.raises(ConfigError, match=r"needs trucks\.enabled"):
        prepare(
            request_for(
                product, tmp_path, config=load_config(None, ["panoptic.enabled=true", "trucks.enabled=false"])
            )
        )


def test_the_threshold_is_the_users_else_the_cards_for_the_case(product, tmp_path, calibrated):
    bundle = calibrated(score_threshold=0.9, score_threshold_near_roads=0.4)
    ours, theirs = (
        trucks_only(f"trucks.bundle={bundle}", *more) for more in ((), ("trucks.score_threshold=0",))
    )
    roads = {"roads": product.roads, "none": None}
    jobs = {
        (name, config.trucks.score_threshold): prepare(
            request_for(product, tmp_path, config=config, roads=path)
        )
        for name, path in roads.items()
        for config in (ours, theirs)
    }
    found = {key: job.score_threshold for key, job in jobs.items()}
    assert found == {("roads", None): 0.4, ("none", None): 0.9, ("roads", 0): 0, ("none", 0): 0}


def test_labels_without_crs_are_refused_before_any_work(product, tmp_path):
    boxes = gpd.read_file(product.trucks)
    boxes.crs = None
    boxes.to_file(tmp_path / "nowhere.gpkg")
    with pytest.raises(LabelsError, match=r"nowhere\.gpkg"):
        prepare(request_for(product, tmp_path / "out", truck_labels=tmp_path / "nowhere.gpkg"))
    assert not (tmp_path / "out").exists()


def test_labels_of_the_wrong_kind_are_refused(product, tmp_path):
    with pytest.raises(LabelsError, match="olygon"):
        prepare(request_for(product, tmp_path / "out", truck_labels=product.roads))


def test_labels_of_another_place_are_a_warning_of_the_run(product, tmp_path):
    boxes = gpd.read_file(product.trucks)
    boxes.geometry = boxes.translate(-300_000, 0)
    boxes.to_file(tmp_path / "west.gpkg")
    job = prepare(request_for(product, tmp_path / "out", truck_labels=tmp_path / "west.gpkg", roads=None))
    (warning,) = [text for text in job.warnings if "west.gpkg" in text]
    assert f"0 of {len(boxes)} features meet the scene; the nearest is" in warning
    assert "km to the west, so no truck is measured" in warning


def test_a_bundle_that_needs_more_bands_is_refused_by_name(product, tmp_path):
    scene = write_geotiff(tmp_path / "four.tif", np.full((4, 8, 8), 1000, np.uint16))
    card = Card(
        id="ten-bands",
        version="1",
        task="segmentation",
        architecture="unet",
        bands=("B02", "B11"),
        mean=(0.1, 0.1),
        std=(0.1, 0.1),
        classes=(LegendClass(value=0, name="water", colour="#419BDF"),),
        halo=16,
        stride=16,
    )
    bundle = save_bundle(tmp_path / "ten", card, {})
    config = load_config(None, [*FAST, f"landcover.bundle={bundle.folder}"])
    with pytest.raises(BundleError, match=r"ten-bands needs band B11, which four lacks"):
        prepare(Request(str(scene), tmp_path / "out", config))


def test_an_output_folder_that_cannot_be_made(product, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="choose another --out"):
        prepare(request_for(product, tmp_path / "file"))


@pytest.mark.parametrize(
    ("quality", "figures"),
    [
        ({}, "less accurate without. Give all of B02, B11, B12 if"),
        (
            {"agreement_without": {"no band": 0.8, "B11 B12": 0.7}},
            "less accurate without (agreement 0.70, not 0.80). Give all",
        ),
    ],
)
def test_land_cover_without_optional_bands_is_made_with_one_warning(tmp_path, quality, figures):
    card = Card(
        id="three-bands",
        version="1",
        task="segmentation",
        architecture="unet",
        bands=("B02", "B11", "B12"),
        optional_bands=("B11", "B12"),
        mean=(0.1,) * 3,
        std=(0.1,) * 3,
        classes=(LegendClass(value=0, name="water", colour="#419BDF"),),
        halo=16,
        stride=16,
        quality=quality,
    )
    bundle = save_bundle(tmp_path / "three", card, {})
    scene = write_geotiff(tmp_path / "four.tif", np.full((4, 64, 64), 800, np.uint16))
    settings = [*FAST, "trucks.enabled=false", f"landcover.bundle={bundle.folder}"]
    job = prepare(Request(str(scene), tmp_path / "out", load_config(None, settings)))
    (said,) = [text for text in job.warnings if "lacks band" in text]
    assert said.startswith("four lacks band B11, B12: three-bands is ")
    assert figures in said


def test_a_scene_with_all_bands_has_no_such_warning(product, tmp_path):
    job = prepare(Request(str(product.safe), tmp_path, load_config(None, ["trucks.enabled=false"])))
    assert job.models.segmenter.card.id == "landcover"
    assert not [text for text in job.warnings if "lacks band" in text]


def test_an_undated_scene_is_said_and_its_time_can_be_given(tmp_path):
    numbers = np.random.default_rng(1).integers(200, 3000, (4, 64, 64)).astype(np.uint16)
    path = write_geotiff(tmp_path / "scene.tif", numbers)

    def job(*settings):
        config = load_config(None, [*FAST, "landcover.enabled=false", *settings])
        return prepare(Request(str(path), tmp_path / "out", config))

    assert [text for text in job().warnings if "--acquired 2023-06-13T10:20:31Z" in text]
    assert job("scene.acquired=2023-06-13").warnings == ()
    for day in ("2015-06-22", "2199-12-31"):
        (text,) = job(f"scene.acquired={day}").warnings
        assert f"scene is said to be acquired on {day}, but Sentinel-2 has taken images" in text
    keys = {
        name: job("scene.acquired=2023-06-13", name).keys
        for name in ("scene.nodata=0", "scene.nodata=250", "scene.scale=0.00011")
    }
    assert len(set(keys.values())) == 3
    assert keys["scene.nodata=0"] != job("scene.acquired=2023-06-13", "scene.nodata=none").keys


def test_a_user_who_gives_the_offset_has_decided(tmp_path):
    rng = np.random.default_rng(1)
    numbers = np.stack([rng.normal(mean, 30, (300, 300)) for mean in (1300, 1400, 1400, 3500)]).clip(1030)
    path = write_geotiff(tmp_path / "scene_2023-06-13.tif", numbers.astype(np.uint16))

    def job(*settings):
        return prepare(
            Request(
                str(path), tmp_path / "out", load_config(None, [*FAST, "landcover.enabled=false", *settings])
            )
        )

    assert "give --offset -0.1, or --offset 0" in job().warnings[0]
    for offset in (0, -0.1):
        given = job(f"scene.offset={offset}")
        assert (given.warnings, given.scene.bands["B02"].offset) == ((), offset)


@pytest.mark.parametrize(
    ("setting", "needed"),
    [
        ("trucks.bundle=landcover", r"trucks.bundle needs a model for detection; landcover is for segm"),
        ("landcover.bundle=trucks", r"landcover.bundle needs a model for segmentation; trucks is for det"),
        ("trucks.screener=trucks", r"trucks.screener needs a model for screening"),
    ],
)
def test_a_model_of_another_task_is_refused(product, tmp_path, setting, needed):
    with pytest.raises(BundleError, match=needed):
        prepare(request_for(product, tmp_path, config=load_config(None, [setting])))


def test_probabilities_need_land_cover(product, tmp_path):
    config = load_config(None, ["landcover.probabilities=true", "landcover.enabled=false"])
    with pytest.raises(ConfigError, match=r"landcover\.probabilities needs landcover\.enabled"):
        prepare(request_for(product, tmp_path, config=config))


def test_a_large_scene_has_more_shards_and_smaller_tiles_and_one_that_is_too_wide_is_refused(
    tmp_path, monkeypatch
):
    numbers = np.random.default_rng(1).integers(200, 3000, (4, 256, 128)).astype(np.uint16)
    path = write_geotiff(tmp_path / "scene_2023-06-13.tif", numbers)
    request = Request(
        str(path), tmp_path / "out", load_config(None, [*FAST, "landcover.enabled=false"]), catalog=False
    )
    module = import_module("pipeline.run.prepare")
    for most_px, shards in ((256 * 128, 2), (64 * 128, 4)):
        monkeypatch.setattr(module, "max_shard_px", lambda *_, most_px=most_px: most_px)
        parts = prepare(request).shards
        assert len(parts) == shards
        assert max(sum(tile.height * tile.width for tile in part) for part in parts) <= most_px
    monkeypatch.setattr(module, "max_shard_px", lambda *_: 63 * 128)
    with pytest.raises(GeoreferenceError, match=r"128 pixels of 10 m wide.* engine\.memory_mb=2540\."):
        prepare(request)
