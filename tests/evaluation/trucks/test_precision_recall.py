"""Average precision and recall of a list of pairs: worked examples."""

import numpy as np
import pytest

from pipeline.evaluation.trucks.precision_recall import RECALL_LEVELS, precision_recall


def test_by_hand():
    # Of three trucks the best and third-best detection are right: precision 1 up to recall 1/3, then 2/3 up
    # to 2/3, then nothing. At recall 0, 0.01, ..., 1 that is 34 and 33 points of 101.
    curve = precision_recall([0.9, 0.8, 0.7], [[0, 0], [2, 1]], [0.8, 0.8], [False] * 3)
    assert curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert curve.average_precision == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert curve.interpolated.tolist() == pytest.approx([1] * 34 + [2 / 3] * 33 + [0] * 34)


def test_the_published_example_of_padilla():
    """24 detections of 15 objects, "Object-Detection-Metrics" (Padilla, Netto and da Silva, 2020): their
    table of scores, whether right, and AP 24.56 % as an area, 26.84 % at eleven points."""
    scores = "95 95 91 88 84 80 78 74 71 70 67 62 54 48 45 45 44 44 43 38 35 23 18 14"
    right = [0, 2, 9, 11, 12, 13, 22]
    pairs = [[detection, truth] for truth, detection in enumerate(right)]
    curve = precision_recall(np.array(scores.split(), float) / 100, pairs, np.ones(7), [False] * 15)
    assert curve.recall[-1] == pytest.approx(7 / 15)
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    area = (np.diff(curve.recall, prepend=0) * envelope).sum()
    assert 100 * area == pytest.approx(24.56, abs=0.01)  # printed cut off: it is 24.568
    assert round(100 * curve.interpolated[::10].mean(), 2) == 26.84
    assert len(curve.interpolated) == len(RECALL_LEVELS)


def test_without_references_nothing_is_defined():
    curve = precision_recall([0.5], np.zeros((0, 2)), [], [True])
    assert np.isnan(curve.average_precision) and np.isnan(curve.interpolated).all()
    assert curve.precision.tolist() == [0]
