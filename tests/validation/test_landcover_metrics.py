"""Metrics of a land-cover model: what counts, against what, and how sure it is."""

import numpy as np
import pytest
from scipy.special import softmax

from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.models.bundle import Card
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.validation.landcover_metrics import (
    BOOTSTRAP_PX,
    advantage,
    class_reliability,
    class_table,
    confusion,
    fit_temperature,
    mean_and_pooled,
    metrics,
    most_confused,
    recall_by_class,
    same_share,
)

CARD = Card(
    id="two-classes",
    version="1",
    task="segmentation",
    architecture="unet",
    bands=("B02",),
    mean=(0.0,),
    std=(1.0,),
    classes=DYNAMIC_WORLD[:2],
    halo=0,
    stride=1,
)
WATER, TREES = 0, 1


def classes(*rows) -> np.ndarray:
    return np.array(rows, np.uint8)


TRUTH = classes([WATER, TREES, UNLABELLED, TREES], [UNLABELLED] * 4)
FOUND = classes([WATER, WATER, WATER, UNLABELLED], [TREES] * 4)


def test_only_what_has_a_class_on_both_sides_counts():
    got = metrics([(TRUTH, FOUND)], CARD)
    assert (got["pixels"], got["accuracy"]) == (2, 0.5)
    assert got["iou"] == {"water": 0.5, "trees": 0.0}
    assert got["accuracy_95"] == [None, None]  # one block says nothing about others
    assert got["confusions"] == {"trees as water": 0.5}


def test_nothing_to_compare_gives_no_figures():
    nothing = np.full((2, 4), UNLABELLED, np.uint8)
    for pairs in ([(nothing, FOUND)], []):
        got = metrics(pairs, CARD)
        assert (got["pixels"], got["accuracy"], got["iou"]) == (0, None, {})
    assert advantage([(nothing, FOUND, FOUND)]) == (None, None, [None, None])
    assert advantage([]) == (None, None, [None, None])
    assert same_share(nothing, FOUND) is None


def test_tables_by_class():
    result = confusion([(TRUTH, FOUND)], CARD)
    assert class_table(result)["rows"] == [["water", 0.5, 0.5, 1.0, 0.5], ["trees", 0.0, None, 0.0, 0.5]]
    assert recall_by_class([(TRUTH, FOUND)], CARD) == {"water": (1, 1.0), "trees": (1, 0.0)}
    assert most_confused(confusion([(TRUTH, TRUTH)], CARD)) == {}


def test_the_advantage_is_over_another_map_on_the_same_pixels():
    side = 4 * BOOTSTRAP_PX
    truth = np.repeat((np.arange(side) >= side // 2).astype(np.uint8)[None], side, axis=0)
    other = truth.copy()
    other[: side // 2] = WATER  # right except in the quarter in the north-east
    hidden = truth.copy()
    hidden[:10] = UNLABELLED
    accuracy, gained, (low, high) = advantage([(truth, truth, other)])
    assert (accuracy, gained) == (0.75, 0.25)
    assert 0 <= low < 0.25 < high < 0.6
    rows = side - 10
    expected = 1 - (side // 2 - 10) * (side // 2) / (rows * side)
    assert advantage([(truth, hidden, other)])[0] == pytest.approx(expected, abs=5e-4)


def test_places_count_the_same_in_the_mean_and_pixels_the_same_in_the_pool():
    right, wrong = np.zeros((3, 3), np.uint8), np.ones((1, 1), np.uint8)
    pairs = {"large": (right, right), "small": (1 - wrong, wrong)}
    agreement, mean_iou = mean_and_pooled(pairs, CARD, {"L1C": ["large"], "L2A": []})
    assert agreement == {"mean_of_places": 0.5, "all_pixels": 0.9, "L1C": 1.0, "L2A": None}
    assert mean_iou == {"mean_of_places": 0.5, "all_pixels": 0.9, "L1C": 1.0, "L2A": None}


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_is_that_of_the_classes(temperature):
    """Classes drawn from softmax(logits / T) give T back, and no error is left."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (40_000, 4)).astype(np.float32)
    shares = softmax(logits / temperature, axis=1).cumsum(axis=1)
    truth = (rng.random((len(logits), 1)) > shares).sum(axis=1).clip(0, 3).astype(np.uint8)
    fitted = fit_temperature([(logits, truth)])
    assert fitted == pytest.approx(temperature, rel=0.04)
    assert class_reliability(logits, truth, fitted).expected_error < 0.01
    if temperature != 1:
        assert class_reliability(logits, truth, 1.0).expected_error > 0.03


def test_places_count_the_same_for_the_temperature_whatever_their_size():
    sure = np.tile(np.array([[4.0, 0.0]], np.float32), (1000, 1))
    right, mostly = np.zeros(1000, np.uint8), (np.arange(1000) % 3 == 0).astype(np.uint8)
    once = fit_temperature([(sure, right), (sure, mostly)])
    assert fit_temperature([(sure, right), (np.tile(sure, (5, 1)), np.tile(mostly, 5))]) == pytest.approx(
        once, rel=1e-3
    )
    assert fit_temperature([]) == fit_temperature([(sure[:0], right[:0])]) == 1.0


def test_maps_agree_where_both_have_a_class():
    assert same_share(TRUTH, FOUND) == 0.5
    assert same_share(TRUTH, TRUTH) == 1.0
