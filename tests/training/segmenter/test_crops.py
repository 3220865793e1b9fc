"""Crops: labels follow their pixels, what is held out stays out, a crop is repeatable."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.training.segmenter.crops import Crop, Crops, HeldOutCrops, augment, cut
from pipeline.training.segmenter.scenes import masked
from pipeline.training.spatial_split import fold_blocks
from tests.training.segmenter.test_scenes import BANDS, CARD, scene


def test_no_label_of_a_held_out_block_is_ever_in_a_crop():
    poisoned = masked(replace(scene(), held_out=((0, 0, 40, 30),)), guard_px=4)
    poisoned.classes[:, :34] = 8
    poisoned.classes[:, 34:] = 3
    for image, target, weights in (Crops([poisoned], [1], CARD, 32, seed=1)[i] for i in range(40)):
        assert (image.shape, target.shape) == ((4, 32, 32), (9, 32, 32))
        assert (target.sum(dim=0) == 1).all()
        assert set(target.argmax(dim=0)[weights > 0].tolist()) == {3}


def test_a_crop_beyond_the_scene_has_no_data_there():
    crop = cut(scene(), -4, 50, 16)
    assert crop.valid.sum() == 12 * 10
    assert crop.valid[4:, :10].all()
    np.testing.assert_array_equal(crop.classes[4:, :10], scene().classes[:12, 50:])
    assert (crop.classes[:4] == UNLABELLED).all()


def test_a_crop_elsewhere_is_empty():
    assert not cut(scene(), 100, -50, 16).valid.any()


@pytest.mark.parametrize("seed", range(12))
def test_labels_turn_with_their_pixels(seed):
    rng = np.random.default_rng(seed)
    classes = np.kron(rng.integers(0, 2, (4, 4)), np.ones((6, 6))).astype(np.uint8)
    image = np.repeat(classes[None] * np.float32(0.8) + 0.1, 4, axis=0)
    crop = augment(
        Crop(image, np.ones((24, 24), bool), classes, np.ones((24, 24), np.float32)), BANDS, True, rng
    )
    inside = crop.reflectance[3, crop.classes == 1].mean()
    assert inside > 1.5 * crop.reflectance[3, crop.classes == 0].mean()
    assert crop.reflectance.min() > 0


def test_crops_are_the_same_for_a_seed_and_number():
    first, again, other = (Crops([scene()], [1], CARD, 32, seed=seed)[5] for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()


def test_held_out_crops_show_only_held_out_labels_and_land_use_first():
    land_use = np.full((40, 60), UNLABELLED, np.uint8)
    land_use[:, 30:32] = 6
    labelled = masked(replace(scene(), land_use=land_use, held_out=((8, 20, 16, 16),)), 2)
    ((image, target, weights),) = list(HeldOutCrops([labelled], CARD, 24))
    classes = target.argmax(dim=0)
    assert image.shape == (4, 24, 24)
    assert weights.sum() == 16 * 16
    assert (classes[4:20, 14:16] == 6).all()
    np.testing.assert_array_equal(classes[4:20, 4:14], labelled.labels[8:24, 20:30])


def test_held_out_crops_are_few_and_from_everywhere():
    labelled = masked(replace(scene(), held_out=fold_blocks((40, 60), 4, 1, 4)), 0)
    crops = HeldOutCrops([labelled], CARD, 8, limit=5)
    assert 3 <= len(crops) <= 5
    assert crops.places[-1][1][0] > 25
