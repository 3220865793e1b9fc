"""Regions of a class raster, and their outlines along pixel edges, as a coverage without gaps.

A region is a 4-connected area of one value. Outlines are traced on the graph of pixel corners: a corner is a
node wherever the 2 x 2 pixels around it are more than one straight border, so a polygon also has a node
where only its neighbours change. Neighbours therefore share every node, which is what a valid coverage is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

OUTSIDE = -1
"""Label of pixels that belong to no region: nodata, and the frame around the raster."""


@dataclass(frozen=True)
class Regions:
    """The regions of a raster of H x W pixels, K of them, numbered in the order of their first pixels."""

    labels: NDArray[np.int32]
    """(H + 2, W + 2): region of each pixel, or OUTSIDE; a frame of one pixel OUTSIDE lies around."""
    values: NDArray[np.uint8]
    """(K,): the value of each region's pixels."""
    sizes: NDArray[np.int64]
    """(K,): pixels of each region."""

    def __len__(self) -> int:
        return len(self.values)


def label_regions(raster: NDArray[np.uint8], nodata: int = 255) -> Regions:
    """The 4-connected regions of equal value of a raster, (H, W); pixels of `nodata` belong to none.

    Takes about 10 bytes a pixel while it runs, 4 of which stay.
    """
    framed = np.pad(raster, 1, constant_values=nodata)
    starts = np.ones(framed.shape, dtype=bool)
    np.not_equal(framed[:, 1:], framed[:, :-1], out=starts[:, 1:])
    runs = (np.cumsum(starts.ravel(), dtype=np.int32) - 1).reshape(framed.shape)
    touching = (framed[1:] == framed[:-1]) & (starts[1:] | starts[:-1])
    upper, lower = runs[:-1][touching], runs[1:][touching]
    del runs, touching
    first = np.flatnonzero(starts)
    lengths = np.diff(first, append=framed.size)
    region = _merged(len(first), upper, lower)
    values = np.empty(region.max() + 1, dtype=np.uint8)
    values[region] = framed.ravel()[first]
    kept = values != nodata
    number = np.where(kept, np.cumsum(kept) - 1, OUTSIDE).astype(np.int32)
    sizes = np.bincount(region, weights=lengths).astype(np.int64)
    labels = np.repeat(number[region], lengths).reshape(framed.shape)
    return Regions(labels, values[kept], sizes[kept])


def absorb_small(regions: Regions, min_pixels: int) -> Regions:
    """The regions after each one of fewer than `min_pixels` went to its largest neighbour.

    As in GDAL's sieve filter, a chain of small regions ends in the large one it leads to, and pixels outside
    (nodata) neither grow nor shrink. GDAL leaves small regions whose largest neighbours are small as well;
    here those unite first and are judged again. So what stays small has no neighbour at all. Of neighbours of
    one size the first in the raster wins.
    """
    labels, values, sizes = regions.labels, regions.values, regions.sizes
    if not len(regions) or sizes.min() >= min_pixels:
        return regions
    mapping = np.arange(len(values), dtype=np.int32)
    a, b = _neighbours(labels, len(values))
    while True:
        count = len(values)
        from_small = sizes[a] < min_pixels
        small, near = a[from_small], b[from_small]
        if not len(small):
            break
        best = np.full(count, -1, dtype=np.int64)
        np.maximum.at(best, small, _rank(sizes, near))
        giver = np.flatnonzero(best >= 0)
        group = _merged(count, giver, -(best[giver] + 1) % count)
        largest = np.full(group.max() + 1, -1, dtype=np.int64)
        np.maximum.at(largest, group, _rank(sizes, np.arange(count)))
        group_values = values[-(largest + 1) % count]
        equal = group_values[group[a]] == group_values[group[b]]
        joined = _merged(len(group_values), group[a][equal], group[b][equal])
        step = joined[group]
        values = np.empty(joined.max() + 1, dtype=np.uint8)
        values[joined] = group_values
        sizes = np.bincount(step, weights=sizes).astype(np.int64)
        mapping = step[mapping]
        a, b = _unique_pairs(step[a], step[b], len(values))
    return Regions(np.append(mapping, np.int32(OUTSIDE))[labels], values, sizes)


