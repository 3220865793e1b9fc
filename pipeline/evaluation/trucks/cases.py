"""Every TP, FP, FN and TN as a feature on the map, with its likely cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipeline.evaluation.columns import LIGHT
from pipeline.evaluation.trucks import causes
from pipeline.evaluation.trucks.boxes import angle_between, centres, column
from pipeline.evaluation.trucks.evidence import EVIDENCE_COLUMNS, can_measure, measure_evidence
from pipeline.evaluation.trucks.matching import UNMATCHED, match
from pipeline.evaluation.trucks.scores import TruckEvaluation
from pipeline.evaluation.trucks.true_negatives import find_true_negatives
from pipeline.input_warnings import warn
from pipeline.layers.columns import NUMBER, TEXT, Layer
from pipeline.scenes.scene import Scene

OUTCOMES = ("TP", "FP", "FN", "TN", "ignored", "not_seen")
MOST_MEASURED = 5000
"""Largest number of cases measured in the pixels, which takes 3 ms each. A tile has some thousand trucks."""
NEAR_M = 30.0
"""A false positive and a false negative this close may be the same truck."""

TRUCK_CASES = Layer(
    "Polygon",
    {
        "id": TEXT,
        "outcome": TEXT,
        "cause": TEXT,
        "also": TEXT,
        "score": NUMBER,
        "vehicle_score": NUMBER,
        "distance_m": NUMBER,
        "prediction_id": TEXT,
        "reference_id": TEXT,
        "confidence": TEXT,
        "vehicle": TEXT,
        "heading_error_deg": NUMBER,
        "speed_error_kmh": NUMBER,
        "speed_kmh": NUMBER,
        "near_id": TEXT,
        "neighbour_m": NUMBER,
        "below_score": NUMBER,
        "road_m": NUMBER,
        "landcover": TEXT,
        **dict.fromkeys(EVIDENCE_COLUMNS, NUMBER),
    },
)
_MEASURED = ("FP", "FN", "TN")
_OF_LABELS = ("id", "confidence", "vehicle")
_FAR_FROM_ROADS_M = 1000.0


def truck_cases(
    evaluation: TruckEvaluation,
    seen: gpd.GeoDataFrame | None = None,
    below_threshold: gpd.GeoDataFrame | None = None,
    *,
    roads: gpd.GeoDataFrame | None = None,
    scene: Scene | None = None,
    marked: gpd.GeoDataFrame | None = None,
) -> gpd.GeoDataFrame:
    """Return every TP, FP, FN and TN as a box, in the evaluation's CRS, as `TRUCK_CASES`.

    `outcome` is one of `OUTCOMES`: TN are places of `true_negatives`, `ignored` a detection matched to an
    ignored reference, `not_seen` a reference without a match outside of the observed area. Boxes are the
    detection's, or the reference's if there is no detection. `id` is the outcome with a number, and can be a
    file's name.

    `cause` is the likely reason of a mistake by the rules of `causes`, `also` the other reasons that apply.
    Of a TN they are the reasons why it looks like a truck. A TP has `heading flipped` if the heading is off
    by more than 90 degrees, else null. An FP on a labelled light vehicle has that label's `reference_id` and
    `confidence`, and `vehicle` light, as has a TN there. The evidence is: `prediction_id` and `reference_id`
    of a match, `distance_m` apart; `near_id`, the FN or FP within `NEAR_M` that may be the same truck, with
    its `distance_m`; `neighbour_m` to the next TP (of FP) or the next reference (of FN); `below_score`, the
    best score below the threshold there; `road_m` to the nearest road; and `measure_evidence` at FP, FN, TN.
    Evidence is null if its source was not given (`scene` for the latter). Then causes that need it are not
    named: see `causes.without_evidence`.
    """
    cases = _pairs(evaluation)
    places = find_true_negatives(evaluation, seen, below_threshold, roads, marked)
    cases = _concat([cases, places])
    cases = gpd.GeoDataFrame(cases, geometry="geometry", crs=evaluation.reference.crs)
    _mark_light(cases, evaluation)
    _add_neighbours(cases, evaluation)
    cases["below_score"] = _below_score(cases, below_threshold, evaluation.matching.radius_m)
    cases["road_m"] = _road_distance(cases, roads)
    cases["at_edge"] = _at_edge(cases, seen)
    for name in EVIDENCE_COLUMNS:
        cases[name] = np.nan
    if scene is not None and can_measure(scene) and len(measured := _to_measure(cases)):
        part = cases.iloc[measured]
        part = part.to_crs(scene.grid.crs.to_wkt()) if scene.grid.crs else part
        bounds = part.bounds.to_numpy()
        found = measure_evidence(scene, centres(part), bounds[:, 2:] - bounds[:, :2])
        for name in EVIDENCE_COLUMNS:
            cases.loc[cases.index[measured], name] = found[name].to_numpy()
    cases["cause"], cases["also"] = cases["cause"].astype(object), cases["also"].astype(object)
    for outcome, rules in (
        ("FP", causes.false_positive_causes),
        ("FN", causes.false_negative_causes),
        ("TN", causes.true_negative_causes),
    ):
        rows = cases.index[cases["outcome"] == outcome]
        verdict = rules(cases.loc[rows])
        cases.loc[rows, "cause"], cases.loc[rows, "also"] = verdict.cause, verdict.also
    return _tidy(cases)


def _to_measure(cases: gpd.GeoDataFrame) -> NDArray[np.intp]:
    """Return the rows of mistakes and true negatives, evenly spread ones if they are many."""
    rows = np.flatnonzero(cases["outcome"].isin(_MEASURED))
    if len(rows) <= MOST_MEASURED:
        return rows
    warn(
        f"Causes of {MOST_MEASURED:,} of {len(rows):,} mistakes and true negatives were measured in the "
        "pixels; those of the others follow from their attributes only."
    )
    return rows[np.linspace(0, len(rows) - 1, MOST_MEASURED).round().astype(np.intp)]


def _tidy(cases: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    number = cases.groupby("outcome").cumcount() + 1
    cases["id"] = [
        f"{outcome.lower()}-{nth:05d}" for outcome, nth in zip(cases["outcome"], number, strict=True)
    ]
    # A fit without a result has an infinite deviation, which few formats can hold.
    cases["displacement_sigma_px"] = cases["displacement_sigma_px"].replace(np.inf, np.nan)
    return TRUCK_CASES.conform(cases)


def _pairs(evaluation: TruckEvaluation) -> gpd.GeoDataFrame:
    """Return the cases of all detections, then of all references without a match."""
    matching, predicted, reference = evaluation.matching, evaluation.predicted, evaluation.reference
    matched, on_light = matching.reference_of != UNMATCHED, evaluation.on_light
    false_negatives = matching.false_negatives
    pairs = matching.reference_of[matched]
    heading_error = np.full(len(predicted), np.nan)
    heading_error[matched] = angle_between(
        column(predicted, "heading_deg")[matched], column(reference, "travel_deg")[pairs]
    )
    speed_error = np.full(len(predicted), np.nan)
    speed_error[matched] = column(predicted, "speed_kmh")[matched] - column(reference, "speed_kmh")[pairs]
    outcome = np.where(matched, np.where(matching.ignored_predictions, "ignored", "TP"), "FP").astype(object)
    cause = np.full(len(predicted), None, dtype=object)
    cause[(outcome == "TP") & (heading_error > 90)] = "heading flipped"
    distance = matching.distance_m.copy()
    labelled = {name: _column(reference, name) for name in _OF_LABELS}
    of_found = {name: _where(matched, labelled[name], matching.reference_of) for name in _OF_LABELS}
    if on_light.any():
        lights = evaluation.light.iloc[evaluation.light_of[on_light]]
        distance[on_light] = np.hypot(*(centres(predicted)[on_light] - centres(lights)).T)
        for name in _OF_LABELS:
            of_found[name][on_light] = _column(lights, name)
    found = {
        "outcome": outcome,
        "cause": cause,
        "score": column(predicted, "score"),
        "vehicle_score": column(predicted, "vehicle_score"),
        "distance_m": distance,
        "prediction_id": _ids(predicted),
        "reference_id": of_found["id"],
        "confidence": of_found["confidence"],
        "vehicle": of_found["vehicle"],
        "heading_error_deg": heading_error,
        "speed_error_kmh": speed_error,
        "speed_kmh": column(predicted, "speed_kmh"),
        "landcover": _column(predicted, "landcover"),
        "near_cloud": _column(predicted, "near_cloud"),
        "touches_edge": _column(predicted, "touches_edge"),
        "off_road": _off_road(predicted),
        "geometry": predicted.geometry.to_numpy(),
    }
    observed = evaluation.observed[false_negatives]
    lost = {
        "outcome": np.where(observed, "FN", "not_seen").astype(object),
        "cause": np.where(observed, None, "not observed"),  # type: ignore[call-overload]
        "reference_id": labelled["id"][false_negatives],
        "confidence": labelled["confidence"][false_negatives],
        "vehicle": labelled["vehicle"][false_negatives],
        "speed_kmh": column(reference, "speed_kmh")[false_negatives],
        "geometry": reference.geometry.to_numpy()[false_negatives],
    }
    frames = (pd.DataFrame(part) for part in (found, lost))
    parts = [frame.reindex(columns=[*found, "also", "near_id", "neighbour_m"]) for frame in frames]
    return gpd.GeoDataFrame(_concat(parts), geometry="geometry", crs=reference.crs)


def _off_road(predicted: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """Return (N,): True for detections without a road, if others have one."""
    knows_roads = "road_id" in predicted and bool(predicted["road_id"].notna().any())
    return predicted["road_id"].isna().to_numpy() if knows_roads else np.zeros(len(predicted), dtype=bool)


def _mark_light(cases: gpd.GeoDataFrame, evaluation: TruckEvaluation) -> None:
    """Mark the TN at labelled light vehicles, in column `vehicle`."""
    negatives = np.flatnonzero(cases["outcome"] == "TN")
    apart = _distance_to(centres(cases)[negatives], centres(evaluation.light))
    vehicle = cases["vehicle"].to_numpy(dtype=object, copy=True)
    vehicle[negatives[apart <= evaluation.matching.radius_m]] = LIGHT
    cases["vehicle"] = vehicle


def _add_neighbours(cases: gpd.GeoDataFrame, evaluation: TruckEvaluation) -> None:
    """Add the neighbours of FP and FN: the counterpart among the others, and the nearest vehicle."""
    outcome = cases["outcome"].to_numpy(dtype=object)
    false, lost = np.flatnonzero(outcome == "FP"), np.flatnonzero(outcome == "FN")
    xy = centres(cases)
    everywhere = np.concatenate([centres(evaluation.reference), centres(evaluation.light)])
    neighbour, distance = np.full(len(cases), np.nan), cases["distance_m"].to_numpy(dtype=np.float64).copy()
    neighbour[false] = _distance_to(xy[false], xy[outcome == "TP"])
    neighbour[lost] = _distance_to(xy[lost], everywhere, nth=2)
    other = np.full(len(cases), None, dtype=object)
    unexplained = false[cases["vehicle"].to_numpy(dtype=object)[false] != LIGHT]
    likely = match(xy[unexplained], xy[lost], np.zeros(len(lost), bool), NEAR_M)
    for alarm, miss in enumerate(likely.reference_of):
        if miss != UNMATCHED:
            a, m = unexplained[alarm], lost[miss]
            other[a], other[m] = cases["reference_id"].iloc[m], cases["prediction_id"].iloc[a]
            distance[a] = distance[m] = likely.distance_m[alarm]
    cases["near_id"], cases["distance_m"] = other, distance
    cases["neighbour_m"] = np.where(np.isfinite(neighbour), neighbour, np.nan)


def _below_score(
    cases: gpd.GeoDataFrame, below_threshold: gpd.GeoDataFrame | None, radius_m: float
) -> NDArray[np.float64]:
    """Return (N,): of FN and TN, the best score below the threshold within the radius; NaN without any."""
    best = np.full(len(cases), np.nan)
    if below_threshold is None or not len(below_threshold):
        return best
    weak = below_threshold.to_crs(cases.crs)
    score = column(weak, "score") if "score" in weak else np.zeros(len(weak))
    asked = np.flatnonzero(cases["outcome"].isin(["FN", "TN"]))
    near = cKDTree(centres(weak)).query_ball_point(centres(cases)[asked], radius_m)
    for case, indices in zip(asked, near, strict=True):
        if indices:
            best[case] = score[indices].max()
    return best


def _road_distance(cases: gpd.GeoDataFrame, roads: gpd.GeoDataFrame | None) -> NDArray[np.float64]:
    """Return (N,): metres to the nearest road, `_FAR_FROM_ROADS_M` at most; NaN without roads."""
    if roads is None or not len(roads):
        return np.full(len(cases), np.nan)
    distance = np.full(len(cases), _FAR_FROM_ROADS_M)
    tree = shapely.STRtree(roads.to_crs(cases.crs).geometry.to_numpy())
    (case, _), apart = tree.query_nearest(
        shapely.points(centres(cases)),
        max_distance=_FAR_FROM_ROADS_M,
        return_distance=True,
        all_matches=False,
    )
    distance[case] = apart
    return distance


def _at_edge(cases: gpd.GeoDataFrame, seen: gpd.GeoDataFrame | None) -> NDArray[np.bool_]:
    at_edge = np.zeros(len(cases), dtype=bool)
    lost = np.flatnonzero(cases["outcome"] == "FN")
    if seen is not None and len(lost):
        borders = shapely.boundary(seen.to_crs(cases.crs).geometry.to_numpy())
        points = shapely.points(centres(cases)[lost])
        near = shapely.STRtree(borders).query(points, predicate="dwithin", distance=causes.EDGE_M)
        at_edge[lost[near[0]]] = True
    return at_edge


def cause_metrics(cases: gpd.GeoDataFrame) -> dict[str, Any]:
    """Count the likely causes by outcome; `not_inferred` names those that need missing evidence."""
    inferred = cases[cases["outcome"].isin(_MEASURED)]
    counts = inferred.groupby(["outcome", "cause"]).size().sort_values(ascending=False, kind="stable")
    result: dict[str, Any] = {outcome: {} for outcome in _MEASURED}
    for (outcome, cause), count in counts.items():
        result[outcome][str(cause)] = int(count)
    left_out = causes.without_evidence(inferred) if len(inferred) else []
    why = (
        "Nothing was measured in the pixels: the scene was not given, or lacks one of B02, B03, B04 and B08."
    )
    return {**result, "not_inferred": left_out, **({"why": why} if left_out else {})}


def _distance_to(xy: NDArray[np.float64], others: NDArray[np.float64], nth: int = 1) -> NDArray[np.float64]:
    """Return (N,): metres to the nearest of the others, inf without any; `nth` 2 for points among them."""
    if not len(xy) or not len(others):
        return np.full(len(xy), np.inf)
    distance, _ = cKDTree(others).query(xy, k=[nth])
    return np.asarray(distance[:, 0], dtype=np.float64)


def _ids(frame: gpd.GeoDataFrame) -> NDArray[np.object_]:
    ids = frame["id"] if "id" in frame else pd.Series(range(1, len(frame) + 1))
    return ids.astype(str).to_numpy(dtype=object)


def _where(
    matched: NDArray[np.bool_], values: NDArray[np.object_], index: NDArray[np.intp]
) -> NDArray[np.object_]:
    result = np.full(len(matched), None, dtype=object)
    result[matched] = values[index[matched]]
    return result


def _column(frame: gpd.GeoDataFrame, name: str) -> NDArray[np.object_]:
    return frame[name].to_numpy(dtype=object) if name in frame else np.full(len(frame), None, dtype=object)


def _concat(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate frames; an empty one must not decide the types of columns."""
    return pd.concat([part for part in parts if len(part)] or [parts[0]], ignore_index=True)
