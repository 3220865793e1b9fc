"""Intervals: they cover the truth as often as they claim, and know what they can't know."""

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.bootstrap import block_bootstrap
from pipeline.evaluation.trucks.blocks import precision_recall_f1


def share(sums):
    return sums[..., 0] / sums.sum(axis=-1)


def test_the_interval_is_that_of_scipy():
    rng = np.random.default_rng(3)
    counts = rng.poisson(4, (40, 2)) + 1
    mine = block_bootstrap(counts, share, resamples=20_000)
    theirs = stats.bootstrap(
        (counts[:, 0], counts[:, 1]),
        lambda hits, others, axis=-1: hits.sum(axis) / (hits + others).sum(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(4),
    ).confidence_interval
    assert mine == pytest.approx([theirs.low, theirs.high], abs=0.004)


def test_it_covers_the_truth_about_as_often_as_it_claims():
    """Blocks differ from each other (0.6 to 0.9): drawing single trucks again would claim too much."""
    rng, covered, total = np.random.default_rng(0), 0, 150
    for _ in range(total):
        hits = rng.binomial(30, rng.uniform(0.6, 0.9, 40))
        low, high = block_bootstrap(np.stack([hits, 30 - hits], axis=1), share, resamples=400)
        covered += low <= 0.75 <= high
    assert 0.88 <= covered / total <= 0.99


def test_the_same_counts_give_the_same_interval():
    counts = np.arange(12).reshape(6, 2) + 1
    np.testing.assert_array_equal(block_bootstrap(counts, share), block_bootstrap(counts, share))


@pytest.mark.parametrize("counts", [np.zeros((0, 3)), np.ones((1, 3))])
def test_of_one_block_nothing_can_be_said(counts):
    assert np.isnan(block_bootstrap(counts, precision_recall_f1)).all()
    assert block_bootstrap(counts, precision_recall_f1).shape == (2, 3)


def test_an_undefined_figure_has_no_interval():
    low, high = block_bootstrap([[0, 2, 0], [0, 3, 0], [0, 1, 0]], precision_recall_f1)
    assert low.tolist()[::2] == pytest.approx([0, 0])
    assert np.isnan([low[1], high[1]]).all()  # no references: no recall
