"""What lies around trucks: where data end, and where clouds are near; read in strips of the scene."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from pipeline.inference.predictions import CLOUD, NODATA
from pipeline.scenes.clouds import cloud_mask, has_clouds_information
from pipeline.scenes.scene import Scene

STRIP_ROWS = 512
"""Rows looked at together: at most 6 bytes a pixel of them are held, 34 MB for a granule."""


def touches_nodata(boxes: NDArray[np.float64], status: Path) -> NDArray[np.bool_]:
    """(N,) whether any pixel that a box (N, 4; x_min, y_min, x_max, y_max in pixels) touches has no data."""
    flags = np.zeros(len(boxes), dtype=bool)
    with rasterio.open(status) as codes:
        rows, cols = codes.shape
        left, top = np.maximum(boxes[:, :2], 0).astype(np.intp).T
        right, bottom = np.minimum(np.ceil(boxes[:, 2:]), (cols, rows)).astype(np.intp).T
        for first in range(0, rows, STRIP_ROWS):
            here = np.flatnonzero((top < first + STRIP_ROWS) & (bottom > first))
            if not len(here):
                continue
            strip = (first, min(rows, first + STRIP_ROWS)), (int(left[here].min()), int(right[here].max()))
            missing = codes.read(1, window=Window.from_slices(*strip)) == NODATA
            y, x = strip[0][0], strip[1][0]
            flags[here] |= _Counts(missing).any_in(
                top[here] - y, bottom[here] - y, left[here] - x, right[here] - x
            )
    return flags


def near_cloud(
    scene: Scene, centres: NDArray[np.float64], buffer_m: float, status: Path
) -> NDArray[np.bool_] | None:
    """(N,) whether the centre of a pixel with cloud or cirrus lies within the buffer, in whole pixels, of
    centres (N, 2; x, y in pixels, on the scene); None where clouds are unknown.

    Raises
    ------
    CorruptImageError
        If the scene classification can't be decoded.
    """
    if not has_clouds_information(scene):
        return None
    rows, cols = scene.shape
    reach = math.ceil(buffer_m / abs(scene.grid.resolution.x))
    sure = math.floor(reach / math.sqrt(2) - 0.5)  # half side of the square inside of the circle
    col, row = centres.astype(np.intp).T
    flags = np.zeros(len(centres), dtype=bool)
    with rasterio.open(status) as codes:
        for first in range(0, rows, STRIP_ROWS):
            here = np.flatnonzero((row >= first) & (row < first + STRIP_ROWS))
            if not len(here):
                continue
            top, bottom = max(0, int(row[here].min()) - reach), min(rows, int(row[here].max()) + reach + 1)
            left, right = max(0, int(col[here].min()) - reach), min(cols, int(col[here].max()) + reach + 1)
            window = Window.from_slices((top, bottom), (left, right))
            clouds = codes.read(1, window=window) == CLOUD
            if scene.scl is not None:  # only there is cirrus known, which does not stop the search
                clouds |= cloud_mask(scene, window, cirrus=True)
            around = _Counts(clouds), row[here] - top, col[here] - left
            perhaps, flags[here] = _any_near(*around, reach), _any_near(*around, sure)
            for index in here[perhaps & ~flags[here]]:
                x, y = centres[index]
                rows_near = slice(max(top, int(y) - reach) - top, int(y) + reach + 1 - top)
                cols_near = slice(max(left, int(x) - reach) - left, int(x) + reach + 1 - left)
                cloud_row, cloud_col = np.nonzero(clouds[rows_near, cols_near])
                down = cloud_row + (rows_near.start + top) + 0.5 - y
                across = cloud_col + (cols_near.start + left) + 0.5 - x
                apart = np.hypot(down, across)
                flags[index] = bool((apart <= reach).any())
    return flags


class _Counts:
    """Tells of any number of rectangles whether they hold a pixel that is set, by a summed-area table
    (Crow, "Summed-area tables for texture mapping", 1984)."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self._table: NDArray[np.int32] | None = None
        if mask.any():
            self._table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int32)
            inner = self._table[1:, 1:]
            np.cumsum(mask, axis=0, dtype=np.int32, out=inner)
            np.cumsum(inner, axis=1, out=inner)

    def any_in(
        self,
        top: NDArray[np.intp],
        bottom: NDArray[np.intp],
        left: NDArray[np.intp],
        right: NDArray[np.intp],
    ) -> NDArray[np.bool_]:
        """(N,) for rectangles from `top`, `left` up to but without `bottom`, `right`, cut to the mask."""
        if self._table is None:
            return np.zeros(len(top), dtype=bool)
        height, width = self._table.shape
        top, bottom = (np.clip(edge, 0, height - 1) for edge in (top, bottom))
        left, right = (np.clip(edge, 0, width - 1) for edge in (left, right))
        table = self._table
        count = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
        return np.asarray((count > 0) & (bottom > top) & (right > left))


def _any_near(counts: _Counts, row: NDArray[np.intp], col: NDArray[np.intp], half: int) -> NDArray[np.bool_]:
    return counts.any_in(row - half, row + half + 1, col - half, col + half + 1)
