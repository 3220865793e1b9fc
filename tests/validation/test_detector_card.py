"""Figures of a card: thresholds by the stated rule, counts that add up, and nothing that was not measured."""

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import yaml
from shapely import LineString, box

from pipeline.config import load_settings
from pipeline.errors import BundleError
from pipeline.evaluation.trucks.scores import precision_recall
from pipeline.models.bundle import Calibration, open_bundle
from pipeline.validation.detector_card import (
    DetectorMeasurement,
    best_threshold,
    confusions,
    curve_table,
    false_alarms,
    figures,
    measure_detector,
    quiet_threshold,
    write_quality,
)
from pipeline.validation.observe import Observed, Place, Seed

UTM = "EPSG:32632"


def boxes(places, **columns) -> gpd.GeoDataFrame:
    """Boxes of 30 m whose centres are at (x, 0)."""
    frame = gpd.GeoDataFrame(geometry=[box(x - 15, -15, x + 15, 15) for x in places], crs=UTM)
    return frame.assign(id=[str(x) for x in places], **columns)


def observed(found: dict[int, float], truth, side_m: float = 10_000.0, roads=True) -> Observed:
    return Observed(
        "place",
        boxes(found, score=list(found.values()), evidence=0.0),
        boxes(truth, confidence="high", travel_deg=90.0, speed_kmh=80.0),
        gpd.GeoDataFrame(geometry=[box(-100, -side_m / 2, side_m - 100, side_m / 2)], crs=UTM),
        gpd.GeoDataFrame(geometry=[LineString([(-100, 0), (4000, 0)])], crs=UTM) if roads else None,
    )


def curve(found: dict[int, float], truth):
    return observed(found, truth).evaluate(near_roads=True).curves["centre_20m"]


def test_the_best_threshold_is_the_middle_of_all_that_are_as_good():
    # From 0.31 to 0.80 both trucks and nothing else are kept.
    found = {0: 0.9, 1000: 0.8, 2000: 0.3, 3000: 0.2}
    assert best_threshold(curve(found, [0, 1000])) == pytest.approx(0.55, abs=0.011)


def test_every_place_counts_the_same_for_the_threshold():
    many, faint = {0: 0.9, 1000: 0.8, 2000: 0.7}, {0: 0.9, 1000: 0.3}
    alone = best_threshold(curve(many, [0, 1000, 2000]))
    both = best_threshold(curve(many, [0, 1000, 2000]), curve(faint, [0, 1000]))
    assert both == pytest.approx(0.15, abs=0.011) and alone == pytest.approx(0.35, abs=0.011)
    assert best_threshold(curve(faint, [0, 1000]), precision_recall([], [], [], [])) == both


def test_without_trucks_there_is_no_best_threshold():
    assert best_threshold(curve({0: 0.9}, [])) == 0.5
    assert best_threshold(curve({}, [0, 1000])) == 0.5
    assert best_threshold(precision_recall([], [], [], [])) == 0.5


@pytest.mark.parametrize(
    ("per_10_km2", "threshold", "left"), [(0.1, 0.701, 1), (0.05, 0.901, 0), (0.5, 0, 3)]
)
def test_the_quiet_threshold_leaves_no_more_than_allowed(per_10_km2, threshold, left):
    quiet = observed({0: 0.9, 1000: 0.7, 2000: 0.6}, [])
    assert quiet.km2 == pytest.approx(100)
    assert quiet_threshold(quiet, per_10_km2) == pytest.approx(threshold)
    assert false_alarms(quiet, threshold)["detections"] == left


def test_calibration_changes_scores_and_nothing_else():
    before = observed({0: 0.9, 1000: 0.5}, [0])
    after = before.calibrated(Calibration(temperature=2.0))
    assert after.trucks["score"].tolist() == pytest.approx([0.75, 0.5])
    assert after.trucks.drop(columns="score").equals(before.trucks.drop(columns="score"))
    assert before.trucks["score"].tolist() == [0.9, 0.5]


def test_what_is_seen_to_move_is_believed_more():
    still = observed({0: 0.5, 1000: 0.5}, [0])
    moving = replace(still, trucks=still.trucks.assign(evidence=[0.0, 2.0]))
    odds = moving.calibrated(Calibration(motion=np.log(2.0))).trucks["score"] / 0.5
    assert odds.tolist() == pytest.approx([1.0, 0.8 / 0.5])


