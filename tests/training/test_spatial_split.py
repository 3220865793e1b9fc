"""Blocks are held out completely, with their share and without losing a class."""

import numpy as np
import pytest

from pipeline.training.spatial_split import block_mask, fold_blocks, hold_out


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_fold_is_every_fourth_block():
    assert fold_blocks((20, 60), 10, 1, 4) == ((0, 10, 10, 10), (0, 50, 10, 10), (10, 30, 10, 10))


def test_folds_cover_a_scene_once():
    seen = sum(block_mask((70, 90), fold_blocks((70, 90), 20, fold, 3)).astype(int) for fold in range(3))
    assert (seen == 1).all()


def test_a_mask_has_the_guard_band_and_is_clipped():
    mask = block_mask((40, 60), [(10, 20, 10, 10)], guard_px=3)
    assert mask.sum() == 16 * 16
    assert mask[7:23, 17:33].all()
    assert block_mask((4, 4), [(0, 0, 2, 2)], guard_px=1).sum() == 9


def test_a_mask_of_a_window_takes_blocks_of_the_scene():
    assert block_mask((4, 4), [(10, 10, 2, 2), (0, 0, 2, 2)], origin=(9, 10)).nonzero()[0].tolist() == [
        1,
        1,
        2,
        2,
    ]


def test_equal_blocks_are_held_out_to_their_share():
    held_out = hold_out(np.ones((16, 1), int), 0.25, rng())
    assert held_out.sum() == 4
    assert (held_out == hold_out(np.ones((16, 1), int), 0.25, rng())).all()
    assert (held_out != hold_out(np.ones((16, 1), int), 0.25, rng(1))).any()


@pytest.mark.parametrize("seed", range(8))
def test_no_class_loses_its_last_block(seed):
    counts = np.array([[5, 0, 0], [5, 1, 0], [5, 0, 9], [5, 0, 0], [0, 1, 0]])
    learned = counts[~hold_out(counts, 0.5, rng(seed))]
    assert (learned.sum(axis=0) > 0).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_block_that_exceeds_the_share_is_skipped(seed):
    held_out = hold_out(np.array([[100], [1], [1], [1]]), 0.02, rng(seed))
    assert not held_out[0]
    assert held_out.any()


def test_of_large_blocks_only_the_smallest_is_held_out():
    assert hold_out(np.array([[9], [7], [8]]), 0.1, rng()).tolist() == [False, True, False]


def test_a_single_block_and_a_share_of_nothing_hold_out_nothing():
    assert not hold_out(np.array([[9]]), 0.25, rng()).any()
    assert not hold_out(np.ones((4, 1), int), 0, rng()).any()


def test_the_same_share_of_the_blocks_without_objects_is_held_out():
    counts = np.array([[1]] * 4 + [[0]] * 8)
    assert hold_out(counts, 0.25, rng())[4:].sum() == 2
