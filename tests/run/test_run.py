"""A whole job: what it leaves, how it resumes, and that it says no in one line before it starts."""

import hashlib
import json
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import shapely
from rio_cogeo.cogeo import cog_validate

from pipeline.config import load_config
from pipeline.errors import BundleError, ConfigError, LabelsError, OutputError
from pipeline.models.bundle import Calibration, Card, open_bundle, save_bundle, save_card
from pipeline.models.legend import LegendClass
from pipeline.run import Job, Request, finish, prepare, run_directly, run_shard, stored_shard
from tests.conftest import write_geotiff

FAST = ["engine.threads=1", "tiling.tile_px=128", "tiling.shards=2"]
FILES = {
    "trucks.geojson",
    "trucks.gpkg",
    "landcover.tif",
    "landcover.gpkg",
    "landcover.qml",
    "trucks.qml",
    "item.json",
    "run.json",
    "report.html",
    "evaluation",
    ".shards",
}


def request_for(product, out, **changes) -> Request:
    given = {
        "scene": str(product.safe),
        "out": out,
        "config": load_config(None, FAST),
        "roads": product.roads,
        "truck_labels": product.trucks,
        "landcover_labels": product.landcover,
    }
    return Request(**(given | changes))


@pytest.fixture(scope="module")
def result(product, tmp_path_factory):
    return run_directly(request_for(product, tmp_path_factory.mktemp("out")))


def test_everything_of_the_contract_is_there(result, product):
    assert {path.name for path in result.folder.iterdir()} == FILES
    assert {path.name for path in (result.folder / "evaluation").iterdir()} == {
        "metrics.json",
        "confusion_cases.gpkg",
        "confusion_cases.geojson",
        "chips",
        "report.html",
    }
    assert result.folder.name == product.safe.stem


def test_run_json_tells_how_it_came_about(result, product):
    run = json.loads((result.folder / "run.json").read_text())
    assert run["simulated"] is True
    assert run["tiles"] == {"total": 4, "skipped": run["tiles"]["skipped"]}
    assert 0 < run["seen_fraction"] < 1
    assert run["counts"]["trucks"] == len(gpd.read_file(result.folder / "trucks.gpkg", layer="trucks"))
    assert all(len(digest) == 64 for digest in run["inputs"].values())
    assert any(path.endswith("_B04_10m.jp2") for path in run["inputs"])
    assert str(product.roads) in run["inputs"]
    assert run["parameters"]["tiling"]["tile_px"] == 128
    assert run["packages"]["torch"]
    assert run["peak_rss_mb"] > 100
    assert run["seconds"]


def test_traffic_lies_beside_the_scenes(result):
    """Each truck is on the segment that counts it, and the table has a row for each direction."""
    trucks, segments = (
        gpd.read_file(result.folder / "trucks.gpkg", layer=name) for name in ("trucks", "road_segments")
    )
    assert len(segments) == result.run["counts"]["road_segments"]
    counted = segments.set_index("segment_id")["count"]
    assert trucks["segment_id"].value_counts().to_dict() == counted[counted > 0].to_dict()
    assert trucks["heading_deg"].notna().equals(trucks["heading_source"].notna())
    table = pd.read_parquet(result.folder.parent / "traffic.parquet")
    assert set(table["scene_id"]) == {result.folder.name}
    seen = segments[segments["seen_km"] > 0]
    assert len(table) == (2 - seen["oneway"].abs()).sum()


def test_layers_open_in_place(result, product):
    with rasterio.open(result.folder / "landcover.tif") as raster:
        assert raster.nodata == 255
        assert raster.crs.to_epsg() == 32632
        bounds = shapely.box(*raster.bounds)
    valid, errors, _ = cog_validate(result.folder / "landcover.tif")
    assert (valid, errors) == (True, [])
    areas = gpd.read_file(result.folder / "landcover.gpkg", layer="landcover")
    assert shapely.coverage_is_valid(areas.geometry.to_numpy())
    assert areas.crs.to_epsg() == 32632
    assert bounds.buffer(0.01).contains(shapely.box(*areas.total_bounds))
    seen = gpd.read_file(result.folder / "trucks.gpkg", layer="seen")
    rest = gpd.read_file(result.folder / "trucks.gpkg", layer="not_seen")
    assert seen.area.sum() + rest.area.sum() == pytest.approx(bounds.area)
    item = pystac.Item.from_file(str(result.folder / "item.json"))
    for asset in item.assets.values():
        path = Path(asset.get_absolute_href())
        assert path.exists()
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert asset.extra_fields["file:checksum"] == f"1220{digest}"
    catalog = pystac.Catalog.from_file(str(result.folder.parent / "catalog.json"))
    assert [entry.id for entry in catalog.get_items(recursive=True)] == [item.id]


