"""R-CNN: each crop has its own pass through the network; see `test_fast_rcnn` for what both families do."""

import pytest
import torch

from pipeline.errors import BundleError
from pipeline.models.halo import card_anatomy
from pipeline.models.rcnn import CropNetwork
from pipeline.models.registry import build_network
from pipeline.training.detector.train import blank_card


def test_a_crop_becomes_a_vector():
    assert CropNetwork(4, [8, 16], 16, 32)(torch.randn(5, 4, 16, 16)).shape == (5, 32)


def test_only_the_contrast_slides_over_the_image():
    found = card_anatomy(blank_card("rcnn"), 128)
    assert found.macs == 0
    assert found.receptive_field == (21, 21)
    assert found.stride == 1


def test_the_image_itself_is_what_is_cropped():
    image = torch.randn(1, 4, 32, 32)
    features, contrast = build_network(blank_card("rcnn")).dense(image)
    assert torch.equal(features, image.permute(0, 2, 3, 1))
    assert contrast.shape == (1, 32, 32, 2)


def test_crops_that_cannot_be_halved_are_refused():
    with pytest.raises(BundleError, match="crop_px must be a multiple of 4"):
        build_network(blank_card("rcnn", {"crop_px": 10}))
