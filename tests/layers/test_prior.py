"""The share of trucks in a scene, from scores that were calibrated where it was another."""

import numpy as np
import pytest
from scipy.special import expit, logit

from pipeline.layers.prior import WEIGHT, with_own_share


def drawn(rng, size, share, calibrated=0.6, apart=2.0):
    """Probabilities of detections where a share `calibrated` would be trucks, those with `share`, and truth.

    Trucks and others have normal evidence of means +-apart/2 and variance 1: its log likelihood ratio is
    linear.
    """
    trucks = rng.random(size) < share
    evidence = rng.normal(np.where(trucks, apart / 2, -apart / 2))
    ratio = apart * evidence
    return expit(ratio + logit(calibrated)), expit(ratio + logit(share)), trucks


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_share_that_shifted_is_recovered(share):
    chance, true_chance, _ = drawn(np.random.default_rng(5), 4000, share)
    given, error = with_own_share(chance, 0.6)
    assert given.mean() == pytest.approx(share, abs=0.03)
    np.testing.assert_allclose(given, true_chance, atol=0.05)
    assert error < 0.2


def test_the_error_is_that_of_the_log_odds():
    rng = np.random.default_rng(8)
    off = []
    for _ in range(400):
        chance, true_chance, _ = drawn(rng, 80, 0.6)
        given, error = with_own_share(chance, 0.6)
        off.append((logit(given[0]) - logit(true_chance[0])) / error)
    assert np.mean(off) == pytest.approx(0, abs=0.2)
    assert 0.85 < np.std(off) < 1.1


def test_a_detection_that_is_alone_keeps_its_chance():
    for chance in (0.1, 0.6, 0.95):
        given, _ = with_own_share(np.array([chance]), 0.6)
        assert given[0] == pytest.approx(chance, abs=0.005)


def test_nothing_changes_where_the_share_is_that_of_the_calibration():
    chance = np.tile([0.9, 0.7, 0.5, 0.3], 500)
    given, _ = with_own_share(chance, 0.6)
    np.testing.assert_allclose(given, chance, atol=0.002)


def test_a_detection_without_evidence_has_the_share_of_the_certain_ones():
    """Of n certain ones k are trucks: the share has the distribution Beta(k + w s, n - k + w (1 - s))."""
    n, k, w = 40, 30, WEIGHT
    given, error = with_own_share(np.repeat([1.0, 0.0, 0.6], [k, n - k, 1]), 0.6)
    np.testing.assert_allclose(given[:-1], np.repeat([1, 0], [k, n - k]))
    mean = (k + 0.6 * w) / (n + w)
    assert given[-1] == pytest.approx(mean, abs=1e-4)
    deviation = (mean * (1 - mean) / (n + w + 1)) ** 0.5
    assert error == pytest.approx(deviation / (mean * (1 - mean)), rel=1e-3)


def test_certain_detections_stay_and_no_detection_is_none():
    for chance in ([], [1.0, 1.0, 0.0]):
        given, error = with_own_share(np.array(chance), 0.6)
        np.testing.assert_allclose(given, chance)
        assert error == pytest.approx(0, abs=1e-3)


def test_a_scene_of_light_vehicles_has_hardly_a_truck():
    chance, _, trucks = drawn(np.random.default_rng(3), 60, 0.0)
    given, _ = with_own_share(chance, 0.6)
    assert trucks.sum() == 0
    assert given.sum() < 0.2 * chance.sum()
