"""Blocks of ground that are held out of a training.

Neighbouring pixels are alike, so complete blocks are held out, never pixels or objects at random. Nothing
within a guard band around them is learned either.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.settings import PixelBlock
from pipeline.tiling import Tile, plan


def fold_blocks(shape: tuple[int, int], side: int, fold: int, folds: int) -> tuple[PixelBlock, ...]:
    """Return every `folds`th of the blocks of at most `side` px that cover a scene, a knight's move apart.

    The blocks of all folds together cover the scene, none twice.
    """
    tiles = plan(shape, side, 0, 1)
    return tuple(
        block_of(tile)
        for tile in tiles
        if (2 * (tile.row // tiles[0].height) + tile.col // tiles[0].width) % folds == fold
    )


def block_of(tile: Tile) -> PixelBlock:
    """Return the core of a tile."""
    return tile.row, tile.col, tile.height, tile.width


def hold_out(counts: NDArray[np.integer], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose blocks at random until they hold `share` of what was counted, (B,) of counts (B, K) by class.

    No class loses its last block. A block that would exceed the share by half is skipped, unless there are
    only such. The same share is held out of the blocks in which nothing was counted.
    """
    held_out = np.zeros(len(counts), np.bool_)
    if share == 0:
        return held_out
    sizes, left = counts.sum(axis=1), (counts > 0).sum(axis=0)
    wanted, so_far = share * sizes.sum(), 0

    def dispensable(index: int) -> bool:
        return bool((left[counts[index] > 0] > 1).all())

    order = rng.permutation(np.flatnonzero(sizes))
    for index in order:
        if so_far < wanted and so_far + sizes[index] <= 1.5 * wanted and dispensable(index):
            held_out[index] = True
            left, so_far = left - (counts[index] > 0), so_far + sizes[index]
    if not held_out.any():
        smallest_first = order[np.argsort(sizes[order], kind="stable")]
        held_out[[index for index in smallest_first if dispensable(index)][:1]] = True
    rest = rng.permutation(np.flatnonzero(sizes == 0))
    held_out[rest[: round(share * len(rest))]] = True
    return held_out


def block_mask(
    shape: tuple[int, int], blocks: Iterable[PixelBlock], guard_px: int = 0, origin: tuple[int, int] = (0, 0)
) -> NDArray[np.bool_]:
    """Return (H, W), True in the blocks and within `guard_px` of them.

    `origin` is the row and column of the array's upper left pixel, where blocks are in pixels of a scene.
    """
    mask = np.zeros(shape, np.bool_)
    for top, left, rows, cols in blocks:
        first_row, first_col = top - guard_px - origin[0], left - guard_px - origin[1]
        mask[
            max(0, first_row) : max(0, first_row + rows + 2 * guard_px),
            max(0, first_col) : max(0, first_col + cols + 2 * guard_px),
        ] = True
    return mask
