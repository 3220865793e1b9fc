"""Segments of roads, cut where they meet others."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray


def split_roads(
    roads: gpd.GeoDataFrame,
    max_m: float = 2000.0,
    bounds: tuple[float, float, float, float] | None = None,
) -> gpd.GeoDataFrame:
    """Cut roads where they share a vertex with another road, and into equal parts of at most `max_m`.

    Roads that cross without a common vertex, as on bridges, are not cut. A segment has the columns of its
    road, `length_m`, `azimuth_deg` (from its first to its last point, clockwise from grid north; null for a
    ring), and `segment_id`: the road's id and the segment's number along it. The id is the same in every
    scene whose `roads` include all roads that meet the segment. `bounds` leaves out segments that don't touch
    it. Lengths are in the roads' CRS, whose unit is the metre.
    """
    lines, road = shapely.get_parts(roads.geometry.to_numpy(), return_index=True)
    lines = shapely.remove_repeated_points(lines)
    proper = shapely.length(lines) > 0
    lines, road = lines[proper], road[proper]
    xy, line, along = measured_lines(lines)
    place = np.ascontiguousarray(xy + 0.0).view(np.complex128).ravel()  # + 0.0 makes -0 and 0 the same place
    _, node, shared = np.unique(place, return_inverse=True, return_counts=True)
    ends = np.ones(len(xy), bool)
    ends[1:-1] = (line[1:-1] != line[:-2]) | (line[1:-1] != line[2:])
    cut = np.flatnonzero(ends | (shared[node] > 1))

    # Pieces between cuts of the same line, longer ones into equal parts.
    within = line[cut[:-1]] == line[cut[1:]]
    begin, length = along[cut[:-1]][within], np.diff(along[cut])[within]
    parts = np.maximum(np.ceil(length / max_m - 1e-9), 1).astype(np.int64)
    added = parts - 1
    number = np.arange(added.sum()) - np.repeat(np.cumsum(added) - added, added) + 1
    new = np.repeat(begin, added) + np.repeat(length / parts, added) * number
    new_xy = points_along(new, xy, along)
    new_line = np.repeat(line[cut[:-1]][within], added)

    # All vertices in order; a vertex between two segments appears twice.
    order = np.argsort(np.concatenate([along, new]), kind="stable")
    is_cut = np.zeros(len(xy), bool)
    is_cut[cut] = True
    inner = np.concatenate([is_cut & ~ends, np.ones(len(new), bool)])[order]
    vertices = np.repeat(np.concatenate([xy, new_xy])[order], 1 + inner, axis=0)
    vertex_line = np.repeat(np.concatenate([line, new_line])[order], 1 + inner)
    second = np.zeros(len(vertices), bool)
    second[np.cumsum(1 + inner)[inner] - 1] = True
    starts = second.copy()
    starts[:1] = True
    starts[1:] |= vertex_line[1:] != vertex_line[:-1]
    segment = np.cumsum(starts) - 1
    geometry = shapely.linestrings(vertices, indices=segment)
    of_road = road[vertex_line[starts]]

    table = roads.drop(columns=roads.geometry.name).iloc[of_road].reset_index(drop=True)
    ids = table["road_id"].astype(str)
    chord = vertices[np.append(starts[1:], True)[: len(starts)]] - vertices[starts]
    azimuth = np.degrees(np.arctan2(chord[:, 0], chord[:, 1])) % 360
    table.insert(0, "segment_id", ids + "-" + ids.groupby(ids).cumcount().astype(str))
    table["length_m"] = shapely.length(geometry)
    table["azimuth_deg"] = np.where(np.hypot(*chord.T) > 0, azimuth, np.nan)
    found = gpd.GeoDataFrame(table, geometry=geometry, crs=roads.crs)
    if bounds is not None:
        found = found[found.intersects(shapely.box(*bounds))].reset_index(drop=True)
    return found


def measured_lines(
    lines: NDArray[np.object_],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Return vertices (V, 2), their lines (V,), and distances (V,) along all lines, 1 m between two lines."""
    xy, line = shapely.get_coordinates(lines, return_index=True)
    step = np.hypot(*np.diff(xy, axis=0).T) if len(xy) else np.empty(0)
    step[line[1:] != line[:-1]] = 1.0
    return xy, line, np.concatenate([[0.0], np.cumsum(step)])[: len(xy)]


def points_along(
    at: NDArray[np.float64], xy: NDArray[np.float64], along: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return places (N, 2) at distances (N,) along the lines of `measured_lines`."""
    if not len(at):
        return np.empty((0, 2))
    return np.stack([np.interp(at, along, xy[:, axis]) for axis in (0, 1)], axis=1)
