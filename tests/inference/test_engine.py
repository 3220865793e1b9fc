"""Exactness: what a tile says is what the whole scene would have said, for any tiling."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.windows import Window
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax
from torch import nn

from pipeline import tiling
from pipeline.config import Engine
from pipeline.errors import CorruptImageError
from pipeline.inference import engine
from pipeline.inference.engine import Search, predict_shards
from pipeline.inference.merge import one_per_truck
from pipeline.inference.network_pool import current_networks
from pipeline.inference.networks import read_tile
from pipeline.inference.predictions import (
    CLOUD,
    NO_ROAD,
    NODATA,
    SCREENED,
    SEEN,
    SHADOW,
    Detections,
    MinScores,
)
from pipeline.inference.run_models import Models
from pipeline.inference.shards import Shard
from pipeline.models.bundle import Bundle, Calibration, Card, open_bundle, save_bundle
from pipeline.models.family import dense
from pipeline.models.legend import LegendClass
from pipeline.models.registry import build_network
from pipeline.roads.read import read_roads
from pipeline.scenes.clouds import rim_mask
from pipeline.scenes.open import open_scene
from pipeline.scenes.scene import BandSource
from pipeline.tiling import plan
from pipeline.training.detector.train import blank_card
from tests.models.test_screener import screener_card
from tests.scenes.products import ORIGIN, write_raster

FLOAT32 = Engine(precision="float32", threads=1)
BANDS = ("B02", "B03", "B04", "B08")


@pytest.fixture(scope="module")
def small_models(tmp_path_factory) -> Models:
    """Both networks, small and untrained: exactness is a property of the architecture, not of weights."""
    folder = tmp_path_factory.mktemp("bundles")
    torch.manual_seed(5)
    common = {"bands": BANDS, "mean": (0.1,) * 4, "std": (0.1,) * 4}
    legend = tuple(LegendClass(value=value, name=str(value), colour="#000000") for value in range(9))
    segment = Card(
        id="s",
        version="1",
        task="segmentation",
        architecture="unet",
        arguments={"widths": [4, 6, 8]},
        classes=legend,
        halo=24,
        stride=4,
        **common,
    )
    segmenter = build_network(segment).eval()
    with torch.no_grad():  # let it say different things at different places, as trained ones do
        last = [module for module in segmenter.modules() if isinstance(module, nn.Conv2d)][-1]
        last.bias.sub_(segmenter(torch.rand(1, 4, 64, 64) * 2.7 - 0.7).mean((0, 2, 3)))
    return Models(
        small_detector(folder / "d", "faster_rcnn", {"channels": [4, 4, 4], "features": 4, "head": 8}),
        save_bundle(folder / "s", segment, segmenter.state_dict()),
    )


def small_detector(folder, architecture: str, arguments: dict) -> Bundle:
    """An untrained detector that finds something in noise."""
    card = Card(
        id="d",
        version="1",
        task="detection",
        architecture=architecture,
        arguments=arguments,
        bands=BANDS,
        mean=(0.1,) * 4,
        std=(0.1,) * 4,
        classes=(LegendClass(value=1, name="truck", colour="#FF00FF"),),
        score_threshold=0.5,
        halo=48,
        stride=4,
    )
    detector = build_network(card).eval()
    example = torch.rand(1, 4, 64, 64) * 2.7 - 0.7
    single_stage = architecture == "fcos"

    def logits() -> torch.Tensor:
        return dense(detector, example)[0 if single_stage else 1]

    head = detector.head.classification_head if single_stage else detector.rpn.head
    with torch.no_grad():
        head.cls_logits.weight.mul_(4 / logits().std())
        share = 0.98 if single_stage else 0.997
        head.cls_logits.bias.sub_(logits().quantile(share) + 2.2)
    return save_bundle(folder, card, detector.state_dict())


@pytest.fixture(scope="module")
def single_stage(tmp_path_factory) -> Models:
    torch.manual_seed(5)
    arguments = {"channels": [4, 4, 4], "features": 4, "convolutions": 1}
    return Models(small_detector(tmp_path_factory.mktemp("fcos"), "fcos", arguments), None)


def write_scene(path, rows: int, cols: int, seed: int):
    rng = np.random.default_rng(seed)
    numbers = rng.integers(300, 3000, (4, rows, cols)).astype(np.uint16)
    numbers[:, rows // 3 : rows // 3 + 2, : cols // 2] = 0
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=rows,
        width=cols,
        count=4,
        dtype="uint16",
        nodata=0,
        crs="EPSG:32632",
        transform=from_origin(600000, 5800000, 10, 10),
    ) as dataset:
        dataset.write(numbers)
        dataset.descriptions = BANDS
    return open_scene(str(path))


def predict_shard(scene, tiles, models: Models, search: Search, settings: Engine) -> Shard:
    """Tiles as one shard."""
    (shard,) = predict_shards(scene, [tiles], models, search, settings)
    return shard


def predict(scene, models: Models, tile_px: int):
    """Everything that tiles of one size say, put together."""
    tiles = plan(scene.shape, tile_px, models.halo, models.stride)
    shard = predict_shard(scene, tiles, models, Search(), FLOAT32)
    return shard, kept(shard.status, one_per_truck(shard.detections))


def predict_softly(scene, models: Models, tile_px: int) -> Shard:
    """As `predict`, with probabilities of land cover."""
    tiles = plan(scene.shape, tile_px, models.halo, models.stride)
    (shard,) = predict_shards(scene, [tiles], models, Search(), FLOAT32, probabilities=True)
    return shard


def kept(status: NDArray[np.uint8], trucks: Detections) -> Detections:
    """The trucks that count: those whose centre lies on a pixel that was searched."""
    cols, rows = trucks.pixels.T
    bordered = np.pad(status, (0, 1))  # a centre may lie on the scene's very border
    return trucks.take(bordered[rows, cols] == SEEN)


def assert_same_trucks(some: Detections, others: Detections) -> None:
    """Boxes of one are those of the other, each with its score; trucks side by side may swap places.

    Of few trucks another box may stay, that overlaps it and has the same score but for rounding: untrained
    networks give many boxes one score.
    """
    assert len(some) == len(others)
    if len(some):
        distance = np.abs(some.boxes[:, None] - others.boxes).max(axis=2)
        there = others.take(linear_sum_assignment(distance)[1])
        np.testing.assert_allclose(some.boxes, there.boxes, atol=2)
        np.testing.assert_allclose(some.scores, there.scores, atol=1e-3)
        same = (np.abs(some.boxes - there.boxes) < 0.01).all(axis=1)
        assert np.count_nonzero(~same) <= max(2, len(some) / 100)
        np.testing.assert_allclose(some.displacement[same], there.displacement[same], atol=0.02)


def test_the_small_models_have_something_to_say(small_models, tmp_path):
    shard, trucks = predict(write_scene(tmp_path / "a.tif", 120, 120, 0), small_models, 10980)
    assert len(trucks) > 20
    assert len(np.unique(shard.landcover)) > 5


def test_each_run_hears_of_its_own_tiles_and_nothing_is_logged(small_models, tmp_path, caplog):
    scene = write_scene(tmp_path / "a.tif", 120, 120, 0)

    def tiles_done(tile_px: int) -> list[int]:
        done: list[int] = []
        tiles = plan(scene.shape, tile_px, small_models.halo, small_models.stride)
        list(predict_shards(scene, [tiles], small_models, Search(), FLOAT32, on_tile=done.append))
        return done

    with caplog.at_level("DEBUG", logger="pipeline"), ThreadPoolExecutor(2) as pool:
        assert [len(done) for done in pool.map(tiles_done, (64, 40))] == [4, 9]
    assert not caplog.records


def test_models_know_what_they_need(small_models, tmp_path):
    assert small_models.bands == BANDS
    assert small_models.optional_bands(write_scene(tmp_path / "a.tif", 20, 20, 0)) == ()
    assert (small_models.halo, small_models.stride) == (48, 4)
    assert Models(None, small_models.segmenter).halo == 24


def without(scene, bands: set[str]):
    return replace(scene, bands={name: source for name, source in scene.bands.items() if name not in bands})


def blind_to(model: Bundle, bands: tuple[str, ...], folder) -> Bundle:
    """The same segmenter, its weights for some bands gone: what they show then can't matter."""
    state = model.state_dict()
    for name in bands:
        state["encoder.0.0.weight"][:, model.card.bands.index(name)] = 0
    return save_bundle(folder, model.card, state)


