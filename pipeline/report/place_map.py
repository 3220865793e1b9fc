"""The map of the page of a place: roads by flow, or detections where roads are not known."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.traffic.all_dates import AllDates

_COLOURS = ("#b9d7d2", "#76b3ab", "#2f8a80", "#0b5f57", "#062f2b")
"""From little to much flow: each is darker than the one before."""
_WIDTHS = (2, 3, 4.5, 6, 8)
_UNKNOWN = "#94a3b8"
_DEGREES = 1e-5
"""Unit of coordinates in the page: about a metre."""
_MOST_VERTICES = 120_000
MOST_POINTS = 20_000
"""Detections on the map, those with the highest scores."""


def flow_classes(flow: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lower ends of the classes of flow: 0 and quantiles of the flows, rounded to two digits."""
    known = flow[np.isfinite(flow) & (flow > 0)]
    if not len(known):
        return np.zeros(1)
    ends = np.quantile(known, np.arange(1, len(_COLOURS)) / len(_COLOURS))
    return np.unique([0.0, *(float(f"{end:.2g}") for end in ends)])


def _style(level: int, levels: int) -> dict[str, Any]:
    """Return colour and width of a class: the first and the last always differ most."""
    step = round(level * (len(_COLOURS) - 1) / max(levels - 1, 1))
    return {"colour": _COLOURS[step], "width": _WIDTHS[step]}


def flow_legend(levels: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return the classes of flow with text, colour and width, and what was not searched."""
    ends = [f"{low:g} to {high:g}" for low, high in pairwise(levels)]
    texts = [*ends, f"{levels[-1]:g} and more"]
    shown = [{"text": text, **_style(level, len(levels))} for level, text in enumerate(texts)]
    return [*shown, {"text": "not searched", "colour": _UNKNOWN, "width": 2}]


def roads_on_map(roads: gpd.GeoDataFrame, levels: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return the roads of a summary with flow, colour, width and lines."""
    shown = []
    for row, lines in zip(roads.to_dict("records"), _lines(roads), strict=True):
        flow = row["flow_per_hour"]
        known = not pd.isna(flow)
        level = int(np.searchsorted(levels, flow, side="right")) - 1 if known else 0
        style = _style(level, len(levels)) if known else {"colour": _UNKNOWN, "width": 2}
        named = {name: None if pd.isna(row[name]) else str(row[name]) for name in ("name", "road_class")}
        of = {"road": str(row["road"]), **named, "flow": round(float(flow)) if known else None}
        shown.append({**of, **style, "lines": lines})
    return shown


def _lines(roads: gpd.GeoDataFrame) -> list[list[list[int]]]:
    """Return the lines of each road: longitude and latitude in `_DEGREES`, then differences.

    They are simplified by 5 m, or by more until all have at most `_MOST_VERTICES` vertices.
    """
    shapes, tolerance = roads.geometry.to_numpy(), 5 * _DEGREES
    simple = shapely.simplify(shapes, tolerance, preserve_topology=False)
    while shapely.get_num_coordinates(simple).sum() > _MOST_VERTICES and tolerance < 1:
        tolerance *= 2
        simple = shapely.simplify(shapes, tolerance, preserve_topology=False)
    return [[_delta(part) for part in shapely.get_parts(shape)] for shape in simple]


def _delta(line: shapely.Geometry) -> list[int]:
    at = np.rint(shapely.get_coordinates(line) / _DEGREES).astype(np.int64)
    steps = np.diff(at, axis=0)
    return [*at[0].tolist(), *steps[steps.any(axis=1)].ravel().tolist()]


def points_on_map(every: AllDates, dates: pd.DatetimeIndex) -> dict[str, Any]:
    """Return detections as columns, and the bounds of the searched areas, all in `_DEGREES`.

    `at` has longitude and latitude of the first, then differences; `date` is an index into `dates`, -1
    without a date.
    """
    trucks = every.trucks.sort_values("score", ascending=False, kind="stable").head(MOST_POINTS).sort_index()
    at = _in_degrees(trucks.geometry.centroid)
    days = every.acquisitions.set_index("scene_id")["date"].reindex(trucks["scene_id"])
    speed = trucks["speed_kmh"].to_numpy(np.float64)
    return {
        "at": np.diff(at, axis=0, prepend=0).ravel().tolist(),
        "date": dates.get_indexer(pd.DatetimeIndex(pd.to_datetime(days))).tolist(),
        "score": np.rint(100 * trucks["score"].to_numpy(np.float64)).astype(int).tolist(),
        "speed": [round(v) if np.isfinite(v) else None for v in speed.tolist()],
        "again": trucks["recurring"].astype(int).tolist(),
        "of": len(every.trucks),
        "areas": _areas(every.seen),
    }


def _areas(seen: gpd.GeoDataFrame) -> list[list[list[int]]]:
    """Return the corners of the area that each scene's searched parts span, each once."""
    bounds = seen.bounds.groupby(seen["scene_id"], sort=False)
    ends = bounds[["minx", "miny"]].min().join(bounds[["maxx", "maxy"]].max()).drop_duplicates()
    boxes = gpd.GeoSeries(shapely.box(*ends.to_numpy().T), crs=seen.crs)
    return [
        _in_degrees(gpd.GeoSeries(shapely.points(box.exterior.coords), crs=seen.crs)).tolist()
        for box in boxes
    ]


def _in_degrees(points: gpd.GeoSeries) -> NDArray[np.int64]:
    """Return longitude and latitude (N, 2) in `_DEGREES`."""
    placed = points.to_crs("EPSG:4326")
    return np.rint(np.stack([placed.x, placed.y], axis=1).reshape(-1, 2) / _DEGREES).astype(np.int64)
