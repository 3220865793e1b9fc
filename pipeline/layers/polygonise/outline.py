"""Outlines of regions of equal class along pixel edges, by strips."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from pipeline.layers.polygonise.regions import OUTSIDE, Regions
from pipeline.layers.polygonise.simplify import PARTS, simplified

BLOCK_PX = 512
"""Side of the blocks in which outlines are traced and simplified."""


_THREADS = 2
_POLYGONS_AT_ONCE = 50_000


@dataclass(frozen=True)
class _Chains:
    """Rings, and open parts of rings, in pixel coordinates, each with its region on the left-hand side."""

    xy: NDArray[np.number]
    """(N, 2): column and row of the corners, without the last of each chain, where the next one starts.

    Simplified chains are in parts of a pixel (`simplify.PARTS`).
    """
    lengths: NDArray[np.int64]
    """(C,): corners of each chain."""
    region: NDArray[np.int32]
    """(C,)."""
    twice_area: NDArray[np.float64]
    """(C,): signed area of a ring, exteriors positive; of an open chain its part in the area of its ring."""
    follower: NDArray[np.int64]
    """(C,): the chain that continues this one (itself for a ring); -1 if it is in another block."""
    start: NDArray[np.int64]
    """(C,): number of the place where a chain starts that continues one of another block, else -1."""
    end: NDArray[np.int64]
    """(C,): number of the place where the next chain starts, for a chain that ends at a seam, else -1."""


def outline(
    regions: Regions, transform: Affine, simplify: float = 0.0, block_px: int = BLOCK_PX
) -> NDArray[np.object_]:
    """Return the regions' polygons (K,) in map coordinates along pixel edges, together a valid coverage.

    Every polygon is valid and has the area of its pixels. Where parts of a region meet at a corner only, the
    rings touch there and don't cross. Exteriors are counter-clockwise on a north-up map.

    With `simplify` above 0 (map units) the inner borders are simplified block by block (see `simplify`):
    corners whose triangle is smaller than `simplify` squared are removed as far as areas and neighbours
    allow. Every polygon keeps the area of its pixels, to 0.02 %: rounding takes at most 2.2e-5 of a pixel for
    each pixel of its length, which is below eight times its area. Unchanged are the places where a border
    crosses the seam of two blocks, borders along a seam, and borders to OUTSIDE. So each block is a valid
    coverage within an unchanged outline, and all blocks together are one.

    Memory: 4 bytes a corner of a polygon, 8 of a simplified one (twice as much from 65536 rows or columns
    on), beside the polygons.
    """
    if not len(regions):
        return np.empty(0, dtype=object)
    tolerance = simplify / abs(transform.determinant) ** 0.5
    with ThreadPoolExecutor(_THREADS) as threads:
        bands = threads.map(
            lambda top: _trace_band(regions, top, block_px, tolerance), range(0, regions.shape[0], block_px)
        )
        blocks = [block for band in bands for block in band]
    if tolerance > 0:
        transform = transform * Affine.scale(1 / PARTS)
    return _tie(blocks, len(regions), transform)


def _framed(regions: Regions, first_row: int, stop_row: int) -> NDArray[np.int32]:
    """Yield labels of rows with the pixels around them, OUTSIDE beyond the raster; (rows + 2, W + 2)."""
    above, below = max(first_row - 1, 0), min(stop_row + 1, regions.shape[0])
    rows_around = (above - first_row + 1, stop_row + 1 - below)
    return np.pad(regions.labels(above, below), (rows_around, (1, 1)), constant_values=OUTSIDE)


def _trace_band(regions: Regions, top: int, block_px: int, tolerance: float) -> list[_Chains]:
    labels = _framed(regions, top, min(top + block_px, regions.shape[0]))
    parts = PARTS if tolerance > 0 else 1
    # A patchy granule has 44 million along pixel edges.
    place = np.min_scalar_type(max(regions.shape) * parts)
    blocks = (
        _trace(labels[:, left : left + block_px + 2], top, left, regions.shape[1], tolerance)
        for left in range(0, regions.shape[1], block_px)
    )
    return [replace(block, xy=(block.xy * parts).astype(place)) for block in blocks]


def _trace(labels: NDArray[np.int32], top: int, left: int, width: int, tolerance: float) -> _Chains:
    """Trace the rings of a block's regions; return them and the parts without edges along the block's seams.

    `labels` have the pixels around the block; `top` and `left` are its place in the raster of `width`.
    """
    row, col, is_corner = _nodes(labels)
    start, follower, region = _edges(labels, row, col)
    order, lengths = _cycles(follower)
    xy = np.column_stack([col, row])[start[order]]
    ring_region = region[order[np.cumsum(lengths) - lengths]]
    if tolerance > 0:
        places, lengths = simplified(labels, xy, lengths, ring_region, tolerance)
        return _cut(
            labels, places, lengths, ring_region, np.ones(len(places), dtype=bool), (top, left), width
        )
    return _cut(labels, xy, lengths, ring_region, is_corner[start[order]], (top, left), width)


def _nodes(
    labels: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Return (row, col) of the corners where a border turns, ends on another, or two cross; row by row.

    Nodes also are the places where a border meets the block's seam, and the block's corners. The third array
    is False for nodes of this second kind alone.
    """
    alike_across = labels[:, :-1] == labels[:, 1:]
    alike_down = labels[:-1] == labels[1:]
    straight = alike_across[:-1] & alike_across[1:]
    straight |= alike_down[:, :-1] & alike_down[:, 1:]
    corner = ~straight
    node = corner.copy()
    node[0, 1:-1] |= ~alike_across[1, 1:-1]
    node[-1, 1:-1] |= ~alike_across[-2, 1:-1]
    node[1:-1, 0] |= ~alike_down[1:-1, 1]
    node[1:-1, -1] |= ~alike_down[1:-1, -2]
    node[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    places = np.flatnonzero(node)
    row, col = np.divmod(places, node.shape[1])
    return row.astype(np.int32), col.astype(np.int32), corner.ravel()[places]


def _edges(
    labels: NDArray[np.int32], row: NDArray[np.int32], col: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Return for each edge of a ring its first node, the edge that follows it, and the region on its left."""
    inside = labels.copy()
    inside[[0, -1]] = OUTSIDE
    inside[:, [0, -1]] = OUTSIDE
    # Regions around each node, clockwise from the upper left. Directions are east, south, west, north, so
    # that direction d from a node has region d + 1 on the left and d + 2 on the right.
    around = np.stack(
        [inside[row, col], inside[row, col + 1], inside[row + 1, col + 1], inside[row + 1, col]]
    )
    border = np.stack([(around[(d + 1) % 4] != around[(d + 2) % 4]) for d in range(4)])
    border &= around[[1, 2, 3, 0]] != OUTSIDE
    edge = (np.cumsum(border.ravel(), dtype=np.int32) - 1).reshape(border.shape)
    neighbour = _next_nodes(col)

    start = np.concatenate([np.flatnonzero(border[d]) for d in range(4)])
    follower = np.empty(len(start), dtype=np.int32)
    region = np.empty(len(start), dtype=np.int32)
    for d in range(4):
        here = np.flatnonzero(border[d])
        there = neighbour[d][here]
        own = around[(d + 1) % 4, here]
        # Keeping right at a corner where the region is on both sides diagonally makes two rings that touch,
        # instead of one ring that meets itself.
        turn = np.where(
            around[(d + 2) % 4, there] == own,
            (d + 1) % 4,
            np.where(around[(d + 1) % 4, there] == own, d, (d + 3) % 4),
        )
        edges = edge[d, here]
        follower[edges] = edge[turn, there]
        region[edges] = own
    return start, follower, region


def _next_nodes(col: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Return the next node to the east, south, west and north of each one, valid where a border leads there.

    A border is straight up to the next node, which is therefore the next one of the row or column.
    """
    index = np.arange(len(col))
    by_column = np.argsort(col.astype(np.uint16), kind="stable")  # two bytes are sorted by radix
    south, north = np.empty_like(index), np.empty_like(index)
    south[by_column] = np.roll(by_column, -1)
    north[by_column] = np.roll(by_column, 1)
    return [np.roll(index, -1), south, np.roll(index, 1), north]


def _cut(
    labels: NDArray[np.int32],
    xy: NDArray[np.int32] | NDArray[np.float64],
    lengths: NDArray[np.int64],
    ring_region: NDArray[np.int32],
    kept: NDArray[np.bool_],
    place: tuple[int, int],
    width: int,
) -> _Chains:
    """Cut rings at edges that have their own region on the other side of a block's seam."""
    height, breadth = labels.shape[0] - 2, labels.shape[1] - 2
    firsts = np.cumsum(lengths) - lengths
    lasts = firsts + lengths - 1
    ring = np.repeat(np.arange(len(lengths)), lengths)
    nexts = np.arange(1, len(xy) + 1)
    nexts[lasts] = firsts
    (x, y), (x_next, y_next) = xy.T, xy[nexts].T
    beside = np.minimum(xy, xy[nexts]).astype(np.int32) + 1  # the pixel next to an edge on a seam
    inner = np.zeros(len(xy), dtype=bool)
    for on_seam, beyond, along in (
        ((y == 0) & (y_next == 0), labels[0], 0),
        ((y == height) & (y_next == height), labels[-1], 0),
        ((x == 0) & (x_next == 0), labels[:, 0], 1),
        ((x == breadth) & (x_next == breadth), labels[:, -1], 1),
    ):
        at = np.flatnonzero(on_seam)
        inner[at] = beyond[beside[at, along]] == ring_region[ring[at]]

    crossing = _crossings(labels, x, y, ring_region[ring])
    first_of_ring, last_of_ring = np.zeros_like(inner), np.zeros_like(inner)
    first_of_ring[firsts], last_of_ring[lasts] = True, True
    begins = ~inner & (first_of_ring | np.roll(inner, 1) | (crossing > 0))
    ends = ~inner & (last_of_ring | np.roll(inner, -1) | (crossing[nexts] > 0))
    chain = np.cumsum(begins) - 1
    begin, end = np.flatnonzero(begins), np.flatnonzero(ends)
    # A ring whose first and last edge both stay continues with its first chain after its last.
    closes = ~(inner[firsts] | inner[lasts]) & (crossing[firsts] == 0)
    goes_on = last_of_ring[end] & closes[ring[end]]
    continues = first_of_ring[begin] & closes[ring[begin]]
    follower = np.where(goes_on, chain[firsts[ring[end]]], -1)

    xy = xy + np.array([place[1], place[0]], dtype=np.int32)
    column, row = xy.T.astype(np.int64)
    corner = row * (width + 1) + column
    stays = ~inner
    twice_area = (xy[nexts, 0] - xy[:, 0]).astype(np.float64) * (xy[nexts, 1] + xy[:, 1])
    kept = kept & stays
    return _Chains(
        xy[kept],
        np.bincount(chain[kept], minlength=len(begin)).astype(np.int64),
        ring_region[ring[begin]],
        np.bincount(chain[stays], weights=twice_area[stays], minlength=len(begin)).astype(np.float64),
        follower,
        np.where(continues, -1, corner[begin] * 3 + crossing[begin]),
        np.where(goes_on, -1, corner[nexts[end]] * 3 + (3 - crossing[nexts[end]]) % 3),
    )


def _crossings(
    labels: NDArray[np.int32], x: NDArray[np.number], y: NDArray[np.number], own: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Find corners where a ring on the block's seam touches another part of its region beyond the seam.

    1 if the ring's own pixel is the upper one of the two, 2 if it is the lower one, else 0. There the ring
    keeps right, that is, it continues around the other pixel.
    """
    height, breadth = labels.shape[0] - 2, labels.shape[1] - 2
    found = np.zeros(len(x), dtype=np.int64)
    at = np.flatnonzero((y == 0) | (y == height) | (x == 0) | (x == breadth))
    x, y, own = x[at].astype(np.int32), y[at].astype(np.int32), own[at]
    upper_left, upper_right, lower_right, lower_left = (
        own == labels[y + down, x + right] for down, right in ((0, 0), (0, 1), (1, 1), (1, 0))
    )
    falls = upper_left & lower_right & ~upper_right & ~lower_left
    rises = upper_right & lower_left & ~upper_left & ~lower_right
    own_is_upper = (y > 0) & np.where(falls, x > 0, x < breadth)
    found[at] = np.where(falls | rises, np.where(own_is_upper, 1, 2), 0)
    return found


def _tie(blocks: list[_Chains], regions: int, transform: Affine) -> NDArray[np.object_]:
    """Join the chains of all blocks to rings, and the rings to polygons of regions."""
    counts = [len(block.lengths) for block in blocks]
    offset = np.repeat(np.cumsum(counts, dtype=np.int64) - counts, counts).astype(np.int64)
    xy = np.concatenate([block.xy for block in blocks])
    lengths = np.concatenate([block.lengths for block in blocks])
    region = np.concatenate([block.region for block in blocks])
    twice_area = np.concatenate([block.twice_area for block in blocks])
    follower = np.concatenate([block.follower for block in blocks]) + offset
    start = np.concatenate([block.start for block in blocks])
    end = np.concatenate([block.end for block in blocks])
    blocks.clear()  # they are a second copy of all corners
    # A place is a corner and one of two pixels that touch there: one chain of a region starts at it.
    starting, ending = np.flatnonzero(start >= 0), np.flatnonzero(end >= 0)
    keys = start[starting] * regions + region[starting]
    starting = starting[np.argsort(keys)]
    follower[ending] = starting[np.searchsorted(np.sort(keys), end[ending] * regions + region[ending])]

    order, chains_of = _cycles(follower)
    begin = np.cumsum(chains_of) - chains_of
    ring_region = region[order[begin]]
    is_hole = np.add.reduceat(twice_area[order], begin) < 0
    ranked = np.lexsort((is_hole, ring_region))
    order = order[_ranges(begin[ranked], chains_of[ranked])]
    chains_of = chains_of[ranked]
    corners_of = np.add.reduceat(lengths[order], np.cumsum(chains_of) - chains_of)
    first_corner = np.cumsum(lengths) - lengths

    rings = np.concatenate([[0], np.cumsum(np.bincount(ring_region, minlength=regions))])
    chains = np.concatenate([[0], np.cumsum(chains_of)])
    polygons = np.empty(regions, dtype=object)
    for some in range(0, regions, _POLYGONS_AT_ONCE):
        ring_offsets = rings[some : some + _POLYGONS_AT_ONCE + 1]
        members = order[chains[ring_offsets[0]] : chains[ring_offsets[-1]]]
        corners = xy[_ranges(first_corner[members], lengths[members])]
        per_ring = corners_of[ring_offsets[0] : ring_offsets[-1]]
        ends = np.cumsum(per_ring)
        x, y = np.insert(corners, ends, corners[ends - per_ring], axis=0).astype(np.float64).T
        places = np.column_stack(
            [
                transform.a * x + transform.b * y + transform.c,
                transform.d * x + transform.e * y + transform.f,
            ]
        )
        polygons[some : some + _POLYGONS_AT_ONCE] = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON,
            places,
            (np.concatenate([[0], ends + np.arange(1, len(ends) + 1)]), ring_offsets - ring_offsets[0]),
        )
    return polygons


def _cycles(follower: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return elements in the order in which they follow each other, cycle by cycle, and the cycles' lengths.

    Cycles are ordered, and begin, by their first elements.
    """
    count = len(follower)
    if not count:
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64)
    follower = follower.astype(np.int32)
    graph = csr_array((np.ones(count), follower, np.arange(count + 1, dtype=np.int32)), shape=(count, count))
    cycles, cycle = connected_components(graph, directed=True, connection="strong")
    first = np.empty(cycles, dtype=np.int32)
    first[cycle[::-1]] = np.arange(count - 1, -1, -1, dtype=np.int32)
    ranked = np.argsort(first)
    # All cycles, cut open and joined end to end, are one path; its breadth-first order is the path itself.
    before = np.empty(count, dtype=np.int32)
    before[follower] = np.arange(count, dtype=np.int32)
    path = follower.copy()
    path[before[first[ranked[:-1]]]] = first[ranked[1:]]
    graph = csr_array((np.ones(count), path, graph.indptr), shape=(count, count))
    order = breadth_first_order(graph, first[ranked[0]], return_predecessors=False)
    return order, np.bincount(cycle)[ranked]


def _ranges(starts: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the integers of each range from `starts`, one range after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