def test_optional_bands_count_where_a_scene_has_them(small_models, tmp_path):
    optional = ("B03", "B08")
    card = small_models.segmenter.card.model_copy(update={"optional_bands": optional})
    models = Models(None, save_bundle(tmp_path / "s", card, small_models.segmenter.state_dict()))
    scene = write_scene(tmp_path / "a.tif", 90, 120, 0)
    assert models.bands == ("B02", "B04")
    assert models.bands_of(scene) == ("B02", "B04", *optional)
    assert models.bands_of(without(scene, {"B03"})) == ("B02", "B04", "B08")
    assert models.bands_of(without(scene, {"B03", "B08"})) == ("B02", "B04")
    whole, _ = predict(scene, small_models, 10980)
    same, _ = predict(scene, models, 10980)
    np.testing.assert_array_equal(same.landcover, whole.landcover)


@pytest.mark.parametrize("missing", [("B03",), ("B08",), ("B03", "B08")])
def test_a_scene_without_optional_bands_looks_as_if_they_were_average(small_models, tmp_path, missing):
    """Zero after normalisation says what a network says that gives those bands no weight."""
    optional = ("B03", "B08")
    card = small_models.segmenter.card.model_copy(update={"optional_bands": optional})
    models = Models(None, save_bundle(tmp_path / "s", card, small_models.segmenter.state_dict()))
    blind = Models(None, blind_to(models.segmenter, missing, tmp_path / "blind"))
    scene = write_scene(tmp_path / "a.tif", 90, 120, 0)
    expected, _ = predict(scene, blind, 10980)
    got, _ = predict(without(scene, set(missing)), models, 10980)
    np.testing.assert_array_equal(got.landcover, expected.landcover)