def test_boxes_lie_on_their_pixels(result):
    trucks = gpd.read_file(result.folder / "trucks.gpkg", layer="trucks")
    world = gpd.read_file(result.folder / "trucks.geojson")
    assert list(trucks["id"]) == list(world["id"])
    apart = world.to_crs(trucks.crs).geometry.hausdorff_distance(trucks.geometry, align=False)
    assert (apart < 1).all()  # metres: a tenth of a pixel


def test_a_second_run_computes_nothing_and_ends_in_the_same_bytes(result, product, monkeypatch):
    before = {name: (result.folder / name).read_bytes() for name in ("trucks.geojson", "landcover.tif")}
    job = prepare(request_for(product, result.folder.parent))
    assert job.missing() == []
    again = finish(job)
    assert {name: (again.folder / name).read_bytes() for name in before} == before


def shard_files(job: Job) -> list[Path]:
    return [Path(job.store.address(key)) for key in job.keys]


def test_only_what_is_missing_is_computed_again(result, product):
    job = prepare(request_for(product, result.folder.parent))
    kept, lost = shard_files(job)[:2]
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    assert job.missing() == [1]
    for index in range(2):
        run_shard(job, index)
    assert kept.stat().st_mtime_ns == stamp
    assert job.missing() == []


def test_a_shard_damaged_on_the_disk_is_computed_again_and_nobody_has_to_delete_it(result, product):
    before = {name: (result.folder / name).read_bytes() for name in ("trucks.geojson", "landcover.tif")}
    job = prepare(request_for(product, result.folder.parent))
    turned, gone = shard_files(job)[:2]
    whole = turned.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    turned.write_bytes(damaged)
    gone.unlink()
    again = finish(job)
    assert {name: (again.folder / name).read_bytes() for name in before} == before
    assert turned.read_bytes() == whole


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


def test_other_roads_are_other_shards_but_other_labels_are_not(result, product):
    job = prepare(request_for(product, result.folder.parent, truck_labels=None))
    assert job.missing() == []
    assert prepare(request_for(product, result.folder.parent, roads=None)).missing() == [0, 1]


@pytest.fixture
def calibrated(tmp_path):
    """A copy of the shipped detector whose card can be changed."""
    shipped = open_bundle("trucks")
    folder = tmp_path / "calibrated"
    folder.mkdir()
    shutil.copyfile(shipped.weights, folder / shipped.weights.name)

    def with_card(**changes) -> str:
        changes.setdefault("calibration_near_roads", None)
        return str(save_card(folder, shipped.card.model_copy(update=changes)).folder)

    return with_card


def trucks_only(*settings: str):
    return load_config(None, [*FAST, "landcover.enabled=false", *settings])


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


def test_another_calibration_is_another_shard_but_another_threshold_is_not(product, tmp_path, calibrated):
    def keys(**changes) -> tuple[str, ...]:
        config = trucks_only(f"trucks.bundle={calibrated(**changes)}")
        return prepare(request_for(product, tmp_path, config=config)).keys

    plain = keys(calibration=Calibration())
    assert keys(calibration=Calibration(), score_threshold_near_roads=0.25, score_threshold=0.3) == plain
    assert keys(calibration=Calibration(), score_threshold_near_roads=0.05) != plain  # fainter ones are kept
    assert keys(calibration=Calibration(offset=-0.5)) != plain


def test_a_shard_depends_on_the_calibration_of_its_case_only(product, tmp_path, calibrated):
    def keys(roads, **changes) -> tuple[str, ...]:
        config = trucks_only(f"trucks.bundle={calibrated(**changes)}")
        return prepare(request_for(product, tmp_path, config=config, roads=roads)).keys

    other = Calibration(offset=-0.5)
    for roads, used, unused in (
        (product.roads, "calibration_near_roads", "calibration"),
        (None, "calibration", "calibration_near_roads"),
    ):
        plain = {"calibration": Calibration(), "calibration_near_roads": Calibration()}
        assert keys(roads, **plain | {unused: other}) == keys(roads, **plain)
        assert keys(roads, **plain | {used: other}) != keys(roads, **plain)