def outline(regions: Regions, transform: Affine) -> NDArray[np.object_]:
    """The regions' polygons, (K,), in map coordinates, along pixel edges; together a valid coverage.

    Every polygon is valid and as large as its pixels: where parts of a region meet at a corner only, the
    rings touch there and don't cross. Exteriors run counter-clockwise on a north-up map. Memory: about 150
    bytes a node, of which land cover at 10 m has about one per ten pixels.
    """
    if not len(regions):
        return np.empty(0, dtype=object)
    labels = regions.labels
    row, col = _nodes(labels)
    # Regions around each node, clockwise from the upper left. Directions count east, south, west, north, so
    # that walking in direction d from a node there is region d + 1 on the left and d + 2 on the right.
    around = np.stack(
        [labels[row, col], labels[row, col + 1], labels[row + 1, col + 1], labels[row + 1, col]]
    )
    border = np.stack([(around[(d + 1) % 4] != around[(d + 2) % 4]) for d in range(4)])
    border &= around[[1, 2, 3, 0]] != OUTSIDE
    edge = (np.cumsum(border.ravel(), dtype=np.int32) - 1).reshape(border.shape)
    neighbour = _next_nodes(col)

    start = np.concatenate([np.flatnonzero(border[d]) for d in range(4)])
    follower = np.empty(len(start), dtype=np.int32)
    region = np.empty(len(start), dtype=np.int32)
    twice_area = np.empty(len(start))
    for d in range(4):
        here = np.flatnonzero(border[d])
        there = neighbour[d][here]
        own = around[(d + 1) % 4, here]
        # Keeping right at a corner where the region lies on both sides diagonally makes two rings that touch
        # of what would be one ring that meets itself.
        turn = np.where(
            around[(d + 2) % 4, there] == own,
            (d + 1) % 4,
            np.where(around[(d + 1) % 4, there] == own, d, (d + 3) % 4),
        )
        edges = edge[d, here]
        follower[edges] = edge[turn, there]
        region[edges] = own
        twice_area[edges] = 2.0 * (col[there] - col[here]) * row[here]
    del around, border, edge, neighbour

    order, lengths, rings_of = _rings(follower, region, twice_area, len(regions))
    begin = np.cumsum(lengths) - lengths
    ring_offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
    corners = np.empty(ring_offsets[-1], dtype=np.int64)
    corners[np.arange(len(order)) + np.repeat(np.arange(len(lengths)), lengths)] = start[order]
    corners[ring_offsets[1:] - 1] = start[order[begin]]
    x, y = col[corners].astype(np.float64), row[corners].astype(np.float64)
    places = np.column_stack(
        [transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f]
    )
    polygons = np.concatenate([[0], np.cumsum(rings_of)])
    made = shapely.from_ragged_array(shapely.GeometryType.POLYGON, places, (ring_offsets, polygons))
    return np.asarray(made, dtype=object)


def _merged(count: int, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
    """(count,): number of the group each element is in once the pairs are joined, by first element."""
    pairs = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(count, count))
    return np.asarray(connected_components(pairs, directed=False)[1], dtype=np.int32)


def _rank(sizes: NDArray[np.int64], members: NDArray[np.integer]) -> NDArray[np.int64]:
    """A number that orders regions by size, then by who comes first; the region is `-(rank + 1) % count`."""
    return sizes[members] * len(sizes) + (len(sizes) - 1 - members)


def _unique_pairs(
    a: NDArray[np.integer], b: NDArray[np.integer], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    different = a != b
    code = np.unique(a[different].astype(np.int64) * count + b[different])
    return code // count, code % count


def _neighbours(labels: NDArray[np.int32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of regions that share an edge, in both directions."""
    firsts, seconds = [], []
    for one, other in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        meet = (one != other) & (one != OUTSIDE) & (other != OUTSIDE)
        firsts += [one[meet], other[meet]]
        seconds += [other[meet], one[meet]]
    return _unique_pairs(np.concatenate(firsts), np.concatenate(seconds), count)


def _nodes(labels: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(row, col) of the corners where a border turns, ends on another, or two cross; row by row."""
    alike_across = labels[:, :-1] == labels[:, 1:]
    alike_down = labels[:-1] == labels[1:]
    straight = alike_across[:-1] & alike_across[1:]
    straight |= alike_down[:, :-1] & alike_down[:, 1:]
    row, col = np.divmod(np.flatnonzero(~straight), straight.shape[1])
    return row.astype(np.int32), col.astype(np.int32)


def _next_nodes(col: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """The next node of each one to the east, south, west and north, meaningful where a border leads there.

    A border runs straight until it meets a node, so that node is the next one of the row or column.
    """
    index = np.arange(len(col))
    by_column = np.argsort(col, kind="stable")
    south, north = np.empty_like(index), np.empty_like(index)
    south[by_column] = np.roll(by_column, -1)
    north[by_column] = np.roll(by_column, 1)
    return [np.roll(index, -1), south, np.roll(index, 1), north]


def _rings(
    follower: NDArray[np.int32], region: NDArray[np.int32], twice_area: NDArray[np.float64], regions: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Edges in the order of their rings (by region, exterior first), rings' lengths, rings per region."""
    count = len(follower)
    graph = csr_array((np.ones(count), follower, np.arange(count + 1, dtype=np.int32)), shape=(count, count))
    ring_count, ring = connected_components(graph, directed=True, connection="strong")
    first = np.empty(ring_count, dtype=np.int32)
    first[ring[::-1]] = np.arange(count - 1, -1, -1, dtype=np.int32)
    is_hole = np.bincount(ring, weights=twice_area) < 0
    ranked = np.lexsort((first, is_hole, region[first]))
    # All rings, cut open and tied end to end, are one path; its breadth-first order is the path itself.
    before = np.empty(count, dtype=np.int32)
    before[follower] = np.arange(count, dtype=np.int32)
    path = follower.copy()
    path[before[first[ranked[:-1]]]] = first[ranked[1:]]
    graph = csr_array((np.ones(count), path, graph.indptr), shape=(count, count))
    order = breadth_first_order(graph, first[ranked[0]], return_predecessors=False)
    lengths = np.bincount(ring)[ranked]
    return order, lengths, np.bincount(region[first], minlength=regions)
