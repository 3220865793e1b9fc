"""Regions of a class raster: 4-connected areas of one value, stored as runs.

The raster is read strip by strip. Regions are labelled within strips, then joined across the seams
(union-find, by SciPy's connected components), and stored as runs of equal labels along rows. `outline` traces
them block by block on the graph of pixel corners. A corner is a node if the 2 x 2 pixels around it are more
than one straight border, so a polygon also has a node where only its neighbours change. Neighbours therefore
share every node, as a valid coverage requires. A border that crosses the seam of two blocks is an open chain
of edges on either side; chains are joined at the end. Polygons along pixel edges depend neither on strips nor
on blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

OUTSIDE = -1
"""Label of pixels without a region: nodata, and the surroundings of the raster."""
STRIP_ROWS = 256


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
        """Return (rows, W): the region of each pixel, or OUTSIDE, of rows `first_row` to `stop_row` - 1."""
        rows, width = slice(first_row, self.shape[0] if stop_row is None else stop_row), self.shape[1]
        runs = slice(self.row_runs[rows.start], self.row_runs[rows.stop])
        lengths = np.diff(self.run_columns[runs], append=np.int32(0))
        lengths[lengths <= 0] += width
        return np.repeat(self.run_regions[runs], lengths).reshape(-1, width)


def read_strips(source: rasterio.DatasetReader, rows: int = STRIP_ROWS) -> Iterator[NDArray[np.uint8]]:
    """Yield the first band's rows from top to bottom, `rows` at a time (the last strip may be lower)."""
    for first in range(0, source.height, rows):
        yield source.read(1, window=Window(0, first, source.width, min(rows, source.height - first)))


def label_regions(strips: Iterable[NDArray[np.uint8]], nodata: int = 255) -> Regions:
    """Label the 4-connected regions of equal value of a raster given as strips of rows, (rows, W) each.

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
    """Merge regions of fewer than `min_pixels` into their largest neighbours.

    As in GDAL's sieve filter, a chain of small regions ends in the large region that it leads to, and pixels
    outside (nodata) neither grow nor shrink. GDAL leaves small regions whose largest neighbours are small,
    too; here these are merged first and compared again. A region that stays small therefore has no neighbour.
    Of neighbours of equal size the first in the raster wins, so the order of merging does not matter.
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


def _runs(strip: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return (rows, W): number of each pixel's run of equal values in its row; (R,): the flat index of its
    start."""
    starts = np.ones(strip.shape, dtype=bool)
    np.not_equal(strip[:, 1:], strip[:, :-1], out=starts[:, 1:])
    runs = np.cumsum(starts.ravel(), dtype=np.int32).reshape(strip.shape) - np.int32(1)
    return runs, np.flatnonzero(starts)


def _touching(
    strip: NDArray[np.uint8], runs: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return pairs of runs of one value, one below the other, each pair once."""
    begins = np.ones((len(strip) - 1, strip.shape[1]), dtype=bool)
    changes = strip[:, 1:] != strip[:, :-1]
    np.logical_or(changes[1:], changes[:-1], out=begins[:, 1:])
    begins &= strip[1:] == strip[:-1]
    return runs[:-1][begins], runs[1:][begins]


def _joined(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)


def _merged(count: int, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return (count,): number of the group of each element after joining the pairs, by first element."""
    pairs = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(count, count))
    return np.asarray(connected_components(pairs, directed=False)[1], dtype=np.int32)


def _rank(sizes: NDArray[np.int64], members: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rank regions by size, then by first pixel; the region is `-(rank + 1) % count`."""
    return sizes[members] * len(sizes) + (len(sizes) - 1 - members)


def _unique_pairs(
    a: NDArray[np.integer], b: NDArray[np.integer], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    different = a != b
    code = np.unique(a[different].astype(np.int64) * count + b[different])
    return code // count, code % count


def _neighbours_of_small(regions: Regions, min_pixels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs of regions that share an edge, at least one of them small, in both directions."""
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
