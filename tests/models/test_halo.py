"""Halo and stride of the networks that cards describe."""

import pytest
import torch
from torch import nn

from pipeline.errors import BundleError
from pipeline.models.bundle import Card, open_bundle
from pipeline.models.family import dense
from pipeline.models.halo import card_anatomy, with_halo
from pipeline.models.legend import LegendClass
from pipeline.models.receptive_field.trace import anatomy
from pipeline.models.registry import build_network
from tests.models.test_unet import small_card

SHALLOW = {"encoder": "resnet18", "depth": 2, "widths": [8, 8]}


def card(task: str, architecture: str, **arguments: object) -> Card:
    legend = (
        LegendClass(value=0, name="a", colour="#000000"),
        LegendClass(value=1, name="b", colour="#FFFFFF"),
    )
    return Card(
        id="trial", version="1", task=task, architecture=architecture, arguments=arguments,
        bands=("B02", "B03", "B04", "B08"), mean=(0.0,) * 4, std=(1.0,) * 4, classes=legend, halo=0, stride=1,
    )  # fmt: skip


def test_the_shipped_architectures_have_a_halo_that_is_cheap():
    segmenter = card_anatomy(card("segmentation", "unet"))
    assert segmenter.halo is not None
    assert segmenter.halo <= 128
    detector = card_anatomy(card("detection", "faster_rcnn"))
    assert detector.halo is not None
    assert detector.halo <= 64


def test_the_detectors_dense_part_sees_what_its_gradient_says():
    torch.manual_seed(0)
    detector = build_network(card("detection", "faster_rcnn")).double().eval()
    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.001, 0.01)
    field = anatomy(detector, (4, 96, 96), dense).outputs[1]
    image = torch.rand(1, 4, 96, 96, dtype=torch.float64, requires_grad=True)
    logits = dense(detector, image)[1]
    for position in range(48, 48 + field.x.step):
        (gradient,) = torch.autograd.grad(logits[0, 48, position, 0], image, retain_graph=True)
        support = gradient[0].abs().sum((0, 1)).nonzero().flatten().tolist()
        assert (min(support), max(support)) == field.x.interval(position)


def test_the_cards_halo_covers_what_the_network_sees():
    card = open_bundle("trucks").card
    found = card_anatomy(card, 128)
    # A proposal reaches half a box beyond the place that proposes it, and its pooled features as far again.
    assert found.halo + 8 <= card.halo <= 64
    assert card.stride % found.stride == 0


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("family", "arguments", "halo", "stride"),
    [("fcn", {}, 5, 1), ("smp_unet", SHALLOW, 32, 4), ("smp_unet", {}, 72, 8)],
)
def test_halo_and_stride_come_from_the_network(family, arguments, halo, stride):
    card = with_halo(small_card(architecture=family, arguments=arguments))
    assert (card.halo, card.stride) == (halo, stride)


@pytest.mark.parametrize("encoder", ["efficientnet-b0", "timm-mobilenetv3_small_100"])
def test_an_encoder_that_looks_at_the_whole_image_is_refused(encoder):
    card = small_card(architecture="smp_unet", arguments={"encoder": encoder})
    with pytest.raises(BundleError, match=r"can't run in tiles.* depend on the complete image: encoder"):
        with_halo(card)


def test_a_halo_that_costs_much_is_told(caplog):
    deep = small_card(architecture="smp_unet", arguments={"depth": 4, "widths": [8, 8, 8, 8]})
    assert with_halo(deep).halo == 160
    assert "halo of 160 px, above the cheap limit of 128 px" in caplog.text
