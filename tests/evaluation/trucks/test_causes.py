import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.trucks.causes import (
    FROM_PIXELS,
    false_negative_causes,
    false_positive_causes,
    true_negative_causes,
    without_evidence,
)

AT_REST = {"displacement_px": np.nan, "displacement_sigma_px": np.inf}
MOVES = {"displacement_px": 2.0, "displacement_sigma_px": 0.3}


def cause(rules, **facts):
    return rules(pd.DataFrame([facts])).cause[0]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"no_data_m": 10.0}, "scene edge"),
        ({"touches_edge": True}, "scene edge"),
        ({"neighbour_m": 22.0}, "duplicate"),
        ({"near_id": "r7"}, "localisation"),
        ({"far_displacement_px": 17.0, "road_m": 400.0}, "aircraft"),
        ({"far_displacement_px": 17.0}, "aircraft"),
        ({"far_displacement_px": 17.0, "road_m": 5.0}, "unknown"),
        ({"cloud_m": 90.0}, "near cloud or shadow"),
        ({"shadow_m": 40.0}, "near cloud or shadow"),
        ({"shadow_m": 90.0}, "unknown"),
        ({"near_cloud": True}, "near cloud or shadow"),
        ({"surroundings_shift_px": 1.2, **MOVES}, "cloud that moves"),
        ({"cloud_m": 300.0, "road_m": 90.0, **MOVES}, "cloud that moves"),
        ({"cloud_m": 300.0, "road_m": 9.0, **MOVES}, "other vehicle"),
        ({"ndwi": 0.3}, "over water"),
        ({"landcover": "water"}, "over water"),
        ({"contrast": 0.1, "bright_px": 60.0, **AT_REST}, "roof or greenhouse"),
        ({"contrast": 0.1, "bright_px": 60.0, "road_m": 3.0, **AT_REST}, "no band displacement"),
        ({"contrast": 0.1, "bright_px": 4.0, **AT_REST}, "no band displacement"),
        ({"contrast": 0.1, "bright_px": 60.0, **MOVES}, "other vehicle"),
        ({"road_m": 31.0, **MOVES}, "off road"),
        ({"off_road": True}, "off road"),
        ({"off_road": True, "road_m": 3.0}, "unknown"),
        ({"seam_m": 50.0, **MOVES}, "MSI seam"),
        ({"speed_kmh": 20.0}, "slow or parked"),
        ({"landcover": "built"}, "over built"),
        ({"landcover": "crops"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_cause_of_a_false_alarm(facts, expected):
    assert cause(false_positive_causes, score=0.5, **facts) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"no_data_m": 15.0}, "scene edge"),
        ({"at_edge": True}, "edge of the area seen"),
        ({"below_score": 0.3, "speed_kmh": 10.0}, "below threshold"),
        ({"near_id": "p1"}, "localisation"),
        ({"neighbour_m": 40.0}, "merged with its neighbour"),
        ({"cloud_m": 0.0}, "near cloud or shadow"),
        ({"speed_kmh": 30.0, **AT_REST}, "slow"),
        ({"speed_kmh": 80.0, **AT_REST}, "no band displacement"),
        ({"contrast": -0.004, **MOVES}, "faint"),
        ({"confidence": "medium"}, "faint"),
        ({"seam_m": 100.0}, "MSI seam"),
        ({"contrast": 0.05, "neighbour_m": 300.0, **MOVES}, "unknown"),
    ],
)
def test_cause_of_a_miss(facts, expected):
    assert cause(false_negative_causes, score=np.nan, **facts) == expected


def test_a_look_alike_has_no_detection_that_could_be_misplaced():
    facts = {"neighbour_m": 10.0, "near_id": "x", "touches_edge": True, "ndwi": 0.4}
    assert cause(true_negative_causes, **facts) == "over water"


def test_the_other_rules_that_hold_are_told():
    verdict = false_positive_causes(
        pd.DataFrame([{"cloud_m": 20.0, "ndwi": 0.2, "speed_kmh": 9.0}, {"ndwi": 0.2}])
    )
    assert verdict.cause.tolist() == ["near cloud or shadow", "over water"]
    assert verdict.also.tolist() == ["over water, slow or parked", None]


def test_without_pixels_their_causes_are_left_out_and_named():
    facts = pd.DataFrame({"score": [0.5, 0.9]})
    assert set(without_evidence(facts)) == FROM_PIXELS
    assert without_evidence(facts.assign(brightness=[0.1, np.nan])) == []
