"""Every mistake as a feature on the map, with its likely cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipeline.evaluation.detection import TruckEvaluation, angle_between, centres, column
from pipeline.evaluation.labels import LandcoverLabels
from pipeline.evaluation.matching import UNMATCHED
from pipeline.evaluation.segmentation import blocks, class_index, prediction_grid
from pipeline.layers.regions import OUTSIDE, Regions, label_regions, outline
from pipeline.models.bundle import LegendClass

OUTCOMES = ("TP", "FP", "FN", "ignored", "not_seen")
SLOW_KMH = 40.0
"""Below it the bands see a truck within about a pixel (11 m at 40 km/h), as they do a parked one."""
NEAR_M = 60.0
"""A prediction and a reference this close that don't match are taken to mean the same truck."""
CROWD_M = 40.0
"""Trucks closer together than this blend into each other."""
EDGE_M = 15.0
"""Within about a box of the border of what was looked at, a detection may have its centre outside."""
MIN_CASE_HA = 1.0
AGREE = 255
"""In place of a pair of classes, where they don't differ."""

TRUCK_COLUMNS = (
    "id",
    "outcome",
    "cause",
    "score",
    "distance_m",
    "prediction_id",
    "reference_id",
    "confidence",
    "heading_error_deg",
    "speed_error_kmh",
    "geometry",
)


def truck_cases(
    evaluation: TruckEvaluation,
    seen: gpd.GeoDataFrame | None = None,
    below_threshold: gpd.GeoDataFrame | None = None,
) -> gpd.GeoDataFrame:
    """Every true positive, false positive and false negative as a box, in the evaluation's CRS.

    `outcome` is one of `OUTCOMES` (ignored: matched to a `low` or `ignore` reference; not_seen: a reference
    missed where the model did not look). Boxes are the detection's, or the reference's where nothing was
    detected. `cause` is the likely reason of a mistake, the first that holds:

    - FP: `near cloud`, `image edge`, `off road`, `duplicate` (within `CROWD_M` of a detection that is right),
      `misplaced` (a missed reference within `NEAR_M`), `slow or parked`, `over <land cover>` (built, water
      and bare: roofs, glint and quarries look like trucks), else `unknown`.
    - FN: `low score` (a detection of `below_threshold` within the matching radius), `misplaced` (a false
      alarm within `NEAR_M`), `slow or parked`, `edge of the area seen` (within `EDGE_M` of it), `crowded`
      (another truck within `CROWD_M`), `faint` (medium confidence), else `unknown`.

    True positives carry `heading flipped` where the heading is off by more than 90 degrees, else none.
    """
    matching, predicted, reference = evaluation.matching, evaluation.predicted, evaluation.reference
    matched = matching.reference_of != UNMATCHED
    missed = matching.missed
    pairs = matching.reference_of[matched]
    heading_error = np.full(len(predicted), np.nan)
    heading_error[matched] = angle_between(
        column(predicted, "heading_deg")[matched], column(reference, "travel_deg")[pairs]
    )
    speed_error = np.full(len(predicted), np.nan)
    speed_error[matched] = column(predicted, "speed_kmh")[matched] - column(reference, "speed_kmh")[pairs]
    outcome = np.where(matched, np.where(matching.dropped, "ignored", "TP"), "FP").astype(object)
    cause = np.full(len(predicted), None, dtype=object)
    cause[(outcome == "TP") & (heading_error > 90)] = "heading flipped"
    wrong = outcome == "FP"
    cause[wrong] = _false_positive_causes(evaluation)[wrong]
    reference_id = reference["id"].to_numpy(dtype=object)
    confidence = reference["confidence"].to_numpy(dtype=object)
    found = gpd.GeoDataFrame(
        {
            "outcome": outcome,
            "cause": cause,
            "score": column(predicted, "score"),
            "distance_m": matching.distance_m,
            "prediction_id": _ids(predicted),
            "reference_id": _where(matched, reference_id, matching.reference_of),
            "confidence": _where(matched, confidence, matching.reference_of),
            "heading_error_deg": heading_error,
            "speed_error_kmh": speed_error,
        },
        geometry=predicted.geometry.to_numpy(),
        crs=reference.crs,
    )
    looked_at = evaluation.looked_at[missed]
    lost = gpd.GeoDataFrame(
        {
            "outcome": np.where(looked_at, "FN", "not_seen").astype(object),
            "cause": np.where(
                looked_at, _false_negative_causes(evaluation, seen, below_threshold), "not looked at"
            ).astype(object),
            "score": np.full(len(missed), np.nan),
            "distance_m": np.full(len(missed), np.nan),
            "prediction_id": np.full(len(missed), None, dtype=object),
            "reference_id": reference_id[missed],
            "confidence": confidence[missed],
            "heading_error_deg": np.full(len(missed), np.nan),
            "speed_error_kmh": np.full(len(missed), np.nan),
        },
        geometry=reference.geometry.to_numpy()[missed],
        crs=reference.crs,
    )
    parts = [part for part in (found, lost) if len(part)] or [found]
    cases = gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs=reference.crs)
    number = cases.groupby("outcome").cumcount() + 1
    cases["id"] = [
        f"{outcome.lower()}-{nth:05d}" for outcome, nth in zip(cases["outcome"], number, strict=True)
    ]
    return cases[list(TRUCK_COLUMNS)]