def test_where_only_an_optional_band_lacks_data_there_is_land_cover_all_the_same(small_models, tmp_path):
    card = small_models.segmenter.card.model_copy(update={"optional_bands": ("B08",)})
    models = Models(None, save_bundle(tmp_path / "s", card, small_models.segmenter.state_dict()))
    scene = write_scene(tmp_path / "a.tif", 90, 120, 0)
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        infrared = dataset.read(4)
        infrared[60:] = 0
        dataset.write(infrared, 4)
    shard, _ = predict(scene, models, 10980)
    assert (shard.status[60:] == SEEN).all()
    assert (shard.landcover[60:] < 9).all()
    assert (predict(scene, small_models, 10980)[0].status[60:] == NODATA).all()
    in_tiles, _ = predict(scene, models, 32)
    np.testing.assert_array_equal(in_tiles.landcover, shard.landcover)


def test_an_optional_band_without_data_leaves_the_others_and_a_required_one_takes_all(small_models, tmp_path):
    card = small_models.segmenter.card.model_copy(update={"optional_bands": ("B03", "B08")})
    models = Models(None, save_bundle(tmp_path / "s", card, small_models.segmenter.state_dict()))
    scene = write_scene(tmp_path / "a.tif", 32, 32, 0)
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        pixels = dataset.read()
        pixels[3, 2, 2] = 0  # B08
        pixels[0, 5, 5] = 0  # B02
        dataset.write(pixels)
    (tile,) = plan(scene.shape, 32, models.halo, models.stride)
    image = read_tile(models, scene, tile, half=False).images[card.task].bands
    assert (image[:, 2, 2] != 0).tolist() == [True, True, True, False]
    assert not image[:, 5, 5].any()
    assert (image[:, 8, 8] != 0).all()


def predict_in_parts(
    scene, models: Models, tile_px: int, shards: int, workers: int, seed: int
) -> tuple[list[Shard], Detections]:
    """What workers say who take the shards of a scene in any order, each one after the other."""
    groups = tiling.shard(plan(scene.shape, tile_px, models.halo, models.stride), shards)
    random.Random(seed).shuffle(groups)

    def work(mine: list) -> list[Shard]:
        return list(predict_shards(scene, mine, models, Search(), FLOAT32))

    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(work, [groups[worker::workers] for worker in range(workers) if groups[worker:]])
        parts = [part for mine in done for part in mine]
    found = one_per_truck(Detections.concatenate([part.detections for part in parts]))
    parts.sort(key=lambda part: part.first_row)
    return parts, kept(np.vstack([part.status for part in parts]), found)


