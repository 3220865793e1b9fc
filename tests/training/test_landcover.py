"""Labelled scenes: what is held out stays out, labels follow their pixels, crops are repeatable."""

import numpy as np
import pytest

from pipeline.models.bundle import Card
from pipeline.models.segmenter import DYNAMIC_WORLD
from pipeline.training.landcover import (
    UNLABELLED,
    VALUES,
    Crop,
    Crops,
    EpochSampler,
    LabelledScene,
    augment,
    cut,
    held_out_blocks,
    hold_out,
    read_patches,
    read_scene,
    simulated_scene,
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
    bright = crop.reflectance[3] > crop.reflectance[3].mean()
    assert (bright == crop.classes).mean() > 0.85
    assert crop.reflectance.min() > 0


def test_crops_are_the_same_for_a_seed_and_number():
    first, again, other = (Crops([scene()], [1], CARD, 32, seed=seed)[5] for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any()


def test_epochs_go_on_where_the_last_one_ended():
    sampler = EpochSampler(3)
    assert list(sampler) == [0, 1, 2]
    sampler.set_epoch(2)
    assert list(sampler) == [6, 7, 8]


def test_simulated_scenes_bring_their_truth_and_clouds_are_not_learnt():
    labelled = simulated_scene(96, 5, BANDS)
    assert labelled.reflectance.shape == (4, 96, 96)
    assert set(np.unique(labelled.classes)) <= set(range(9))
    assert (labelled.weights[labelled.pseudo == UNLABELLED] == 0).all()
    assert not simulated_scene(96, 5, BANDS, held_out=True).centres


def test_real_land_use_is_trusted_over_the_pseudo_label(shared_data):
    labelled = read_scene(shared_data / "landcover" / "brandenburg", BANDS, 3.0, 256, 32)
    assert labelled.reflectance.shape == (4, 768, 1536)
    sure = labelled.weights == 3
    assert sure.sum() > 50_000
    assert (labelled.classes[sure] == labelled.land_use[sure]).all()
    assert (labelled.pseudo[sure] != labelled.land_use[sure]).mean() > 0.3
    at_edges = (labelled.land_use != UNLABELLED) & ~sure & (labelled.weights > 0)
    assert (labelled.land_use[at_edges] == labelled.pseudo[at_edges]).all()
    assert 0.2 < labelled.held_out_mask.mean() < 0.3
    assert not labelled.weights[labelled.held_out_mask].any()


def test_patches_are_put_together_by_their_place(shared_data):
    first, second = read_patches(shared_data / "landcover" / "bigearthnet", guard_px=16)
    assert first.shape == (600, 240)
    assert second.shape == (360, 360)
    assert first.valid.sum() == 6 * 120 * 120
    assert [len(one.held_out) for one in (first, second)] == [1, 2]
    assert not first.weights[first.classes == VALUES["bare"]].any()
    # Water is dark in the near infrared, so the labels lie where the pixels are.
    water = (first.pseudo == VALUES["water"]) & first.valid
    assert np.median(first.reflectance[3][water]) < 0.1
