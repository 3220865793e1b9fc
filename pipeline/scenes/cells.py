"""Cells of several pixels, counted from a scene's corner: their values do not depend on the window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window


@dataclass(frozen=True)
class Cells:
    """The cells of `side_px` x `side_px` pixels in some rows and columns of cells of a scene.

    Cells on the lower and right border of the scene may be cut.
    """

    side_px: int
    top: int
    left: int
    window: Window
    """The pixels of the cells."""

    @classmethod
    def around(cls, shape: tuple[int, int], window: Window, side_px: int, halo: int) -> Cells:
        """Return the cells that contain a window of a scene (rows, columns), and `halo` cells around them."""
        rows, cols = shape
        top, left = (max(0, int(start) // side_px - halo) for start in (window.row_off, window.col_off))
        bottom = min(rows, (-(-int(window.row_off + window.height) // side_px) + halo) * side_px)
        right = min(cols, (-(-int(window.col_off + window.width) // side_px) + halo) * side_px)
        return cls(side_px, top, left, Window.from_slices((top * side_px, bottom), (left * side_px, right)))

    def sums(self, values: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the sums (h, w) of the values (H, W) of the pixels of each cell."""
        height, width = values.shape
        total = np.zeros((-(-height // self.side_px), -(-width // self.side_px)))
        # Pixel by pixel of the cell: the order of summing, and its rounding, are the same in every window.
        for i in range(self.side_px):
            for j in range(self.side_px):
                part = values[i :: self.side_px, j :: self.side_px]
                rows, cols = part.shape
                total[:rows, :cols] += part
        return total

    def on_pixels(self, values: NDArray[np.bool_], window: Window) -> NDArray[np.bool_]:
        """Return the value of its cell (h, w) for each pixel (H, W) of a window inside of the cells."""
        row = np.arange(window.row_off, window.row_off + window.height) // self.side_px - self.top
        col = np.arange(window.col_off, window.col_off + window.width) // self.side_px - self.left
        return values[np.ix_(row, col)]


def disk(radius: int) -> NDArray[np.bool_]:
    """Return a disk (2 radius + 1, 2 radius + 1) of cells."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius)