def logits(scene, models: Models, tile_px: int) -> NDArray[np.float32]:
    """What the land-cover network says of every pixel, tile by tile, (H, W, classes)."""
    networks = current_networks().open(models, FLOAT32, 1)
    card = models.segmenter.card
    whole = np.full((*scene.shape, len(card.classes)), np.nan, np.float32)
    for tile in plan(scene.shape, tile_px, models.halo, models.stride):
        image = read_tile(models, scene, tile, half=False).images[card.task]
        whole[tile.core.toslices()] = networks.logits(image, tile).numpy()
    return whole


@st.composite
def scenes_and_tiles(draw, tiles_px=(128, 256, 512, 1024, 2048), pixels=120_000) -> tuple[int, int, int]:
    """Rows, columns and side of the tiles: of one pixel, of three tiles and one, and between."""
    tile_px = draw(st.sampled_from(tiles_px))
    edges = [1, tile_px - 1, tile_px, tile_px + 1, 3 * tile_px + 1]
    rows = draw(st.sampled_from(edges) | st.integers(1, 3 * tile_px + 1))
    most = max(1, min(pixels // rows, 3 * tile_px + 1))
    cols = draw(st.sampled_from([side for side in edges if side <= most]) | st.integers(1, most))
    return (rows, cols, tile_px) if draw(st.booleans()) else (cols, rows, tile_px)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example((39, 2101, 2048), 1, 1, 4)  # two boxes of one truck, their scores equal but for rounding
@given(
    scenes_and_tiles() | scenes_and_tiles((16, 32, 52, 64), 20_000),
    st.integers(1, 7),
    st.integers(1, 4),
    st.integers(0, 9),
)
def test_parts_equal_the_whole_scene(small_models, tmp_path, shape, shards, workers, seed):
    rows, cols, tile_px = shape
    scene = write_scene(tmp_path / f"{rows}_{cols}_{seed}.tif", rows, cols, seed)
    whole, whole_trucks = predict(scene, small_models, 10980)
    parts, trucks = predict_in_parts(scene, small_models, tile_px, shards, workers, seed)
    np.testing.assert_array_equal(np.vstack([part.status for part in parts]), whole.status)
    # Untrained logits are nearly equal everywhere, so rounding may turn a pixel in ten thousand.
    assert (np.vstack([part.landcover for part in parts]) != whole.landcover).mean() <= 1e-3
    assert_same_trucks(trucks, whole_trucks)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scenes_and_tiles((16, 52, 128, 2048), 60_000), st.integers(0, 9))
def test_logits_of_tiles_equal_those_of_the_whole_scene(small_models, tmp_path, shape, seed):
    rows, cols, tile_px = shape
    scene = write_scene(tmp_path / f"{rows}_{cols}_{seed}.tif", rows, cols, seed)
    whole = logits(scene, small_models, 10980)
    np.testing.assert_allclose(logits(scene, small_models, tile_px), whole, atol=1e-4)


def test_probabilities_are_beside_classes_and_change_nothing_else(small_models, tmp_path):
    scene = write_scene(tmp_path / "a.tif", 90, 120, 0)
    plain, _ = predict(scene, small_models, 64)
    soft = predict_softly(scene, small_models, 64)
    assert plain.probabilities is None
    np.testing.assert_array_equal(soft.status, plain.status)
    np.testing.assert_array_equal(soft.landcover, plain.landcover)
    assert_same_trucks(soft.detections, plain.detections)
    ground = plain.landcover != 255
    assert 0 < ground.sum() < ground.size
    assert (soft.probabilities[:, ~ground] == 255).all()
    np.testing.assert_array_equal(soft.probabilities[:, ground].argmax(0), plain.landcover[ground])
    assert np.abs(soft.probabilities[:, ground].sum(0, dtype=int) - 200).max() <= 5


def test_probabilities_have_the_order_of_the_legend_and_the_temperature_of_the_card(small_models, tmp_path):
    card = small_models.segmenter.card
    backwards = tuple(entry.model_copy(update={"value": 100 - entry.value}) for entry in card.classes)
    changes = {"classes": backwards, "calibration": Calibration(temperature=0.1)}
    state = small_models.segmenter.state_dict()
    models = Models(None, save_bundle(tmp_path / "s", card.model_copy(update=changes), state))
    scene = write_scene(tmp_path / "a.tif", 60, 40, 0)
    shard = predict_softly(scene, models, 10980)
    ground = shard.landcover != 255
    np.testing.assert_array_equal(100 - shard.probabilities[:, ground].argmax(0), shard.landcover[ground])
    exact = 200 * softmax(logits(scene, models, 10980)[ground] / 0.1, axis=-1).T
    assert np.abs(shard.probabilities[:, ground] - exact).max() < 1.501


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scenes_and_tiles((16, 52, 128, 2048), 60_000), st.integers(0, 9))
def test_probabilities_of_tiles_equal_those_of_the_whole_scene(small_models, tmp_path, shape, seed):
    rows, cols, tile_px = shape
    scene = write_scene(tmp_path / f"{rows}_{cols}_{seed}.tif", rows, cols, seed)
    whole = predict_softly(scene, small_models, 10980).probabilities
    tiled = predict_softly(scene, small_models, tile_px).probabilities
    assert np.abs(tiled.astype(int) - whole).max() <= 1  # rounding


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([16, 32, 52, 64, 128]), st.integers(0, 9))
def test_tiles_of_a_single_stage_detector_equal_the_whole_scene(
    single_stage, tmp_path, rows, cols, tile_px, seed
):
    scene = write_scene(tmp_path / f"{rows}_{cols}_{seed}.tif", rows, cols, seed)
    _, whole = predict(scene, single_stage, 10980)
    _, tiled = predict(scene, single_stage, tile_px)
    assert_same_trucks(tiled, whole)
    np.testing.assert_allclose(np.sort(tiled.scores), np.sort(whole.scores), atol=1e-3)


