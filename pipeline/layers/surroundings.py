"""Attributes of places: class, nodata and nearby cloud, read in strips."""

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
"""Rows read at once, at most 4 bytes a pixel: 22 MB for a granule."""


def values_at(raster: Path, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the values (N,) of a class raster of ours at the map points (xs, ys); 0 outside of it."""
    with rasterio.open(raster) as source:
        affine, (height, width) = source.transform, source.shape
        col = np.floor((xs - affine.c) / affine.a).astype(np.intp)
        row = np.floor((ys - affine.f) / affine.e).astype(np.intp)
        on_raster = (col >= 0) & (col < width)
        values = np.zeros(len(xs), dtype=np.uint8)
        for first in range(0, height, STRIP_ROWS):
            here = np.flatnonzero(on_raster & (row >= first) & (row < first + STRIP_ROWS))
            if len(here):
                strip = source.read(1, window=Window(0, first, width, min(STRIP_ROWS, height - first)))
                values[here] = strip[row[here] - first, col[here]]
    return values


def touches_nodata(boxes: NDArray[np.float64], status: Path) -> NDArray[np.bool_]:
    """Return (N,) whether boxes (N, 4; x_min, y_min, x_max, y_max in pixels) touch a pixel without data."""
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
            if not missing.any():
                continue
            y, x = strip[0][0], strip[1][0]
            for index in here.tolist():
                box = missing[max(top[index] - y, 0) : bottom[index] - y, left[index] - x : right[index] - x]
                flags[index] |= box.any()
    return flags


def near_cloud(
    scene: Scene, centres: NDArray[np.float64], buffer_m: float, status: Path
) -> NDArray[np.bool_] | None:
    """Return (N,) whether cloud or cirrus is near centres (N, 2; x, y in pixels of the scene).

    The buffer is rounded to pixels, and the centre of a cloudy pixel counts. None if clouds are unknown.

    Raises
    ------
    CorruptImageError
        If the scene classification can't be decoded.
    """
    if not has_clouds_information(scene):
        return None
    rows, cols = scene.shape
    reach = math.ceil(buffer_m / abs(scene.grid.resolution.x))
    sure = math.floor(reach / math.sqrt(2) - 0.5)  # half the side of the square inside the circle
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
            if scene.scl is not None:  # only the SCL has cirrus, which does not stop the search
                clouds |= cloud_mask(scene, window, cirrus=True)
            if not clouds.any():
                continue
            for index in here.tolist():
                place = row[index] - top, col[index] - left
                if not (around := _square(clouds, *place, reach)).any():
                    continue
                if _square(clouds, *place, sure).any():
                    flags[index] = True
                else:
                    cloud_row, cloud_col = np.nonzero(around)
                    down = cloud_row + max(0, place[0] - reach) + top + 0.5 - centres[index, 1]
                    across = cloud_col + max(0, place[1] - reach) + left + 0.5 - centres[index, 0]
                    flags[index] = (np.hypot(down, across) <= reach).any()
    return flags


def _square(mask: NDArray[np.bool_], row: int, col: int, half: int) -> NDArray[np.bool_]:
    """Return the pixels at most `half` rows and columns away, inside the mask; none if `half` is below 0."""
    return mask[max(0, row - half) : row + half + 1, max(0, col - half) : col + half + 1]
