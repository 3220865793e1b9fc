"""Detections in a scene's pixels."""

from dataclasses import replace

import numpy as np

from pipeline.inference.predictions import Detections, MinScores, pixels_holding


def at(*centres: tuple[float, float]) -> Detections:
    places = np.array(centres, float).reshape(-1, 2)
    count = len(places)
    return Detections(
        np.hstack([places - 1, places + 1]), np.linspace(0, 1, count), np.zeros((count, 2)), np.zeros(count)
    )


def test_rounding_noise_at_an_edge_changes_no_pixel():
    points = np.array([[3.0, 5.0], [3 - 1e-9, 5 + 1e-9], [2.9, 5.5]])
    assert pixels_holding(points).tolist() == [[3, 5], [3, 5], [2, 5]]


def test_order_is_from_north_to_south_then_from_west_to_east():
    found = at((9, 2), (1, 2), (5, 0))
    assert found.north_to_south().tolist() == [2, 1, 0]
    assert found.take(found.north_to_south()).centres.tolist() == [[5, 0], [1, 2], [9, 2]]


def test_parts_are_concatenated_in_order_and_nothing_is_empty():
    assert Detections.concatenate([at((1, 2)), at(), at((3, 4))]).centres.tolist() == [[1, 2], [3, 4]]
    assert len(Detections.concatenate([])) == len(Detections.empty()) == 0


def test_scores_of_any_vehicle_go_with_their_boxes():
    scored = replace(at((1, 2), (3, 4)), vehicle_scores=np.array([0.7, 0.9]))
    assert scored.take(np.array([1])).vehicle_scores.tolist() == [0.9]
    joined = Detections.concatenate([Detections.empty(vehicles=True), scored, scored])
    assert joined.vehicle_scores.tolist() == [0.7, 0.9, 0.7, 0.9]
    assert len(Detections.concatenate([Detections.empty(vehicles=True)]).vehicle_scores) == 0
    assert Detections.concatenate([at((1, 2)), at()]).vehicle_scores is None


def test_either_score_suffices():
    scores, vehicles = np.array([0.5, 0.1, 0.1]), np.array([0.6, 0.9, 0.3])
    assert MinScores(0.5, 0.9).reached(scores, vehicles).tolist() == [True, True, False]
    assert MinScores(0.5).reached(scores, vehicles).tolist() == [True, False, False]
    assert MinScores(0.5, 0.2).reached(scores, None).tolist() == [True, False, False]
    assert MinScores().reached(scores, None).all()
