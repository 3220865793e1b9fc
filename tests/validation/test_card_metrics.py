"""Metrics of a detector for its card: thresholds, counts, curves, causes."""

import geopandas as gpd
import pytest
from shapely import LineString, box

from pipeline.evaluation.trucks.precision_recall import precision_recall
from pipeline.validation.card_metrics import (
    best_threshold,
    confusions,
    curve_table,
    detector_metrics,
    false_alarms,
    negative_threshold,
    precise_threshold,
)
from pipeline.validation.observe import Observed

UTM = "EPSG:32632"


def boxes(places, **columns) -> gpd.GeoDataFrame:
    """Boxes of 30 m whose centres are at (x, 0)."""
    frame = gpd.GeoDataFrame(geometry=[box(x - 15, -15, x + 15, 15) for x in places], crs=UTM)
    return frame.assign(id=[str(x) for x in places], **columns)


def observed(found: dict[int, float], truth, side_m: float = 10_000.0, roads=True) -> Observed:
    return Observed(
        "place",
        boxes(found, score=list(found.values()), evidence=0.0, speed_kmh=80.0, on_water=False),
        boxes(truth, confidence="high", travel_deg=90.0, speed_kmh=80.0),
        gpd.GeoDataFrame(geometry=[box(-100, -side_m / 2, side_m - 100, side_m / 2)], crs=UTM),
        gpd.GeoDataFrame(geometry=[LineString([(-100, 0), (4000, 0)])], crs=UTM) if roads else None,
    )


def curve(found: dict[int, float], truth):
    return observed(found, truth).evaluate(near_roads=True).curves["centre_20m"]


def test_the_best_threshold_is_the_highest_of_all_that_are_as_good():
    # From 0.31 to 0.80 both trucks and nothing else are kept.
    found = {0: 0.9, 1000: 0.8, 2000: 0.3, 3000: 0.2}
    assert best_threshold(curve(found, [0, 1000])) == pytest.approx(0.8, abs=0.011)


def test_every_place_counts_the_same_for_the_threshold():
    many, faint = {0: 0.9, 1000: 0.8, 2000: 0.7}, {0: 0.9, 1000: 0.3}
    alone = best_threshold(curve(many, [0, 1000, 2000]))
    both = best_threshold(curve(many, [0, 1000, 2000]), curve(faint, [0, 1000]))
    assert both == pytest.approx(0.3, abs=0.011) and alone == pytest.approx(0.7, abs=0.011)
    assert best_threshold(curve(faint, [0, 1000]), precision_recall([], [], [], [])) == both


def test_the_precise_threshold_is_the_lowest_with_the_precision():
    found = {0: 0.9, 1000: 0.8, 500: 0.7, 2000: 0.6, 3000: 0.5, 1500: 0.4, 2500: 0.3}
    of_four = curve(found, [0, 1000, 2000, 3000])
    assert precise_threshold(of_four, 0.8) == pytest.approx(0.41)  # 4 of 5; 4 of 6 with the next
    assert precise_threshold(of_four, 1.0) == pytest.approx(0.71)
    assert precise_threshold(of_four, 0.1) == pytest.approx(0.01)
    assert precise_threshold(curve({0: 0.9, 500: 0.8}, [1500]), 0.8) == 0.5
    assert precise_threshold(curve({500: 0.9, 0: 0.8}, [0]), 0.8) == pytest.approx(0.01)  # half at best


def test_without_trucks_there_is_no_best_threshold():
    assert best_threshold(curve({0: 0.9}, [])) == 0.5
    assert best_threshold(curve({}, [0, 1000])) == 0.5
    assert best_threshold(precision_recall([], [], [], [])) == 0.5


@pytest.mark.parametrize(
    ("per_10_km2", "threshold", "left"), [(0.1, 0.701, 1), (0.05, 0.901, 0), (0.5, 0, 3)]
)
def test_the_negative_threshold_leaves_no_more_than_allowed(per_10_km2, threshold, left):
    negative = observed({0: 0.9, 1000: 0.7, 2000: 0.6}, [])
    assert negative.km2 == pytest.approx(100)
    assert negative_threshold(negative, per_10_km2) == pytest.approx(threshold)
    assert false_alarms(negative, threshold)["detections"] == left


def test_figures_count_what_is_at_least_the_threshold():
    place = observed({0: 0.9, 1000: 0.5, 2000: 0.6, 3000: 0.1}, [0, 1000, 3000])
    found = detector_metrics(place.evaluate(near_roads=True, threshold=0.5))
    assert [found[key] for key in ("tp", "fp", "fn", "blocks")] == [2, 1, 1, 4]
    assert found["precision"] == found["recall"] == found["f1"] == pytest.approx(2 / 3, abs=1e-3)
    low, high = found["interval_95"]["f1"]
    assert 0 <= low < 2 / 3 < high <= 1


def test_near_roads_only_what_is_near_them_counts():
    place = observed({0: 0.9, 5000: 0.9}, [0, 6000])
    assert [detector_metrics(place.evaluate(near))["fp"] for near in (True, False)] == [0, 1]
    assert [detector_metrics(place.evaluate(near))["fn"] for near in (True, False)] == [0, 1]


def test_a_curve_is_given_at_scores():
    table = curve_table(curve({0: 0.9, 1000: 0.62, 2000: 0.3}, [0, 2000]))
    rows = {row[0]: row[1:] for row in table["rows"]}
    assert rows[0.9] == [1.0, 0.5]
    assert rows[0.6] == [0.5, 0.5]
    assert rows[0.05] == pytest.approx([2 / 3, 1.0], abs=1e-3)
    assert 0.95 not in rows  # nothing was that sure


def test_causes_of_mistakes_are_counted():
    place = observed({0: 0.9, 1000: 0.2, 2000: 0.9}, [0, 1000, 3000])
    found = confusions(place, place.evaluate(True, 0.5), 0.5)
    assert found["false_positives"] == {"unknown": 1}
    assert found["false_negatives"] == {"below threshold": 1, "unknown": 1}
