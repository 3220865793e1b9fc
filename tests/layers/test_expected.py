"""Expected numbers of trucks: unbiased, with intervals that hold the truth, for detectors of known recall."""

from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from pipeline.layers.expected import LowSun, Recall, groups_of
from pipeline.layers.flow import poisson_interval


def detected(scores, speed=80.0, sigma=8.0, landcover="built", near_cloud=False) -> gpd.GeoDataFrame:
    size = len(scores)
    columns = {"score": scores, "speed_kmh": speed, "speed_kmh_sigma": sigma, "landcover": landcover}
    frame = pd.DataFrame(columns, index=range(size)).assign(near_cloud=near_cloud)
    return gpd.GeoDataFrame(frame, geometry=gpd.points_from_xy(np.zeros(size), np.zeros(size)))


def total(recall, trucks, threshold=0.5):
    return recall.shares(trucks, threshold).sums(np.zeros(len(trucks), np.intp), 1)


def test_each_detection_stands_for_its_probability_over_its_recall():
    """0.9 and 0.4 trucks of which half are found, and 0.8 of which all are; 0.04 is too weak to count."""
    rows = [["built", "clear", "away", 50_000, 100_000], ["open", "clear", "away", 100_000, 100_000]]
    recall = Recall.of_table(rows, 0.05)
    trucks = detected([0.9, 0.4, 0.8, 0.04], landcover=["built", "built", "crops", "built"])
    sums = total(recall, trucks)
    assert sums.expected[0] == pytest.approx(1.3 / 0.5 + 0.8, abs=1e-4)
    noise = sum(p * (1 - p) / r + (1 - r) * (p / r) ** 2 for p, r in ((0.9, 0.5), (0.4, 0.5), (0.8, 1.0)))
    assert sums.variance[0] == pytest.approx(noise, abs=1e-3)
    assert recall.shares(trucks, 0.5).counted.tolist() == [True, False, True, False]


def test_long_shadows_lower_the_recall():
    """Shadows of two heights, a sun at 63 degrees, are one more than those that change nothing."""
    rows = [["built", "clear", "away", 80, 100]]
    recall = replace(Recall.of_table(rows, 0.05), low_sun=LowSun(-0.5, 0.1))
    trucks = detected([0.9, 0.2])
    low, high = recall.shares(trucks, 0.5, shadow=2.0), recall.shares(trucks, 0.5, shadow=0.9)
    for unchanged in (high, recall.shares(trucks, 0.5)):
        assert unchanged.missing == recall.value
    r = recall.value * np.exp(-0.5)
    np.testing.assert_allclose(low.recall, r)
    assert low.missing == pytest.approx(r)
    np.testing.assert_allclose(low.errors, np.hypot(recall.error, 0.1))
    assert low.counted.tolist() == [True, False]


def test_the_share_of_trucks_in_a_scene_changes_its_chances():
    """Many sure trucks make the doubtful ones likely, also on another segment; its error is common to all."""
    known = replace(Recall.of_table([["built", "clear", "away", 90, 100]], 0.05), share=0.5)
    doubtful = [0.4, 0.4]
    busy, calm = (known.shares(detected([*[sure] * 20, *doubtful]), 0.5) for sure in (0.99, 0.06))
    assert busy.chance[-1] > 0.7
    assert calm.chance[-1] < 0.1
    segments = np.repeat([0, 1], [20, 2])
    sums = busy.sums(segments, 2)
    p, r = busy.chance[-1], busy.recall[-1]
    slope = 2 * p * (1 - p) / r
    assert sums.by_share[1] == pytest.approx(slope)
    noise = 2 * (p * (1 - p) / r + (1 - r) * (p / r) ** 2)
    common = (2 * p / r * busy.errors[-1]) ** 2 + (slope * busy.share_error) ** 2
    assert sums.variance[1] == pytest.approx(noise + common)
    both = (sums.take(np.array([0])) + sums.take(np.array([1]))).variance
    assert both[0] > sums.variance.sum()
    assert len(known.shares(detected([]), 0.5).chance) == 0
    assert Recall.unknown().shares(detected(doubtful), 0.5).share_error == 0


def test_groups_follow_from_the_columns_of_the_layer():
    trucks = detected(
        [1.0] * 4, speed=[80, 80, 80, np.nan], sigma=[8, 20, 50, np.nan], near_cloud=[1, 0, 0, 0]
    )
    trucks["landcover"] = ["built", "trees", None, "built"]
    surface, contrast, cloud = groups_of(trucks)
    assert surface == ["built", "open", "unknown", "built"]
    assert contrast == ["clear", "weak", "unclear", "unclear"]
    assert cloud == ["near", "away", "away", "away"]


def test_a_small_group_has_the_recall_of_its_contrast_then_of_all():
    rows = [
        ["built", "weak", "away", 30, 40],
        ["open", "weak", "away", 3, 3],
        ["open", "clear", "near", 5, 5],
    ]
    recall = Recall.of_table(rows, 0.05)
    trucks = detected([1.0] * 3, sigma=[20, 20, 8], landcover=["built", "trees", "trees"])
    expected = [(30 + 0.5) / 41, (33 + 0.5) / 44, (38 + 0.5) / 49]
    np.testing.assert_allclose(recall.shares(trucks, 0.5).recall, expected)


