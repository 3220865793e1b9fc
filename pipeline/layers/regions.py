"""Regions of a class raster, and their outlines along pixel edges, as a coverage without gaps.

A region is a 4-connected area of one value. The raster is taken strip by strip: regions are labelled within
strips, then joined across the seams (union-find, by SciPy's connected components), and kept as runs of equal
labels along rows. Outlines are traced block by block on the graph of pixel corners: a corner is a node
wherever the 2 x 2 pixels around it are more than one straight border, so a polygon also has a node where only
its neighbours change. Neighbours therefore share every node, which is what a valid coverage is. What crosses
the seam of two blocks is an open chain of edges on either side; chains are tied together at the end. Neither
strips nor blocks show in polygons along pixel edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from pipeline.layers.simplification import PARTS, simplified

OUTSIDE = -1
"""Label of pixels that belong to no region: nodata, and what lies around the raster."""
STRIP_ROWS = 256
BLOCK_PX = 512
"""Side of the blocks in which outlines are traced and simplified."""
_THREADS = 2
_POLYGONS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Regions:
    """The regions of a raster of H x W pixels, K of them, numbered in the order of their first pixels.

    The label raster is stored as R runs of pixels of one region in one row, 8 bytes a run.
    """

    shape: tuple[int, int]
    """(H, W)."""
    row_runs: NDArray[np.int64]
    """(H + 1,): number of the first run of each row, and R."""
    run_columns: NDArray[np.int32]
    """(R,): the column where each run starts."""
    run_regions: NDArray[np.int32]
    """(R,): the region of each run, or OUTSIDE."""
    values: NDArray[np.uint8]
    """(K,): the value of each region's pixels."""
    sizes: NDArray[np.int64]
    """(K,): pixels of each region."""

    def __len__(self) -> int:
        return len(self.values)

    def labels(self, first_row: int = 0, stop_row: int | None = None) -> NDArray[np.int32]:
        """(rows, W): the region of each pixel, or OUTSIDE, from row `first_row` to before `stop_row`."""
        rows, width = slice(first_row, self.shape[0] if stop_row is None else stop_row), self.shape[1]
        runs = slice(self.row_runs[rows.start], self.row_runs[rows.stop])
        lengths = np.diff(self.run_columns[runs], append=np.int32(0))
        lengths[lengths <= 0] += width
        return np.repeat(self.run_regions[runs], lengths).reshape(-1, width)


@dataclass(frozen=True)
class _Chains:
    """Rings, and open parts of rings, in pixel coordinates, each with its region on the left-hand side."""

    xy: NDArray[np.number]
    """(N, 2): column and row of the corners, without the last of each chain, where the next one starts.

    Of simplified chains they are stored in parts of a pixel (`simplification.PARTS`)."""
    lengths: NDArray[np.int64]
    """(C,): corners of each chain."""
    region: NDArray[np.int32]
    """(C,)."""
    twice_area: NDArray[np.float64]
    """(C,): of a ring its signed area, exteriors positive; of an open chain its part in that of its ring."""
    follower: NDArray[np.int64]
    """(C,): the chain that goes on where this one ends (itself if it's a ring); -1 if of another block."""
    start: NDArray[np.int64]
    """(C,): number of the place where a chain starts that goes on one of another block, else -1."""
    end: NDArray[np.int64]
    """(C,): number of the place where the follower of a chain that ends at a seam starts, else -1."""


def read_strips(source: rasterio.DatasetReader, rows: int = STRIP_ROWS) -> Iterator[NDArray[np.uint8]]:
    """The first band's rows from top to bottom, `rows` at a time (the last strip may be lower)."""
    for first in range(0, source.height, rows):
        yield source.read(1, window=Window(0, first, source.width, min(rows, source.height - first)))