def test_the_small_single_stage_detector_has_something_to_say(single_stage, tmp_path):
    _, trucks = predict(write_scene(tmp_path / "a.tif", 120, 120, 0), single_stage, 10980)
    assert len(trucks) > 20


@pytest.fixture(scope="module")
def of_vehicles(tmp_path_factory) -> Models:
    """An untrained detector of heavy and light vehicles that finds something in noise."""
    torch.manual_seed(6)
    arguments = {"width": 8, "features": 4, "window_widths": [8], "hidden": 8}
    card = blank_card("centernet2", arguments).model_copy(update={"mean": (0.1,) * 4, "std": (0.1,) * 4})
    detector = build_network(card).eval()
    with torch.no_grad():
        last = detector.centres.objectness
        last.weight.mul_(30)
        last.bias.sub_(dense(detector, torch.rand(1, 4, 64, 64) * 2.7 - 0.7)[1].quantile(0.98))
        detector.windows.classes.weight.mul_(5)
    return Models(save_bundle(tmp_path_factory.mktemp("v"), card, detector.state_dict()), None)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(40, 150), st.integers(40, 150), st.sampled_from([16, 34, 64, 128]), st.integers(0, 9))
def test_tiles_of_a_detector_of_vehicles_equal_the_whole_scene(
    of_vehicles, tmp_path, rows, cols, tile_px, seed
):
    scene = write_scene(tmp_path / f"{rows}_{cols}_{seed}.tif", rows, cols, seed)
    _, whole = predict(scene, of_vehicles, 10980)
    _, tiled = predict(scene, of_vehicles, tile_px)
    assert_same_trucks(tiled, whole)
    for name in ("scores", "vehicle_scores"):
        np.testing.assert_allclose(
            np.sort(getattr(tiled, name)), np.sort(getattr(whole, name)), atol=1e-3, err_msg=name
        )


@pytest.mark.parametrize("tile_px", [34, 64, 10980])
def test_near_a_road_boxes_are_those_of_a_search_everywhere(of_vehicles, tmp_path, tile_px):
    scene = write_scene(tmp_path / "a.tif", 120, 120, 0)
    line = shapely.LineString([ORIGIN, (ORIGIN[0] + 1200, ORIGIN[1] - 1200)])
    roads = gpd.GeoDataFrame(geometry=[line], crs=scene.grid.crs.to_wkt())
    tiles = plan(scene.shape, tile_px, of_vehicles.halo, of_vehicles.stride)
    everywhere = predict_shard(scene, tiles, of_vehicles, Search(), FLOAT32).detections
    near = predict_shard(scene, tiles, of_vehicles, Search(roads, 30), FLOAT32).detections
    cols, rows = np.floor((everywhere.boxes[:, :2] + everywhere.boxes[:, 2:]) / 2).astype(int).T
    expected = everywhere.boxes[np.abs(rows - cols) * 10 / np.sqrt(2) <= 30]
    assert 5 < len(expected) < len(everywhere.boxes) / 2
    order, other = (np.lexsort(boxes.T) for boxes in (near.boxes, expected))
    np.testing.assert_allclose(near.boxes[order], expected[other], atol=1e-3)