def test_the_recall_of_a_card_with_and_without_a_table():
    figures = {"recall": 0.88, "interval_95": {"recall": [0.78, 0.98]}}
    quality = {"labelled_places_together": {"near_roads": figures}}
    old = Recall.of_card(quality)
    assert (old.value, old.score_from) == (0.88, None)
    assert old.error == pytest.approx(0.2 / (2 * 1.96 * 0.88), rel=1e-3)
    assert total(old, detected([0.6, 0.9, 0.4])).expected[0] == pytest.approx(2 / 0.88)  # as counted
    table = {"score_from": 0.05, "dispersion": 2.0, "rows": [["built", "clear", "away", 90, 100]]}
    new = Recall.of_card({**quality, "recall": {"near_roads": table}})
    assert (new.score_from, new.dispersion) == (0.05, 2.0)
    assert (new.share, new.low_sun) == (None, LowSun())
    measured = {"share": 0.6, "low_sun": {"recall": -0.5, "recall_error": 0.1}}
    today = Recall.of_card({"recall": {"near_roads": table | measured}})
    assert (today.share, today.low_sun) == (0.6, LowSun(-0.5, 0.1))
    for broken in (
        {"share": 1.5},
        {"low_sun": {"other": 1}},
        {"low_sun": 3},
        {"rows": [["built", "clear", "away", 9, 5]]},
        {"rows": []},
        {"score_from": "x"},
    ):
        assert Recall.of_card({**quality, "recall": {"near_roads": table | broken}}) == old
    assert Recall.of_card({}) is Recall.of_card({"simulated_held_out": "good"}) is None


def test_the_interval_of_a_mean_is_garwoods_if_all_count_as_one():
    low, high = total(Recall.unknown(), detected([1.0] * 5)).mean_interval
    assert [low[0], high[0]] == pytest.approx([end[0] for end in poisson_interval(np.array([5.0]))], rel=1e-6)
    nothing = total(Recall.unknown(), detected([])).mean_interval
    assert (nothing[0][0], nothing[1][0]) == (0, pytest.approx(3.6889, abs=1e-4))


def drawn(rng, trucks: int, found: float, kind: str) -> list[tuple[float, str]]:
    """Scores of a scene's detections of a kind: calibrated, so a share p of those of score p are trucks.

    A detection is a truck; with it come false ones, as many as its probability says.
    """
    kept = rng.random(trucks) < found
    scores = rng.choice([0.2, 0.6, 0.95], p=[0.05, 0.15, 0.8], size=kept.sum())
    false = {
        p: rng.poisson(trucks * found * share * (1 - p) / p)
        for p, share in ((0.2, 0.05), (0.6, 0.15), (0.95, 0.8))
    }
    return [(p, kind) for p in (*scores, *(p for p, number in false.items() for _ in range(number)))]


@pytest.mark.parametrize("mean", [0.5, 3, 15, 120])
def test_estimates_are_unbiased_and_intervals_hold_the_truth(mean):
    """Scenes of two kinds of trucks with recall 0.95 and 0.6, which the detector knows from 400 of each."""
    rng = np.random.default_rng(int(10 * mean))
    errors, covered, scenes = [], [], 600
    for _ in range(scenes):
        known = [
            ["built", "clear", "away", rng.binomial(400, 0.95), 400],
            ["open", "weak", "away", rng.binomial(400, 0.6), 400],
        ]
        recall = Recall.of_table(known, 0.05)
        clear, weak = rng.poisson(0.7 * mean), rng.poisson(0.3 * mean)
        found = drawn(rng, clear, 0.95, "clear") + drawn(rng, weak, 0.6, "weak")
        scores, kinds = (list(part) for part in zip(*found, strict=True)) if found else ([], [])
        sigma = [8.0 if kind == "clear" else 20.0 for kind in kinds]
        cover = ["built" if kind == "clear" else "crops" for kind in kinds]
        sums = total(recall, detected(scores, sigma=sigma, landcover=cover))
        low, high = (end[0] for end in sums.interval)
        errors.append(sums.expected[0] - clear - weak)
        covered.append(low <= clear + weak <= high)
    assert np.mean(errors) == pytest.approx(0, abs=4 * np.std(errors) / scenes**0.5 + 0.01 * mean)
    assert 0.9 <= np.mean(covered) <= (0.98 if mean > 3 else 1.0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_intervals_hold_the_truth_whatever_the_share_of_trucks(share):
    """Of 60 detections a share are trucks, calibrated where 60 % were.

    The share of the calibration, worth one detection, leaves some bias, far less than no correction.
    """
    rng = np.random.default_rng(int(100 * share))
    recall = replace(Recall.of_table([["built", "clear", "away", 9_500, 10_000]], 0.0), share=0.6)
    errors, plain, covered = [], [], []
    for _ in range(400):
        trucks = rng.poisson(60 * share)
        found = rng.random(trucks) < 0.95
        heavy = np.repeat([True, False], [found.sum(), rng.poisson(60 * (1 - share))])
        scores = expit(2 * rng.normal(np.where(heavy, 1, -1)) + logit(0.6))
        sums = total(recall, detected(scores))
        low, high = (end[0] for end in sums.interval)
        errors.append(sums.expected[0] - trucks)
        plain.append(total(replace(recall, share=None), detected(scores)).expected[0] - trucks)
        covered.append(low <= trucks <= high)
    assert abs(np.mean(errors)) < 0.3 + 0.25 * abs(np.mean(plain))
    assert 0.9 <= np.mean(covered) <= 0.98
