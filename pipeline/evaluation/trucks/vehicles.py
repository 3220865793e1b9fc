"""Heavy vehicles, or moving vehicles of any kind: the labels that count, and the score that ranks."""

from __future__ import annotations

from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.labels import is_light
from pipeline.evaluation.trucks.boxes import centres
from pipeline.evaluation.trucks.matching import UNMATCHED, Matching, match

Counted = Literal["heavy", "moving"]
"""Vehicles that an evaluation counts: heavy ones, with all else as an error, or moving ones of any kind."""


def split_light(reference: gpd.GeoDataFrame, counted: Counted) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """Return the labels to be found or ignored, and those of light vehicles if only heavy ones count.

    A light vehicle of confidence `ignore` is ignored in both cases: no observer could judge the place. A
    faint one (`low`) is still no heavy vehicle.
    """
    aside = is_light(reference) & (reference["confidence"] != "ignore").to_numpy()
    if counted == "moving":
        aside[:] = False
    return reference[~aside].reset_index(drop=True), reference[aside].reset_index(drop=True)


def ranked(predicted: gpd.GeoDataFrame, counted: Counted) -> gpd.GeoDataFrame:
    """Return detections with the `score` that belongs to what counts.

    It is `vehicle_score` for moving vehicles, where that is known.
    """
    if counted == "heavy" or "vehicle_score" not in predicted:
        return predicted
    known = pd.to_numeric(predicted["vehicle_score"], errors="coerce")
    return predicted.assign(score=known.where(known.notna(), predicted.get("score", 1.0)))


def ranked_alike(
    predicted: gpd.GeoDataFrame, weak: gpd.GeoDataFrame | None, counted: Counted
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame | None]:
    """Return `ranked` detections, and those below the threshold; None for these if their score is another."""
    if weak is None:
        return ranked(predicted, counted), None
    comparable = counted == "heavy" or ("vehicle_score" in predicted) == ("vehicle_score" in weak)
    return ranked(predicted, counted), ranked(weak, counted) if comparable else None


def match_light(
    predicted: gpd.GeoDataFrame,
    light: gpd.GeoDataFrame,
    matching: Matching,
    scenes: tuple[NDArray[np.object_] | None, NDArray[np.object_] | None],
) -> NDArray[np.intp]:
    """Return (N,): the light vehicle on which each false positive is, or `UNMATCHED`.

    The false positives of `matching` and the light vehicles (L) are matched one to one within its radius.
    So the figures of heavy vehicles do not depend on labels of light ones, which only explain false alarms.
    `scenes` are those of the detections (N,) and of the light vehicles (L,), as for `match`.
    """
    false = matching.false_positives
    of_light = np.full(len(predicted), UNMATCHED, dtype=np.intp)
    ours, theirs = scenes
    found = match(
        centres(predicted)[false],
        centres(light),
        np.zeros(len(light), dtype=bool),
        matching.radius_m,
        None if ours is None else ours[false],
        theirs,
    )
    of_light[false] = found.reference_of
    return of_light
