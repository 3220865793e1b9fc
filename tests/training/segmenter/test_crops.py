"""Crops: labels follow their pixels, what is held out stays out, a crop is repeatable."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.training.segmenter.crops import Crop, Crops, HeldOutCrops, _under_clouds, augment, cut
from pipeline.training.segmenter.scenes import masked
from pipeline.training.spatial_split import fold_blocks
from tests.training.segmenter.test_scenes import BANDS, CARD, scene

TEN = (*BANDS, "B11", "B12")
OPTIONAL = CARD.model_copy(
    update={"bands": TEN, "mean": (0.0,) * 6, "std": (1.0,) * 6, "optional_bands": ("B11", "B12")}
)


def test_no_label_of_a_held_out_block_is_ever_in_a_crop():
    poisoned = masked(replace(scene(), held_out=((0, 0, 40, 30),)), guard_px=4)
    poisoned.classes[:, :34] = 8
    poisoned.classes[:, 34:] = 3
    for image, classes, weights in (Crops([poisoned], [1], CARD, 32, seed=1)[i] for i in range(40)):
        assert image.shape == (4, 32, 32)
        assert set(classes[weights > 0].tolist()) == {3}


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


def test_clouds_and_shadows_leave_physical_values():
    rng, dark = np.random.default_rng(0), np.full((6, 48, 48), 0.1, np.float32)
    images = [_under_clouds(dark, TEN, rng) for _ in range(40)]
    assert all(image.shape == dark.shape and image.dtype == np.float32 for image in images)
    assert min(image.min() for image in images) > 0
    assert max(image.max() for image in images) < 0.75
    assert any(image.max() > 0.3 for image in images)
    assert any(image.max() <= 0.1 and image.min() < 0.06 for image in images)  # shadow only


def test_a_shadow_keeps_more_blue_than_red():
    rng, grey = np.random.default_rng(0), np.full((6, 48, 48), 0.1, np.float32)
    shadows = [image for image in (_under_clouds(grey, TEN, rng) for _ in range(40)) if image.max() <= 0.1]
    assert all((image[0] >= image[2]).all() for image in shadows)


def test_crops_are_the_same_for_a_seed_and_number():
    first, again, other = (Crops([scene()], [1], CARD, 32, seed=seed)[5] for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()


def test_some_crops_lack_the_optional_bands_and_never_others():
    six = replace(scene(), reflectance=np.full((6, 40, 60), 0.3, np.float32))
    crops = Crops([six], [1], OPTIONAL, 16, seed=0, band_dropout=0.4)
    images = [crops[i][0] for i in range(100)]
    lacking = [bool((image[4:] == 0).all()) for image in images]
    assert 25 < sum(lacking) < 55
    assert all((image[:4] != 0).any() for image in images)
    for image, gone in zip(images, lacking, strict=True):
        assert gone or ((image[5] == 0) == (image[0] == 0)).all()


def test_held_out_crops_show_only_held_out_labels_and_land_use_first():
    land_use = np.full((40, 60), UNLABELLED, np.uint8)
    land_use[:, 30:32] = 6
    labelled = masked(replace(scene(), land_use=land_use, held_out=((8, 20, 16, 16),)), 2)
    ((image, classes, weights),) = list(HeldOutCrops([labelled], CARD, 24))
    assert image.shape == (4, 24, 24)
    assert weights.sum() == 16 * 16
    assert (classes[4:20, 14:16] == 6).all()
    np.testing.assert_array_equal(classes[4:20, 4:14], labelled.labels[8:24, 20:30])


def test_held_out_crops_are_few_and_from_everywhere():
    labelled = masked(replace(scene(), held_out=fold_blocks((40, 60), 4, 1, 4)), 0)
    crops = HeldOutCrops([labelled], CARD, 8, limit=5)
    assert 3 <= len(crops) <= 5
    assert crops.places[-1][1][0] > 25
