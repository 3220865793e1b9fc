"""Augmentation: orientation, weather with physical values, missing bands."""

import numpy as np
import pytest
import torch

from pipeline.training.segmenter.augment import drop_bands, smooth_field, turned, under_clouds
from tests.training.segmenter.test_scenes import BANDS, CARD

SIX = (*BANDS, "B11", "B12")
OPTIONAL = CARD.model_copy(
    update={"bands": SIX, "mean": (0.0,) * 6, "std": (1.0,) * 6, "optional_bands": ("B11", "B12")}
)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_bands_and_labels_turn_alike(turns, mirrored):
    labels = np.arange(16).reshape(4, 4)
    image = turned(np.stack([labels, 10 * labels]), turns, mirrored)
    np.testing.assert_array_equal(image[1], 10 * turned(labels, turns, mirrored))
    assert sorted(image[0].ravel().tolist()) == list(range(16))


def test_a_quarter_turn_is_counter_clockwise():
    np.testing.assert_array_equal(turned(np.array([[1, 2], [3, 4]]), 1, False), [[2, 4], [1, 3]])


@pytest.mark.parametrize("side", [16, 160])
def test_smooth_fields_are_between_0_and_1(side):
    field = smooth_field(side, np.random.default_rng(0))
    assert field.shape == (side, side)
    assert field.min() >= 0
    assert field.max() <= 1
    assert np.abs(np.diff(field)).max() < 8 / side


def test_clouds_and_shadows_leave_physical_values():
    rng, dark = np.random.default_rng(0), np.full((6, 48, 48), 0.1, np.float32)
    images = [under_clouds(dark, SIX, rng) for _ in range(40)]
    assert all(image.shape == dark.shape and image.dtype == np.float32 for image in images)
    assert min(image.min() for image in images) > 0
    assert max(image.max() for image in images) < 0.75
    assert any(image.max() > 0.3 for image in images)
    assert any(image.max() <= 0.1 and image.min() < 0.06 for image in images)  # shadow only


def test_a_shadow_keeps_more_blue_than_red():
    rng, grey = np.random.default_rng(0), np.full((6, 48, 48), 0.1, np.float32)
    shadows = [image for image in (under_clouds(grey, SIX, rng) for _ in range(40)) if image.max() <= 0.1]
    assert all((image[0] >= image[2]).all() for image in shadows)


def test_a_share_of_the_images_lacks_optional_bands_all_or_some():
    rng, images = np.random.default_rng(0), torch.ones(400, 6, 2, 2)
    for image in images:
        drop_bands(image, OPTIONAL, 0.4, rng)
    there = (images != 0).all(dim=(2, 3))
    assert there[:, :4].all()
    without = (~there[:, 4:]).any(dim=1).float().mean()
    assert 0.25 < without < 0.4  # some of the random subsets are complete
    both = (~there[:, 4:]).all(dim=1).float().mean()
    assert 0.15 < both < without


def test_a_card_without_optional_bands_keeps_all():
    image = torch.ones(4, 2, 2)
    drop_bands(image, CARD, 1.0, np.random.default_rng(0))
    assert image.all()