def test_scores_of_vehicles_are_at_least_those_of_heavy_ones_and_there_without_any(of_vehicles, tmp_path):
    _, found = predict(write_scene(tmp_path / "a.tif", 120, 120, 0), of_vehicles, 10980)
    assert len(found) > 20
    assert (found.vehicle_scores >= found.scores).all()
    scene = write_scene(tmp_path / "b.tif", 20, 20, 0)
    with rasterio.open(tmp_path / "b.tif", "r+") as dataset:
        dataset.write(np.zeros_like(dataset.read()))
    assert predict(scene, of_vehicles, 10980)[0].detections.vehicle_scores.tolist() == []


@pytest.mark.parametrize("tile_px", [34, 10980])
def test_boxes_that_reach_either_score_are_kept_on_any_tiling(of_vehicles, tmp_path, tile_px):
    scene = write_scene(tmp_path / "a.tif", 120, 120, 0)
    tiles = plan(scene.shape, tile_px, of_vehicles.halo, of_vehicles.stride)
    every = predict_shard(scene, tiles, of_vehicles, Search(), FLOAT32).detections
    least = MinScores(*(float(np.quantile(each, 0.8)) for each in (every.scores, every.vehicle_scores)))
    found = predict_shard(scene, tiles, of_vehicles, Search(min_scores=least), FLOAT32).detections
    wanted = (every.scores >= least.heavy) | (every.vehicle_scores >= least.vehicle)
    assert (every.scores >= least.heavy).sum() < wanted.sum() < len(every)
    np.testing.assert_array_equal(found.boxes, every.boxes[wanted])


# --- screening ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def screened(small_models, tmp_path_factory) -> Models:
    """The small models with a screener that rejects about half of the blocks of noise."""
    torch.manual_seed(2)
    card = screener_card()
    screener = build_network(card).eval()
    with torch.no_grad():
        logits = screener(torch.rand(1, 4, 320, 320) * 2.7 - 0.7)
        screener.head.weight.mul_(4 / logits.std())
        screener.head.bias.sub_(screener(torch.rand(1, 4, 320, 320) * 2.7 - 0.7).median())
    bundle = save_bundle(tmp_path_factory.mktemp("screener"), card, screener.state_dict())
    return Models(small_models.detector, small_models.segmenter, bundle)


def test_a_screener_leaves_blocks_out_and_nothing_else_changes(small_models, screened, tmp_path):
    scene = write_scene(tmp_path / "a.tif", 200, 170, 3)
    shard, trucks = predict(scene, screened, 10980)
    plain, all_trucks = predict(scene, small_models, 10980)
    blocks = shard.status[:, :170]
    assert set(np.unique(blocks)) == {SEEN, SCREENED, NODATA}
    np.testing.assert_array_equal(shard.status == NODATA, plain.status == NODATA)
    for row, col in np.ndindex(4, 3):  # a block is searched or not as a whole
        block = blocks[row * 64 : row * 64 + 64, col * 64 : col * 64 + 64]
        assert len(set(np.unique(block)) - {NODATA}) == 1
    np.testing.assert_array_equal(shard.landcover, plain.landcover)
    expected = kept(shard.status, all_trucks)
    assert 0 < len(expected) < len(all_trucks)
    assert_same_trucks(trucks, expected)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([16, 64, 128]), st.integers(0, 9))
def test_screened_tiles_equal_the_screened_scene(screened, tmp_path, rows, cols, tile_px, seed):
    scene = write_scene(tmp_path / f"{rows}_{cols}_{seed}.tif", rows, cols, seed)
    whole, whole_trucks = predict(scene, screened, 10980)
    tiled, tiled_trucks = predict(scene, screened, tile_px)
    np.testing.assert_array_equal(tiled.status, whole.status)
    assert_same_trucks(tiled_trucks, whole_trucks)


