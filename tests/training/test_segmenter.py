"""A training ends in a bundle that says what it is; it can be repeated, and be cut short."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from pipeline.errors import ConfigError, TrainingError
from pipeline.models.bundle import open_bundle
from pipeline.models.segmenter import build_segmenter
from pipeline.training.landcover import Crops
from pipeline.training.segmenter import (
    SegmenterTraining,
    agreement,
    class_weights,
    labelled_scenes,
    train,
    train_from_config,
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
        "widths": (4, 8),
        "steps": 2,
        "batch": 2,
        "crop_px": 32,
        "block_px": 16,
        "guard_px": 2,
        "epoch_steps": 1,
        "threads": 1,
    }
    return SegmenterTraining(**(small | changes))


def test_two_steps_end_in_a_bundle_that_loads(data, tmp_path):
    bundle = train(settings(data), tmp_path)
    opened = open_bundle(str(tmp_path / "bundle"))
    assert opened.card == bundle.card
    network = opened.load_into(build_segmenter(opened.card))
    assert network(torch.zeros(1, 4, 32, 32)).shape == (1, 9, 32, 32)
    assert (opened.card.halo, opened.card.stride) == (10, 2)
    assert opened.card.training_data[0]["held_out_blocks"][0] == [0, 16, 16, 16]
    assert opened.card.quality["lake"]["held_out"]["pixels"] == 4 * 16 * 16
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 3


def test_it_learns_what_is_easy(data, tmp_path):
    bundle = train(
        settings(data, steps=30, epoch_steps=30, widths=(8, 8), learning_rate=0.02, average=0.5), tmp_path
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
    assert [file.name for file in (tmp_path / "cut" / "checkpoints").iterdir()] == ["last.ckpt"]
    assert not (tmp_path / "cut" / "bundle").exists()
    assert train(settings(data, steps=4), tmp_path / "cut").card.weights_sha256 == wanted


def test_it_can_start_from_a_bundle(data, tmp_path):
    first = train(settings(data, steps=1), tmp_path / "first")
    start = settings(data, steps=1, learning_rate=1e-9, initial=str(tmp_path / "first" / "bundle"))
    second = train(start, tmp_path / "second")
    for name, weights in first.state_dict().items():
        if name.endswith("weight"):
            torch.testing.assert_close(second.state_dict()[name], weights)


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
    water, trees, grass = class_weights(scenes, [1.0], 0.0)[:3]
    assert water == trees == grass == 1
    water, trees, *_ = class_weights(scenes, [1.0], 0.5)
    assert trees >= water


def test_agreement_counts_where_both_have_a_class():
    truth = np.array([[0, 1, 255, 4]], np.uint8)
    found = np.array([[0, 0, 0, 255]], np.uint8)
    result = agreement(truth, found, np.ones((1, 4), bool))
    assert (result.pixels, result.accuracy) == (2, 0.5)


def test_settings_come_from_a_file(tmp_path):
    (tmp_path / "t.yaml").write_text("stepps: 3\n")
    with pytest.raises(ConfigError, match=r"Unknown setting stepps .*Did you mean steps\?"):
        train_from_config(tmp_path / "t.yaml", tmp_path / "out")
