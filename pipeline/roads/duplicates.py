"""Lines that lie on each other: a road drawn once for each direction, or twice, is one road."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely import ops

from pipeline.input_warnings import warn
from pipeline.roads.near_lines import TooManyError, near_lines

log = logging.getLogger(__name__)

TOLERANCE_M = 2.0
"""Largest distance between two drawings of a road. Lanes are 3 m apart, carriageways more."""
PARTIAL_M = 30.0
"""Shortest common part of two roads that is drawn twice where the rest isn't. Roads that part
at a small angle are near each other for less."""
_NEAR_MEAN_M = TOLERANCE_M / 4
"""Largest mean distance there, and of shorter roads. Where roads part it is half of the tolerance."""
_GAP_M = 2 * TOLERANCE_M
_LANES_M, _MOST_BESIDE = 4.5, 0.1
"""Distance of the lanes of a road, and part of all lines from which lines that near another are no chance."""
_MOST_MEASURED = 5e9
"""Vertices of lines to measure in all; those of a real network are some 40 for each line."""
_PLACES_AT_A_TIME = 200_000
_ALIGNED = 0.9
"""Least cosine of the angle between two drawings."""

_Interval = tuple[float, float]


@dataclass(frozen=True)
class _Piece:
    """Part of a line between two distances along it, in metres."""

    of: shapely.LineString
    start: float
    end: float
    oneway: int

    @cached_property
    def line(self) -> shapely.LineString:
        """Return its line; that of the road if it is all of it."""
        if (self.start, self.end) == (0.0, self.of.length):
            return self.of
        return cast(shapely.LineString, ops.substring(self.of, self.start, self.end))


@dataclass(frozen=True)
class _Overlap:
    """Part of a line that lies on a piece of an earlier one, as distances along both, in metres."""

    on_line: _Interval
    on_piece: _Interval
    same_way: bool
    mean_m: float


def merge_duplicates(roads: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return `roads` (as of `read_roads`) with each road once; its directions are those of all lines.

    A line is left out where it lies on an earlier one of its class, `TOLERANCE_M` from it at most:
    completely, or for at least `PARTIAL_M`. The earlier line keeps its id and other attributes, and becomes
    two-way there if the two differ in direction. A hidden road and one above it both stay. In degrees only
    lines of the same vertices are compared.
    """
    roads, exact, against = _without_exact(roads)
    if roads.crs and roads.crs.is_projected and len(roads):
        try:
            roads, close, differ = _without_close(roads)
            exact, against = exact + close, against + differ
            _warn_of_lanes(roads)
        except TooManyError:
            warn(
                f"Roads: {len(roads)} lines lie on, cross or touch each other millions of times, as in no "
                "network of roads. Roads that are drawn twice are not joined, so lengths, counts and "
                "directions may be wrong. Give a file that has each road once, cut where roads meet."
            )
    if exact:
        log.info("roads: %d lines lie on others, as if drawn by direction; counted once", exact)
    if against:
        warn(
            f"Roads: {against} lines lie on lines of another direction (oneway); each pair is taken as one "
            "two-way road. If these roads are one-way, give a file that has each of them once."
        )
    lines = pd.DataFrame({"line": _shapes(roads), "hidden": roads["hidden"].isna()})
    if crossed := int(lines.duplicated().sum()):
        warn(
            f"Roads: {crossed} lines have the vertices of a line of another class; each is a road. Give a "
            "file that has each road once."
        )
    return roads


def _warn_of_lanes(roads: gpd.GeoDataFrame) -> None:
    """Warn if many lines run beside another, as near as the lanes of one road."""
    long = shapely.length(roads.geometry.to_numpy()) >= PARTIAL_M
    lines = roads.geometry.to_numpy()[long]
    beside = np.zeros(len(lines), bool)
    if len(lines):
        firsts = shapely.get_geometry(lines, 0)
        places = [shapely.line_interpolate_point(firsts, at, True) for at in (0.2, 0.5, 0.8)]
        one, other = near_lines(lines, _LANES_M, *(kind[long] for kind in _kinds(roads)), places=places[1])
        always = one != other
        for at in places[::2]:
            always[always] = shapely.dwithin(at[one[always]], lines[other[always]], _LANES_M)
        beside[one[always]] = True
    if beside.sum() > _MOST_BESIDE * len(lines):
        warn(
            f"Roads: {beside.sum()} of {len(lines)} lines are less than {_LANES_M:g} m beside another of "
            "their class, as if lanes were drawn, or a road twice. Each counts as a road, so lengths, counts "
            "and directions are not those of roads. Give a file that has each road or carriageway once."
        )


