"""Recall of a detector by kind of truck, for its card, and a check of expected numbers with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from pipeline.evaluation.labels import is_light
from pipeline.evaluation.trucks.scores import TruckEvaluation
from pipeline.layers.expected import LEAST_SCORE, LowSun, Recall, Sums, groups_of
from pipeline.layers.trucks import WEAKEST_SCORE
from pipeline.scenes.sun import long_shadow
from pipeline.simulation.world.stage import SLOW_KMH
from pipeline.validation.card_metrics import rounded
from pipeline.validation.observe import Observed

_STEEPEST = 2.0
"""Bound of the effect of shadows, which keeps it finite where nothing was found."""


def recall_table(
    fitting: Sequence[Observed],
    low_sun: Sequence[Observed],
    held_out: Sequence[Observed],
    near_roads: bool,
) -> dict[str, Any]:
    """Return the recall of simulated scenes with calibrated scores, by groups, as `Recall.of_card` reads it.

    `rows`: of the scenes of `fitting` and `held_out`, trucks found by a detection of at least `score_from`,
    and trucks; surface, contrast and clouds as in `pipeline.layers.expected.groups_of`. `share`: of trucks
    among such detections of `fitting`, the sum of their scores. `visible`: share of the moving heavy vehicles
    of `fitting` and `held_out` that are in the expected number, with its error. `low_sun`:
    `pipeline.layers.expected.LowSun` of the scenes of that name. `dispersion`: mean over the scenes held out
    of the squared error of the expected number over its variance, with the recall of `fitting`; at least 1.
    `check`: for these scenes the trucks, their expected number and its 95 % interval, without that
    dispersion.
    """
    score_from = LEAST_SCORE if near_roads else WEAKEST_SCORE
    known = _rows(fitting, near_roads, score_from)
    rows = _rows([*fitting, *held_out], near_roads, score_from)
    share = _share(fitting, near_roads, score_from)
    table: dict[str, Any] = {"score_from": score_from, "dispersion": 1.0}
    if share is not None:
        table["share"] = rounded(share)
    if any(row[-1] for row in rows):
        of_all = replace(Recall.of_table(rows, score_from), share=share)
        lower = fit_low_sun(low_sun, of_all, near_roads)
        table |= _visible([*fitting, *held_out], of_all, near_roads)
        table["low_sun"] = {name: rounded(value) for name, value in asdict(lower).items()}
    check: list[list[Any]] = []
    if any(row[-1] for row in known):
        recall = replace(Recall.of_table(known, score_from), share=share)
        squares = []
        for place in held_out:
            trucks, total = expected_trucks(place, recall, near_roads)
            low, high = (float(end[0]) for end in total.interval)
            check.append([place.name, trucks, *(rounded(value) for value in (total.expected[0], low, high))])
            squares.append((trucks - total.expected[0]) ** 2 / max(total.variance[0], 1e-9))
        table["dispersion"] = rounded(max(1.0, float(np.mean(squares)))) if squares else 1.0
    return {
        **table,
        "columns": ["surface", "contrast", "cloud", "found", "trucks"],
        "rows": rows,
        "check": {"columns": ["place", "trucks", "expected", "low", "high"], "rows": check},
    }


def _rows(places: Sequence[Observed], near_roads: bool, score_from: float) -> list[list[Any]]:
    """Return a row for each group of trucks, in order."""
    found: Counter[tuple[str, str, str]] = Counter()
    trucks: Counter[tuple[str, str, str]] = Counter()
    for place in places:
        evaluation = place.evaluate(near_roads, score_from)
        hit, missed = _hit_and_missed(evaluation)
        groups = list(zip(*groups_of(_measured(evaluation)), strict=True))
        found.update(groups[index] for index in hit)
        trucks.update(groups[index] for index in (*hit, *missed))
    return [[*group, found[group], trucks[group]] for group in sorted(trucks)]


def _visible(places: Sequence[Observed], recall: Recall, near_roads: bool) -> dict[str, float | None]:
    """Return the share of moving heavy vehicles that is in the expected number, and its relative deviation.

    It has the vehicles that an observer can see, and some of the fainter ones, which are detected at times.
    The deviation between places, weighted by vehicles, of the share that can be seen by the labels is the
    error at another place. Without vehicles there is no share.
    """
    counts, expected = [], 0.0
    for place in places:
        found = place.evaluate(near_roads, recall.score_from or 0.0).predicted.reset_index(drop=True)
        expected += float(recall.shares(found, 0.0, shadow=place.shadow).total.expected[0])
        labels = place.reference
        moving = labels[~is_light(labels) & (labels["speed_kmh"] >= SLOW_KMH)]
        faint = moving["confidence"] == "low"
        certain = ~faint & (moving["confidence"] != "ignore")
        counts.append((certain.sum(), (certain | faint).sum()))
    certain, all_ = np.array([pair for pair in counts if pair[1]], np.float64).reshape(-1, 2).T
    if not certain.sum():
        return {}
    seen, places_left = float(certain.sum() / all_.sum()), max(len(all_) - 1, 1)
    variance = float(np.average((certain / all_ - seen) ** 2, weights=all_)) * len(all_) / places_left
    share = min(expected / float(all_.sum()), 1.0)
    return {"visible": rounded(share), "visible_error": rounded(variance**0.5 / seen)} if share else {}


def _share(places: Sequence[Observed], near_roads: bool, score_from: float) -> float | None:
    """Return the share of trucks among detections of at least `score_from`; None without any."""
    scores = [_counting(place.evaluate(near_roads, score_from))["score"] for place in places]
    all_ = np.concatenate([each.to_numpy(np.float64) for each in scores])
    return float(all_.mean()) if len(all_) and 0 < all_.mean() < 1 else None


def fit_low_sun(places: Sequence[Observed], recall: Recall, near_roads: bool) -> LowSun:
    """Return the effect of long shadows on the recall, of calibrated scenes.

    A regression with a logarithmic link of found trucks on the length of the shadows, without an intercept:
    where shadows are short, the recall is `recall`. Its error is by Fisher's information.
    """
    expected, found, beyond = [np.zeros(0)], [np.zeros(0, np.bool_)], [np.zeros(0)]
    for place in places:
        evaluation = place.evaluate(near_roads, recall.score_from or 0.0)
        hit, missed = _hit_and_missed(evaluation)
        shares = recall.shares(_measured(evaluation).iloc[[*hit, *missed]].assign(score=1.0), 0.0)
        expected.append(shares.recall)
        found.append(np.repeat([True, False], [len(hit), len(missed)]))
        beyond.append(np.full(len(shares.recall), long_shadow(place.shadow)))
    lengths, recalls = np.concatenate(beyond), np.concatenate(expected)
    used = (lengths > 0) & (recalls < 1)
    x, before, y = lengths[used], recalls[used], np.concatenate(found)[used]
    if not len(x):
        return LowSun()

    def loss(slope: float) -> float:
        p = before * np.exp(slope * x)
        return -float(np.log(np.where(y, p, 1 - p)).sum())

    slope = float(minimize_scalar(loss, bounds=(-_STEEPEST, 0.0), method="bounded").x)
    p = before * np.exp(slope * x)
    return LowSun(slope, float((p * x**2 / (1 - p)).sum()) ** -0.5)


def _measured(evaluation: TruckEvaluation) -> gpd.GeoDataFrame:
    """Return the references with the columns of the layer of trucks that decide their group."""
    reference = evaluation.reference
    return reference.assign(speed_kmh=reference["moved"], speed_kmh_sigma=reference["moved_sigma"])


def _counting(evaluation: TruckEvaluation) -> gpd.GeoDataFrame:
    """Return the detections but for those of ignored references."""
    counts = ~evaluation.matching.ignored_predictions
    return evaluation.predicted[counts].reset_index(drop=True)


def _hit_and_missed(evaluation: TruckEvaluation) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the references that were found, and those that were not though they could be seen."""
    matching = evaluation.matching
    return matching.reference_of[matching.true_positives], evaluation.false_negatives


def expected_trucks(place: Observed, recall: Recall, near_roads: bool) -> tuple[int, Sums]:
    """Return the number of certain trucks of a place, and the sums of its detections, calibrated.

    Detections of ignored references count neither here nor there.
    """
    evaluation = place.evaluate(near_roads, recall.score_from or 0.0)
    hit, missed = _hit_and_missed(evaluation)
    shares = recall.shares(_counting(evaluation), 0.0, shadow=place.shadow)
    return len(hit) + len(missed), shares.total