def test_scores_of_the_layer_are_calibrated(product, tmp_path, calibrated):
    """A calibration moves the scores as its formula says, and nothing else."""
    scores = []
    for calibration in (Calibration(), Calibration(temperature=2.0, offset=-0.3)):
        config = trucks_only(
            f"trucks.bundle={calibrated(calibration=calibration)}", "trucks.score_threshold=0"
        )
        job = prepare(request_for(product, tmp_path, config=config))
        run_shard(job, 0)
        scores.append(stored_shard(job, 0).detections.scores)
    assert len(scores[0]) > 0
    log_odds = np.log(scores[0] / (1 - scores[0]))
    np.testing.assert_allclose(scores[1], 1 / (1 + np.exp(-(log_odds / 2 - 0.3))), rtol=1e-6)


def test_the_tiling_changes_nothing(product, tmp_path):
    config = [*FAST, "engine.precision=float32"]
    trucks, rasters = [], []
    for name, change in (("a", ["tiling.tile_px=64", "tiling.shards=4"]), ("b", ["tiling.tile_px=2048"])):
        out = run_directly(
            request_for(product, tmp_path / name, config=load_config(None, [*config, *change]))
        )
        trucks.append(gpd.read_file(out.folder / "trucks.gpkg", layer="trucks"))
        with rasterio.open(out.folder / "landcover.tif") as raster:
            rasters.append(raster.read(1))
    first, second = trucks
    assert len(first) == len(second) > 0
    assert (first.geometry.hausdorff_distance(second.geometry, align=False) < 0.1).all()
    np.testing.assert_allclose(first["score"], second["score"], atol=1e-3)
    np.testing.assert_allclose(first["speed_kmh"].astype(float), second["speed_kmh"].astype(float), atol=0.5)
    assert (rasters[0] != rasters[1]).mean() < 1e-4


def test_one_pixel(tmp_path):
    scene = write_geotiff(tmp_path / "one.tif", np.full((4, 1, 1), 1000, np.uint16))
    done = run_directly(Request(str(scene), tmp_path / "out", load_config(None, FAST)))
    assert done.run["counts"] == {"landcover": 1, "trucks": 0}
    assert done.run["seen_fraction"] == 1
    assert len(gpd.read_file(done.folder / "landcover.gpkg")) == 1


def test_all_nodata(tmp_path):
    scene = write_geotiff(tmp_path / "empty.tif", np.zeros((4, 70, 50), np.uint16))
    done = run_directly(Request(str(scene), tmp_path / "out", load_config(None, FAST)))
    assert done.run["seen_fraction"] == 0
    assert done.run["counts"] == {"landcover": 0, "trucks": 0}
    assert json.loads((done.folder / "trucks.geojson").read_text())["features"] == []
    assert len(gpd.read_file(done.folder / "trucks.gpkg", layer="seen")) == 0
    assert gpd.read_file(done.folder / "trucks.gpkg", layer="not_seen").area.sum() == 70 * 50 * 100


def test_labels_in_another_crs_are_brought_to_the_scene(product, tmp_path):
    there = gpd.read_file(product.trucks).to_crs(4326)
    there.to_file(tmp_path / "wgs84.gpkg")
    here = run_directly(request_for(product, tmp_path / "a"))
    moved = run_directly(request_for(product, tmp_path / "b", truck_labels=tmp_path / "wgs84.gpkg"))
    assert moved.metrics["trucks"]["centres"] == here.metrics["trucks"]["centres"]


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


def test_old_shards_go_with_a_finished_run(product, tmp_path):
    first = run_directly(request_for(product, tmp_path))
    stray = first.folder / ".shards" / f"{32 * '0'}.npz"
    shutil.copy(next((first.folder / ".shards").glob("*.npz")), stray)
    run_directly(request_for(product, tmp_path))
    assert not stray.exists()


def test_land_cover_takes_the_shipped_bundle_that_fits_the_bands(product, tmp_path, shared_data):
    def chosen(scene: str, *settings: str) -> str:
        request = Request(scene, tmp_path, load_config(None, ["trucks.enabled=false", *settings]))
        return prepare(request).models.segmenter.card.id

    four_bands = str(shared_data / "trucks" / "a2_braunschweig.tif")
    assert chosen(str(product.safe)) == "landcover"
    assert chosen(four_bands) == "landcover-10m"
    assert chosen(four_bands, "landcover.bundle=landcover") == "landcover"
