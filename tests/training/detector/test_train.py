"""Training of the detector: ends in a bundle, repeats itself, and goes on with labels of one's own."""

from pathlib import Path

import geopandas as gpd
import pytest
import torch

from pipeline.errors import TrainingError
from pipeline.models.bundle import open_bundle, save_bundle
from pipeline.training.detector.settings import DetectorTraining, FineTuning, LabelSettings, TruckSource
from pipeline.training.detector.train import average_precision, blank_card, train_detector

TINY = {"channels": [8, 8, 8], "features": 8, "anchor_sizes": [4.0], "anchor_ratios": [1.0], "head": 8}
SETTINGS = {"steps": 2, "batch": 2, "chip_px": 32, "arguments": TINY, "simulated": [3], "simulated_px": 128}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return train_detector(DetectorTraining(**SETTINGS), tmp_path_factory.mktemp("training"))


def test_a_training_ends_in_a_bundle_that_opens(bundle):
    opened = open_bundle(str(bundle.folder))
    assert opened.card.architecture == "faster_rcnn"
    assert opened.state_dict()
    assert (bundle.folder.parent / "metrics.csv").exists()


def test_the_same_seed_gives_the_same_weights(bundle, tmp_path):
    again = train_detector(DetectorTraining(**SETTINGS), tmp_path)
    assert again.card.weights_sha256 == bundle.card.weights_sha256


def test_a_training_starts_from_a_bundle(bundle, tmp_path):
    tuned = train_detector(
        DetectorTraining(**SETTINGS | {"start_from": str(bundle.folder), "learning_rate": 1e-9}), tmp_path
    )
    before, after = bundle.state_dict(), tuned.state_dict()
    weight = "backbone.stem.0.weight"
    torch.testing.assert_close(after[weight], before[weight], atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ["faster_rcnn", "fcos"])
def test_the_halo_follows_from_the_family(architecture):
    card = blank_card(architecture, {})
    assert (card.halo, card.stride) == (44, 4)


def test_a_family_is_chosen_by_configuration(tmp_path):
    small = {"channels": [8, 8, 8], "features": 8, "convolutions": 1}
    trained = train_detector(
        DetectorTraining(**SETTINGS | {"architecture": "fcos", "arguments": small}), tmp_path
    )
    assert open_bundle(str(trained.folder)).card.architecture == "fcos"


@pytest.fixture(scope="module")
def quiet(bundle, tmp_path_factory):
    """The bundle, seeing next to nothing: one that has learnt so little sees a truck in every pixel."""
    state = bundle.state_dict()
    state["rpn.head.cls_logits.bias"] -= 8
    return save_bundle(tmp_path_factory.mktemp("quiet"), bundle.card, state)


@pytest.fixture(scope="module")
def tuned(quiet, product, tmp_path_factory):
    """A fine-tuning on a simulated product and its truth: (bundle, folder)."""
    out = tmp_path_factory.mktemp("mine")
    settings = FineTuning(
        start_from=str(quiet.folder),
        labelled=[TruckSource(imagery=str(product.safe), labels=product.trucks, licence="CC0")],
        labels=LabelSettings(block_px=64),
        steps=2, check_every=1, batch=2, chip_px=32, simulated=[3], simulated_px=128, measure=None, threads=1,
    )  # fmt: skip
    return train_detector(settings, out), out


def test_a_fine_tuning_ends_in_a_bundle_that_was_evaluated_on_what_was_held_out(bundle, product, tuned):
    card = open_bundle(str(tuned[0].folder)).card
    assert card.arguments == bundle.card.arguments
    assert card.training_data[-1] == {"name": product.safe.name, "licence": "CC0"}
    figures = card.quality["held_out"][product.safe.name]
    assert figures["tp"] + figures["fn"] == held_out_trucks(tuned[1] / "held_out" / product.safe.name)
    assert figures["before"]["model"] == bundle.card.id
    assert card.id == f"trucks-{tuned[1].name}"


def held_out_trucks(folder: Path) -> int:
    frame = gpd.read_file(folder / "trucks.gpkg")
    return int((frame["confidence"].isin(["high", "medium"]) & (frame["vehicle"] == "heavy")).sum())


def test_the_evaluation_is_a_page_and_the_held_out_blocks_are_a_layer(product, tuned):
    folder = tuned[1] / "held_out" / product.safe.name
    left = {path.name for path in folder.iterdir()}
    cases = {"confusion_cases.gpkg", "confusion_cases.geojson", "chips"}
    assert left == {"blocks.gpkg", "trucks.gpkg", "metrics.json", "report.html"} | cases
    blocks = gpd.read_file(folder / "blocks.gpkg").union_all()
    boxes = gpd.read_file(folder / "trucks.gpkg")
    assert boxes.centroid.intersects(blocks).all()


def test_a_training_is_checked_on_held_out_blocks(tuned):
    metrics = (tuned[1] / "metrics.csv").read_text()
    assert "val_ap" in metrics.splitlines()[0]
    assert (tuned[1] / "best.ckpt").exists()


def test_stopping_early_needs_scenes_to_check(quiet, tmp_path):
    with pytest.raises(TrainingError, match=r"labelled scenes with labels\.held_out above 0, or"):
        train_detector(DetectorTraining(**SETTINGS | {"patience": 1}), tmp_path)
    looking = {"patience": 1, "check_seeds": [4], "start_from": str(quiet.folder)}
    train_detector(DetectorTraining(**SETTINGS | looking), tmp_path)


def test_a_detector_does_not_start_from_a_land_cover_model(tmp_path):
    with pytest.raises(TrainingError, match="landcover does segmentation on B02"):
        train_detector(DetectorTraining(**SETTINGS | {"start_from": "landcover"}), tmp_path)


def test_average_precision_counts_centres_and_leaves_out_what_is_ignored():
    def image(boxes, scores, truth, ignored=()):
        return (
            {"boxes": torch.tensor(boxes).reshape(-1, 4), "scores": torch.tensor(scores)},
            {"boxes": torch.tensor(truth).reshape(-1, 4), "ignored": torch.tensor(ignored).reshape(-1, 4)},
        )

    here, near, far = [10.0, 10, 14, 14], [11.5, 11, 15.5, 15], [12.5, 10, 16.5, 14]
    assert average_precision([image([here], [0.9], [near])]) == 1
    assert average_precision([image([here], [0.9], [far])]) == 0
    assert average_precision([image([here, far], [0.8, 0.9], [here], [far])]) == 1
    half = [image([here, [40.0, 40, 44, 44]], [0.8, 0.9], [here]), image([], [], [])]
    assert average_precision(half) == pytest.approx(0.5)
