"""The network in training: the weights it starts from, the weights of classes."""

import math

import numpy as np
import pytest
import scipy.spatial
import torch

from pipeline.errors import BundleError, TrainingError
from pipeline.models.bundle import Bundle, save_bundle
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.models.registry import build_network
from pipeline.scenes.scene import BANDS_10M
from pipeline.training.segmenter.network import (
    SegmenterModule,
    class_frequency,
    class_weights,
    divergence,
    start_from,
)
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


@pytest.mark.parametrize("stem", [1, 2])
def test_classes_are_matched_by_name(tmp_path, stem):
    arguments = {"widths": [4, 8], "stem": stem}
    first = save_bundle(
        tmp_path, card(arguments=arguments), build_network(card(arguments=arguments)).state_dict()
    )
    given = card(classes={"built": (1,), "orchard": (2,)}, arguments=arguments)
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
    assert class_weights(np.array([0.8, 0.1, 0.1]), 0.0).tolist() == [1, 1, 1]
    frequent, rare, absent = class_weights(np.array([0.8, 0.2, 0.0]), 0.5).tolist()
    assert (frequent, rare, absent) == (0.5, 1.0, 2.5)


def test_the_frequency_of_classes_is_by_the_shares_of_scenes():
    water, mixed = scene(), scene()
    water.classes[:] = 0
    mixed.classes[:20], mixed.classes[20:] = 0, 1
    np.testing.assert_allclose(class_frequency([water, mixed], [3, 1], 3), [0.875, 0.125, 0])
    assert not class_frequency([], [], 3).any()


def test_a_target_of_probabilities_is_learned_as_it_is():
    """The loss of soft targets is least at the same probabilities, and at a label it is that of the class."""
    module = SegmenterModule(card(), SegmenterTraining(label_smoothing=0.0), torch.ones(9))
    target = torch.full((1, 9, 2, 2), 0.1 / 8)
    target[:, 3] = 0.9
    images, weights = torch.zeros(1, 4, 2, 2), torch.ones(1, 2, 2)

    def loss(probabilities: torch.Tensor) -> float:
        module.network.forward = lambda _: probabilities.log()
        return float(module._compare((images, target, weights))[0])

    assert loss(target) < loss(torch.full((1, 9, 2, 2), 1 / 9))
    assert loss(target) == pytest.approx(-(target * target.log()).sum(dim=1).mean().item())


def test_two_views_of_a_tile_that_differ_have_a_divergence_and_other_neighbours_have_none():
    target = torch.zeros(4, 2, 1, 2)
    target[:2, 0] = target[2, 0] = target[3, 1] = 1
    weights = torch.tensor([[1.0, 0.0]]).expand(4, 1, 2)
    logits = torch.zeros(4, 2, 1, 2)
    assert divergence(logits, target, weights) == pytest.approx(0, abs=1e-7)
    logits[0, 0] = logits[2, 0] = 50
    one, two = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    expected = scipy.spatial.distance.jensenshannon(one, two) ** 2
    assert divergence(logits, target, weights) == pytest.approx(expected, rel=1e-5)
    logits[1, 1] = 50
    assert divergence(logits, target, weights) == pytest.approx(math.log(2), rel=1e-5)
