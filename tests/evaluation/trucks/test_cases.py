import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import LineString, box

from pipeline.evaluation.trucks.cases import OUTCOMES, TRUCK_CASES, truck_cases
from pipeline.evaluation.trucks.scores import evaluate_trucks
from tests.evaluation.trucks.test_scores import UTM, X, Y, boxes, labels


def outcomes(cases):
    return list(zip(cases["outcome"], plain(cases["cause"]), strict=True))


def plain(column):
    return [None if pd.isna(value) else value for value in column]


def test_every_prediction_and_every_reference_is_one_case():
    reference = labels((0, 0), (1000, 0), (2000, 0), confidence=["high", "low", "high"], travel=[90, 90, 90])
    predicted = boxes(
        (3, 4), (1000, 0), (3000, 0), score=[0.9, 0.8, 0.7], id=["a", "b", "c"], heading_deg=[270, 90, 90]
    )
    cases = truck_cases(evaluate_trucks(predicted, reference))
    assert list(cases.columns) == list(TRUCK_CASES.names)
    assert outcomes(cases) == [
        ("TP", "heading flipped"),
        ("ignored", None),
        ("FP", "unknown"),
        ("FN", "unknown"),
    ]
    assert cases["prediction_id"].tolist()[:3] == ["a", "b", "c"]
    assert plain(cases["reference_id"]) == [
        "r0",
        "r1",
        None,
        "r2",
    ]
    assert (cases["distance_m"][0], cases["heading_error_deg"][0]) == (5, 180)
    assert cases.geometry[3].equals(reference.geometry[2])
    assert cases.crs == UTM


def test_what_was_not_looked_at_is_its_own_outcome():
    seen = gpd.GeoDataFrame(geometry=[box(X - 500, Y - 500, X + 1010, Y + 500)], crs=UTM)
    evaluation = evaluate_trucks(boxes(score=[]), labels((0, 0), (1000, 0), (2000, 0)), seen=seen)
    assert outcomes(truck_cases(evaluation, seen=seen)) == [
        ("FN", "unknown"),
        ("FN", "edge of the area seen"),
        ("not_seen", "not observed"),
    ]


@pytest.mark.parametrize(
    ("column", "value", "cause"),
    [
        ("near_cloud", True, "near cloud or shadow"),
        ("touches_edge", True, "scene edge"),
        ("road_id", None, "off road"),
        ("speed_kmh", 12.0, "slow or parked"),
        ("landcover", "built", "over built"),
        ("landcover", "crops", "unknown"),
    ],
)
def test_likely_cause_of_a_false_alarm(column, value, cause):
    right = {
        "near_cloud": False,
        "touches_edge": False,
        "road_id": "7",
        "speed_kmh": 80.0,
        "landcover": "built",
    }
    columns = {column: [right[column], value]}
    cases = truck_cases(
        evaluate_trucks(boxes((0, 0), (1000, 0), score=[0.9, 0.8], **columns), labels((0, 0)))
    )
    assert outcomes(cases) == [("TP", None), ("FP", cause)]


def test_a_second_box_on_a_truck_is_a_duplicate():
    cases = truck_cases(evaluate_trucks(boxes((0, 0), (15, 0), score=[0.9, 0.8]), labels((0, 0))))
    assert outcomes(cases) == [("TP", None), ("FP", "duplicate")]
    assert cases["neighbour_m"][1] == 15


def test_a_box_between_20_and_30_m_off_is_a_matter_of_localisation_on_both_sides():
    cases = truck_cases(evaluate_trucks(boxes((25, 0), (131, 0), score=[0.9, 0.8]), labels((0, 0), (100, 0))))
    assert outcomes(cases) == [
        ("FP", "localisation"),
        ("FP", "unknown"),
        ("FN", "localisation"),
        ("FN", "unknown"),
    ]
    assert cases["distance_m"].tolist()[0::2] == [25, 25]
    assert plain(cases["near_id"]) == ["r0", None, cases["prediction_id"][0], None]


def test_likely_cause_of_a_miss():
    reference = labels(
        (0, 0),
        (1000, 0),
        (2000, 0),
        (2030, 0),
        (3000, 0),
        confidence=["high"] * 4 + ["medium"],
        speed=[80, 10, 80, 80, 80],
    )
    weak = boxes((4, 0), (6, 0), score=[0.2, 0.3]).to_crs(4326)
    cases = truck_cases(evaluate_trucks(boxes(score=[]), reference), below_threshold=weak)
    merged = "merged with its neighbour"
    assert cases["cause"].tolist() == ["below threshold", "slow", merged, merged, "faint"]
    assert cases["below_score"][0] == 0.3
    assert cases["neighbour_m"][2] == 30


def test_what_holds_besides_the_cause_is_told_as_well():
    found = boxes((0, 0), score=[0.9], near_cloud=[True], landcover=["water"], speed_kmh=[10.0])
    cases = truck_cases(evaluate_trucks(found, labels()))
    assert cases["cause"][0] == "near cloud or shadow"
    assert cases["also"][0] == "over water, slow or parked"


def test_distance_to_the_nearest_road():
    road = gpd.GeoDataFrame(geometry=[LineString([(X, Y - 5000), (X, Y + 5000)])], crs=UTM)
    found = boxes((12, 0), (70, 0), (3000, 0), score=[0.9, 0.9, 0.9])
    cases = truck_cases(evaluate_trucks(found, labels()), roads=road)
    alarms = cases[cases["outcome"] == "FP"]
    assert alarms["road_m"].tolist() == pytest.approx([12, 70, 1000])
    assert alarms["cause"].tolist() == ["unknown", "off road", "off road"]


def test_places_without_a_truck_are_cases_too():
    road = gpd.GeoDataFrame(geometry=[LineString([(X, Y), (X + 1000, Y)])], crs=UTM)
    weak = boxes((700, 0), (105, 0), score=[0.3, 0.4])
    cases = truck_cases(
        evaluate_trucks(boxes((500, 0), score=[0.9]), labels((500, 0), (100, 0))),
        below_threshold=weak,
        roads=road,
    )
    negatives = cases[cases["outcome"] == "TN"]
    # of the road's cells at 100, 300, 500, 700 and 900 m, two hold a truck and one a box of a low score
    assert negatives["reference_id"].tolist() == ["below threshold", "road", "road"]
    assert plain(negatives["score"]) == [0.3, None, None]
    assert negatives.geometry.centroid.x.round().tolist() == [X + 700, X + 300, X + 900]
    assert cases["id"].tolist() == ["tp-00001", "fn-00001", "tn-00001", "tn-00002", "tn-00003"]


def test_no_boxes_at_all_is_an_empty_layer():
    cases = truck_cases(evaluate_trucks(boxes(score=[]), labels()))
    assert len(cases) == 0
    assert list(cases.columns) == list(TRUCK_CASES.names)


def test_outcomes_are_the_documented_ones():
    rng = np.random.default_rng(2)
    reference = labels(*rng.uniform(0, 400, (30, 2)), confidence=list(rng.choice(["high", "low"], 30)))
    evaluation = evaluate_trucks(boxes(*rng.uniform(0, 400, (30, 2)), score=rng.random(30)), reference)
    cases = truck_cases(evaluation)
    assert set(cases["outcome"]) <= set(OUTCOMES)
    counts = cases["outcome"].value_counts()
    assert counts["TP"] == evaluation.primary.true_positives
    assert counts["FP"] == evaluation.primary.false_positives
    assert counts["FN"] == evaluation.primary.false_negatives
