import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.trucks import matching as matching_module
from pipeline.evaluation.trucks.matching import (
    UNMATCHED,
    match,
    match_iou,
    match_nwd,
    normalised_wasserstein,
)

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
                certain, soft, total = best(p + 1, free - {r})
                options.append((certain + (not ignore[r]), soft + int(ignore[r]), total - apart))
        return max(options)

    return best(0, frozenset(range(len(reference))))


def summary(matching):
    return (
        len(matching.true_positives),
        int(matching.ignored_predictions.sum()),
        -float(np.nansum(matching.distance_m)),
    )


def test_a_hit_a_false_alarm_and_a_miss():
    matching = match([[0, 0], [500, 0]], [[3, 4], [900, 0]], [False, False], 20)
    assert matching.true_positives.tolist() == [0]
    assert matching.false_positives.tolist() == [1]
    assert matching.false_negatives.tolist() == [1]
    assert matching.distance_m[0] == 5


def test_optimal_where_greedy_loses_a_match():
    # Greedy takes (0, 12)-(0, 15), the nearest pair, and leaves (0, 30) alone: one match less.
    matching = match([[0, 12], [0, 30]], [[0, 15], [0, -5]], [False, False], 20)
    assert matching.reference_of.tolist() == [1, 0]


def test_a_prediction_on_an_uncertain_reference_counts_neither_way():
    matching = match([[0, 0]], [[1, 0]], [True], 20)
    assert matching.ignored_predictions.tolist() == [True]
    assert (
        not len(matching.true_positives)
        and not len(matching.false_positives)
        and not len(matching.false_negatives)
    )


def test_a_firm_reference_is_preferred_to_a_nearer_uncertain_one():
    matching = match([[0, 0]], [[1, 0], [19, 0]], [True, False], 20)
    assert matching.reference_of.tolist() == [1]


def test_the_radius_itself_is_within_reach_and_a_perfect_hit_is_a_hit():
    assert match([[0, 0]], [[20, 0]], [False], 20).reference_of.tolist() == [0]
    assert match([[0, 0]], [[20.01, 0]], [False], 20).reference_of.tolist() == [UNMATCHED]
    assert match([[7, 7]], [[7, 7]], [False], 20).distance_m.tolist() == [0]


def test_nothing_to_match():
    assert match(np.zeros((0, 2)), [[0, 0]], [False], 20).false_negatives.tolist() == [0]
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


@settings(deadline=None, max_examples=60)
@given(places, places, st.data())
def test_large_clusters_are_solved_as_small_ones_are(predicted, reference, data):
    ignore = np.array([data.draw(st.booleans()) for _ in reference], bool)
    small = match(predicted, reference, ignore, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching_module, "_DENSE", 0)
        assert summary(match(predicted, reference, ignore, 20)) == pytest.approx(summary(small))


def test_a_queue_of_a_thousand_is_one_cluster():
    queue = np.c_[np.arange(1000) * 15.0, np.zeros(1000)]
    found = match(queue[:-1] + np.array([7, 0]), queue, np.zeros(1000, bool), 20)
    assert len(found.true_positives) == 999
    assert found.distance_m.tolist() == [7] * 999


def test_only_equal_classes_match():
    two = [[0, 0], [0, 0]]
    matching = match(two, two, [False] * 2, 20, ["monday", "tuesday"], ["tuesday", "wednesday"])
    assert matching.reference_of.tolist() == [UNMATCHED, 0]


def square(x, y, side=30.0):
    return (x, y, x + side, y + side)


def test_overlap_by_hand():
    """30 m boxes that are 10 m apart overlap by 600 of 1200 m2."""
    predicted, reference = shapely.box(*square(10, 0)), shapely.box(*square(0, 0))
    assert match_iou([predicted], [reference], [False], 0.5).reference_of.tolist() == [0]
    matching = match_iou([predicted], [reference], [False], 0.51)
    assert matching.reference_of.tolist() == [UNMATCHED]
    assert (matching.measure, matching.limit) == ("iou", 0.51)
    assert np.isnan(matching.radius_m)


def test_overlap_is_assigned_optimally():
    # The first fits the first reference best, but only so are both found.
    reference = shapely.box(*np.transpose([square(0, 0), square(14, 0)]))
    predicted = shapely.box(*np.transpose([square(5, 0), square(-10, 0)]))
    assert match_iou(predicted, reference, [False] * 2, 0.25).reference_of.tolist() == [1, 0]


