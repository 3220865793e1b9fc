"""Resampling of one raster to the pixels of another grid, by place and never by window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from pipeline.scenes.raster.blocks import Raster

_GRID_TOLERANCE_PX = 1e-3
_ROWS_AT_ONCE = 64


def same_grid(raster: Raster, grid: GeoBox) -> bool:
    """Return whether a raster has exactly the pixels of a grid."""
    rows, cols = raster.shape
    if (rows, cols) != tuple(grid.shape):
        return False
    ours, theirs = grid.affine, raster.transform
    apart = (
        ours.c - theirs.c,
        ours.f - theirs.f,
        ours.c - theirs.c + cols * (ours.a - theirs.a),
        ours.f - theirs.f + rows * (ours.e - theirs.e),
    )
    return max(map(abs, apart)) <= _GRID_TOLERANCE_PX * ours.a


@dataclass(frozen=True)
class Axis:
    """Positions of the pixel centres of a window on another raster, along one axis."""

    position: NDArray[np.float64]
    """In pixels from the first pixel *centre* of `source`."""
    inside: NDArray[np.bool_]
    """Whether each position is on the raster."""
    source: slice
    """The raster's pixels that are needed."""

    @classmethod
    def along_cols(cls, raster: Raster, grid: GeoBox, pixels: slice) -> Axis:
        """Return the columns of a window of `grid` on a raster."""
        ours, theirs = grid.affine, raster.transform
        return cls._of(ours.c, ours.a, theirs.c, theirs.a, raster.shape[1], pixels)

    @classmethod
    def along_rows(cls, raster: Raster, grid: GeoBox, pixels: slice) -> Axis:
        """Return the rows of a window of `grid` on a raster."""
        ours, theirs = grid.affine, raster.transform
        return cls._of(ours.f, ours.e, theirs.f, theirs.e, raster.shape[0], pixels)

    @classmethod
    def _of(
        cls, origin: float, step: float, their_origin: float, their_step: float, size: int, pixels: slice
    ) -> Axis:
        # From the pixel's number in the scene, not in the window, so rounding never depends on the window.
        centres = origin + (np.arange(pixels.start, pixels.stop) + 0.5) * step
        edges = (centres - their_origin) / their_step
        inside = (edges >= 0) & (edges < size)
        position = np.clip(edges - 0.5, 0.0, size - 1.0)
        first = int(position.min())
        last = min(int(position.max()) + 1, size - 1)
        return cls(position - first, inside, slice(first, last + 1))

    @property
    def low(self) -> NDArray[np.intp]:
        """The source pixel whose centre is at or before each position."""
        return self.position.astype(np.intp)

    @property
    def high(self) -> NDArray[np.intp]:
        """The source pixel after it, or the last one."""
        return np.minimum(self.low + 1, self.source.stop - self.source.start - 1)

    @property
    def nearest(self) -> NDArray[np.intp]:
        """The source pixel that holds each position."""
        last = self.source.stop - self.source.start - 1
        return np.minimum((self.position + 0.5).astype(np.intp), last)

    @property
    def weight(self) -> NDArray[np.float32]:
        """Weight of `high`; `low` has the rest."""
        return (self.position - self.low).astype(np.float32)


def bilinear(values: NDArray[np.float32], y: Axis, x: Axis) -> NDArray[np.float32]:
    """Blend values (H, W) of a raster at the positions of two axes."""
    low, high, left, right = y.low, y.high, x.low, x.high
    wy, wx = y.weight[:, None], x.weight
    blend = np.empty((len(low), len(left)), np.float32)
    for top in range(0, len(low), _ROWS_AT_ONCE):  # few rows at a time, to stay in the processor's cache
        part = slice(top, top + _ROWS_AT_ONCE)
        rows = values[low[part]] * (1 - wy[part]) + values[high[part]] * wy[part]
        np.multiply(np.take(rows, left, axis=1), 1 - wx, out=blend[part])
        blend[part] += np.take(rows, right, axis=1) * wx
    return blend