def label_regions(strips: Iterable[NDArray[np.uint8]], nodata: int = 255) -> Regions:
    """The 4-connected regions of equal value of a raster that comes as strips of rows, (rows, W) each.

    Pixels of `nodata` belong to no region. The result doesn't depend on the strips. Memory: about 20 bytes a
    pixel of one strip, and 16 a run.

    Raises
    ------
    ValueError
        If there is no strip.
    """
    columns, pieces, per_row, values, sizes = [], [], [np.zeros(1, dtype=np.int64)], [], []
    uppers, lowers = [], []
    count = 0
    above: tuple[NDArray[np.uint8], NDArray[np.int32]] | None = None
    for strip in strips:
        runs, starts = _runs(strip)
        piece_of_run = _merged(len(starts), *_touching(strip, runs))
        piece_values = np.empty(piece_of_run.max() + 1, dtype=np.uint8)
        piece_values[piece_of_run] = strip.ravel()[starts]
        lengths = np.diff(starts, append=strip.size)
        sizes.append(np.bincount(piece_of_run, weights=lengths).astype(np.int64))
        values.append(piece_values)
        piece_of_run += count
        if above is not None:
            seam = np.stack([above[0], strip[0]])
            equal = seam[0] == seam[1]
            uppers.append(above[1][equal])
            lowers.append(piece_of_run[runs[0][equal]])
        above = strip[-1].copy(), piece_of_run[runs[-1]]
        columns.append((starts % strip.shape[1]).astype(np.int32))
        pieces.append(piece_of_run)
        per_row.append(np.bincount(starts // strip.shape[1], minlength=len(strip)))
        count += len(piece_values)
    if above is None:
        raise ValueError("A raster needs at least one strip of rows. Received: none")
    region = _merged(count, _joined(uppers), _joined(lowers))
    region_values = np.empty(region.max() + 1, dtype=np.uint8)
    region_values[region] = np.concatenate(values)
    kept = region_values != nodata
    number = np.where(kept, np.cumsum(kept) - 1, OUTSIDE).astype(np.int32)[region]
    region_sizes = np.bincount(region, weights=np.concatenate(sizes)).astype(np.int64)
    row_runs = np.cumsum(np.concatenate(per_row))
    for index, piece_of_run in enumerate(pieces):
        pieces[index] = number[piece_of_run]
    return Regions(
        (len(row_runs) - 1, len(above[0])),
        row_runs,
        np.concatenate(columns),
        np.concatenate(pieces),
        region_values[kept],
        region_sizes[kept],
    )


def absorb_small(regions: Regions, min_pixels: int) -> Regions:
    """The regions after each one of fewer than `min_pixels` went to its largest neighbour.

    As in GDAL's sieve filter, a chain of small regions ends in the large one it leads to, and pixels outside
    (nodata) neither grow nor shrink. GDAL leaves small regions whose largest neighbours are small as well;
    here those unite first and are judged again. So what stays small has no neighbour at all. Of neighbours of
    one size the first in the raster wins, so the order in which small regions are taken does not matter.
    """
    values, sizes = regions.values, regions.sizes
    if not len(regions) or sizes.min() >= min_pixels:
        return regions
    mapping = np.arange(len(values), dtype=np.int32)
    a, b = _neighbours_of_small(regions, min_pixels)
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
    run_regions = np.append(mapping, np.int32(OUTSIDE))[regions.run_regions]
    return replace(regions, run_regions=run_regions, values=values, sizes=sizes)


def outline(
    regions: Regions, transform: Affine, simplify: float = 0.0, block_px: int = BLOCK_PX
) -> NDArray[np.object_]:
    """The regions' polygons, (K,), in map coordinates, along pixel edges; together a valid coverage.

    Every polygon is valid and as large as its pixels: where parts of a region meet at a corner only, the
    rings touch there and don't cross. Exteriors run counter-clockwise on a north-up map.

    With `simplify` above 0 (map units) the inner borders are simplified block by block (see `simplification`;
    corners whose triangle is smaller than `simplify` squared go, as far as areas and neighbours let them).
    Every polygon stays as large as its pixels, to 0.02 %: rounding takes at most 2.2e-5 of a pixel for each
    pixel of its length, which is below eight times its area. Where a border crosses the seam of two blocks
    that place stays as it is, and so do borders along a seam and to what is OUTSIDE: each block is a valid
    coverage within an outline that didn't change, therefore all of them are one.

    Memory: 4 bytes a corner of a polygon, 8 of a simplified one (twice as much from 65536 rows or columns
    on), besides the polygons themselves.
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


def _runs(strip: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(rows, W): number of each pixel's run of equal values in its row; (R,): the flat place of its start."""
    starts = np.ones(strip.shape, dtype=bool)
    np.not_equal(strip[:, 1:], strip[:, :-1], out=starts[:, 1:])
    runs = np.cumsum(starts.ravel(), dtype=np.int32).reshape(strip.shape) - np.int32(1)
    return runs, np.flatnonzero(starts)


def _touching(
    strip: NDArray[np.uint8], runs: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pairs of runs of one value of which one lies below the other, each pair once."""
    begins = np.ones((len(strip) - 1, strip.shape[1]), dtype=bool)
    changes = strip[:, 1:] != strip[:, :-1]
    np.logical_or(changes[1:], changes[:-1], out=begins[:, 1:])
    begins &= strip[1:] == strip[:-1]
    return runs[:-1][begins], runs[1:][begins]


def _joined(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)


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


def _neighbours_of_small(regions: Regions, min_pixels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of regions that share an edge of which one at least is small, in both directions."""
    is_small = np.append(regions.sizes < min_pixels, False)
    firsts, seconds = [], []
    for first_row in range(0, regions.shape[0], STRIP_ROWS):
        labels = regions.labels(max(first_row - 1, 0), min(first_row + STRIP_ROWS, regions.shape[0]))
        small = is_small[labels]
        for one, other, either in (
            (labels[:, :-1], labels[:, 1:], small[:, :-1] | small[:, 1:]),
            (labels[:-1], labels[1:], small[:-1] | small[1:]),
        ):
            a, b = one[either], other[either]
            inside = (a != b) & (a != OUTSIDE) & (b != OUTSIDE)
            firsts += [a[inside], b[inside]]
            seconds += [b[inside], a[inside]]
    return _unique_pairs(np.concatenate(firsts), np.concatenate(seconds), len(regions))


def _framed(regions: Regions, first_row: int, stop_row: int) -> NDArray[np.int32]:
    """Labels of rows with the pixels around them, OUTSIDE beyond the raster; (rows + 2, W + 2)."""
    above, below = max(first_row - 1, 0), min(stop_row + 1, regions.shape[0])
    rows_around = (above - first_row + 1, stop_row + 1 - below)
    return np.pad(regions.labels(above, below), (rows_around, (1, 1)), constant_values=OUTSIDE)


def _trace_band(regions: Regions, top: int, block_px: int, tolerance: float) -> list[_Chains]:
    labels = _framed(regions, top, min(top + block_px, regions.shape[0]))
    parts = PARTS if tolerance > 0 else 1
    # Of a patchy granule there are 44 million along pixel edges.
    place = np.min_scalar_type(max(regions.shape) * parts)
    blocks = (
        _trace(labels[:, left : left + block_px + 2], top, left, regions.shape[1], tolerance)
        for left in range(0, regions.shape[1], block_px)
    )
    return [replace(block, xy=(block.xy * parts).astype(place)) for block in blocks]


def _trace(labels: NDArray[np.int32], top: int, left: int, width: int, tolerance: float) -> _Chains:
    """The rings of a block's regions, and what is left of them without their edges along the block's seams.

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
    """(row, col) of the corners where a border turns, ends on another, or two cross; row by row.

    Also where a border meets the block's seam, and the block's own corners; what only that makes a node has
    False in the third array.
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
    """From which node each edge of a ring starts, which edge follows it, and the region on its left."""
    inside = labels.copy()
    inside[[0, -1]] = OUTSIDE
    inside[:, [0, -1]] = OUTSIDE
    # Regions around each node, clockwise from the upper left. Directions count east, south, west, north, so
    # that walking in direction d from a node there is region d + 1 on the left and d + 2 on the right.
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
    return start, follower, region


def _next_nodes(col: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """The next node of each one to the east, south, west and north, meaningful where a border leads there.

    A border runs straight until it meets a node, so that node is the next one of the row or column.
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
    """Rings without the edges that have their own region on the other side of a block's seam."""
    height, breadth = labels.shape[0] - 2, labels.shape[1] - 2
    firsts = np.cumsum(lengths) - lengths
    lasts = firsts + lengths - 1
    ring = np.repeat(np.arange(len(lengths)), lengths)
    nexts = np.arange(1, len(xy) + 1)
    nexts[lasts] = firsts
    (x, y), (x_next, y_next) = xy.T, xy[nexts].T
    beside = np.minimum(xy, xy[nexts]).astype(np.int32) + 1  # the pixel next to an edge on a seam
    inner = np.zeros(len(xy), dtype=bool)
    for on_seam, beyond in (
        ((y == 0) & (y_next == 0), lambda at: labels[0, beside[at, 0]]),
        ((y == height) & (y_next == height), lambda at: labels[-1, beside[at, 0]]),
        ((x == 0) & (x_next == 0), lambda at: labels[beside[at, 1], 0]),
        ((x == breadth) & (x_next == breadth), lambda at: labels[beside[at, 1], -1]),
    ):
        at = np.flatnonzero(on_seam)
        inner[at] = beyond(at) == ring_region[ring[at]]

    crossing = _crossings(labels, x, y, ring_region[ring])
    first_of_ring, last_of_ring = np.zeros_like(inner), np.zeros_like(inner)
    first_of_ring[firsts], last_of_ring[lasts] = True, True
    begins = ~inner & (first_of_ring | np.roll(inner, 1) | (crossing > 0))
    ends = ~inner & (last_of_ring | np.roll(inner, -1) | (crossing[nexts] > 0))
    chain = np.cumsum(begins) - 1
    begin, end = np.flatnonzero(begins), np.flatnonzero(ends)
    # A ring whose first and last edge both stay goes on with its first chain after its last.
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
    """Where a ring on the block's seam meets another part of its region at a corner only, beyond the seam.

    1 where the ring's own pixel is the upper one of the two, 2 where it is the lower one, else 0. There the
    ring keeps right, which is to go on around the other pixel.
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
    """Chains of all blocks tied together to rings, and those to the polygons of the regions."""
    counts = [len(block.lengths) for block in blocks]
    offset = np.repeat(np.cumsum(counts, dtype=np.int64) - counts, counts).astype(np.int64)
    xy = np.concatenate([block.xy for block in blocks])
    lengths = np.concatenate([block.lengths for block in blocks])
    region = np.concatenate([block.region for block in blocks])
    twice_area = np.concatenate([block.twice_area for block in blocks])
    follower = np.concatenate([block.follower for block in blocks]) + offset
    start = np.concatenate([block.start for block in blocks])
    end = np.concatenate([block.end for block in blocks])
    blocks.clear()  # they hold all corners a second time
    # A place is a corner, and which of two pixels meeting only there: one chain of a region starts at it.
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
    """Elements in the order in which they follow each other, cycle by cycle, and the cycles' lengths.

    Cycles come, and begin, in the order of their first elements.
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
    # All cycles, cut open and tied end to end, are one path; its breadth-first order is the path itself.
    before = np.empty(count, dtype=np.int32)
    before[follower] = np.arange(count, dtype=np.int32)
    path = follower.copy()
    path[before[first[ranked[:-1]]]] = first[ranked[1:]]
    graph = csr_array((np.ones(count), path, graph.indptr), shape=(count, count))
    order = breadth_first_order(graph, first[ranked[0]], return_predecessors=False)
    return order, np.bincount(cycle)[ranked]


def _ranges(starts: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """The whole numbers of each range from `starts`, one range after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
