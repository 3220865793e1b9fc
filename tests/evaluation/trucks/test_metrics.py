"""Every figure of metrics.json on cases small enough to be counted by hand."""

import json

import numpy as np
import pytest

from pipeline.evaluation.features import LeftOut
from pipeline.evaluation.trucks.metrics import truck_metrics, truck_warnings
from pipeline.evaluation.trucks.scores import evaluate_trucks
from tests.evaluation.trucks.conftest import area
from tests.evaluation.trucks.test_scores import boxes, labels


def test_headline_by_hand(measured):
    figures = truck_metrics(measured)
    value = {name: entry["value"] for name, entry in figures["headline"].items()}
    assert (value["precision"], value["recall"]) == (0.5, pytest.approx(2 / 3))
    assert value["f1"] == pytest.approx(4 / 7)
    assert value["count_bias"] == pytest.approx(1 / 3)  # four detected, three labelled
    assert value["flip_rate"] == 0.5
    assert value["speed_rmse_kmh"] == pytest.approx(np.sqrt((3**2 + 4**2) / 2))
    assert value["speed_bias_kmh"] == pytest.approx(-0.5)
    assert value["speed_within_one_sigma"] == 0.5
    # Bins of 0.1: 0.9 and 0.8 are right, 0.6 and 0.3 wrong.
    assert value["expected_calibration_error"] == pytest.approx((0.1 + 0.2 + 0.6 + 0.3) / 4)
    assert value["average_precision_centre_20m"] == pytest.approx(67 / 101)
    assert figures["headline"].pop("light_vehicle_share") == {"value": None, "interval_95": None}
    for entry in figures["headline"].values():
        low, high = entry["interval_95"]
        assert low - 1e-9 <= entry["value"] <= high + 1e-9
    json.dumps(figures, allow_nan=False)


def test_false_alarms_per_ground_and_road(measured):
    alarms = truck_metrics(measured)["false_alarms"]
    assert alarms["count"] == 2
    # 10 km of motorway were seen, 60 m wide, and 20 m of track with its round ends.
    assert alarms["road_km"] == pytest.approx(10.02)
    assert alarms["seen_km2"] == pytest.approx(0.6 + 0.02 * 0.06 + np.pi * 0.03**2, rel=1e-4)
    assert alarms["per_100_km_road"] == pytest.approx(2 / 0.1002)


def test_counts_thresholds_and_calibration(measured):
    figures = truck_metrics(measured)
    count = figures["count"]
    assert (count["detected"], count["labelled"], count["bias"]) == (4, 3, 1)
    # By block: 1 of 1, 2 of 1, 0 of 1, 1 of 0.
    assert count["block_rmse"] == pytest.approx(np.sqrt(3 / 4))
    thresholds = figures["thresholds"]
    assert thresholds["best"] == {
        "score_from": 0.8,
        "detections": 2,
        "precision": 1.0,
        "recall": 0.6667,
        "f1": 0.8,
    }
    assert thresholds["rows"][0] == [0.0, 4, 0.5, 0.6667, 0.5714]
    assert thresholds["lowest_score_reported"] == 0.3
    calibration = figures["calibration"]
    assert calibration["rows"] == [[0.3, 0, 1], [0.6, 0, 1], [0.8, 1, 1], [0.9, 1, 1]]
    assert calibration["brier"] == pytest.approx((0.1**2 + 0.2**2 + 0.6**2 + 0.3**2) / 4)


def test_what_a_lower_threshold_would_give():
    weak = boxes((2000, 0), score=[0.1])
    evaluation = evaluate_trucks(boxes((0, 0), score=[0.9]), labels((0, 0), (2000, 0)), below_threshold=weak)
    assert evaluation.primary.recall == 0.5
    assert truck_metrics(evaluation)["thresholds"]["best"] == {
        "score_from": 0.1,
        "detections": 2,
        "precision": 1,
        "recall": 1,
        "f1": 1,
    }


def test_labels_cut_by_the_edge_of_what_was_seen_count_neither_way():
    reference = labels((0, 0), (490, 0), (0, 490), (200, 200))
    evaluation = evaluate_trucks(
        boxes((0, 0), (490, 0), score=[0.9, 0.8]),
        reference,
        seen=area((-500, -500, 500, 500)),
        not_seen=area((500, -500, 900, 500), reason=["nodata"]),
    )
    # One reaches into nodata, another over the upper edge of the scene.
    assert evaluation.truncated.tolist() == [False, True, True, False]
    score = evaluation.primary
    assert (score.true_positives, score.false_positives, score.false_negatives, score.ignored) == (1, 0, 1, 1)
    assert truck_metrics(evaluation)["reference"] == {
        "boxes": 4,
        "certain": 2,
        "ignored": 0,
        "truncated": 2,
        "light": 0,
        "certain_not_observed": 0,
    }


def test_boxes_of_other_scenes_do_not_match():
    predicted = boxes((0, 0), (0, 0), score=[0.9, 0.8], scene_id=["monday", "tuesday"])
    reference = labels((0, 0), (0, 0)).assign(scene_id=["tuesday", "wednesday"])
    evaluation = evaluate_trucks(predicted, reference)
    assert evaluation.matching.reference_of.tolist() == [-1, 0]
    groups = truck_metrics(evaluation)["breakdown"]["scene"]
    assert [(g["group"], g["tp"], g["fp"], g["fn"]) for g in groups] == [
        ("monday", 0, 1, 0),
        ("tuesday", 1, 0, 0),
        ("wednesday", 0, 0, 1),
    ]


@pytest.mark.parametrize("seen", [None, area((-50, -50, 600, 50))])
def test_labels_that_lie_elsewhere_measure_nothing(seen):
    evaluation = evaluate_trucks(boxes((0, 0), (500, 0), score=[0.9, 0.8]), labels((90_000, 0)), seen=seen)
    figures = truck_metrics(evaluation)
    assert "labels" in figures["not_measured"]

    def numbers(part):
        values = part.values() if isinstance(part, dict) else part if isinstance(part, list) else [part]
        return [part] if values == [part] else [leaf for value in values for leaf in numbers(value)]

    kept = ("counted", "predicted", "off_road", "reference", "not_measured", "reasons")
    reported = {name: part for name, part in figures.items() if name not in kept}
    assert "headline" in reported
    assert set(numbers(reported)) <= {None}
    (first, *_) = truck_warnings(evaluation, LeftOut(), LeftOut())
    assert first.startswith("Nothing was measured.")
    assert "\n" not in first


def test_detections_without_scores_have_no_curve():
    figures = truck_metrics(evaluate_trucks(boxes((0, 0)), labels((0, 0), (900, 0))))
    assert figures["average_precision"]["centre_20m"] is None
    assert figures["thresholds"] is None and figures["calibration"] is None and figures["coco"] is None
    assert figures["reasons"]["calibration"] == "The detections have no column score."
    assert figures["headline"]["recall"]["value"] == 0.5
