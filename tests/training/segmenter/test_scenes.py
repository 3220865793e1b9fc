"""Labelled scenes: what is held out stays out, labels follow their pixels, crops are repeatable."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.models.bundle import Card
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.training.segmenter.scenes import (
    UNLABELLED,
    VALUES,
    Crop,
    Crops,
    HeldOutCrops,
    LabelledScene,
    _under_clouds,
    augment,
    cut,
    held_out_blocks,
    hold_out,
    read_patches,
    read_scene,
    simulated_scene,
    without_land_use,
)

BANDS = ("B02", "B03", "B04", "B08")
CARD = Card(
    id="test",
    version="1",
    task="segmentation",
    architecture="unet",
    bands=BANDS,
    mean=(0.0,) * 4,
    std=(1.0,) * 4,
    classes=DYNAMIC_WORLD,
    halo=0,
    stride=1,
)


def scene(height: int = 40, width: int = 60) -> LabelledScene:
    """A scene whose classes can be read off its pixels: reflectance 0.1 for class 0, 0.2 for class 1..."""
    classes = (np.arange(height * width).reshape(height, width) // 7 % 9).astype(np.uint8)
    return LabelledScene(
        name="test",
        kind="test",
        reflectance=np.repeat((classes[None] + 1) * np.float32(0.1), 4, axis=0),
        valid=np.ones((height, width), bool),
        classes=classes,
        weights=np.ones((height, width), np.float32),
        pseudo=classes,
    )


def test_every_fourth_block_is_held_out():
    assert held_out_blocks((20, 60), 10) == ((0, 10, 10, 10), (0, 50, 10, 10), (10, 30, 10, 10))


def test_blocks_at_the_border_are_cut_to_the_scene():
    assert held_out_blocks((5, 18), 10) == ((0, 10, 5, 8),)


def test_held_out_blocks_and_their_guard_bands_have_no_weight():
    held = hold_out(scene(), ((10, 20, 10, 10),), guard_px=3)
    assert held.held_out_mask.sum() == 100
    assert (held.weights == 0).sum() == 16 * 16
    assert not held.weights[7:23, 17:33].any()


def test_no_label_of_a_held_out_block_is_ever_in_a_crop():
    poisoned = hold_out(scene(), ((0, 0, 40, 30),), guard_px=4)
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


TEN = (*BANDS, "B11", "B12")
OPTIONAL = CARD.model_copy(
    update={"bands": TEN, "mean": (0.0,) * 6, "std": (1.0,) * 6, "optional_bands": ("B11", "B12")}
)


def test_some_crops_lack_the_optional_bands_and_never_others():
    six = replace(scene(), reflectance=np.full((6, 40, 60), 0.3, np.float32))
    crops = Crops([six], [1], OPTIONAL, 16, seed=0, band_dropout=0.4)
    images = [crops[i][0] for i in range(100)]
    lacking = [bool((image[4:] == 0).all()) for image in images]
    assert 25 < sum(lacking) < 55
    assert all((image[:4] != 0).any() for image in images)
    for image, gone in zip(images, lacking, strict=True):
        assert gone or ((image[5] == 0) == (image[0] == 0)).all()


def test_folds_share_a_scene_between_them():
    seen = np.zeros((70, 90), int)
    for fold in range(3):
        seen += replace(scene(70, 90), held_out=held_out_blocks((70, 90), 20, fold, 3)).held_out_mask
    assert (seen == 1).all()


def test_the_place_of_land_use_can_be_left_out():
    land_use = np.full((40, 60), UNLABELLED, np.uint8)
    land_use[10:20, 12:14], land_use[15, 25] = 4, 6
    labelled = replace(scene(), kind="virginia", land_use=land_use, held_out=((0, 40, 40, 20),))
    before = without_land_use(labelled, 2)
    kept = before.weights > 0
    assert not kept[8:22, 10:28].any()
    assert not kept[:, 38:].any()
    assert (kept[:, :10] == (labelled.pseudo[:, :10] != VALUES["snow and ice"])).all()
    assert before.classes is labelled.pseudo


def test_held_out_crops_show_only_held_out_labels_and_land_use_first():
    land_use = np.full((40, 60), UNLABELLED, np.uint8)
    land_use[:, 30:32] = 6
    labelled = hold_out(replace(scene(), land_use=land_use), ((8, 20, 16, 16),), 2)
    ((image, classes, weights),) = list(HeldOutCrops([labelled], CARD, 24))
    assert image.shape == (4, 24, 24)
    assert weights.sum() == 16 * 16
    assert (classes[4:20, 14:16] == 6).all()
    np.testing.assert_array_equal(classes[4:20, 4:14], labelled.pseudo[8:24, 20:30])


def test_held_out_crops_are_few_and_from_everywhere():
    labelled = hold_out(scene(), held_out_blocks((40, 60), 4), 0)
    crops = HeldOutCrops([labelled], CARD, 8, limit=5)
    assert 3 <= len(crops) <= 5
    assert crops.places[-1][1][0] > 25


def test_simulated_scenes_bring_their_truth_and_clouds_are_not_learnt():
    labelled = simulated_scene(96, 5, BANDS)
    assert labelled.reflectance.shape == (4, 96, 96)
    assert set(np.unique(labelled.classes)) <= set(range(9))
    assert (labelled.weights[labelled.pseudo == UNLABELLED] == 0).all()
    assert not simulated_scene(96, 5, BANDS, held_out=True).centres


def test_real_land_use_is_trusted_over_the_pseudo_label(shared_data):
    labelled = read_scene(shared_data / "landcover" / "brandenburg", BANDS, 3.0)
    assert labelled.reflectance.shape == (4, 768, 1536)
    sure = labelled.weights == 3
    assert sure.sum() > 50_000
    assert (labelled.classes[sure] == labelled.land_use[sure]).all()
    assert (labelled.pseudo[sure] != labelled.land_use[sure]).mean() > 0.3
    at_edges = (labelled.land_use != UNLABELLED) & ~sure & (labelled.weights > 0)
    assert (labelled.land_use[at_edges] == labelled.pseudo[at_edges]).all()
    held = hold_out(labelled, held_out_blocks(labelled.shape, 256), 32)
    assert 0.2 < held.held_out_mask.mean() < 0.3
    assert not held.weights[held.held_out_mask].any()


def test_patches_are_put_together_by_their_place(shared_data):
    first, second = read_patches(shared_data / "landcover" / "bigearthnet", (*BANDS, "B11"), guard_px=16)
    assert first.reflectance.shape == (5, 600, 240)
    assert second.shape == (360, 360)
    assert first.valid.sum() == 6 * 120 * 120
    assert [len(one.held_out) for one in (first, second)] == [1, 2]
    assert not first.weights[first.classes == VALUES["bare"]].any()
    # Water is dark in the near infrared, so the labels lie where the pixels are.
    water = (first.pseudo == VALUES["water"]) & first.valid
    assert np.median(first.reflectance[3][water]) < 0.1
    assert (
        np.median(first.reflectance[4][water]) < 0.1 < np.median(first.reflectance[4][first.valid & ~water])
    )