def test_figures_count_what_is_at_least_the_threshold():
    place = observed({0: 0.9, 1000: 0.5, 2000: 0.6, 3000: 0.1}, [0, 1000, 3000])
    found = figures(place.evaluate(near_roads=True, threshold=0.5))
    assert [found[key] for key in ("tp", "fp", "fn", "blocks")] == [2, 1, 1, 4]
    assert found["precision"] == found["recall"] == found["f1"] == pytest.approx(2 / 3, abs=1e-3)
    low, high = found["interval_95"]["f1"]
    assert 0 <= low < 2 / 3 < high <= 1


def test_near_roads_only_what_is_near_them_counts():
    place = observed({0: 0.9, 5000: 0.9}, [0, 6000])
    assert [figures(place.evaluate(near))["fp"] for near in (True, False)] == [0, 1]
    assert [figures(place.evaluate(near))["fn"] for near in (True, False)] == [0, 1]


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


def test_what_the_shipped_detector_is_measured_on():
    file = Path(__file__).resolve().parents[2] / "configs" / "measure-detector.yaml"
    settings = load_settings(DetectorMeasurement, file)
    assert [place.name for place in settings.places] == ["a2_braunschweig", "walserberg_a8"]
    assert [place.name for place in settings.quiet] == ["virginia", "brandenburg"]
    assert {seed.seed for seed in settings.calibration}.isdisjoint(seed.seed for seed in settings.held_out)


def test_no_seed_is_both_fitted_and_reported():
    with pytest.raises(ValueError, match="42 is given twice"):
        DetectorMeasurement(calibration=(Seed(seed=42),), held_out=(Seed(seed=42),))
    with pytest.raises(ValueError, match="a2 is given twice"):
        DetectorMeasurement(places=(Place(name="a2", scene="x"),), quiet=(Place(name="a2", scene="y"),))


def test_a_segmenter_is_refused():
    with pytest.raises(BundleError, match="landcover is for segmentation"):
        measure_detector(open_bundle("landcover"), DetectorMeasurement())


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The shipped detector, measured on two tiny simulated scenes."""
    settings = DetectorMeasurement(
        calibration=(Seed(seed=2001, size=160),), held_out=(Seed(seed=42, size=160),)
    )
    said: list[str] = []
    found = measure_detector(open_bundle("trucks"), settings, said.append)
    assert said == ["simulated scene 2001", "simulated scene 42"]
    return found


def test_a_measured_card_has_everything_and_is_written_whole(measured, tmp_path):
    bundle = open_bundle("trucks")
    written = write_quality(measured, bundle, tmp_path / "copy")
    assert sorted(path.name for path in written.folder.iterdir()) == [
        "card.yaml",
        "quality.png",
        "weights.safetensors",
    ]
    opened = open_bundle(str(written.folder))
    assert opened.card == measured.card
    assert opened.state_dict().keys() == bundle.state_dict().keys()
    quality = yaml.safe_load((written.folder / "card.yaml").read_text())["quality"]
    assert quality["simulated_held_out"]["seeds"] == [42]
    assert quality["speed"]["seconds_per_mpx_one_thread"] > 0
    for where in ("near_roads", "everywhere"):
        assert quality["calibration"][where]["expected_error_before"] is not None
    assert str(measured.card.score_threshold_near_roads) in quality["thresholds"]["near_roads"]
    assert open_bundle("trucks").card == bundle.card  # the shipped one is as it was


def test_motion_counts_near_roads_only(measured):
    """Without roads the order of detections is the network's own."""
    everywhere, near = (measured.card.calibration_for(case) for case in (False, True))
    assert everywhere.motion == 0 and near.motion > 0
    scores = np.linspace(0.01, 0.99, 50)
    moving = np.tile([8.0, 0.0], 25)
    assert (np.diff(everywhere.probability(scores, moving)) > 0).all()


def test_counts_are_those_of_the_evaluation(measured):
    near = measured.card.quality["simulated_held_out"]["near_roads"]
    total = near["tp"] + near["fn"]
    assert total > 0
    assert near["recall"] == pytest.approx(near["tp"] / total, abs=1e-3)
    assert np.isfinite(measured.curves["simulated"].average_precision)
