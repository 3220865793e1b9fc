"""A training ends in a bundle that says what it is; it can be repeated, and be cut short."""

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from shapely import box

from pipeline.errors import BundleError, TrainingError
from pipeline.models.bundle import open_bundle
from pipeline.models.legend import DYNAMIC_WORLD, LegendClass
from pipeline.models.registry import build_network
from pipeline.scenes.scene import BANDS_10M
from pipeline.training.segmenter.scenes import Crops
from pipeline.training.segmenter.train import (
    SegmenterTraining,
    blank_card,
    class_weights,
    labelled_scenes,
    start_from,
    train,
)

SIDE = 64


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder of training data with one scene: water in the west, trees in the east."""
    folder = tmp_path_factory.mktemp("data")
    place = folder / "landcover" / "lake"
    place.mkdir(parents=True)
    profile = {
        "driver": "GTiff",
        "height": SIDE,
        "width": SIDE,
        "count": 1,
        "crs": "EPSG:32633",
        "transform": from_origin(500_000, 5_000_000, 10, 10),
    }
    labels = np.repeat((np.arange(SIDE) >= SIDE // 2).astype(np.uint8)[None], SIDE, axis=0)
    with rasterio.open(place / "dynamicworld_pseudolabel.tif", "w", dtype="uint8", **profile) as target:
        target.write(labels, 1)
    noise = np.random.default_rng(0)
    for band, water, trees in (("B02", 900, 800), ("B03", 700, 600), ("B04", 500, 400), ("B08", 200, 3000)):
        values = np.where(labels, trees, water) + noise.integers(0, 50, labels.shape)
        with rasterio.open(
            place / f"T33TWN_20200601T101031_{band}.tif", "w", dtype="uint16", **profile
        ) as target:
            target.write(values.astype(np.uint16), 1)
    return folder


def settings(data: Path, **changes) -> SegmenterTraining:
    small = {
        "data": data,
        "shares": {"lake": 1.0},
        "arguments": {"widths": [4, 8]},
        "bands": BANDS_10M,
        "first_steps": 0,
        "steps": 2,
        "batch": 2,
        "crop_px": 32,
        "block_px": 16,
        "guard_px": 2,
        "check_every": 1,
        "precision": "float32",
        "threads": 1,
    }
    return SegmenterTraining(**(small | changes))


def test_two_steps_end_in_a_bundle_that_loads(data, tmp_path):
    bundle = train(settings(data), tmp_path)
    opened = open_bundle(str(tmp_path / "bundle"))
    assert opened.card == bundle.card
    network = opened.load_into(build_network(opened.card))
    assert network(torch.zeros(1, 4, 32, 32)).shape == (1, 9, 32, 32)
    assert (opened.card.halo, opened.card.stride) == (10, 2)
    assert opened.card.training_data[0]["held_out_blocks"][0] == [0, 16, 16, 16]
    assert opened.card.quality["lake"]["held_out"]["pixels"] == 4 * 16 * 16
    assert (tmp_path / "last" / "metrics.csv").is_file()
    assert (tmp_path / "last" / "learning_curve.png").is_file()


def test_it_learns_what_is_easy(data, tmp_path):
    bundle = train(
        settings(
            data, steps=30, check_every=30, arguments={"widths": [8, 8]}, learning_rate=0.02, average=0.5
        ),
        tmp_path,
    )
    assert bundle.card.quality["lake"]["held_out"]["accuracy"] > 0.9


def test_same_seed_same_weights(data, tmp_path):
    first, again, other = (
        train(settings(data, seed=seed), tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.card.weights_sha256 == again.card.weights_sha256 != other.card.weights_sha256


def test_a_training_that_was_cut_short_goes_on_to_the_same_weights(data, tmp_path, monkeypatch):
    wanted = train(settings(data, steps=4), tmp_path / "whole").card.weights_sha256
    healthy = Crops.__getitem__

    def power_cut(crops: Crops, index: int):
        if index >= 4:
            raise OSError("power cut")
        return healthy(crops, index)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="power cut"):
        patch.setattr(Crops, "__getitem__", power_cut)
        train(settings(data, steps=4), tmp_path / "cut")
    assert (tmp_path / "cut" / "last" / "last.ckpt").is_file()
    assert not (tmp_path / "cut" / "bundle").exists()
    assert train(settings(data, steps=4), tmp_path / "cut").card.weights_sha256 == wanted


def test_it_can_start_from_a_bundle(data, tmp_path):
    first = train(settings(data, steps=1), tmp_path / "first")
    start = settings(data, steps=1, learning_rate=1e-9, initial=str(tmp_path / "first" / "bundle"))
    second = train(start, tmp_path / "second")
    for name, weights in first.state_dict().items():
        if name.endswith("weight"):
            torch.testing.assert_close(second.state_dict()[name], weights)


def test_a_band_that_is_new_has_no_weight_and_the_others_theirs(data, tmp_path):
    first = train(settings(data), tmp_path)
    card = blank_card(settings(data, bands=("B02", "B11", "B03", "B04", "B08")))
    network = build_network(card)
    start_from(first, network, card)
    before = first.load_into(build_network(first.card))
    image = torch.randn(1, 4, 16, 16)
    torch.testing.assert_close(network.eval()(image[:, [0, 2, 1, 2, 3]]), before(image))


def test_classes_are_matched_by_name(data, tmp_path):
    first = train(settings(data), tmp_path)
    classes = tuple(
        LegendClass(value=value, name=name, colour="#000000")
        for value, name in enumerate(("built", "orchard"))
    )
    card = blank_card(settings(data), classes)
    network = build_network(card)
    start_from(first, network, card)
    before = first.load_into(build_network(first.card))
    image = torch.randn(1, 4, 16, 16)
    built = [item.name for item in DYNAMIC_WORLD].index("built")
    torch.testing.assert_close(network.eval()(image)[:, 0], before(image)[:, built])


def test_another_architecture_s_weights_are_refused(data, tmp_path):
    first = train(settings(data), tmp_path)
    card = blank_card(settings(data, arguments={"widths": [4, 8, 8]}))
    with pytest.raises(BundleError, match="can't start a unet built with"):
        start_from(first, build_network(card), card)


@pytest.fixture(scope="module")
def with_land_use(data, tmp_path_factory) -> Path:
    """The same lake, whose eastern shore the pseudo-label takes for water and land use knows as trees."""
    folder = tmp_path_factory.mktemp("land-use")
    shutil.copytree(data / "landcover" / "lake", folder / "landcover" / "lake")
    place = folder / "landcover" / "lake"
    with rasterio.open(place / "dynamicworld_pseudolabel.tif", "r+") as labels:
        classes = labels.read(1)
        classes[:, 32:48] = 0
        labels.write(classes, 1)
    parts = {
        "water": box(500_000, 4_999_360, 500_320, 5_000_000),
        "forest": box(500_320, 4_999_360, 500_480, 5_000_000),
    }
    frame = gpd.GeoDataFrame({"fclass": list(parts)}, geometry=list(parts.values()), crs="EPSG:32633")
    frame.to_file(place / "osm_landuse_west.gpkg")
    return folder


def test_land_use_is_cross_validated_by_block(with_land_use, tmp_path):
    """The first stage sees pseudo-labels in the east only; each fold then learns what the shore is."""
    bundle = train(
        settings(
            with_land_use,
            first_steps=2,
            first_shares={"lake": 1.0},
            steps=24,
            check_every=24,
            learning_rate=0.03,
            average=0.5,
            arguments={"widths": [8, 8]},
            folds=2,
            fold_block_px=16,
        ),
        tmp_path,
    )
    figures = bundle.card.quality["cross_validation"]["lake"]
    assert figures["pixels"] == 64 * 48
    assert figures["pseudo_label_accuracy"] == pytest.approx(2 / 3, abs=0.001)
    assert figures["accuracy"] > 0.9
    assert figures["advantage"] == pytest.approx(figures["accuracy"] - 2 / 3, abs=0.002)
    assert {path.name for path in tmp_path.iterdir()} == {"first", "fold-1", "fold-2", "last", "bundle"}


def test_missing_data_is_named(tmp_path):
    with pytest.raises(TrainingError, match="No training data for virginia"):
        train(SegmenterTraining(data=tmp_path), tmp_path / "out")


def test_a_scene_without_labels_is_refused(data, tmp_path):
    (tmp_path / "landcover" / "lake").mkdir(parents=True)
    with pytest.raises(TrainingError, match=r"no dynamicworld_pseudolabel\.tif"):
        train(settings(tmp_path), tmp_path / "out")


def test_a_band_without_normalisation_is_refused(data, tmp_path):
    with pytest.raises(TrainingError, match="No normalisation for B10"):
        train(settings(data, bands=("B02", "B10")), tmp_path)


def test_rare_classes_count_more(data):
    scenes = labelled_scenes(settings(data), ("B02",))
    scenes[0].classes[:, :] = 0
    scenes[0].classes[:8] = 1
    water, trees, grass = class_weights(scenes, [1.0], 0.0, 9)[:3]
    assert water == trees == grass == 1
    water, trees, *_ = class_weights(scenes, [1.0], 0.5, 9)
    assert trees >= water
