"""Tiles of a scene: the core that a tile owns, and the window (core plus halo) that a network needs.

Pure geometry, no I/O. Window origins are multiples of the network's total stride, so that strided layers
sample the same pixels as they would on the whole scene; then the core equals the whole scene's result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window


@dataclass(frozen=True, order=True)
class Tile:
    """One tile, in pixels of the 10 m grid: `core` is its result, `window` its input."""

    row: int
    col: int
    height: int
    width: int
    halo: int
    scene_height: int
    scene_width: int

    @property
    def core(self) -> Window:
        """The part this tile owns; the cores of a plan cover the scene exactly once."""
        return Window(self.col, self.row, self.width, self.height)

    @property
    def window(self) -> Window:
        """Core plus halo, clipped to the scene."""
        top, left = max(0, self.row - self.halo), max(0, self.col - self.halo)
        bottom = min(self.scene_height, self.row + self.height + self.halo)
        right = min(self.scene_width, self.col + self.width + self.halo)
        return Window(left, top, right - left, bottom - top)

    @property
    def core_in_window(self) -> tuple[slice, slice]:
        """(rows, columns) of the core inside an array read from `window`."""
        top, left = self.row - self.window.row_off, self.col - self.window.col_off
        return slice(top, top + self.height), slice(left, left + self.width)

    def owns(self, points: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
        """Return a mask (N,) of points x, y (N, 2) in the core or at most `margin` beside it.

        All in pixels from the scene's upper left corner. Two tiles may compute the same point with a
        rounding difference. If it is below the margin, at least one tile owns the point;
        `pipeline.inference.merge` removes duplicates.
        """
        low = np.array([self.col, self.row]) - margin
        high = np.array([self.col + self.width, self.row + self.height]) + margin
        return np.asarray(((points >= low) & (points <= high)).all(axis=1))


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


def plan(shape: tuple[int, int], tile_px: int, halo: int, stride: int) -> list[Tile]:
    """Return the tiles of a scene of `shape` (rows, columns), row by row.

    `tile_px` is the largest side of a core, `halo` the network's reach and `stride` its total stride, all in
    pixels; side and halo are rounded up to the stride. Cores are about equal, since a narrow one at the end
    would cost as much halo as a full one. Works for any scene of at least one pixel.

    Raises
    ------
    ValueError
        If the scene is empty or an argument is not positive.
    """
    rows, cols = shape
    if rows < 1 or cols < 1:
        raise ValueError(f"A scene needs at least one row and column. Received: shape={shape}")
    if tile_px < 1 or halo < 0 or stride < 1:
        raise ValueError(
            f"tile_px, stride: positive; halo: not negative. Received: {tile_px=}, {halo=}, {stride=}"
        )
    side, reach = round_up(tile_px, stride), round_up(halo, stride)
    height, width = (round_up(-(-extent // -(-extent // side)), stride) for extent in shape)
    return [
        Tile(row, col, min(height, rows - row), min(width, cols - col), reach, rows, cols)
        for row in range(0, rows, height)
        for col in range(0, cols, width)
    ]


def parts(tile: Tile, wanted: NDArray[np.bool_], side: int, halo: int) -> list[Tile]:
    """Return tiles within `tile` whose cores hold all its wanted pixels, with little else to compute.

    `wanted` is (height, width) of the core. The cores are made of blocks of `side` pixels from the tile's
    corner on, and don't overlap; a rectangle is split wherever two smaller ones, each with its halo, are less
    area than one, and `_WINDOW_COST_PX` for each. Empty if nothing is wanted.
    """
    rows, cols = -(-tile.height // side), -(-tile.width // side)
    padded = np.zeros((rows * side, cols * side), bool)
    padded[: tile.height, : tile.width] = wanted
    blocks: NDArray[np.bool_] = np.logical_or.reduce(padded.reshape(rows, side, cols, side), axis=(1, 3))
    return [
        replace(
            tile,
            row=tile.row + top * side,
            col=tile.col + left * side,
            height=min(bottom * side, tile.height) - top * side,
            width=min(right * side, tile.width) - left * side,
        )
        for top, bottom, left, right in _rectangles(blocks, 2 * halo / side, _WINDOW_COST_PX / side**2)
    ]


_Rectangle = tuple[int, int, int, int]
_WINDOW_COST_PX = 2**15
"""Fixed cost of a window for a network, as pixels: a new input shape, another postprocessing step."""


def _rectangles(blocks: NDArray[np.bool_], margin: float, each: float) -> list[_Rectangle]:
    """Return rectangles (top, bottom, left, right) that hold every true block.

    A rectangle costs its area with `margin`, plus `each` blocks.
    """

    def bounds(top: int, bottom: int, left: int, right: int) -> _Rectangle:
        inside = blocks[top:bottom, left:right]
        filled_rows, filled_cols = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        return (
            top + int(filled_rows[0]),
            top + int(filled_rows[-1]) + 1,
            left + int(filled_cols[0]),
            left + int(filled_cols[-1]) + 1,
        )

    def cost(rectangle: _Rectangle) -> float:
        top, bottom, left, right = rectangle
        return (bottom - top + margin) * (right - left + margin) + each

    def split(whole: _Rectangle) -> list[_Rectangle]:
        top, bottom, left, right = whole
        pairs = [
            (bounds(top, row, left, right), bounds(row, bottom, left, right))
            for row in range(top + 1, bottom)
        ]
        pairs += [
            (bounds(top, bottom, left, col), bounds(top, bottom, col, right))
            for col in range(left + 1, right)
        ]
        best = min(pairs, key=lambda pair: cost(pair[0]) + cost(pair[1]), default=None)
        if best is None or cost(best[0]) + cost(best[1]) >= cost(whole):
            return [whole]
        return [*split(best[0]), *split(best[1])]

    return split(bounds(0, blocks.shape[0], 0, blocks.shape[1])) if blocks.any() else []


def strips(tiles: list[Tile]) -> list[list[Tile]]:
    """Group the tiles by row, top to bottom: a strip is contiguous in the output rasters."""
    by_row: dict[int, list[Tile]] = {}
    for tile in tiles:
        by_row.setdefault(tile.row, []).append(tile)
    return [by_row[row] for row in sorted(by_row)]


def shard(tiles: list[Tile], count: int) -> list[list[Tile]]:
    """Deal complete strips of tiles to at most `count` shards of consecutive strips; no shard is empty."""
    if count < 1:
        raise ValueError(f"A scene is cut into at least one shard. Received: {count=}")
    groups = strips(tiles)
    count = min(count, len(groups))

    def sizes() -> Iterator[int]:
        for i in range(count):
            yield len(groups) * (i + 1) // count - len(groups) * i // count

    rest = iter(groups)
    return [[tile for strip in islice(rest, size) for tile in strip] for size in sizes()]
