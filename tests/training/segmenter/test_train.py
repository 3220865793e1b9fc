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

from pipeline.errors import TrainingError
from pipeline.models.bundle import open_bundle
from pipeline.models.registry import build_network
from pipeline.scenes.scene import BANDS_10M
from pipeline.training.segmenter.crops import Crops
from pipeline.training.segmenter.settings import LandcoverSource, SegmenterTraining
from pipeline.training.segmenter.train import train
from pipeline.training.spatial_split import fold_blocks

SIDE = 64


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A scene with labels: water in the west, trees in the east."""
    place = tmp_path_factory.mktemp("data")
    profile = {
        "driver": "GTiff",
        "height": SIDE,
        "width": SIDE,
        "count": 1,
        "crs": "EPSG:32633",
        "transform": from_origin(500_000, 5_000_000, 10, 10),
    }
    labels = np.repeat((np.arange(SIDE) >= SIDE // 2).astype(np.uint8)[None], SIDE, axis=0)
    with rasterio.open(place / "labels.tif", "w", dtype="uint8", **profile) as target:
        target.write(labels, 1)
    noise = np.random.default_rng(0)
    for band, water, trees in (("B02", 900, 800), ("B03", 700, 600), ("B04", 500, 400), ("B08", 200, 3000)):
        values = np.where(labels, trees, water) + noise.integers(0, 50, labels.shape)
        with rasterio.open(
            place / f"T33TWN_20200601T101031_{band}.tif", "w", dtype="uint16", **profile
        ) as target:
            target.write(values.astype(np.uint16), 1)
    return place


def settings(data: Path, land_use: Path | None = None, **changes) -> SegmenterTraining:
    """A small training; `data` holds the bands and `labels.tif`."""
    source = LandcoverSource(
        name="lake",
        imagery=str(data),
        labels=data / "labels.tif",
        land_use=land_use,
        held_out=fold_blocks((SIDE, SIDE), 16, 1, 4),
    )
    small = {
        "labelled": [source],
        "arguments": {"widths": [4, 8]},
        "bands": BANDS_10M,
        "steps": 2,
        "batch": 2,
        "crop_px": 32,
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
    assert opened.card.quality["held_out"]["pixels"] == 4 * 16 * 16
    assert (tmp_path / "metrics.csv").is_file()
    assert (tmp_path / "learning_curve.png").is_file()


def test_it_learns_what_is_easy(data, tmp_path):
    bundle = train(
        settings(
            data, steps=30, check_every=30, arguments={"widths": [8, 8]}, learning_rate=0.02, average=0.5
        ),
        tmp_path,
    )
    assert bundle.card.quality["held_out"]["accuracy"] > 0.9


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
    assert (tmp_path / "cut" / "last.ckpt").is_file()
    assert not (tmp_path / "cut" / "bundle").exists()
    assert train(settings(data, steps=4), tmp_path / "cut").card.weights_sha256 == wanted


def test_it_can_start_from_a_bundle(data, tmp_path):
    first = train(settings(data, steps=1), tmp_path / "first")
    start = settings(data, steps=1, learning_rate=1e-9, initial=str(tmp_path / "first" / "bundle"))
    second = train(start, tmp_path / "second")
    for name, weights in first.state_dict().items():
        if name.endswith("weight"):
            torch.testing.assert_close(second.state_dict()[name], weights)


@pytest.fixture(scope="module")
def with_land_use(data, tmp_path_factory) -> tuple[Path, Path]:
    """The same lake, whose eastern shore the labels call water and land use trees."""
    place = tmp_path_factory.mktemp("land-use") / "lake"
    shutil.copytree(data, place)
    with rasterio.open(place / "labels.tif", "r+") as labels:
        classes = labels.read(1)
        classes[:, 32:48] = 0
        labels.write(classes, 1)
    parts = {
        "water": box(500_000, 4_999_360, 500_320, 5_000_000),
        "forest": box(500_320, 4_999_360, 500_480, 5_000_000),
    }
    frame = gpd.GeoDataFrame({"fclass": list(parts)}, geometry=list(parts.values()), crs="EPSG:32633")
    frame.to_file(place / "land_use.gpkg")
    return place, place / "land_use.gpkg"


def test_land_use_is_cross_validated_by_block(with_land_use, tmp_path):
    """The first stage sees labels in the east only; each fold then learns the class of the shore."""
    bundle = train(
        settings(
            *with_land_use,
            first_steps=2,
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
    metrics = bundle.card.quality["cross_validation"]["lake"]
    assert metrics["pixels"] == 64 * 48
    assert metrics["pseudo_label_accuracy"] == pytest.approx(2 / 3, abs=0.001)
    assert metrics["accuracy"] > 0.9
    assert metrics["advantage"] == pytest.approx(metrics["accuracy"] - 2 / 3, abs=0.002)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        *("first", "fold-1", "fold-2", "bundle", "tensorboard")
    }


def test_a_simulated_scene_is_evaluated_beside_a_labelled_one(data, tmp_path):
    chosen = settings(data, simulated=[3], simulated_held_out=[4], simulated_px=64)
    card = train(chosen, tmp_path).card
    assert set(card.quality) == {"lake", "simulated-4"}
    assert card.training_data[-1]["held_out_seeds"] == [4]


def test_nothing_to_learn_from_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="there is nothing to learn"):
        train(SegmenterTraining(), tmp_path / "out")


@pytest.mark.parametrize("where", ["emphasis", "trust"])
def test_a_weight_of_an_unknown_class_is_refused(data, tmp_path, where):
    chosen = settings(data)
    if where == "emphasis":
        chosen = chosen.model_copy(update={"emphasis": {"bulit": 2.0}})
    else:
        (source,) = chosen.labelled
        chosen = chosen.model_copy(update={"labelled": (source.model_copy(update={"trust": {"bulit": 2}}),)})
    with pytest.raises(
        TrainingError, match=r"names the class bulit, which the network does not have. It has"
    ):
        train(chosen, tmp_path / "out")
