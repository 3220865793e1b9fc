"""Shapes of vector features that would take time and memory without end, and short pieces of lines."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

_EDGES = 16
"""Edges of a piece: most roads of OpenStreetMap have fewer, and crossings of so few cost nothing."""
_FEW_VERTICES = 40
_MEETINGS, _MEETINGS_A_VERTEX = 500, 10
"""Pairs of edges whose boxes meet, beyond which a shape is tangled. A normal edge meets two or three."""
_PAIRS_AT_A_TIME = 5_000_000


def pieces(lines: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Return pieces of at most 16 edges that cover lines (N,), and the line of each.

    GEOS takes 7 kB and 0.2 ms for each place where a line crosses itself to buffer it; pieces hardly do. They
    are also found faster by an index than long lines. Memory: 100 bytes a vertex.
    """
    parts, of = shapely.get_parts(lines, return_index=True)
    parts, of = parts[~shapely.is_empty(parts)], of[~shapely.is_empty(parts)]
    size = shapely.get_num_coordinates(parts)
    if not (size > _EDGES + 1).any():
        return parts, of
    count = np.maximum(-(-(size - 1) // _EDGES), 1)
    part = np.repeat(np.arange(len(parts)), count)
    number = np.arange(len(part)) - np.repeat(np.cumsum(count) - count, count)
    begin = number * _EDGES
    length = np.minimum(size[part] - begin, _EDGES + 1)
    piece = np.repeat(np.arange(len(part)), length)
    within = np.arange(len(piece)) - np.repeat(np.cumsum(length) - length, length)
    first = (np.cumsum(size) - size)[part] + begin
    xy = shapely.get_coordinates(parts)
    cut = shapely.linestrings(xy[first[piece] + within], indices=piece)
    return np.asarray(cut, dtype=object), of[part]


def tangled(shapes: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Return (N,): True for lines and polygons that cross themselves hundreds of times, as none on a map do.

    Pairs of edges whose boxes meet are counted, up to the limit. Takes microseconds a vertex of shapes with
    more than 40 vertices. Memory: 300 bytes a vertex of the largest.
    """
    found = np.zeros(len(shapes), bool)
    for row in np.flatnonzero(shapely.get_num_coordinates(shapes) > _FEW_VERTICES):
        found[row] = _meets_itself(shapes[row])
    return found


def _meets_itself(shape: shapely.Geometry) -> bool:
    xy = shapely.get_coordinates(shape)
    edges = np.asarray(shapely.linestrings(np.stack([xy[:-1], xy[1:]], axis=1)), dtype=object)
    tree, left = shapely.STRtree(edges), _MEETINGS + _MEETINGS_A_VERTEX * len(edges)
    step = max(_PAIRS_AT_A_TIME // len(edges), 1)
    for start in range(0, len(edges), step):
        left -= tree.query(edges[start : start + step]).shape[1]
        if left < 0:
            return True
    return False