def test_tiles_without_an_accepted_block_are_skipped(screened, tmp_path):
    card = screened.screener.card.model_copy(update={"score_threshold": 1.0})
    models = Models(screened.detector, None, Bundle(folder=screened.screener.folder, card=card))
    shard, trucks = predict(write_scene(tmp_path / "a.tif", 100, 100, 0), models, 64)
    assert len(trucks) == 0
    assert shard.tiles_skipped == shard.tiles_total == 4


@pytest.mark.parametrize(("tile_px", "shards", "workers"), [(128, 3, 2), (256, 1, 1)])
def test_the_shipped_models_give_the_same_for_every_tiling(shared_data, tile_px, shards, workers):
    scene = open_scene(str(shared_data / "trucks" / "walserberg_a8.tif"))
    models = Models(open_bundle("trucks"), open_bundle("landcover"))
    whole, whole_trucks = predict(scene, models, 10980)
    assert len(whole_trucks) > 5
    parts, trucks = predict_in_parts(scene, models, tile_px, shards, workers, seed=0)
    assert (np.vstack([part.landcover for part in parts]) != whole.landcover).mean() <= 1e-4
    assert_same_trucks(trucks, whole_trucks)
    np.testing.assert_allclose(logits(scene, models, tile_px), logits(scene, models, 10980), atol=1e-4)


def test_half_precision_changes_almost_nothing(shared_data):
    scene = open_scene(str(shared_data / "trucks" / "a2_braunschweig.tif"))
    models = Models(open_bundle("trucks"), open_bundle("landcover"))
    tiles = plan(scene.shape, 512, models.halo, models.stride)
    full = predict_shard(scene, tiles, models, Search(), FLOAT32)
    half = predict_shard(scene, tiles, models, Search(), Engine(precision="bfloat16", threads=1))
    assert (full.landcover == half.landcover).mean() >= 0.98
    sure = (full.detections.scores > 0.7).sum()
    assert abs(int((half.detections.scores > 0.7).sum()) - int(sure)) <= 1


def test_status_tells_what_was_looked_at(small_models, tmp_path, shared_data):
    scene = open_scene(str(shared_data / "trucks" / "a2_braunschweig.tif"))
    roads = read_roads(shared_data / "trucks" / "a2_braunschweig_roads.gpkg", scene.grid.crs.to_wkt())
    tiles = plan(scene.shape, 64, small_models.halo, small_models.stride)
    near = predict_shard(scene, tiles, small_models, Search(roads, 30), FLOAT32)
    assert set(np.unique(near.status)) == {SEEN, NO_ROAD}
    assert 0.1 < (near.status == SEEN).mean() < 0.3
    assert near.tiles_total == 6
    assert (near.landcover != 255).all()


def test_a_cloud_shadow_is_not_searched_but_its_land_cover_is_mapped(small_models, tmp_path):
    scene = write_scene(tmp_path / "a.tif", 40, 40, 0)
    plain, _ = predict(scene, small_models, 32)
    classes = np.full((20, 20), 4, np.uint8)
    classes[:10], classes[:5, :5] = 3, 9
    near = np.hypot(*np.maximum(np.mgrid[:20, :20] - 4, 0)) * 20 <= 100
    scl = write_raster(tmp_path / "scl.tif", classes, 20, ORIGIN)
    shaded, _ = predict(replace(scene, scl=BandSource("SCL", str(scl), gsd=20.0)), small_models, 32)
    expected = plain.status.copy()
    expected[:20][expected[:20] == SEEN] = SHADOW
    expected[:10, :10][expected[:10, :10] == SHADOW] = CLOUD
    np.testing.assert_array_equal(shaded.status, expected)
    rim = near.repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(shaded.landcover, np.where(rim, 255, plain.landcover))


