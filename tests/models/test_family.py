"""Families: networks built from cards, and the part of them that slides over an image."""

import pytest
import torch
from torch import nn

from pipeline.errors import BundleError
from pipeline.models.family import Dense, Family
from tests.models.test_unet import small_card


class OneLayer(nn.Module):
    def __init__(self, bands: int, classes: int, kernel: int = 1) -> None:
        super().__init__()
        self.layer = nn.Conv2d(bands, classes, kernel)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images)


FAMILY = Family("one_layer", "segmentation", OneLayer, {"kernel": 3})


def test_arguments_of_the_card_come_before_those_of_the_family():
    card = small_card().model_copy(update={"arguments": {}})
    assert FAMILY.build(card).layer.kernel_size == (3, 3)
    network = FAMILY.build(card.model_copy(update={"arguments": {"kernel": 1}}))
    (maps,) = Dense(network)(torch.zeros(2, len(card.bands), 5, 7))
    assert maps.shape == (2, 5, 7, len(card.classes))


def test_an_argument_that_the_network_does_not_take_is_named():
    with pytest.raises(BundleError, match=r"one_layer.*depth"):
        FAMILY.build(small_card().model_copy(update={"arguments": {"depth": 3}}))