def _shapes(roads: gpd.GeoDataFrame) -> list[bytes]:
    """Return the vertices of each road, the same for both directions."""
    return cast(list[bytes], shapely.to_wkb(shapely.normalize(roads.geometry.to_numpy())).tolist())


def _without_exact(roads: gpd.GeoDataFrame) -> tuple[gpd.GeoDataFrame, int, int]:
    """Leave out lines with the vertices of an earlier one, in either order.

    Returns also their number, and how many differ from the earlier one in direction.
    """
    lines = roads.geometry.to_numpy()
    shapes = zip(_shapes(roads), *_kinds(roads), strict=True)
    seen: dict[tuple[object, ...], int] = {}
    first = np.array([seen.setdefault(shape, row) for row, shape in enumerate(shapes)], np.int64)
    same = shapely.equals_exact(lines, lines[first])
    rings = ~same & shapely.is_ring(lines)  # they may begin elsewhere
    same[rings] = shapely.is_ccw(lines[rings]) == shapely.is_ccw(lines[first][rings])
    # Parts of a multi-line may differ in order or direction: those are compared as close ones.
    known = same | ((shapely.get_type_id(lines) == 1) & (shapely.get_type_id(lines[first]) == 1))
    first = np.where(known, first, np.arange(len(lines)))
    copies = first != np.arange(len(lines))
    if not copies.any():
        return roads, 0, 0
    oneway = roads["oneway"].to_numpy(copy=True)
    relative = np.where(same, oneway, -oneway)
    differ = copies & (relative != oneway[first])
    oneway[first[differ]] = 0
    kept = roads.assign(oneway=oneway)[~copies].reset_index(drop=True)
    return kept, int(copies.sum()), int(differ.sum())


def _without_close(roads: gpd.GeoDataFrame) -> tuple[gpd.GeoDataFrame, int, int]:
    """Leave out parts of lines that lie on earlier ones; further returns as `_without_exact`."""
    lines, road = shapely.get_parts(roads.geometry.to_numpy(), return_index=True)
    classes, hidden = (kind[road] for kind in _kinds(roads))
    earlier = _near_pairs(lines, classes, hidden)
    oneway = roads["oneway"].to_numpy()[road]
    pieces: dict[int, list[_Piece]] = {}
    changed = differ = 0
    for number in sorted(earlier):
        line, way = lines[number], int(oneway[number])
        pieces[number] = [_Piece(line, 0.0, line.length, way)]
        found = [
            (other, at, overlap)
            for other in sorted(earlier[number])
            for at, piece in enumerate(
                pieces.setdefault(other, [_Piece(lines[other], 0.0, lines[other].length, int(oneway[other]))])
            )
            for overlap in _overlaps(line, piece.line)
        ]
        accepted = _accepted(line.length, found)
        if not accepted:
            continue
        changed += 1
        differ += any(_way_on(way, overlap) != pieces[one][at].oneway for one, at, overlap in accepted)
        for other in {each[0] for each in accepted}:
            mine = [(at, overlap) for one, at, overlap in accepted if one == other]
            pieces[other] = _joined(
                part
                for at, piece in enumerate(pieces[other])
                for part in _with_way(piece, [overlap for index, overlap in mine if index == at], way)
            )
        rest = _complement([overlap.on_line for *_, overlap in accepted], line.length)
        pieces[number] = [_Piece(line, *part, way) for part in rest]
    return _rebuilt(roads, lines, road, pieces), changed, differ


