"""Batches with several products of one acquisition: one counts, whatever the order."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import LineString

from pipeline.config import load_config
from pipeline.operations.attempt import scene_directly
from pipeline.operations.batch import run_batch
from pipeline.operations.ledger.scenes import existing_ledger
from pipeline.operations.request import BatchRequest
from pipeline.operations.scene_list import ListedScene, list_scenes
from pipeline.operations.tables import ledger_page
from pipeline.run import Request, run_directly
from pipeline.scenes.readers import stac_properties
from tests.operations.servers import stac_item
from tests.scenes.products import write_raster

OLD, NEW = "S2A_32UPD_20230615_0_L2A", "S2A_32UPD_20230615_1_L2A"
BASELINES = {OLD: "05.09", NEW: "05.10"}
SETTINGS = ["engine.threads=1", "engine.precision=float32", "batch.backoff_s=0", "landcover.enabled=false"]


@pytest.fixture(scope="module")
def bands(tmp_path_factory) -> Path:
    """A scene of 64 x 64 pixels, and a road through it."""
    folder = tmp_path_factory.mktemp("bands")
    for seed, band in enumerate(("B02", "B03", "B04", "B08")):
        numbers = np.random.default_rng(seed).integers(1200, 2500, (64, 64)).astype(np.uint16)
        write_raster(folder / f"{band}.tif", numbers)
    road = LineString([(600000, 5799700), (600640, 5799700)])
    gpd.GeoDataFrame({"highway": ["motorway"]}, geometry=[road], crs="EPSG:32632").to_file(folder / "r.gpkg")
    return folder


def document(bands: Path, name: str, **reported) -> dict:
    baseline = reported.pop("baseline", BASELINES.get(name, "05.09"))
    return stac_item(
        name, str(bands), **{"s2:processing_baseline": baseline, "grid:code": "MGRS-32UPD"} | reported
    )


@pytest.fixture
def items(bands, tmp_path):
    """A function that writes an item and returns its path."""

    def write(name: str, **reported) -> str:
        path = tmp_path / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(document(bands, name, **reported)))
        return str(path)

    return write


def batch(bands: Path, out: Path, *scenes: str | ListedScene, run=scene_directly, **given):
    named = list_scenes(scene for scene in scenes if isinstance(scene, str))
    listed = (*named, *(scene for scene in scenes if isinstance(scene, ListedScene)))
    request = BatchRequest(tuple(listed), out, load_config(None, SETTINGS), roads=bands / "r.gpkg", **given)
    return run_batch(request, run)


def counted(out: Path) -> list[str]:
    return sorted(pd.read_parquet(out / "traffic.parquet")["scene_id"].unique())


def states(out: Path) -> dict[str, str]:
    ledger = existing_ledger(out, load_config(None, []))
    try:
        return {entry.scene: entry.state for entry in ledger.entries()}
    finally:
        ledger.close()


@pytest.mark.parametrize("order", [(OLD, NEW), (NEW, OLD)])
def test_the_newest_baseline_counts_and_the_ledger_names_the_other(bands, items, tmp_path, order):
    out = tmp_path / "out"
    summary = batch(bands, out, *(items(name) for name in order))
    assert counted(out) == [NEW]
    assert states(out) == {OLD: "duplicate", NEW: "done"}
    (entry,) = summary.of("duplicate")
    assert entry.reason.startswith(
        f"same acquisition as {NEW}, which counts instead (baseline 05.10, of this"
    )
    assert (summary.counts["done"], summary.counts["same acquisition as another"]) == (1, 1)
    assert summary.is_complete
    assert [(one.scene, one.trucks is None) for one in summary.of("done")] == [(NEW, False)]
    unfinished = ledger_page(summary.entries, {"done": 1, "duplicate": 1}, False).renderables[2]
    assert "reason" in [column.header for column in unfinished.columns]


def test_a_later_batch_replaces_the_older_product_and_repeats_nothing(bands, items, tmp_path):
    out = tmp_path / "out"
    assert batch(bands, out, items(OLD)).done == (OLD,)
    assert counted(out) == [OLD]
    assert batch(bands, out, items(NEW)).done == (NEW,)
    assert (counted(out), states(out)) == ([NEW], {OLD: "duplicate", NEW: "done"})
    again = batch(bands, out, items(OLD), items(NEW))
    assert again.done == ()
    assert (counted(out), states(out)) == ([NEW], {OLD: "duplicate", NEW: "done"})
    third = "S2A_32UPD_20230615_2_L2A"
    assert batch(bands, out, items(third, baseline="04.00")).done == ()
    assert states(out) == {OLD: "duplicate", NEW: "done", third: "duplicate"}


def test_a_product_that_cannot_be_read_leaves_the_older_one(bands, items, tmp_path):
    out, broken = tmp_path / "out", tmp_path / "broken"
    broken.mkdir()
    for path in bands.glob("*.tif"):
        size = -3000 if path.stem == "B04" else None
        (broken / path.name).write_bytes(path.read_bytes()[:size])
    summary = batch(bands, out, items(OLD), as_found(document(broken, NEW), tmp_path))
    assert states(out) == {OLD: "done", NEW: "quarantined"}
    assert counted(out) == [OLD]
    assert summary.done == (OLD,)


def test_a_duplicate_found_by_a_search_is_not_opened(bands, items, tmp_path):
    opened = []

    def watched(request, *rest):
        opened.append(Path(request.scene).stem)
        return scene_directly(request, *rest)

    found = [as_found(document(bands, name), tmp_path) for name in (OLD, NEW)]
    summary = batch(bands, tmp_path / "out", *found, run=watched)
    assert opened == [NEW]
    assert (summary.done, len(summary.of("duplicate"))) == ((NEW,), 1)


def test_scenes_that_are_not_the_same_both_count(bands, items, tmp_path):
    others = {"neighbour": {"grid:code": "MGRS-32UPE"}, "half": {"place": (10.08, 52.08)}}
    out = tmp_path / "out"
    summary = batch(bands, out, items(OLD), *(items(name, **given) for name, given in others.items()))
    assert counted(out) == sorted([OLD, *others])
    assert len(summary.done) == 3


def test_a_run_into_a_folder_with_the_same_acquisition_warns(bands, items, tmp_path):
    out, config = tmp_path / "out", load_config(None, SETTINGS)
    first = run_directly(Request(items(OLD), out, config, roads=bands / "r.gpkg"))
    assert not [line for line in first.run["warnings"] if "same acquisition" in line]
    second = run_directly(Request(items(NEW), out, config, roads=bands / "r.gpkg"))
    (warning,) = [line for line in second.run["warnings"] if "same acquisition" in line]
    assert warning.startswith(f"{NEW} (baseline 05.10) is the same acquisition as {OLD} (baseline 05.09) in")
    assert "traffic.parquet" in warning and "truckscape batch" in warning
    again = run_directly(Request(items(NEW), out, config, roads=bands / "r.gpkg"))
    assert len(again.run["warnings"]) == len(second.run["warnings"])


def as_found(item: dict, folder: Path) -> ListedScene:
    """A scene as a search finds it."""
    path = folder / f"{item['id']}.json"
    path.write_text(json.dumps(item))
    return ListedScene(item["id"], str(path), "1", acquisition=stac_properties.acquisition(item))
