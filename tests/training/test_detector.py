"""Training of the detector: ends in a bundle, goes on after a stop, and repeats itself."""

import pytest
import torch
import yaml

from pipeline.errors import ConfigError
from pipeline.models.bundle import open_bundle
from pipeline.training.detector import DetectorTraining, train_detector, train_from_config

TINY = {"channels": [4, 4, 4], "features": 4, "anchor_sizes": [4.0], "anchor_ratios": [1.0], "head": 8}
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


def test_settings_come_from_a_file(tmp_path):
    (tmp_path / "t.yaml").write_text(yaml.safe_dump({"stepps": 3}))
    with pytest.raises(ConfigError, match=r"Unknown setting stepps .*Did you mean steps\?"):
        train_from_config(tmp_path / "t.yaml", tmp_path / "out")
