from itertools import permutations

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.features import LeftOut
from pipeline.evaluation.trucks.cases import truck_cases
from pipeline.evaluation.trucks.matching import UNMATCHED, match
from pipeline.evaluation.trucks.metrics import truck_metrics, truck_warnings
from pipeline.evaluation.trucks.scores import evaluate_trucks
from pipeline.evaluation.trucks.vehicles import match_light, ranked, ranked_alike, split_light
from tests.evaluation.trucks.test_scores import boxes, labels

PLACES = ((0, 0), (1000, 0), (2000, 0), (3000, 0))
ON_LATTICE = st.lists(
    st.tuples(*[st.integers(0, 8).map(lambda n: 6 * n)] * 2).map(tuple), max_size=4, unique=True
)


def traffic(confidence=("high", "high", "low", "ignore"), vehicle=("heavy", "light", "light", "light")):
    return labels(*PLACES, confidence=list(confidence)).assign(vehicle=list(vehicle))


def test_labels_of_light_vehicles_are_apart_where_only_heavy_ones_count():
    heavy, light = split_light(traffic(), "heavy")
    assert (heavy["id"].tolist(), light["id"].tolist()) == (["r0", "r3"], ["r1", "r2"])
    moving, none = split_light(traffic(), "moving")
    assert (moving["id"].tolist(), len(none)) == (["r0", "r1", "r2", "r3"], 0)


@pytest.mark.parametrize("counted", ["heavy", "moving"])
def test_labels_without_the_column_are_heavy(counted):
    found, light = split_light(labels(*PLACES), counted)
    assert (len(found), len(light)) == (4, 0)


def test_moving_vehicles_are_ranked_by_their_own_score_where_it_is_known():
    both = boxes((0, 0), (9, 0), score=[0.1, 0.2], vehicle_score=[0.9, np.nan])
    assert ranked(both, "heavy")["score"].tolist() == [0.1, 0.2]
    assert ranked(both, "moving")["score"].tolist() == [0.9, 0.2]
    one = boxes((0, 0), score=[0.3])
    assert ranked(one, "moving")["score"].tolist() == [0.3]


def test_detections_below_the_threshold_are_used_only_with_the_same_score():
    both, one = boxes((0, 0), score=[0.1], vehicle_score=[0.9]), boxes((0, 0), score=[0.05])
    assert ranked_alike(both, one, "moving")[1] is None
    assert ranked_alike(both, None, "moving")[1] is None
    assert ranked_alike(both, one, "heavy")[1] is one
    assert ranked_alike(both, both, "moving")[1]["score"].tolist() == [0.9]


def best_pairs(ours, theirs, radius):
    """Most pairs within a radius, then the least sum of distances, of all assignments."""
    if len(ours) > len(theirs):
        ours, theirs = theirs, ours
    best = (0, 0.0)
    for chosen in permutations(range(len(theirs)), len(ours)):
        apart = [np.hypot(*np.subtract(ours[i], theirs[j])) for i, j in enumerate(chosen)]
        near = [distance for distance in apart if distance <= radius]
        best = min(best, (-len(near), sum(near)))
    return -best[0], best[1]


@settings(deadline=None, max_examples=60)
@given(ON_LATTICE, ON_LATTICE, ON_LATTICE)
def test_false_positives_are_matched_to_light_vehicles_as_well_as_can_be(found, heavy, light):
    predicted, xy = boxes(*found), np.array(found, dtype=float).reshape(-1, 2)
    h_xy, l_xy = (np.array(places, dtype=float).reshape(-1, 2) for places in (heavy, light))
    matching = match(xy, h_xy, np.zeros(len(heavy), dtype=bool), 20.0)
    of_light = match_light(predicted, boxes(*light), matching, (None, None))
    on = np.flatnonzero(of_light != UNMATCHED)
    assert set(on) <= set(matching.false_positives)
    assert len(set(of_light[on])) == len(on)
    apart = np.hypot(*(xy[on] - l_xy[of_light[on]]).T)
    assert (apart <= 20).all()
    expected = best_pairs(xy[matching.false_positives], l_xy, 20.0)
    assert (len(on), apart.sum()) == (expected[0], pytest.approx(expected[1], abs=1e-6))


