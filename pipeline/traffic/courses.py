"""Courses of roads: which way each line of a road leads, and the general bearing of the road."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

Array = NDArray[np.float64]

_CURVED = 1.2
"""Length along a road over the distance of its ends from which on it may be a ring."""
_RING_SHARE = 0.5
"""Smallest area within a ring, over that of its convex hull."""
_NEARLY_CLOSED, _ROUND = 0.3, 0.6
"""An open ring: greatest distance of its ends over its length, and smallest roundness (4 pi area / perimeter
squared) of its hull."""
_COARSE_M = 20.0


@dataclass(frozen=True)
class Courses:
    """Courses of R roads of S lines."""

    way: NDArray[np.int8]
    """(S,): 1 if a line leads in the first direction of its road, -1 if in the second."""
    bearing_deg: Array
    """(R,): bearing of the first direction, clockwise from grid north, in [-22.5, 157.5): N, NE, E or SE."""
    ring: NDArray[np.bool_]
    """(R,): a ring, whose first direction is clockwise; its bearing means nothing."""


def courses_of(lines: NDArray[np.object_], road: NDArray[np.int64], beside_m: float) -> Courses:
    """Find the courses of roads; `road` (S,) has their numbers, from 0 without a gap.

    Lines of a road are connected at common ends, and with those within `beside_m` of an end, as its
    carriageways are. The first direction leads away from one of the outermost ends of each connected part,
    along the road, so that it follows bends. The bearing is that of all lines together. A ring leads
    clockwise.
    """
    graph, node = _graph(lines, road, beside_m)
    part_of_node, start, along = _distances(graph)
    ends = _places(lines, node, graph.shape[0])
    far = _farthest(along, part_of_node)
    chord = ends[far] - ends[start]
    way = np.sign(along[node[:, 1]] - along[node[:, 0]])
    part = part_of_node[node[:, 0]]
    step = ends[node[:, 1]] - ends[node[:, 0]]
    sideways = way == 0
    way[sideways] = np.sign((step * chord[part]).sum(axis=1))[sideways]
    way[way == 0] = 1
    size = int(road.max(initial=-1)) + 1
    road_of_part = np.zeros(len(chord), np.int64)
    road_of_part[part] = road
    metres = along[far]
    # Of both carriageways together, which begin and end beside each other.
    each = [np.bincount(part, way * axis, len(chord)) for axis in step.T]
    course = np.stack(each, axis=1).astype(np.float64)
    turned, bearing = _aligned(course, metres, road_of_part, size)
    way *= turned[part]
    ring = np.zeros(size, np.bool_)
    curved = metres > _CURVED * np.hypot(*chord.T)
    for number in np.unique(road_of_part[curved]):
        here = np.flatnonzero(road == number)
        longest = np.flatnonzero(road_of_part == number)
        longest = longest[np.argmax(metres[longest])]
        closed = float(np.hypot(*chord[longest]) / max(metres[longest], 1e-9))
        centre = _centre_of_ring(lines[here], beside_m, closed)
        if centre is not None:
            ring[number] = True
            first, last = ends[node[here, 0]] - centre, ends[node[here, 1]] - centre
            anticlockwise = first[:, 0] * last[:, 1] - first[:, 1] * last[:, 0] > 0
            way[here] = np.where(anticlockwise, -1, 1)
    return Courses(way.astype(np.int8), bearing, ring)


def _graph(
    lines: NDArray[np.object_], road: NDArray[np.int64], beside_m: float
) -> tuple[csr_array, NDArray[np.intp]]:
    """Return the distances between nodes along each road, and the nodes (S, 2) of the lines' ends.

    A node is a place of one road: roads are never connected with each other.
    """
    ends = np.stack([shapely.get_coordinates(shapely.get_point(lines, index)) for index in (0, -1)], axis=1)
    flat = ends.reshape(-1, 2) + 0.0  # + 0.0 makes -0 and 0 the same place
    keys = np.column_stack([flat, np.repeat(road, 2)])
    _, node = np.unique(keys, axis=0, return_inverse=True)
    node = node.reshape(-1, 2)
    length = shapely.length(lines)
    points = np.asarray(shapely.points(flat), object)
    end, line = shapely.STRtree(lines).query(points, predicate="dwithin", distance=beside_m)
    others = (road[end // 2] == road[line]) & (end // 2 != line)
    end, line = end[others], line[others]
    at = shapely.line_locate_point(lines[line], points[end])
    across = shapely.distance(lines[line], points[end])
    here = node.reshape(-1)[end]
    rows = np.concatenate([node[:, 0], here, here])
    cols = np.concatenate([node[:, 1], node[line, 0], node[line, 1]])
    metres = np.concatenate([length, at + across, length[line] - at + across])
    size = int(node.max(initial=-1)) + 1
    order = np.argsort(metres, kind="stable")
    pair = np.sort(np.stack([rows, cols], axis=1)[order], axis=1)
    _, shortest = np.unique(pair, axis=0, return_index=True)
    pair, metres = pair[shortest], metres[order][shortest]
    graph = coo_array((np.maximum(metres, 1e-6), pair.T), shape=(size, size))
    return csr_array(graph), node


def _distances(graph: csr_array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Return the connected part of each node, the outermost node of each part, and distances from it (N,)."""
    _, part = connected_components(graph, directed=False)
    _, start = np.unique(part, return_index=True)
    for _ in range(2):  # the node farthest from any node is an end
        along = dijkstra(graph, directed=False, indices=start, min_only=True)
        start = _farthest(along, part)
    along = dijkstra(graph, directed=False, indices=start, min_only=True)
    return part, start, along


