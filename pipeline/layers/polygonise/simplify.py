"""Simplification of the borders of a block of regions that keeps the area of each region.

An arc is a border between two regions from one fixed corner to the next: where three regions meet, or a
border meets OUTSIDE. Fixed corners stay, so neighbours still share every node. The corners of an arc with the
smallest triangles are removed first (Visvalingam and Whyatt 1993), many at a time. The area that the arc has
then moved from one region to the other is a whole number of half pixels. It is moved back by shifting the
arc's remaining corners sideways, as Kronenfeld et al. (2020) place theirs. An arc without enough room for
that stays on pixel edges.

Why the coverage stays valid: a corner is removed only if its triangle with its neighbours contains no corner
that its own arc has, and none that another arc has or ever had. So no arc passes a corner of another one,
simplified or not, and each may stay unsimplified. Then a corner and an edge move by less than their distance,
together. As no corner reaches an edge, no two edges cross.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PARTS = 2**15
"""Corners are on a grid of that many parts of a pixel, on which polygons can be checked exactly."""
_OUTSIDE = -1
_NO_CORNER, _FIXED = -1, -2
_NEVER = np.iinfo(np.int64).max
_REACH = 0.475
"""Largest shift of a corner: in pixels, and as part of its distance to an edge that moves as well.

Twice that leaves enough room for rounding to PARTS, for edges of up to 1,000 pixels.
"""
_EXPECTED_REACH = 0.45
"""Limit in pixels of the debt during removal. A lower one removes fewer corners; with a higher one more arcs
have no room."""
_POINTS_AT_ONCE = 2**20


@dataclass(frozen=True)
class _Borders:
    """Rings of N corners as a doubly linked list; the arrays change as corners are removed.

    An arc is identified by the place of its first corner. It is in the list twice, once with either region on
    the left, and is processed with the lower one on the left.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    arc: NDArray[np.int64]
    """(N,): the arc that contains, or starts at, a corner."""
    worked_on: NDArray[np.bool_]
    """(N,): whether the edge that starts here belongs to an arc that is processed here."""
    free: NDArray[np.bool_]
    """(N,): the same, and the corner isn't fixed."""
    least: NDArray[np.int64]
    """(N,), by arc: minimum number of free corners of a ring."""
    left: NDArray[np.int64]
    """(N,), by arc: number of free corners left."""
    twice_owed: NDArray[np.int64]
    """(N,), by arc: twice the area, in pixels, that the region on its left has lost."""
    gone: NDArray[np.bool_]
    """(N,)."""
    arc_at: NDArray[np.int32]
    """(rows, columns): the arc of the free corner that is or was at a place, _FIXED, or _NO_CORNER."""
    gone_at: NDArray[np.bool_]
    """(rows, columns): whether the free corner there is removed."""

    def counts(self, arc: NDArray[np.int64], x: NDArray[np.int32], y: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return whether `arc` must not pass the corner at each place: all but its own removed ones."""
        return (self.arc_at[y, x] != arc) | ~self.gone_at[y, x]


def simplified(
    labels: NDArray[np.int32],
    xy: NDArray[np.int32],
    lengths: NDArray[np.int64],
    region: NDArray[np.int32],
    tolerance: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return corners (M, 2) and lengths of a block's simplified rings.

    Triangles below `tolerance` squared become as few as possible. `labels` are those of the block and of the
    pixels around it; `xy` (N, 2) the corners, columns and rows, of rings of `lengths` corners with `region`
    (rings,) on their left. All in pixels. A ring keeps its area except for rounding to PARTS, at most 2.2e-5
    of a pixel for each pixel of its length. Corners move by less than half a pixel.
    """
    if not len(xy):
        return np.empty((0, 2)), lengths
    borders = _linked(labels, xy, lengths, region)
    _collapse(borders, tolerance)
    stays = np.flatnonzero(borders.free & ~borders.gone)
    aside, settled = _settled(borders, stays)
    shift = np.zeros((*borders.gone_at.shape, 2))
    shift[borders.y[stays], borders.x[stays]] = aside
    # Both rings of an arc look up its corners by place.
    goes = borders.gone & settled[borders.arc]
    goes_at = np.zeros_like(borders.gone_at)
    goes_at[borders.y[goes], borders.x[goes]] = True
    kept = ~goes_at[borders.y, borders.x]
    places = xy[kept].astype(np.float64) + shift[borders.y[kept], borders.x[kept]]
    corners: NDArray[np.int64] = np.add.reduceat(kept, np.cumsum(lengths) - lengths, dtype=np.int64)
    return places, corners


def _linked(
    labels: NDArray[np.int32], xy: NDArray[np.int32], lengths: NDArray[np.int64], region: NDArray[np.int32]
) -> _Borders:
    inside = labels.copy()
    inside[[0, -1]] = _OUTSIDE
    inside[:, [0, -1]] = _OUTSIDE
    fixed_at = _fixed_corners(inside)
    count = len(xy)
    index = np.arange(count)
    ring = np.repeat(np.arange(len(lengths)), lengths)
    firsts = np.cumsum(lengths) - lengths
    lasts = firsts + lengths - 1
    before, after = index - 1, index + 1
    before[firsts], after[lasts] = lasts, firsts
    x, y = xy.T.astype(np.int64)
    fixed = fixed_at[y, x]
    dx, dy = x[after] - x, y[after] - y
    on_right = inside[y + ((dx > 0) | (dy > 0)), x + ((dx > 0) | (dy < 0))]
    worked_on = on_right > region[ring]
    free = worked_on & ~fixed

    # The last fixed corner before each one, around the ring; without one, the ring's first corner.
    latest = np.maximum.accumulate(np.where(fixed, index, -1))
    last_fixed = np.where(latest[lasts] >= firsts, latest[lasts], firsts)
    arc = np.where(latest >= firsts[ring], latest, last_fixed[ring])
    fixed_corners = np.add.reduceat(fixed, firsts, dtype=np.int64)
    least = np.where(fixed_corners < 2, 3 - fixed_corners, 0)[ring]
    arc_at = np.full(fixed_at.shape, _NO_CORNER, dtype=np.int32)
    arc_at[y, x] = _FIXED
    arc_at[y[free], x[free]] = arc[free]
    return _Borders(
        x, y, before, after, arc, worked_on, free, least,
        left=np.bincount(arc[free], minlength=count),
        twice_owed=np.zeros(count, dtype=np.int64),
        gone=np.zeros(count, dtype=bool),
        arc_at=arc_at,
        gone_at=np.zeros(fixed_at.shape, dtype=bool),
    )  # fmt: skip


def _fixed_corners(inside: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return corners where three or four borders meet, and all corners at OUTSIDE."""
    across, down = inside[:, :-1] != inside[:, 1:], inside[:-1] != inside[1:]
    borders = across[:-1].astype(np.int8) + across[1:] + down[:, :-1] + down[:, 1:]
    outside = inside == _OUTSIDE
    return (borders > 2) | outside[:-1, :-1] | outside[:-1, 1:] | outside[1:, :-1] | outside[1:, 1:]


def _collapse(borders: _Borders, tolerance: float) -> None:
    """Remove corners until none may be removed, the smallest triangles of their surroundings at once.

    Corners stay if their removal would make an arc owe more than its other corners can give back.
    """
    x, y, before, after, arc, left = (
        borders.x, borders.y, borders.before, borders.after, borders.arc, borders.left,
    )  # fmt: skip
    # Equal corners, as on stairs, are removed by parity; then in a scattered order, in
    # which each place occurs once.
    bits = borders.arc_at.size.bit_length()
    place = y * borders.arc_at.shape[1] + x
    order = ((x + y) & 1) << bits | (place * 0x9E3779B1) & ((1 << bits) - 1)
    # Distance of a corner's neighbours: twice the area of moving it by one pixel.
    span = np.zeros(len(x))
    twice_area = np.zeros(len(x), dtype=np.int64)
    rank = np.full(len(x), _NEVER)

    def weigh(corners: NDArray[np.int64]) -> None:
        a, c = before[corners], after[corners]
        area = (x[corners] - x[a]) * (y[c] - y[a]) - (y[corners] - y[a]) * (x[c] - x[a])
        twice_area[corners] = area
        small = np.abs(area) < 2 * tolerance**2
        rank[corners] = np.where(small, np.abs(area) << (bits + 1) | order[corners], _NEVER)
        span[corners] = np.hypot(x[c] - x[a], y[c] - y[a])

    candidates = np.flatnonzero(borders.free)
    weigh(candidates)
    is_touched = np.zeros(len(x), dtype=bool)
    room = np.bincount(arc[candidates], weights=span[candidates], minlength=len(x))
    candidates = np.flatnonzero(rank < _NEVER)
    while len(candidates):
        of_candidates = rank[candidates]
        chosen = candidates[
            (of_candidates < rank[before[candidates]]) & (of_candidates <= rank[after[candidates]])
        ]
        chosen = chosen[_one_of_short_arcs(arc[chosen], left[arc[chosen]], rank[chosen])]
        owner, remaining = arc[chosen], left[arc[chosen]] - 1
        a, c = before[chosen], after[chosen]
        less = span[chosen]
        less += np.where(borders.free[a], span[a] - np.hypot(x[c] - x[before[a]], y[c] - y[before[a]]), 0)
        less += np.where(borders.free[c], span[c] - np.hypot(x[after[c]] - x[a], y[after[c]] - y[a]), 0)
        owed = borders.twice_owed[owner] + _sums_of_runs(owner, twice_area[chosen])
        may = (remaining >= borders.least[owner]) & ((remaining > 0) | (owed == 0))
        may &= (owed == 0) | (np.abs(owed) <= _EXPECTED_REACH * (room[owner] - _sums_of_runs(owner, less)))
        in_question = np.flatnonzero(may & (np.abs(twice_area[chosen]) > 1))  # half a pixel has no corner
        may[in_question] = _is_empty(borders, chosen[in_question])
        rank[chosen] = _NEVER  # until a neighbour is removed
        go = chosen[may]
        a, c = before[go], after[go]
        after[a], before[c] = c, a
        borders.gone[go] = True
        borders.gone_at[y[go], x[go]] = True
        np.add.at(borders.twice_owed, arc[go], twice_area[go])
        np.subtract.at(left, arc[go], 1)
        is_touched[a] = is_touched[c] = True
        touched = np.flatnonzero(is_touched & borders.free)
        is_touched[a] = is_touched[c] = False
        np.subtract.at(room, arc[go], span[go])
        np.subtract.at(room, arc[touched], span[touched])
        weigh(touched)
        np.add.at(room, arc[touched], span[touched])
        candidates = np.flatnonzero(rank < _NEVER)


def _one_of_short_arcs(
    arc: NDArray[np.int64], corners: NDArray[np.int64], rank: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which corners may be removed at once: of a short arc only the first by rank."""
    kept = np.ones(len(arc), dtype=bool)
    short = np.flatnonzero(corners <= 4)
    short = short[np.lexsort((rank[short], arc[short]))]
    kept[short[1:][arc[short[1:]] == arc[short[:-1]]]] = False
    return kept


def _sums_of_runs(owner: NDArray[np.int64], values: NDArray[np.number]) -> NDArray[np.number]:
    """Return the cumulative sum of values within each run of equal owners."""
    sums = np.cumsum(values)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    return sums - np.repeat(sums[first] - values[first], np.diff(first, append=len(owner)))


def _corners_in(
    borders: _Borders,
    left: NDArray[np.int64],
    top: NDArray[np.int64],
    right: NDArray[np.int64],
    bottom: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]]:
    """Yield the corners in boxes, edges included, removed or not: number of the box, x, y; some boxes at a
    time."""
    columns = (right - left + 1).astype(np.int32)
    ends = np.cumsum(columns * (bottom - top + 1))
    x0, y0 = left.astype(np.int32), top.astype(np.int32)
    first = 0
    while first < len(ends):
        begin = ends[first - 1] if first else 0
        stop = max(int(np.searchsorted(ends, begin + _POINTS_AT_ONCE, side="right")), first + 1)
        counts = np.diff(ends[first:stop], prepend=begin)
        box = np.repeat(np.arange(first, stop, dtype=np.int32), counts)
        place = np.arange(len(box), dtype=np.int32)
        place -= np.repeat((np.cumsum(counts) - counts).astype(np.int32), counts)
        width = columns[box]
        row = place // width
        x, y = x0[box] + (place - row * width), y0[box] + row
        taken = np.flatnonzero(borders.arc_at[y, x] != _NO_CORNER)
        yield box[taken], x[taken], y[taken]
        first = stop


def _is_empty(borders: _Borders, corners: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether a corner's triangle contains nothing, inside or on its edges, that its arc must not
    pass."""
    ends = np.stack([borders.before[corners], corners, borders.after[corners]])
    x, y, arc = borders.x[ends], borders.y[ends], borders.arc[corners]
    held = np.zeros(len(corners), dtype=np.int64)
    for box, columns, rows in _corners_in(borders, x.min(0), y.min(0), x.max(0), y.max(0)):
        counts = borders.counts(arc[box], columns, rows)
        of, column, row = box[counts], columns[counts], rows[counts]
        sides = np.stack(
            [
                (x[k - 2, of] - x[k, of]) * (row - y[k, of]) - (y[k - 2, of] - y[k, of]) * (column - x[k, of])
                for k in range(3)
            ]
        )
        held += np.bincount(of[(sides >= 0).all(0) | (sides <= 0).all(0)], minlength=len(corners))
    return held == 3


def _settled(borders: _Borders, stays: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return shifted places (K, 2) of the remaining free corners, and (N,), by arc, if areas are restored.

    Corners move across the line between their neighbours, each by the same part of its limit: lambda, of
    which the area is a quadratic function.
    """
    arc, count = borders.arc[stays], len(borders.x)
    before, after = borders.before[stays], borders.after[stays]
    reach = _reach(borders, borders.twice_owed[borders.arc] != 0)[stays]
    across_x, across_y = borders.x[after] - borders.x[before], borders.y[after] - borders.y[before]
    across = np.hypot(across_x, across_y)
    step = np.zeros((count, 2))
    step[stays] = np.column_stack([across_y, -across_x]) * (reach / np.maximum(across, 1))[:, None]
    both = np.where(
        borders.free[after],
        step[stays, 0] * step[after, 1] - step[stays, 1] * step[after, 0],
        0,
    )
    linear = np.bincount(arc, weights=reach * across, minlength=count)
    square = np.bincount(arc, weights=both, minlength=count)
    owed = borders.twice_owed
    root = linear**2 + 4 * square * owed
    part = np.divide(
        2 * owed, linear + np.sqrt(np.maximum(root, 0)), out=np.zeros(count), where=(root >= 0) & (linear > 0)
    )
    settled = (owed == 0) | ((part != 0) & (np.abs(part) <= 1))
    aside = step[stays] * np.where(settled, part, 0)[arc][:, None]
    return np.rint(aside * PARTS) / PARTS, settled


def _reach(borders: _Borders, moves: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (N,): how far each corner may move, in pixels, without reaching an edge that it isn't an end of.

    Candidates are the corners within a pixel of an edge. The rest of another arc may move as well, and both
    have half of the distance. Removed corners of another arc count with their places, as they may return.
    """
    x, y = borders.x, borders.y
    reach = np.full(len(x), _REACH)
    starts = np.flatnonzero(borders.worked_on & ~borders.gone)
    ends = borders.after[starts]
    moving = moves & borders.free & ~borders.gone
    corner_at = np.full(borders.arc_at.shape, -1, dtype=np.int64)
    corner_at[y[moving], x[moving]] = np.flatnonzero(moving)
    left, right = np.minimum(x[starts], x[ends]) - 1, np.maximum(x[starts], x[ends]) + 1
    top, bottom = np.minimum(y[starts], y[ends]) - 1, np.maximum(y[starts], y[ends]) + 1
    last_row, last_column = borders.arc_at.shape[0] - 1, borders.arc_at.shape[1] - 1
    left, top = np.maximum(left, 0), np.maximum(top, 0)
    right, bottom = np.minimum(right, last_column), np.minimum(bottom, last_row)
    for box, columns, rows in _corners_in(borders, left, top, right, bottom):
        counts = borders.counts(borders.arc[starts[box]], columns, rows)
        edge, px, py = box[counts], columns[counts], rows[counts]
        start, end = starts[edge], ends[edge]
        apart = ((px != x[start]) | (py != y[start])) & ((px != x[end]) | (py != y[end]))
        start, end, px, py = start[apart], end[apart], px[apart], py[apart]
        from_start = np.stack([px - x[start], py - y[start]])
        line = np.stack([x[end] - x[start], y[end] - y[start]])
        along = np.clip((from_start * line).sum(0) / (line * line).sum(0), 0, 1)
        distance = np.hypot(*(from_start - along * line))
        corner = corner_at[py, px]
        is_shared = (corner >= 0) & (moving[start] | moving[end])
        distance *= np.where(is_shared, _REACH, 2 * _REACH)
        np.minimum.at(reach, start, distance)
        np.minimum.at(reach, end, distance)
        np.minimum.at(reach, corner[corner >= 0], distance[corner >= 0])
    return reach