def landcover_cases(
    predicted: Path | str,
    labels: LandcoverLabels,
    legend: Sequence[LegendClass],
    min_area_ha: float = MIN_CASE_HA,
) -> gpd.GeoDataFrame:
    """Connected areas mapped as one class and labelled as another, of at least `min_area_ha`, largest first.

    Columns `predicted_class`, `reference_class`, `area_ha`, `geometry` (along pixel edges, in the CRS of the
    prediction). Read and compared strip by strip, outlined as the layers are; see `pipeline.layers.regions`.
    """
    grid = prediction_grid(predicted)
    pixel_ha = abs(grid.affine.determinant) / 10_000
    regions = label_regions(_disagreement(predicted, labels, legend), AGREE)
    regions = _only(regions, regions.sizes * pixel_ha >= min_area_ha * (1 - 1e-9))
    polygons = outline(regions, grid.affine)
    bounds = shapely.bounds(polygons).reshape(-1, 4)
    order = np.lexsort((*bounds.T[::-1], -regions.sizes))
    truth, value = np.divmod(regions.values[order], len(legend))
    names = np.array([item.name for item in legend], dtype=object)
    return gpd.GeoDataFrame(
        {
            "predicted_class": names[value],
            "reference_class": names[truth],
            "area_ha": regions.sizes[order] * pixel_ha,
        },
        geometry=polygons[order],
        crs=grid.crs.to_wkt() if grid.crs else None,
    )


def _only(regions: Regions, kept: NDArray[np.bool_]) -> Regions:
    number = np.append(np.where(kept, np.cumsum(kept) - 1, OUTSIDE), OUTSIDE).astype(np.int32)
    return replace(
        regions,
        run_regions=number[regions.run_regions],
        values=regions.values[kept],
        sizes=regions.sizes[kept],
    )


def _disagreement(
    predicted: Path | str, labels: LandcoverLabels, legend: Sequence[LegendClass]
) -> Iterator[NDArray[np.uint8]]:
    """Strips of rows, (h, W): label x K + prediction where both have a class and they differ, else `AGREE`;
    K up to 15."""
    index, count = class_index(legend), len(legend)
    for _, values, truth in blocks(predicted, labels):
        i, j = index[truth], index[values]
        differ = (i < count) & (j < count) & (i != j)
        yield np.where(differ, i * np.uint8(count) + j, np.uint8(AGREE))


