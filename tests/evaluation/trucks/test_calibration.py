"""Calibration: a score of 0.8 means 80 %."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from torchmetrics.functional.classification import binary_calibration_error

from pipeline.evaluation.trucks.calibration import fit_calibration, reliability
from pipeline.models.bundle import Calibration


def drawn(count: int, temperature: float, offset: float, seed: int = 0):
    """Scores of an overconfident network, and whether each detection is right."""
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.5, 0.5, count)
    return expit((logit(probability) - offset) * temperature), rng.uniform(size=count) < probability


def test_a_case_by_hand():
    table = reliability([0.05, 0.15, 0.15, 0.95, 1.0], [0, 0, 1, 1, 1])
    np.testing.assert_allclose(table.score, [0.05, 0.15, 0.975])
    np.testing.assert_allclose(table.right, [0, 0.5, 1])
    assert table.count.tolist() == [1, 2, 2]
    assert table.expected_error == pytest.approx((0.05 + 2 * 0.35 + 2 * 0.025) / 5)


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=60))
def test_the_expected_error_is_that_of_torchmetrics(pairs):
    scores, correct = zip(*pairs, strict=True)
    # Both agree but for scores on the edge of a bin, which theirs puts into the lower one.
    scores = np.float32(scores) + np.where(np.isclose(np.float32(scores) * 10 % 1, 0, atol=1e-4), 1e-3, 0)
    theirs = binary_calibration_error(
        torch.tensor(scores, dtype=torch.float32), torch.tensor(correct).int(), n_bins=10
    )
    assert reliability(scores, correct).expected_error == pytest.approx(float(theirs), abs=1e-5)


def test_without_detections_there_is_no_error_and_nothing_to_change():
    assert np.isnan(reliability([], []).expected_error)
    assert fit_calibration([], []) == Calibration()


def test_the_fit_finds_what_was_done_to_the_scores():
    scores, correct = drawn(40_000, temperature=2.5, offset=-1.0)
    found = fit_calibration(scores, correct)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert found.offset == pytest.approx(-1.0, abs=0.06)


def test_calibrated_scores_mean_what_they_say_on_other_detections():
    found = fit_calibration(*drawn(4000, 2.5, -1.0, seed=1))
    scores, correct = drawn(4000, 2.5, -1.0, seed=2)
    before = reliability(scores, correct).expected_error
    after = reliability(found.probability(scores), correct).expected_error
    assert before > 0.1
    assert after < 0.03


@pytest.mark.parametrize("correct", [[0, 0, 0, 1, 1, 1], [1] * 6, [0] * 6])
def test_scores_that_part_right_from_wrong_stay_finite(correct):
    found = fit_calibration([0.0, 0.2, 0.3, 0.7, 0.9, 1.0], correct)
    assert 0.05 <= found.temperature <= 20
    assert np.isfinite(found.offset)


@given(st.floats(0.05, 20), st.floats(-9, 9), st.lists(st.floats(0, 1), min_size=2, unique=True))
def test_calibration_keeps_the_order(temperature, offset, scores):
    ordered = Calibration(temperature=temperature, offset=offset).probability(sorted(scores))
    assert (np.diff(ordered) >= 0).all()
    assert ((ordered >= 0) & (ordered <= 1)).all()


def test_calibration_by_hand():
    assert Calibration().probability([0.0, 0.25, 1.0]).tolist() == pytest.approx([0, 0.25, 1])
    odds = 9.0  # of 0.9; its square root is 3
    assert Calibration(temperature=2.0).probability(odds / (1 + odds)) == pytest.approx(0.75)
    assert Calibration(offset=float(np.log(2))).probability(0.5) == pytest.approx(2 / 3)


def test_the_fit_finds_what_motion_says():
    rng = np.random.default_rng(5)
    evidence = rng.uniform(0, 8, 20_000)
    score = rng.uniform(0.05, 0.95, 20_000)
    true = Calibration(temperature=1.2, offset=-2.0, motion=0.5)
    right = rng.uniform(size=20_000) < true.probability(score, evidence)
    found = fit_calibration(score, right, evidence)
    assert found.motion == pytest.approx(0.5, abs=0.03)
    assert found.offset == pytest.approx(-2.0, abs=0.1)
    assert found.temperature == pytest.approx(1.2, abs=0.06)


def test_the_fit_finds_what_long_shadows_do():
    rng = np.random.default_rng(6)
    shadow, score = rng.choice([0.0, 1.0, 3.0], 20_000), rng.uniform(0.05, 0.95, 20_000)
    log_odds = np.log(score / (1 - score)) - 1 + 0.3 * shadow
    found = fit_calibration(score, rng.uniform(size=20_000) < 1 / (1 + np.exp(-log_odds)), shadow=shadow)
    assert found.shadow == pytest.approx(0.3, abs=0.03)
    assert found.offset == pytest.approx(-1.0, abs=0.06)
