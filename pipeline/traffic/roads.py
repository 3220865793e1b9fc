"""Segments to roads: the carriageways of a road are one road with two directions, named by its course."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.traffic.courses import Courses, courses_of

BESIDE_M = 60.0
"""Largest distance of a carriageway from the other one of its road, and between pieces of a named road."""

_COMPASS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
_CLOCK = ("clockwise", "anticlockwise")
_STRAIGHT_DEG = 45.0
"""Largest turn between two pieces of a road without name and number."""
_APART = ("service", "services", "rest_area", "track", "emergency_bay", "escape")
_OPPOSITE = -0.9
"""Greatest cosine between two carriageways."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Roads:
    """R roads of a network of S segments."""

    table: pd.DataFrame
    """(R rows): `road`, `ref`, `name`, `road_class`, `bearing_deg` of the first direction (null for a ring)
    and `directions`, the names of both."""
    road: NDArray[np.int64]
    """(S,): the road of a segment; -1 for ramps and service roads, which are no part of a road."""
    way: NDArray[np.int8]
    """(S,): 1 if the line of a segment leads in the first direction of its road, -1 if in the second."""


def is_apart(road_class: pd.Series) -> NDArray[np.bool_]:
    """Return (S,): ramps and service roads, whose trucks are not those of the road beside them."""
    kinds = road_class.fillna("").astype(str)
    return np.asarray(kinds.str.endswith("_link") | kinds.isin(_APART), np.bool_)


def roads_of(segments: gpd.GeoDataFrame) -> Roads:
    """Group segments, as of `runs.Network`, into roads.

    Segments with the same `ref` (the first of several) are one road, wherever they are. Those without, of
    the same name and within `BESIDE_M` of each other, are one. Those without both continue where they meet at
    less than `_STRAIGHT_DEG`, and across to one-way lines of the same class that lead back within `BESIDE_M`.
    The key `road` is the ref, or the name and the first of the ids of its segments: the same for all dates of
    a place with the same roads. Directions are those of `pipeline.traffic.courses`: two of the compass, or
    clockwise and anticlockwise for a ring.
    """
    main = ~is_apart(segments["road_class"])
    road = np.full(len(segments), -1, np.int64)
    way = np.ones(len(segments), np.int8)
    parts = segments[main].reset_index(drop=True)
    road[main] = _grouped(parts)
    courses = courses_of(parts.geometry.to_numpy(), road[main], BESIDE_M)
    way[main] = courses.way
    return Roads(_table(parts, road[main], courses), road, way)


def compass(bearing_deg: float) -> str:
    """Return the nearest of eight points of the compass."""
    return _COMPASS[round(bearing_deg % 360 / 45) % 8]


def direction_lines(segments: gpd.GeoDataFrame, roads: Roads, first: bool) -> gpd.GeoSeries:
    """Return the lines (R,) that carry a direction of each road, drawn that way; null without any."""
    towards = roads.way * (1 if first else -1)
    carries = (roads.road >= 0) & (segments["oneway"].to_numpy(np.int8) * towards >= 0)
    lines = segments.geometry.to_numpy()[carries]
    back = towards[carries] < 0
    lines[back] = shapely.reverse(lines[back])
    each = pd.Series(lines, dtype=object).groupby(roads.road[carries])
    joined = each.agg(lambda parts: shapely.multilinestrings(list(parts)))
    return gpd.GeoSeries([joined.get(road) for road in range(len(roads.table))], crs=segments.crs)


def _first_ref(refs: pd.Series) -> pd.Series:
    return refs.fillna("").astype(str).str.split(";").str[0].str.split().str.join(" ")


def _grouped(parts: gpd.GeoDataFrame) -> NDArray[np.int64]:
    """Return the road (S,) of each segment, numbered in order of their first lines."""
    ref, name = _first_ref(parts["ref"]), parts["name"].fillna("").astype(str).str.strip()
    kind = parts["road_class"].fillna("").astype(str)
    by_ref = (ref != "").to_numpy()
    by_name = ~by_ref & (name != "").to_numpy()
    rest = ~by_ref & ~by_name
    label = np.where(by_ref, "r" + ref, np.where(by_name, "n" + name.str.casefold(), "k" + kind))
    _, group = np.unique(label.astype(str), return_inverse=True)
    links = [_same_group(group, by_ref), _near_each_other(parts, group, by_name)]
    links += [_continued(parts, group, rest), _opposite(parts, group, rest)]
    first, second = np.concatenate(links).T
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(len(parts), len(parts)))
    _, road = connected_components(graph, directed=False)
    return np.asarray(pd.factorize(road)[0], np.int64)