def _farthest(along: Array, part: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the node of each part with the greatest distance; of equal ones the last."""
    order = np.lexsort((along, part))
    last = np.append(np.diff(part[order]) > 0, True)[: len(order)]
    return order[last]


def _places(lines: NDArray[np.object_], node: NDArray[np.intp], size: int) -> Array:
    """Return the place (N, 2) of each node."""
    places = np.zeros((size, 2))
    for column, index in enumerate((0, -1)):
        places[node[:, column]] = shapely.get_coordinates(shapely.get_point(lines, index))
    return places


def _aligned(course: Array, metres: Array, road: NDArray[np.int64], size: int) -> tuple[Array, Array]:
    """Return the sign (P,) that turns each part of a road into its first direction, and bearings (R,)."""
    order = np.lexsort((-metres, road))
    first = order[np.unique(road[order], return_index=True)[1]]
    turned = np.where((course * course[first][road]).sum(axis=1) < 0, -1.0, 1.0)
    east, north = (np.bincount(road, turned * axis, size) for axis in course.T)
    bearing = np.degrees(np.arctan2(east, north))
    canonical = (bearing + 22.5) % 360 < 180
    turned *= np.where(canonical, 1.0, -1.0)[road]
    bearing = np.where(canonical, bearing, bearing + 180)
    return turned, (bearing + 22.5) % 360 - 22.5


def _centre_of_ring(lines: NDArray[np.object_], beside_m: float, closed: float) -> Array | None:
    """Return the centre (2,) of a ring; None if the lines are none.

    `closed` is the distance of the ends over the length. A ring is closed around most of its convex hull, its
    carriageways taken as one line, or open with ends near each other and a round hull.
    """
    coarse = shapely.MultiLineString(lines.tolist()).simplify(_COARSE_M)
    hull = coarse.convex_hull
    if hull.area <= 0:
        return None
    roundness = 4 * np.pi * hull.area / hull.length**2
    is_open_ring = closed <= _NEARLY_CLOSED and roundness >= _ROUND
    holes = [
        shapely.Polygon(ring)
        for part in shapely.get_parts(coarse.buffer(beside_m / 2, quad_segs=2))
        for ring in part.interiors
    ]
    largest = max((hole.area for hole in holes), default=0.0)
    if not is_open_ring and largest < _RING_SHARE * hull.area:
        return None
    return np.array(hull.centroid.coords[0])
