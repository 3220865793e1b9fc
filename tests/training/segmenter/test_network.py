"""The network in training: the weights it starts from, the weights of classes."""

import pytest
import torch

from pipeline.errors import BundleError, TrainingError
from pipeline.models.bundle import Bundle, save_bundle
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.models.registry import build_network
from pipeline.scenes.scene import BANDS_10M
from pipeline.training.segmenter.network import class_weights, start_from
from pipeline.training.segmenter.settings import SegmenterTraining
from pipeline.training.segmenter.train import blank_card
from tests.training.segmenter.test_scenes import scene


def card(**changes):
    return blank_card(SegmenterTraining(**({"arguments": {"widths": [4, 8]}, "bands": BANDS_10M} | changes)))


@pytest.fixture
def first(tmp_path) -> Bundle:
    torch.manual_seed(0)
    return save_bundle(tmp_path, card(), build_network(card()).state_dict())


def test_a_band_that_is_new_has_no_weight_and_the_others_theirs(first):
    given = card(bands=("B02", "B11", "B03", "B04", "B08"))
    network = build_network(given)
    start_from(first, network, given)
    before = first.load_into(build_network(first.card))
    image = torch.randn(1, 4, 16, 16)
    torch.testing.assert_close(network.eval()(image[:, [0, 2, 1, 2, 3]]), before(image))


def test_classes_are_matched_by_name(first):
    given = card(classes={"built": (1,), "orchard": (2,)})
    network = build_network(given)
    start_from(first, network, given)
    before = first.load_into(build_network(first.card))
    image = torch.randn(1, 4, 16, 16)
    built = [item.name for item in DYNAMIC_WORLD].index("built")
    torch.testing.assert_close(network.eval()(image)[:, 0], before(image)[:, built])


def test_another_architecture_s_weights_are_refused(first):
    given = card(arguments={"widths": [4, 8, 8]})
    with pytest.raises(BundleError, match="can't start a unet built with"):
        start_from(first, build_network(given), given)


def test_a_band_without_normalisation_is_refused():
    with pytest.raises(TrainingError, match="No normalisation for B10"):
        card(bands=("B02", "B10"))


def test_rare_classes_count_more():
    labelled = scene()
    labelled.classes[:, :] = 0
    labelled.classes[:8] = 1
    water, trees, grass = class_weights([labelled], [1.0], 0.0, 9)[:3]
    assert water == trees == grass == 1
    water, trees, *_ = class_weights([labelled], [1.0], 0.5, 9)
    assert trees >= water
