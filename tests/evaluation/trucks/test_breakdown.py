"""Metrics by group: road class, land cover, cloud, scene."""

import numpy as np

from pipeline.evaluation.trucks.metrics import truck_metrics
from pipeline.evaluation.trucks.scores import evaluate_trucks
from tests.evaluation.landcover.test_labels import write_raster
from tests.evaluation.trucks.conftest import area
from tests.evaluation.trucks.test_scores import boxes, labels


def test_breakdown_by_hand(measured, tmp_path):
    groups = truck_metrics(measured)["breakdown"]
    shown = {by: [(g["group"], g["tp"], g["fp"], g["fn"]) for g in rows] for by, rows in groups.items()}
    assert shown == {
        "road_class": [("motorway", 2, 1, 1), ("track", 0, 1, 0)],
        "trucks_per_block": [("0", 0, 1, 0), ("1", 2, 1, 1)],
    }
    assert groups["road_class"][1]["f1"] is None  # no label: nothing to measure


def test_breakdown_by_land_cover_cloud_and_scene(tmp_path):
    raster = write_raster(tmp_path / "c.tif", np.array([[6, 6, 0, 0, 0, 0]] * 4, np.uint8))
    reference = labels((5, -5), (35, -5), (55, -5))
    predicted = boxes((5, -5), (45, -35), score=[0.9, 0.8], scene_id=["a", "a"])
    evaluation = evaluate_trucks(
        predicted,
        reference,
        seen=area((-400, -400, 400, 400)),
        not_seen=area((400, -400, 800, 400), reason=["cloud"]),
        landcover=raster,
    )
    groups = truck_metrics(evaluation)["breakdown"]
    shown = {by: [(g["group"], g["tp"], g["fp"], g["fn"]) for g in rows] for by, rows in groups.items()}
    assert shown["landcover"] == [("built", 1, 0, 0), ("water", 0, 1, 2)]
    assert shown["cloud_distance_m"] == [("100-500", 1, 1, 2)]
    assert shown["scene"] == [("a", 1, 1, 2)]


def test_of_detections_alone_no_recall_by_group():
    predicted = boxes((0, 0), (500, 0), score=[0.9, 0.8], landcover=["built", "crops"])
    groups = truck_metrics(evaluate_trucks(predicted, labels((0, 0), (900, 0))))["breakdown"]["landcover"]
    assert [(g["group"], g["precision"], g["fn"], g["recall"]) for g in groups] == [
        ("built", 1, None, None),
        ("crops", 0, None, None),
    ]
