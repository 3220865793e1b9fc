"""True negatives: observed places without a truck and without a detection."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipeline.evaluation.features import read_polygons
from pipeline.evaluation.labels import has_layer
from pipeline.evaluation.trucks.boxes import centres, column, within
from pipeline.evaluation.trucks.scores import TruckEvaluation
from pipeline.storage.untrusted_vectors import file_of

LAYER = "look_alikes"
"""Layer of label files: places that look like a truck and are not."""
MAX_PLACES = 300
"""Largest number of drawn places of either kind."""
CLEAR_M = 60.0
"""Smallest distance of a drawn place to every truck of either side."""
ROAD_STEP_M = 200.0
_SIDE_M = 30.0


def read_true_negatives(truck_labels: Path | str) -> gpd.GeoDataFrame | None:
    """Read places that a labeller marked as no trucks; None if there are none.

    They are layer `look_alikes` of a GeoPackage of truck labels, or the file beside it whose name has
    `lookalikes` for `trucks`.

    Raises
    ------
    LabelsError
        As `read_polygons`.
    """
    path = file_of(truck_labels)
    if has_layer(path, LAYER):
        return read_polygons(path, "Look-alikes", layers=(LAYER,))
    beside = true_negatives_file(truck_labels)
    return read_polygons(beside, "Look-alikes") if beside else None


def true_negatives_file(truck_labels: Path | str) -> Path | None:
    """Return the file of look-alikes beside a file of truck labels; None without one."""
    path = file_of(truck_labels)
    beside = path.parent / path.name.replace("trucks", "lookalikes")
    return beside if beside != path and beside.is_file() else None


def find_true_negatives(
    evaluation: TruckEvaluation,
    seen: gpd.GeoDataFrame | None = None,
    below_threshold: gpd.GeoDataFrame | None = None,
    roads: gpd.GeoDataFrame | None = None,
    marked: gpd.GeoDataFrame | None = None,
) -> gpd.GeoDataFrame:
    """Return true negatives as rows of `truck_cases`: `outcome` TN, `score`, `reference_id`, `geometry`.

    They are places `marked` by a labeller that hold no detection; the best `MAX_PLACES` boxes below the
    threshold that are no trucks; and `MAX_PLACES` road cells, every `ROAD_STEP_M`, drawn at random with a
    fixed seed. The latter two are in the observed area, `CLEAR_M` from every truck of either side.
    `reference_id` is that of the marked place, `below threshold` or `road`.
    """
    crs = evaluation.reference.crs
    everyone = np.concatenate([centres(evaluation.predicted), centres(evaluation.reference)])
    parts = []
    if marked is not None and len(marked):
        there = marked.to_crs(crs)
        names = there["id"].astype(str) if "id" in there else [str(nth + 1) for nth in range(len(there))]
        inside = shapely.STRtree(there.geometry.to_numpy()).query(
            shapely.points(centres(evaluation.predicted)), predicate="intersects"
        )
        free = np.ones(len(there), bool)
        free[inside[1]] = False
        parts.append(_places(there.geometry.to_numpy(), np.asarray(names, dtype=object)).iloc[free])
    if below_threshold is not None and len(below_threshold):
        weak = below_threshold.to_crs(crs)
        free = _is_clear(centres(weak), everyone) & _is_seen(centres(weak), seen, crs)
        score = column(weak, "score")
        best = np.flatnonzero(free)[np.argsort(-score[free], kind="stable")[:MAX_PLACES]]
        parts.append(_places(weak.geometry.to_numpy()[best], "below threshold").assign(score=score[best]))
    if roads is not None and len(roads):
        xy = _along(roads.to_crs(crs))
        weak_xy = np.zeros((0, 2)) if below_threshold is None else centres(below_threshold.to_crs(crs))
        xy = xy[_is_clear(xy, np.concatenate([everyone, weak_xy])) & _is_seen(xy, seen, crs)]
        drawn = np.sort(np.random.default_rng(0).permutation(len(xy))[:MAX_PLACES])
        half = _SIDE_M / 2
        cells = shapely.box(*(xy[drawn] - half).T, *(xy[drawn] + half).T)
        parts.append(_places(np.asarray(cells, dtype=object), "road"))
    frame = pd.concat(parts, ignore_index=True) if parts else _places(np.zeros(0, dtype=object), "road")
    return gpd.GeoDataFrame(frame, geometry="geometry", crs=crs)


def _places(boxes: NDArray[np.object_], source: NDArray[np.object_] | str) -> pd.DataFrame:
    return pd.DataFrame(
        {"outcome": "TN", "reference_id": source, "geometry": boxes}, index=range(len(boxes)), dtype=object
    )


def _along(roads: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Return (N, 2): points on the roads, `ROAD_STEP_M` apart, from half of that on."""
    lines = shapely.get_parts(roads.geometry.to_numpy())
    lengths = shapely.length(lines)
    counts = np.floor(lengths / ROAD_STEP_M + 0.5).astype(np.intp)
    nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    points = shapely.line_interpolate_point(np.repeat(lines, counts), (nth + 0.5) * ROAD_STEP_M)
    return shapely.get_coordinates(points)


def _is_clear(xy: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    if not len(xy) or not len(others):
        return np.ones(len(xy), dtype=bool)
    return np.asarray(cKDTree(others).query(xy)[0] > CLEAR_M)


def _is_seen(xy: NDArray[np.float64], seen: gpd.GeoDataFrame | None, crs: object) -> NDArray[np.bool_]:
    if seen is None:
        return np.ones(len(xy), dtype=bool)
    return within(xy, seen.to_crs(crs).geometry.to_numpy())