def _same_group(group: NDArray[np.intp], chosen: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return pairs (P, 2) that connect all chosen segments of a group."""
    rows = np.flatnonzero(chosen)
    first = pd.Series(rows).groupby(group[rows]).transform("first").to_numpy(np.intp)
    return np.stack([rows, first], axis=1)


def _near_each_other(
    parts: gpd.GeoDataFrame, group: NDArray[np.intp], chosen: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Return pairs of chosen segments of a group that are within `BESIDE_M`."""
    rows = np.flatnonzero(chosen)
    lines = parts.geometry.to_numpy()[rows]
    one, other = shapely.STRtree(lines).query(lines, predicate="dwithin", distance=BESIDE_M)
    keep = (one < other) & (group[rows[one]] == group[rows[other]])
    return np.stack([rows[one[keep]], rows[other[keep]]], axis=1)


def _continued(
    parts: gpd.GeoDataFrame, group: NDArray[np.intp], chosen: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Return pairs of chosen segments that go on as each other: the straightest at the node of both."""
    rows = np.flatnonzero(chosen)
    lines = parts.geometry.to_numpy()[rows]
    ends = np.concatenate([_ends(lines, 0), _ends(lines, -1)])
    out = np.concatenate([_leaving(lines, False), _leaving(lines, True)])
    of = np.tile(rows, 2)
    frame = pd.DataFrame({"x": ends[:, 0] + 0.0, "y": ends[:, 1] + 0.0, "end": np.arange(len(of))})
    frame["group"] = group[of]
    pairs = frame.merge(frame, on=["x", "y", "group"])
    one, other = pairs["end_x"].to_numpy(), pairs["end_y"].to_numpy()
    turn = np.degrees(np.arccos(np.clip(-(out[one] * out[other]).sum(axis=1), -1, 1)))
    good = (of[one] != of[other]) & (turn <= _STRAIGHT_DEG)
    found = pd.DataFrame({"one": one[good], "other": other[good], "turn": turn[good]})
    best = found.sort_values(["turn", "one", "other"]).drop_duplicates("one").set_index("one")["other"]
    mutual = best[best.map(best) == best.index]
    return np.stack([of[mutual.index.to_numpy(np.intp)], of[mutual.to_numpy(np.intp)]], axis=1)


def _opposite(
    parts: gpd.GeoDataFrame, group: NDArray[np.intp], chosen: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Return pairs of chosen one-way segments of a group that lead back beside each other."""
    oneway = parts["oneway"].to_numpy(np.int8)
    rows = np.flatnonzero(chosen & (oneway != 0))
    lines = parts.geometry.to_numpy()[rows]
    middles = shapely.line_interpolate_point(lines, 0.5, normalized=True)
    one, other = shapely.STRtree(lines).query(middles, predicate="dwithin", distance=BESIDE_M)
    keep = (one != other) & (group[rows[one]] == group[rows[other]])
    one, other = one[keep], other[keep]
    here = _heading_at(lines[one], shapely.length(lines[one]) / 2) * oneway[rows[one], None]
    at = shapely.line_locate_point(lines[other], middles[one])
    there = _heading_at(lines[other], at) * oneway[rows[other], None]
    inside = (at > 0) & (at < shapely.length(lines[other]))
    back = inside & ((here * there).sum(axis=1) <= _OPPOSITE)
    return np.stack([rows[one[back]], rows[other[back]]], axis=1)


def _ends(lines: NDArray[np.object_], index: int) -> Array:
    return np.asarray(shapely.get_coordinates(shapely.get_point(lines, index)))


def _leaving(lines: NDArray[np.object_], from_end: bool) -> Array:
    """Return unit vectors (S, 2) from the first point of lines, or their last one, along them."""
    step = np.minimum(BESIDE_M, shapely.length(lines))
    start, ahead = np.zeros(len(lines)), step
    if from_end:
        start, ahead = shapely.length(lines), shapely.length(lines) - step
    return _unit(_on(lines, ahead) - _on(lines, start))


def _heading_at(lines: NDArray[np.object_], along: Array) -> Array:
    """Return unit vectors (S, 2) of lines at distances along them."""
    length = shapely.length(lines)
    return _unit(_on(lines, np.minimum(along + 10, length)) - _on(lines, np.maximum(along - 10, 0)))


def _on(lines: NDArray[np.object_], along: Array) -> Array:
    return np.asarray(shapely.get_coordinates(shapely.line_interpolate_point(lines, along)))


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.hypot(*vectors.T), 1e-9)[:, None])


def _table(parts: gpd.GeoDataFrame, road: NDArray[np.int64], courses: Courses) -> pd.DataFrame:
    """Return the table of `Roads`."""
    length = parts["length_m"]
    main = {
        "ref": _longest(_first_ref(parts["ref"]).replace("", None), length, road),
        "name": _longest(parts["name"], length, road, least=0.5),
        "road_class": _longest(parts["road_class"], length, road),
    }
    first = parts["segment_id"].astype(str).groupby(road).min()
    keys = [
        ref or " ".join(part for part in (name or kind or "road", first_id) if part)
        for ref, name, kind, first_id in zip(*main.values(), first, strict=True)
    ]
    bearing = [None if ring else float(b) for b, ring in zip(courses.bearing_deg, courses.ring, strict=True)]
    directions = [
        _CLOCK if ring else (compass(b), compass(b + 180))
        for b, ring in zip(courses.bearing_deg, courses.ring, strict=True)
    ]
    return pd.DataFrame(
        {"road": keys, **main, "bearing_deg": pd.array(bearing, "Float64"), "directions": directions}
    )


def _longest(
    values: pd.Series, length: pd.Series, road: NDArray[np.int64], least: float = 0.0
) -> Sequence[str | None]:
    """Return for each of R roads the value with the greatest length in it.

    None if that is not more than the share `least` of the road.
    """
    known = values.notna().to_numpy()
    frame = pd.DataFrame({"road": road[known], "value": values[known].astype(str), "m": length[known]})
    total = frame.groupby(["road", "value"], as_index=False)["m"].sum()
    total = total[total["m"] > least * length.groupby(road).sum().loc[total["road"]].to_numpy()]
    total = total.sort_values(["road", "m", "value"], ascending=[True, False, True])
    of = total.drop_duplicates("road").set_index("road")["value"]
    return [of.get(number) for number in range(road.max(initial=-1) + 1)]
