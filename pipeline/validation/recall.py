"""Recall of a detector by kind of truck, for its card, and a check of expected numbers with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.trucks.scores import TruckEvaluation
from pipeline.layers.expected import LEAST_SCORE, Recall, Sums, groups_of
from pipeline.layers.trucks import WEAKEST_SCORE
from pipeline.validation.card_metrics import rounded
from pipeline.validation.observe import Observed


def recall_table(
    fitting: Sequence[Observed], held_out: Sequence[Observed], near_roads: bool
) -> dict[str, Any]:
    """Return the recall of simulated scenes with calibrated scores, by groups, as `Recall.of_card` reads it.

    `rows`: of all scenes, trucks found by a detection of at least `score_from`, and trucks; surface, contrast
    and clouds as in `pipeline.layers.expected.groups_of`. `dispersion`: mean over the scenes held out of the
    squared error of the expected number over its variance, with the recall of `fitting`; at least 1. `check`:
    for these scenes the trucks, their expected number and its 95 % interval, without that dispersion.
    """
    score_from = LEAST_SCORE if near_roads else WEAKEST_SCORE
    known = _rows(fitting, near_roads, score_from)
    table: dict[str, Any] = {"score_from": score_from, "dispersion": 1.0}
    check: list[list[Any]] = []
    if any(row[-1] for row in known):
        recall = Recall.of_table(known, score_from)
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
        "rows": _rows([*fitting, *held_out], near_roads, score_from),
        "check": {"columns": ["place", "trucks", "expected", "low", "high"], "rows": check},
    }


def _rows(places: Sequence[Observed], near_roads: bool, score_from: float) -> list[list[Any]]:
    """Return a row for each group of trucks, in order."""
    found: Counter[tuple[str, str, str]] = Counter()
    trucks: Counter[tuple[str, str, str]] = Counter()
    for place in places:
        evaluation = place.evaluate(near_roads, score_from)
        hit, missed = _hit_and_missed(evaluation)
        reference = evaluation.reference
        measured = reference.assign(speed_kmh=reference["moved"], speed_kmh_sigma=reference["moved_sigma"])
        groups = list(zip(*groups_of(measured), strict=True))
        found.update(groups[index] for index in hit)
        trucks.update(groups[index] for index in (*hit, *missed))
    return [[*group, found[group], trucks[group]] for group in sorted(trucks)]


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
    trucks = evaluation.predicted[~evaluation.matching.ignored_predictions].reset_index(drop=True)
    shares = recall.shares(trucks, 0.0)
    return len(hit) + len(missed), shares.sums(np.zeros(len(trucks), np.intp), 1)