def test_bright_clouds_have_no_land_cover_but_are_searched(small_models, shared_data):
    """Without a mask of clouds; the rims of one cloud are found in several tiles."""
    scene = open_scene(str(shared_data / "scenes" / "dolomites.tif"))
    cloud = Window(800, 20, 150, 150)
    tiles = plan(scene.shape, 96, small_models.halo, small_models.stride)
    tiles = [tile for tile in tiles if rasterio.windows.intersect(tile.core, cloud)]
    shard = predict_shard(scene, tiles, small_models, Search(), FLOAT32)
    rims = rim_mask(scene, cloud)
    assert 0.1 < rims.mean() < 0.9
    rows, cols = cloud.toslices()
    rows = slice(rows.start - shard.first_row, rows.stop - shard.first_row)
    np.testing.assert_array_equal(shard.landcover[rows, cols] == 255, rims)
    assert (shard.status[rows, cols] == SEEN).all()


def test_nothing_is_computed_where_there_is_no_data(small_models, tmp_path):
    path = tmp_path / "empty.tif"
    write_scene(path, 40, 40, 0)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.zeros((4, 40, 40), np.uint16))
    shard, trucks = predict(open_scene(str(path)), small_models, 16)
    assert (shard.status == NODATA).all()
    assert (shard.landcover == 255).all()
    assert len(trucks) == 0
    assert shard.tiles_skipped == shard.tiles_total == 9


def write_blocks(path, side: int, block: int):
    """A scene of compressed blocks."""
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "count": 4, "dtype": "uint16", "crs": "EPSG:32632", "compress": "deflate"}
    blocks = {"tiled": True, "blockxsize": block, "blockysize": block, "interleave": "band"}
    place = {"height": side, "width": side, "transform": from_origin(600000, 5800000, 10, 10)}
    with rasterio.open(path, "w", **profile, **blocks, **place) as dataset:
        dataset.write(rng.integers(300, 3000, (4, side, side)).astype(np.uint16))
        dataset.descriptions = BANDS
    return open_scene(str(path))


def spoil(path, band: int, row: int, col: int) -> None:
    """Overwrite one block of one band."""
    with rasterio.open(path) as dataset:
        where = int(dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band))
    with path.open("r+b") as file:
        file.seek(where)
        file.write(b"\xff" * 64)


def test_a_block_that_cant_be_decoded_ends_the_run_at_once_and_is_named(small_models, tmp_path, caplog):
    path = tmp_path / "spoilt.tif"
    scene = write_blocks(path, 1024, 256)
    spoil(path, band=3, row=1, col=2)
    caplog.set_level("INFO", logger="pipeline.inference.engine")
    with pytest.raises(CorruptImageError, match=r"Band B04 .*block row 1, column 2 .*spoilt\.tif"):
        predict(scene, small_models, 128)
    done = sum(record.message == "tiles done" for record in caplog.records)
    assert done < 8 + 8 + 4  # of 64 tiles; the halo of the 12th reaches into the block
    assert no_stage_is_left()


@pytest.mark.parametrize("stage", ["_prepare", "_predict", "_measured", "_status"])
def test_whatever_fails_in_a_stage_ends_the_run(small_models, tmp_path, monkeypatch, stage):
    def fail(*_):
        raise MemoryError(stage)

    scene = write_scene(tmp_path / "a.tif", 120, 120, 0)
    monkeypatch.setattr(engine, stage, fail)
    with pytest.raises(MemoryError, match=stage):
        predict(scene, small_models, 32)
    assert no_stage_is_left()


def no_stage_is_left() -> bool:
    stages = ("decode", "prepare", "settle")
    return not any(thread.name.startswith(stages) for thread in threading.enumerate())


def test_a_failing_read_ends_the_run_with_its_cause(small_models, tmp_path):
    path = tmp_path / "cut.tif"
    scene = write_scene(path, 120, 120, 0)
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(CorruptImageError, match=r"cut\.tif"):
        predict(scene, small_models, 32)


def test_one_network_alone(small_models, tmp_path):
    scene = write_scene(tmp_path / "a.tif", 40, 40, 1)
    tiles = plan(scene.shape, 16, 48, 4)
    without_trucks = predict_shard(scene, tiles, Models(None, small_models.segmenter), Search(), FLOAT32)
    assert len(without_trucks.detections) == 0
    assert without_trucks.landcover is not None
    assert predict_softly(scene, Models(small_models.detector, None), 16).probabilities is None
    without_landcover = predict_shard(scene, tiles, Models(small_models.detector, None), Search(), FLOAT32)
    assert without_landcover.landcover is None
    assert isinstance(without_landcover.detections, Detections)