def _kinds(roads: gpd.GeoDataFrame) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return class and cover of each road; lines that differ in one of them are different roads."""
    return roads["road_class"].fillna("").to_numpy(str), roads["hidden"].fillna("").to_numpy(str)


def _near_pairs(lines: NDArray[np.object_], *kinds: NDArray[np.str_]) -> dict[int, set[int]]:
    """Return the earlier lines of the same kinds on which a line may lie, by that line."""
    first, second = near_lines(lines, TOLERANCE_M, *kinds)
    later = first < second
    first, second = first[later], second[later]
    least = np.minimum(
        PARTIAL_M, 0.8 * np.minimum(*(shapely.length(lines[some]) for some in (first, second)))
    )
    boxes = shapely.bounds(lines)
    west, south, east, north = boxes.T
    wide = np.minimum(east[first], east[second]) - np.maximum(west[first], west[second]) + 2 * TOLERANCE_M
    high = np.minimum(north[first], north[second]) - np.maximum(south[first], south[second]) + 2 * TOLERANCE_M
    close = (np.hypot(wide, high) >= least) & (least > 0)
    first, second, least = first[close], second[close], least[close]
    along = [
        _run_along(lines[first[part]], lines[second[part]], least[part])
        for part in np.array_split(np.arange(len(first)), _parts(lines, first, second, least))
    ]
    first, second, least = (each[np.concatenate(along)] for each in (first, second, least))
    some, of = np.unique(first, return_inverse=True)
    strips = shapely.buffer(lines[some], TOLERANCE_M, quad_segs=2, cap_style="flat")
    common = shapely.length(shapely.intersection(lines[second], strips[of])) >= least
    found: dict[int, set[int]] = {}
    for one, other in zip(first[common].tolist(), second[common].tolist(), strict=True):
        found.setdefault(other, set()).add(one)
    return found


def _parts(
    lines: NDArray[np.object_],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    least: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return where pairs are cut so that each part has `_PLACES_AT_A_TIME` for `_run_along`, or one pair.

    Raises
    ------
    TooManyError
        If the vertices to measure from all places are too many.
    """
    lengths, vertices = shapely.length(lines), shapely.get_num_coordinates(lines)
    places = np.ceil(np.minimum(lengths[first], lengths[second]) / (0.4 * least))
    if places @ (vertices[first] + vertices[second]) > _MOST_MEASURED:
        raise TooManyError
    return np.flatnonzero(np.diff(np.cumsum(places) // _PLACES_AT_A_TIME)) + 1


def _run_along(
    some: NDArray[np.object_], others: NDArray[np.object_], least: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return False for pairs (N,) that have less than `least` metres in common, as most that only touch.

    Of places on the shorter one, 0.4 `least` apart, two or more are near the other. Memory: 100 bytes each.
    """
    swap = shapely.length(some) > shapely.length(others)
    some, others = np.where(swap, others, some), np.where(swap, some, others)
    length = shapely.length(some)
    steps = np.ceil(length / (0.4 * least)).astype(np.int64)
    pair = np.repeat(np.arange(len(some)), steps)
    number = np.arange(len(pair)) - np.repeat(np.cumsum(steps) - steps, steps)
    places = shapely.line_interpolate_point(some[pair], (number + 0.5) * (length / steps)[pair])
    near = shapely.distance(places, others[pair]) <= TOLERANCE_M
    return np.asarray(np.bincount(pair[near], minlength=len(some)) >= 2)


def _overlaps(line: shapely.LineString, piece: shapely.LineString) -> list[_Overlap]:
    """Return the parts of `line` that lie on `piece` and run along it."""
    strip = piece.buffer(TOLERANCE_M, quad_segs=2, cap_style="flat")
    parts = shapely.get_parts(shapely.line_merge(shapely.intersection(line, strip)))
    return [
        found
        for part in parts
        if part.geom_type == "LineString" and part.length > 0 and (found := _overlap(line, piece, part))
    ]


def _overlap(
    line: shapely.LineString, piece: shapely.LineString, part: shapely.LineString
) -> _Overlap | None:
    """Return the overlap at a part of `line`; None if the two cross there."""
    at = np.linspace(0, part.length, 17)
    places = shapely.line_interpolate_point(part, at)
    on_line, on_piece = (shapely.line_locate_point(each, places) for each in (line, piece))
    step = at[1]
    along_line, along_piece = np.median(np.diff(on_line)) / step, np.median(np.diff(on_piece)) / step
    if abs(along_piece) < _ALIGNED or abs(along_line) < _ALIGNED:
        return None
    return _Overlap(
        (float(on_line.min()), float(on_line.max())),
        (float(on_piece.min()), float(on_piece.max())),
        bool(along_piece * along_line > 0),
        float(shapely.distance(places, piece).mean()),
    )


def _accepted(length: float, found: list[tuple[int, int, _Overlap]]) -> list[tuple[int, int, _Overlap]]:
    """Return all overlaps if they cover a long line, those very near if a short one, else those of both."""
    if length >= PARTIAL_M and not _complement([overlap.on_line for *_, overlap in found], length):
        return found
    near = [each for each in found if each[2].mean_m <= _NEAR_MEAN_M]
    if not _complement([overlap.on_line for *_, overlap in near], length):
        return near
    return [each for each in near if each[2].on_line[1] - each[2].on_line[0] >= PARTIAL_M]


def _way_on(way: int, overlap: _Overlap) -> int:
    """Return the direction of a line relative to the piece that it lies on."""
    return way if overlap.same_way else -way


def _with_way(piece: _Piece, overlaps: list[_Overlap], way: int) -> list[_Piece]:
    """Return a piece, cut where it also has another direction now: it is two-way there."""
    differing = [
        overlap.on_piece
        for overlap in overlaps
        if _way_on(way, overlap) != piece.oneway != 0 and overlap.on_piece[1] - overlap.on_piece[0] > _GAP_M
    ]
    if not differing:
        return [piece]
    rest = _complement(differing, piece.line.length)
    both = _complement(rest, piece.line.length)
    ways = {**dict.fromkeys(rest, piece.oneway), **dict.fromkeys(both, 0)}
    ends = [start for start, _ in sorted(ways)][1:]
    return [
        _Piece(piece.of, piece.start + start, piece.start + end if end else piece.end, ways[part])
        for part, end in zip(sorted(ways), [*ends, None], strict=True)
        for start in part[:1]
    ]


def _joined(pieces: Iterable[_Piece]) -> list[_Piece]:
    """Join neighbouring pieces of the same direction."""
    found: list[_Piece] = []
    for piece in pieces:
        if found and (found[-1].end, found[-1].oneway) == (piece.start, piece.oneway):
            found[-1] = replace(found[-1], end=piece.end)
        else:
            found.append(piece)
    return found


def _complement(intervals: Iterable[_Interval], length: float) -> list[_Interval]:
    """Return the intervals of 0 to `length` that none of `intervals` covers, if longer than `_GAP_M`."""
    rest, begin = [], 0.0
    for start, end in [*sorted(intervals), (length, length)]:
        if start - begin > _GAP_M:
            rest.append((begin, start))
        begin = max(begin, end)
    return rest


def _rebuilt(
    roads: gpd.GeoDataFrame,
    lines: NDArray[np.object_],
    road: NDArray[np.int64],
    pieces: dict[int, list[_Piece]],
) -> gpd.GeoDataFrame:
    """Return the roads with the pieces in place of their lines; a road that is the same keeps its row."""
    oneway = roads["oneway"].to_numpy()
    touched = np.zeros(len(roads), bool)
    for number, parts in pieces.items():
        whole = len(parts) == 1 and parts[0].line is lines[number]
        touched[road[number]] |= not whole or parts[0].oneway != oneway[road[number]]
    if not touched.any():
        return roads
    rows, geometry, ways = [], [], []
    for number in np.flatnonzero(touched[road]).tolist():
        row = road[number]
        own = [_Piece(lines[number], 0.0, lines[number].length, int(oneway[row]))]
        for piece in pieces.get(number, own):
            rows.append(row)
            geometry.append(piece.line)
            ways.append(piece.oneway)
    cut = roads.iloc[rows].assign(oneway=np.array(ways, np.int8))
    cut = cut.set_geometry(gpd.GeoSeries(geometry, index=cut.index, crs=roads.crs))
    return pd.concat([roads[~touched], cut]).sort_index(kind="stable").reset_index(drop=True)
