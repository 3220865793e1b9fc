"""Suppression of overlapping boxes: what torchvision keeps, in a fraction of its time."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import nms

from pipeline.models.boxes import suppress, suppressed


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 300),
    st.sampled_from([0.3, 0.5, 0.7]),
    st.floats(2, 60),
    st.floats(0.05, 2.5),
    st.integers(0, 2**31),
)
def test_it_keeps_what_torchvision_keeps(count, threshold, extent, spread, seed):
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, extent, (count, 2))
    sides = 4 * np.exp(rng.normal(0, spread, (count, 2)))
    boxes = torch.from_numpy(np.hstack([centres - sides / 2, centres + sides / 2])).float()
    scores = torch.from_numpy(rng.integers(0, 50, count) / 50).float()  # many of them equal
    kept = suppress(boxes, scores, threshold)
    expected = nms(boxes, scores, threshold)
    assert sorted(kept.tolist()) == sorted(expected.tolist())
    assert (scores[kept].diff() <= 0).all()


def test_a_box_that_went_takes_none_with_it():
    rank = np.array([0, 1, 2])
    pairs = np.array([[0, 1], [1, 2]])
    assert suppressed(rank, pairs).tolist() == [False, True, False]


def test_without_boxes_there_is_nothing_to_keep():
    assert len(suppress(torch.zeros(0, 4), torch.zeros(0), 0.5)) == 0


def test_boxes_without_an_area_do_no_harm():
    boxes = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 4.0, 4.0]])
    assert suppress(boxes, torch.tensor([0.5, 0.9]), 0.5).tolist() == [1, 0]
