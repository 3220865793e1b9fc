"""Expected numbers of trucks: unbiased, with intervals that hold the truth, for detectors of known recall."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from pipeline.layers.expected import Recall, groups_of
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
    for broken in ({"rows": [["built", "clear", "away", 9, 5]]}, {"rows": []}, {"score_from": "x"}):
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