def test_only_light_vehicles_of_the_same_scene_match():
    predicted, light = boxes((0, 0), (1000, 0)), boxes((0, 0), (1000, 0))
    matching = match(np.array([[0.0, 0], [1000, 0]]), np.zeros((0, 2)), np.zeros(0, dtype=bool), 20.0)
    scenes = np.array(["a", "b"], dtype=object), np.array(["a", "a"], dtype=object)
    assert match_light(predicted, light, matching, scenes).tolist() == [0, UNMATCHED]


def found_two(**columns):
    return boxes((0, 0), (1005, 0), score=[0.9, 0.6], **columns)


def test_a_detection_of_a_light_vehicle_is_false_and_a_missed_light_vehicle_is_nothing():
    evaluation = evaluate_trucks(found_two(), traffic())
    primary = evaluation.primary
    assert (primary.true_positives, primary.false_positives, primary.false_negatives) == (1, 1, 0)
    cases = truck_cases(evaluation)
    cases = cases[cases["outcome"] != "TN"].set_index("prediction_id", drop=False)
    assert sorted(cases["outcome"]) == ["FP", "TP"]
    false = cases[cases["outcome"] == "FP"].iloc[0]
    assert (false["cause"], false["vehicle"], false["reference_id"]) == ("light vehicle", "light", "r1")
    assert false["distance_m"] == pytest.approx(5)
    figures = truck_metrics(evaluation)
    assert figures["headline"]["light_vehicle_share"]["value"] == 0.5
    assert (figures["false_alarms"]["count"], figures["false_alarms"]["light_vehicles"]) == (1, 1)
    assert (figures["counted"], figures["reference"]["light"]) == ("heavy", 2)


def test_labels_of_light_vehicles_change_no_figure_of_heavy_ones():
    with_light = evaluate_trucks(found_two(), traffic())
    reference = traffic()
    without = evaluate_trucks(found_two(), gpd.GeoDataFrame(reference[reference["vehicle"] == "heavy"]))
    assert with_light.primary == without.primary
    ap = [each.curves["centre_20m"].average_precision for each in (with_light, without)]
    assert ap[0] == ap[1]


def test_moving_vehicles_are_of_both_kinds_and_ranked_by_vehicle_score():
    predicted = boxes((0, 0), (1005, 0), (7000, 0), score=[0.9, 0.1, 0.6], vehicle_score=[0.9, 0.8, 0.7])
    reference = traffic(confidence=["high"] * 4)
    moving = evaluate_trucks(predicted, reference, counted="moving")
    primary = moving.primary
    assert (primary.true_positives, primary.false_positives, primary.false_negatives) == (2, 1, 2)
    assert moving.predicted["score"].tolist() == [0.9, 0.8, 0.7]
    figures = truck_metrics(moving)
    assert (figures["counted"], figures["reference"]["light"]) == ("moving", 3)
    assert figures["headline"]["light_vehicle_share"]["value"] is None
    assert figures["reasons"]["light_vehicle_share"] == "Light vehicles are to be found."


def test_labels_without_the_column_are_one_line():
    plain = evaluate_trucks(found_two(), labels(*PLACES))
    lines = [line for line in truck_warnings(plain, LeftOut(), LeftOut()) if "vehicle" in line]
    assert lines == [
        "The labels don't tell light vehicles from heavy ones (no column vehicle): all count as heavy."
    ]
    apart = evaluate_trucks(found_two(), traffic())
    assert not [line for line in truck_warnings(apart, LeftOut(), LeftOut()) if "light" in line]
    assert truck_metrics(plain)["reasons"]["light_vehicle_share"] == "The labels have no column vehicle."
