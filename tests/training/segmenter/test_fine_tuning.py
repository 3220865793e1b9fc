"""Fine-tuning: a training that continues a bundle on the classes of other labels."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from pipeline.errors import BundleError
from pipeline.models.bundle import Bundle, Card, open_bundle, save_bundle
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.models.registry import build_network
from pipeline.training.segmenter.settings import FineTuning, LandcoverSource
from pipeline.training.segmenter.train import train
from tests.training.segmenter.places import BANDS, SIDE, chessboard, imagery, profile

__all__ = ["chessboard", "imagery"]  # fixtures

CARD = Card(
    id="tiny",
    version="1",
    task="segmentation",
    architecture="unet",
    arguments={"widths": [6, 8]},
    bands=(*BANDS, "B11"),
    optional_bands=("B11",),
    mean=(0.1,) * 5,
    std=(0.1,) * 5,
    classes=DYNAMIC_WORLD,
    halo=10,
    stride=2,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Bundle:
    torch.manual_seed(0)
    return save_bundle(tmp_path_factory.mktemp("tiny"), CARD, build_network(CARD).state_dict())


def settings(imagery: Path, labels: Path, tiny: Bundle, **changes) -> FineTuning:
    small = {
        "labelled": [LandcoverSource(imagery=str(imagery), labels=labels)],
        "initial": str(tiny.folder),
        "block_px": 32,
        "guard_px": 2,
        "crop_px": 32,
        "steps": 2,
        "check_every": 2,
        "batch": 2,
        "threads": 1,
        "precision": "float32",
    }
    return FineTuning(**(small | changes))


def test_other_classes_are_learned(imagery, chessboard, tiny, tmp_path):
    given = settings(imagery, chessboard, tiny, steps=60, check_every=60, learning_rate=0.03, average=0.5)
    bundle = train(given, tmp_path / "out")
    card = open_bundle(str(tmp_path / "out" / "bundle")).card
    assert card == bundle.card
    assert [item.name for item in card.classes] == ["orchard", "water"]
    assert card.classes[1].colour == DYNAMIC_WORLD[0].colour
    assert (card.bands, card.optional_bands, card.halo) == (CARD.bands, ("B11",), 10)
    assert card.quality["held_out"]["accuracy"] > 0.9
    assert "before_fine_tuning" not in card.quality
    assert card.training_data[0]["licence"] == "not stated"
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert evaluation["confusion_matrix"]["classes"] == ["orchard", "water"]
    assert evaluation["pixels"] == card.quality["held_out"]["pixels"]
    assert (tmp_path / "out" / "learning_curve.png").is_file()


def test_with_known_classes_it_says_how_good_it_was_before(imagery, tiny, tmp_path):
    labels = np.full((SIDE, SIDE), 255, np.uint8)
    rows, cols = np.mgrid[:SIDE, :SIDE] // 32
    labels[:64] = np.where((rows + cols) % 2, 6, 0)[:64]
    with rasterio.open(tmp_path / "labels.tif", "w", **profile("uint8"), nodata=255) as target:
        target.write(labels, 1)
    card = train(settings(imagery, tmp_path / "labels.tif", tiny), tmp_path / "out").card
    assert [item.name for item in card.classes] == ["water", "built"]
    assert card.quality["before_fine_tuning"]["pixels"] == card.quality["held_out"]["pixels"]


def test_a_scene_without_a_needed_band_is_refused(imagery, chessboard, tiny, tmp_path):
    card = CARD.model_copy(update={"bands": (*BANDS, "B05"), "optional_bands": ()})
    needy = save_bundle(tmp_path / "needy", card, tiny.state_dict())
    with pytest.raises(BundleError, match="needs band B05"):
        train(settings(imagery, chessboard, needy), tmp_path / "out")