def _false_positive_causes(evaluation: TruckEvaluation) -> NDArray[np.object_]:
    predicted, reference, matching = evaluation.predicted, evaluation.reference, evaluation.matching
    xy = centres(predicted)
    missed = centres(reference)[matching.missed]
    landcover = predicted.get("landcover", pd.Series(None, index=predicted.index, dtype=object)).astype(
        object
    )
    suspicious = landcover.isin(["built", "water", "bare"]).to_numpy()
    knows_roads = "road_id" in predicted and bool(predicted["road_id"].notna().any())
    off_road = predicted["road_id"].isna().to_numpy() if knows_roads else np.zeros(len(predicted), bool)
    return _first_that_holds(
        len(predicted),
        ("near cloud", _flag(predicted, "near_cloud")),
        ("image edge", _flag(predicted, "touches_edge")),
        ("off road", off_road),
        ("duplicate", _distance_to(xy, xy[matching.true_positives]) <= CROWD_M),
        ("misplaced", _distance_to(xy, missed) <= NEAR_M),
        ("slow or parked", column(predicted, "speed_kmh") < SLOW_KMH),
        *(
            (f"over {name}", (landcover == name).to_numpy() & suspicious)
            for name in ("built", "water", "bare")
        ),
    )


def _false_negative_causes(
    evaluation: TruckEvaluation,
    seen: gpd.GeoDataFrame | None,
    below_threshold: gpd.GeoDataFrame | None,
) -> NDArray[np.object_]:
    predicted, reference, matching = evaluation.predicted, evaluation.reference, evaluation.matching
    lost = matching.missed
    everywhere = centres(reference)
    xy = everywhere[lost]
    weak = np.zeros((0, 2)) if below_threshold is None else centres(below_threshold.to_crs(reference.crs))
    at_edge = np.zeros(len(lost), dtype=bool)
    if seen is not None:
        borders = shapely.boundary(seen.to_crs(reference.crs).geometry.to_numpy())
        tree = shapely.STRtree(borders)
        at_edge[tree.query(shapely.points(xy), predicate="dwithin", distance=EDGE_M)[0]] = True
    return _first_that_holds(
        len(lost),
        ("low score", _distance_to(xy, weak) <= matching.radius_m),
        ("misplaced", _distance_to(xy, centres(predicted)[matching.false_positives]) <= NEAR_M),
        ("slow or parked", column(reference, "speed_kmh")[lost] < SLOW_KMH),
        ("edge of the area seen", at_edge),
        ("crowded", _distance_to(xy, everywhere, nth=2) <= CROWD_M),
        ("faint", reference["confidence"].to_numpy(dtype=object)[lost] == "medium"),
    )


def _first_that_holds(count: int, *rules: tuple[str, NDArray[np.bool_]]) -> NDArray[np.object_]:
    cause = np.full(count, "unknown", dtype=object)
    for name, holds in reversed(rules):
        cause[np.asarray(holds, dtype=bool)] = name
    return cause


def _distance_to(xy: NDArray[np.float64], others: NDArray[np.float64], nth: int = 1) -> NDArray[np.float64]:
    """(N,): metres to the nearest of the others; `nth=2` for points that are among them. inf without any."""
    if not len(xy) or not len(others):
        return np.full(len(xy), np.inf)
    distance, _ = cKDTree(others).query(xy, k=[nth])
    return np.asarray(distance[:, 0], dtype=np.float64)


def _flag(frame: gpd.GeoDataFrame, name: str) -> NDArray[np.bool_]:
    if name not in frame:
        return np.zeros(len(frame), dtype=bool)
    return frame[name].astype("boolean").fillna(False).to_numpy(dtype=bool)


def _ids(frame: gpd.GeoDataFrame) -> NDArray[np.object_]:
    ids = frame["id"] if "id" in frame else pd.Series(range(1, len(frame) + 1))
    return ids.astype(str).to_numpy(dtype=object)


def _where(
    matched: NDArray[np.bool_], values: NDArray[np.object_], index: NDArray[np.intp]
) -> NDArray[np.object_]:
    result = np.full(len(matched), None, dtype=object)
    result[matched] = values[index[matched]]
    return result