def test_boxes_that_only_touch_do_not_overlap():
    matching = match_iou([shapely.box(0, 0, 9, 9)], [shapely.box(9, 0, 18, 9)], [False], 1e-9)
    assert matching.reference_of.tolist() == [UNMATCHED]


def test_wasserstein_distance_by_hand():
    """Centres 3 and 4 m apart, the sides equal: 5 m; the same centre, sides 12 m longer: 6 * sqrt(2) m."""
    a, moved, grown = square(0, 0), square(3, 4), square(-6, -6, 42)
    apart = normalised_wasserstein([a, a, a], [a, moved, grown], scale_m=10)
    np.testing.assert_allclose(apart, [1, np.exp(-0.5), np.exp(-0.6 * np.sqrt(2))])


def test_the_limit_of_the_wasserstein_distance_is_a_match():
    a, moved = [square(0, 0)], [square(30, 40)]
    assert match_nwd(a, moved, [False], np.exp(-5), scale_m=10).distance_m.tolist() == [50]
    assert match_nwd(a, moved, [False], np.exp(-4.9), scale_m=10).reference_of.tolist() == [UNMATCHED]
    assert match_nwd(a, a, [False], 1.0).reference_of.tolist() == [0]


@pytest.mark.parametrize("at_least", [0, 1.1])
def test_an_overlap_is_a_share(at_least):
    with pytest.raises(ValueError, match=f"Received: {at_least}"):
        match_iou([], [], [], at_least)
    with pytest.raises(ValueError, match=f"Received: {at_least}"):
        match_nwd([], [], [], at_least)


@settings(deadline=None, max_examples=60)
@given(places, places, st.data())
def test_overlaps_equal_trying_all_assignments(predicted, reference, data):
    ignore = np.array([data.draw(st.booleans()) for _ in reference], bool)
    p, r = (shapely.box(*np.c_[xy - 12, xy + 12].T) for xy in (predicted, reference))
    matching = match_iou(p, r, ignore, 0.25)

    def iou(i, j):
        return shapely.area(shapely.intersection(p[i], r[j])) / shapely.area(shapely.union(p[i], r[j]))

    def best(i, free):
        if i == len(p):
            return 0, 0, 0.0
        options = [best(i + 1, free)]
        for j in free:
            if iou(i, j) >= 0.25:
                certain, soft, total = best(i + 1, free - {j})
                options.append((certain + (not ignore[j]), soft + int(ignore[j]), total + iou(i, j)))
        return max(options)

    pairs = [(i, j) for i, j in enumerate(matching.reference_of) if j != UNMATCHED]
    mine = (
        len(matching.true_positives),
        int(matching.ignored_predictions.sum()),
        sum(iou(i, j) for i, j in pairs),
    )
    assert mine == pytest.approx(best(0, frozenset(range(len(r)))))


@pytest.mark.parametrize("shape", [(900, 300), (300, 900)])
def test_a_crowd_is_matched_as_without_the_choice_of_near_pairs(shape, monkeypatch):
    random = np.random.default_rng(2)
    predicted, reference = (random.random((size, 2)) * 12 for size in shape)
    ignore = random.random(shape[1]) < 0.3
    found = matching_module.match(predicted, reference, ignore, 20)
    monkeypatch.setattr(matching_module, "_MANY_PAIRS", 10**9)
    expected = matching_module.match(predicted, reference, ignore, 20)
    assert (found.reference_of != -1).sum() == (expected.reference_of != -1).sum() == 300
    assert len(found.true_positives) == len(expected.true_positives)
    assert np.nansum(found.distance_m) == pytest.approx(np.nansum(expected.distance_m))


def test_overlaps_of_many_rectangles_are_those_of_geos(monkeypatch):
    random = np.random.default_rng(3)
    x, y = random.random((2, 600)) * 40
    boxes = shapely.box(x, y, x + 30, y + 20)
    turned = np.array([shapely.affinity.rotate(each, 10) for each in boxes[:50]], dtype=object)
    p, r = np.concatenate([boxes[:300], turned]), boxes[300:]
    expected = matching_module.iou_pairs(p, r)
    monkeypatch.setattr(matching_module, "_MANY_PAIRS", 100)
    found = matching_module.iou_pairs(p, r)
    assert len(found.fit) == len(expected.fit) > 50_000
    assert np.allclose(found.fit, expected.fit, rtol=0, atol=1e-12)
