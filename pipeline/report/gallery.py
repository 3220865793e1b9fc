"""The galleries of a page: pictures of cases, those that come first spread over their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.trucks.boxes import column
from pipeline.report.cases import Kind, data_uri, kind_of, known_facts
from pipeline.report.chips import case_chips
from pipeline.scenes.scene import Scene

CHIPS_OF_A_KIND = 24
NOTES = {
    "truck": "from the surest to the most doubtful",
    "FP": "detections that match no label, the surest first",
    "FN": "labels that no detection matches",
    "TP": "detections that match a label, the least sure first",
    "TN": "places that look like a truck and were left out",
}
"""The kinds that have a gallery, in the page's order."""
MAX_CHIPS = 2500
"""Inside a page, 2 kB each."""
MAX_TRUCK_CHIPS = 300
"""Trucks of a run that get a chip. Decoding their pixels takes longer than all else on a page."""


@dataclass(frozen=True)
class Example:
    """One picture of the gallery."""

    row: int
    """Of the page's cases."""
    uri: str
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """Examples of one kind, and how many cases of it there are in all."""

    kind: Kind
    note: str
    examples: tuple[Example, ...]
    pictures: int
    """Number of cases of this kind of which the page has a chip."""
    total: int


def spread(scores: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Choose at most `count` of N cases, evenly by the rank of their `scores` (N,); return rising indices.

    Cases without a score (NaN) are the lowest.
    """
    order = np.argsort(np.nan_to_num(scores, nan=-np.inf), kind="stable")
    picked = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.intp)
    return np.sort(order[np.unique(picked)])


def truck_chips(scene: Scene, trucks: gpd.GeoDataFrame) -> dict[str, bytes]:
    """Draw the chips of the `MAX_TRUCK_CHIPS` trucks with the highest scores, by id.

    It is empty for a scene without B02, B03 or B04.

    Raises
    ------
    CorruptImageError
        If pixels of the scene can't be decoded.
    """
    highest = trucks.sort_values("score", ascending=False, kind="stable").head(MAX_TRUCK_CHIPS)
    return dict(case_chips(scene, highest.assign(outcome="truck"), predicted=trucks))


def choose_examples(
    cases: gpd.GeoDataFrame, chips: Mapping[str, bytes]
) -> tuple[dict[str, list[int]], dict[str, bytes]]:
    """Choose rows of each kind, and `MAX_CHIPS` chips: those of the rows, then in the cases' order."""
    ids = cases["id"].astype(str).to_numpy()
    there = np.flatnonzero(np.isin(ids, list(chips)))
    outcome, score = cases["outcome"].to_numpy(), column(cases, "score")
    chosen = {}
    for key in NOTES:
        rows = there[outcome[there] == key]
        if len(rows):
            chosen[key] = rows[spread(score[rows], CHIPS_OF_A_KIND)].tolist()
    kept = list(dict.fromkeys([*(row for rows in chosen.values() for row in rows), *there.tolist()]))
    return chosen, {ids[row]: chips[ids[row]] for row in kept[:MAX_CHIPS]}


def galleries_of(
    cases: gpd.GeoDataFrame, chosen: Mapping[str, Sequence[int]], chips: Mapping[str, bytes]
) -> list[Gallery]:
    """Return a gallery for each kind of which rows were chosen and have a chip."""
    galleries = []
    for key, rows in chosen.items():
        examples = []
        for row in rows:
            case = cases.iloc[row]
            picture = chips.get(str(case["id"]))
            if picture is not None:
                examples.append(Example(row, data_uri(picture), _title(case), tuple(_lines(case))))
        if examples:
            ids = cases["id"][cases["outcome"] == key].astype(str)
            pictures = int(ids.isin(list(chips)).sum())
            galleries.append(Gallery(kind_of(key), NOTES[key], tuple(examples), pictures, len(ids)))
    return galleries


def _title(case: pd.Series) -> str:
    score = case.get("score")
    if score is not None and not pd.isna(score):
        return f"score {score:.2f}"
    reference = case.get("reference_id")
    return f"label {reference}" if reference is not None and not pd.isna(reference) else str(case["id"])


def _lines(case: pd.Series) -> list[str]:
    cause = case.get("cause")
    lines = [] if cause is None or pd.isna(cause) else [str(cause)]
    shown = ("speed_kmh", "heading_deg", "distance_m", "heading_error_deg")
    if pd.isna(case.get("heading_deg", np.nan)):
        shown = ("speed_kmh", "axis_deg", "distance_m", "heading_error_deg")
    return lines + known_facts(case, shown)
