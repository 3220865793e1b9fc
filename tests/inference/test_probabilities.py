"""Logits become probabilities in bytes, and their largest stays the class."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from pipeline.inference.probabilities import class_probabilities, likeliest_classes


def steps_of(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    tensor = torch.from_numpy(logits.astype(np.float32))
    return class_probabilities(tensor, likeliest_classes(tensor), temperature)


def test_a_probability_is_200_steps():
    logits = np.log([[[0.5, 0.3, 0.2], [0.005, 0.005, 0.99]]])
    assert steps_of(logits)[:, 0].T.tolist() == [[100, 60, 40], [1, 1, 198]]


def test_the_temperature_divides_logits():
    assert steps_of(np.log([[[0.9, 0.1]]]), temperature=2.0)[:, 0, 0].tolist() == [150, 50]  # odds 9 to 3


def test_the_likeliest_class_is_above_those_that_are_as_likely_after_rounding():
    logits = np.array([[[1.0, 1.0, 1.00001, 1.0]]])
    assert steps_of(logits)[:, 0, 0].tolist() == [50, 50, 51, 50]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.booleans(), st.integers(0, 2**32 - 1))
def test_the_likeliest_class_is_the_first_of_the_largest_in_any_order_of_memory(classes, rows, planes, seed):
    logits = torch.from_numpy(
        np.random.default_rng(seed).integers(0, 3, (rows, 5, classes)).astype(np.float32)
    )
    if planes:
        logits = logits.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    np.testing.assert_array_equal(likeliest_classes(logits).numpy(), logits.numpy().argmax(-1))


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 130),
    st.integers(1, 5),
    st.sampled_from([0.01, 1.0, 5.0]),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.integers(0, 2**32 - 1),
)
def test_bytes_are_those_of_scipys_softmax(classes, rows, cols, spread, temperature, seed):
    logits = np.random.default_rng(seed).normal(0, spread, (rows, cols, classes)).astype(np.float32)
    steps = steps_of(logits, temperature)
    expected = 200 * softmax(logits.astype(np.float64) / temperature, axis=-1).transpose(2, 0, 1)
    assert (steps.shape, steps.dtype) == ((classes, rows, cols), np.uint8)
    np.testing.assert_array_equal(steps.argmax(0), logits.argmax(-1))
    error = np.abs(steps - expected)
    assert error.max() < 1.501
    assert (error[np.arange(classes)[:, None, None] != logits.argmax(-1)] < 0.501).all()
