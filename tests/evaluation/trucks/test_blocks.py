"""Trucks counted by block of ground, and figures of the counts."""

import geopandas as gpd
import numpy as np
from shapely import box

from pipeline.evaluation.trucks.blocks import precision_recall_f1, truck_counts
from pipeline.evaluation.trucks.scores import evaluate_trucks


def test_precision_recall_and_f1():
    np.testing.assert_allclose(
        precision_recall_f1(np.array([[8, 2, 8], [0, 0, 0]])), [[0.8, 0.5, 8 / 13], [np.nan] * 3]
    )


def boxes(*lefts: float) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {"id": [str(x) for x in lefts], "confidence": "high", "score": 0.9},
        geometry=[box(x, 10, x + 30, 40) for x in lefts],
        crs=32632,
    )


def test_trucks_are_counted_in_squares():
    evaluation = evaluate_trucks(boxes(10, 100, 1010), boxes(12, 1100, 2000))
    counts = truck_counts(evaluation, block_m=1000)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert truck_counts(evaluate_trucks(boxes(), boxes())).shape == (0, 3)
