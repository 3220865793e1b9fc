import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.matching import UNMATCHED, match

# On a 5 m lattice equal distances are common, which is what makes order matter in careless matchers.
places = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), max_size=5).map(
    lambda xy: np.array(xy, float).reshape(-1, 2) * 5
)


def best_by_trying_all(predicted, reference, ignore, radius):
    """(firm matches, ignored matches, -sum of distances) of the best of all assignments."""

    def best(p, free):
        if p == len(predicted):
            return 0, 0, 0.0
        options = [best(p + 1, free)]
        for r in free:
            apart = np.hypot(*(predicted[p] - reference[r]))
            if apart <= radius:
                firm, soft, total = best(p + 1, free - {r})
                options.append((firm + (not ignore[r]), soft + int(ignore[r]), total - apart))
        return max(options)

    return best(0, frozenset(range(len(reference))))


def summary(matching):
    return (
        len(matching.true_positives),
        int(matching.dropped.sum()),
        -float(np.nansum(matching.distance_m)),
    )


def test_a_hit_a_false_alarm_and_a_miss():
    matching = match([[0, 0], [500, 0]], [[3, 4], [900, 0]], [False, False], 20)
    assert matching.true_positives.tolist() == [0]
    assert matching.false_positives.tolist() == [1]
    assert matching.missed.tolist() == [1]
    assert matching.distance_m[0] == 5


def test_optimal_where_greedy_loses_a_match():
    # Greedy takes (0, 12)-(0, 15), the nearest pair, and leaves (0, 30) alone: one match less.
    matching = match([[0, 12], [0, 30]], [[0, 15], [0, -5]], [False, False], 20)
    assert matching.reference_of.tolist() == [1, 0]


def test_a_prediction_on_an_uncertain_reference_counts_neither_way():
    matching = match([[0, 0]], [[1, 0]], [True], 20)
    assert matching.dropped.tolist() == [True]
    assert not len(matching.true_positives) and not len(matching.false_positives) and not len(matching.missed)


def test_a_firm_reference_is_preferred_to_a_nearer_uncertain_one():
    matching = match([[0, 0]], [[1, 0], [19, 0]], [True, False], 20)
    assert matching.reference_of.tolist() == [1]


def test_the_radius_itself_is_within_reach_and_a_perfect_hit_is_a_hit():
    assert match([[0, 0]], [[20, 0]], [False], 20).reference_of.tolist() == [0]
    assert match([[0, 0]], [[20.01, 0]], [False], 20).reference_of.tolist() == [UNMATCHED]
    assert match([[7, 7]], [[7, 7]], [False], 20).distance_m.tolist() == [0]


def test_nothing_to_match():
    assert match(np.zeros((0, 2)), [[0, 0]], [False], 20).missed.tolist() == [0]
    assert match([[0, 0]], np.zeros((0, 2)), [], 20).false_positives.tolist() == [0]


def test_a_radius_must_be_positive():
    with pytest.raises(ValueError, match="Received: 0"):
        match([[0, 0]], [[0, 0]], [False], 0)


@settings(deadline=None, max_examples=150)
@given(places, places, st.data())
def test_equals_trying_all_assignments(predicted, reference, data):
    ignore = np.array([data.draw(st.booleans()) for _ in reference], bool)
    matching = match(predicted, reference, ignore, 20)
    assert summary(matching) == pytest.approx(best_by_trying_all(predicted, reference, ignore, 20))


@settings(deadline=None, max_examples=100)
@given(places, places, st.randoms(use_true_random=False))
def test_the_order_of_the_boxes_does_not_matter(predicted, reference, random):
    ignore = np.arange(len(reference)) % 3 == 0
    p, r = list(range(len(predicted))), list(range(len(reference)))
    random.shuffle(p)
    random.shuffle(r)
    straight = match(predicted, reference, ignore, 20)
    shuffled = match(predicted[p], reference[r], ignore[r], 20)

    def pairs(xy, other, matching):
        return sorted((*xy[i], *other[j]) for i, j in enumerate(matching.reference_of) if j != UNMATCHED)

    assert pairs(predicted, reference, straight) == pairs(predicted[p], reference[r], shuffled)


def test_a_hundred_thousand_boxes():
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 300_000, (100_000, 2))
    found = truth + rng.normal(0, 3, truth.shape)
    assert len(match(found, truth, np.zeros(len(truth), bool), 20).true_positives) > 99_900
