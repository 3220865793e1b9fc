"""Clouds in scenes without a mask of them: bright, white, and displaced between bands by their height."""

from __future__ import annotations

import weakref
from itertools import combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy import ndimage

from pipeline.scenes.cells import Cells
from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.scene import BANDS_10M, Scene

_CELL_PX, _WIDE_PX = 2, 8
"""Cells of brightness, 20 m, and cells of displacement, 80 m."""
_BRIGHT, _BRIGHT_BESIDE = 0.16, 0.12
"""Least reflectance, in all of B02, B03 and B04, of a cloud and of its thinner parts."""
_BLUE, _BLUE_BESIDE = 0.88, 0.95
"""Least ratio of B02 to B04: sand, rock, soil and most roofs are redder."""
_INFRARED = 0.85
"""Least ratio of B08 to B04: bright water and surf are darker."""
_VEIL, _VEIL_INFRARED = 0.06, 1.15
"""Least reflectance of a veil beside a cloud, and its greatest ratio of B08 to B04: most ground has more."""
_GREY = 0.25
"""Greatest difference of B02, B03 and B04, as a share of the greatest."""
_SIZE_CELLS = 3
"""A cloud contains a square of 60 m."""
_LEAST_SHIFT_PX = 0.5
"""Displacement of a cloud from B02 to B04: 0.9 px for each km of height. That of ground is an error."""
_SHIFT_CELLS = 5
"""Displacement is measured in squares of 400 m."""
_NOISE = 0.002
"""Slopes, in reflectance a pixel, below which texture is noise and ground is not displaced."""
_LEAST_GAIN = 0.3
"""Least contrast of a cloud in B04, as a share of that in B02."""
_BESIDE_CELLS = 20
"""Thinner parts are within 400 m of a cloud, and connected to it."""
_GAP_CELLS = 3
"""Gaps of up to 120 m between thinner parts belong to them."""
_SAMPLE_PX = 512
"""Side of the four squares of a scene in which the displacement of its ground is measured."""
_LEAST_SQUARES = 16
"""Fewest squares with texture that give the displacement of ground."""
_MOST_SPREAD_PX = 0.06
"""Greatest median deviation of these squares: bands are displaced alike everywhere, thin clouds are not."""
_PASSES = 3
"""Passes of this measurement: one gives less than the displacement where texture is weak."""
_HALO_CELLS = 10
"""Wide cells around a window on which its clouds depend: thinner parts, size and displacement."""


def can_find_clouds(scene: Scene) -> bool:
    """Return whether `bright_clouds` can be used: the scene has all bands of 10 m."""
    return all(band in scene.bands for band in BANDS_10M)


def bright_clouds(scene: Scene, window: Window) -> NDArray[np.bool_]:
    """Return a mask (H, W) of clouds, without a margin, in `window` of the 10 m grid.

    A cloud is bright and white, and displaced from B02 to B04: the bands are imaged a second apart, from
    places 7 km apart, so high objects seem to move against the ground, whose own displacement, as of a warped
    scene, is taken off. This tells clouds from snow, salt, rock and roofs without
    bands of the short-wave infrared. Thinner parts, within 400 m, belong to the cloud. Not found are clouds
    lower than 500 m, smooth ones without texture, and thin cirrus. Bright ground in a scene that has bands
    displaced by more than half a pixel, without dark ground of clear texture, is taken for cloud.

    The value of a pixel depends on its place only, not on the window. Memory: 60 bytes a pixel of the window
    and 80 pixels around. Errors as `read_pixels`.
    """
    wide = Cells.around(scene.shape, window, _WIDE_PX, _HALO_CELLS)
    each = _WIDE_PX // _CELL_PX
    cells = Cells(_CELL_PX, wide.top * each, wide.left * each, wide.window)
    pixels = read_pixels(scene, wide.window, BANDS_10M)
    count = np.maximum(cells.sums(pixels.valid), 1)
    b02, b03, b04, b08 = (cells.sums(band) / count for band in pixels.reflectance)
    least, most = np.minimum(np.minimum(b02, b03), b04), np.maximum(np.maximum(b02, b03), b04)
    bright = (least > _BRIGHT) & (b02 > _BLUE * b04) & (b08 > _INFRARED * b04) & (most - least < _GREY * most)
    clouds = ndimage.binary_opening(bright, np.ones((_SIZE_CELLS, _SIZE_CELLS)))
    if clouds.any():
        aligned = _shift_back(pixels.reflectance[2], ground_displacement(scene))
        moved = np.hypot(*displacement(wide, pixels.reflectance[0], aligned, pixels.valid))
        high = (moved > _LEAST_SHIFT_PX).repeat(each, 0).repeat(each, 1)
        clouds &= high[: clouds.shape[0], : clouds.shape[1]]
    if clouds.any():
        beside = (least > _BRIGHT_BESIDE) & (b02 > _BLUE_BESIDE * b04)
        grey = (b08 > _INFRARED * b04) & (b08 < _VEIL_INFRARED * b04) & (most - least < _GREY * most)
        beside |= (least > _VEIL) & (b02 > _BLUE_BESIDE * b04) & grey
        beside |= ndimage.binary_closing(beside, iterations=_GAP_CELLS)
        clouds = ndimage.binary_dilation(clouds, iterations=_BESIDE_CELLS, mask=beside | clouds)
    return cells.on_pixels(clouds, window)


_grounds: dict[int, tuple[float, float]] = {}
"""Displacement of the ground of each open scene, by the scene's identity."""


def ground_displacement(scene: Scene) -> tuple[float, float]:
    """Return the rows and columns by which dark ground is displaced from B02 to B04, in eighths of a pixel.

    The median of squares of 400 m in four parts of the scene; at most 1 each way. (0, 0) where too few
    squares have texture, or they differ: over the sea dark squares are thin clouds. Measured once a scene.
    Errors as `read_pixels`.
    """
    if id(scene) not in _grounds:
        _grounds[id(scene)] = _measure_ground(scene)
        weakref.finalize(scene, _grounds.pop, id(scene), None)
    return _grounds[id(scene)]


def _measure_ground(scene: Scene) -> tuple[float, float]:
    samples = []
    starts = [sorted({max(0, (side - _SAMPLE_PX) * part // 4) for part in (1, 3)}) for side in scene.shape]
    for row, col in product(*starts):
        rows, cols = (min(_SAMPLE_PX, side) for side in scene.shape)
        cells = Cells.around(scene.shape, Window(col, row, cols, rows), _WIDE_PX, 0)
        pixels = read_pixels(scene, cells.window, ("B02", "B04"))
        first, second = pixels.reflectance
        dark = pixels.valid & (np.minimum(first, second) < _BRIGHT_BESIDE)
        samples.append((cells, first, second, dark))
    moved = (0.0, 0.0)
    for _ in range(_PASSES):
        found = [
            displacement(cells, first, _shift_back(second, moved), dark)
            for cells, first, second, dark in samples
        ]
        squares = np.concatenate([each[:, each.any(0)] for each in found], 1)
        if squares.shape[1] < _LEAST_SQUARES:
            return 0.0, 0.0
        middle = np.median(squares, 1)
        if np.median(np.abs(squares - middle[:, None])) > _MOST_SPREAD_PX:
            return 0.0, 0.0
        down, right = np.clip(np.round((moved + middle) * 8) / 8, -1, 1)
        moved = float(down), float(right)
    return moved


def _shift_back(band: NDArray[np.float32], moved: tuple[float, float]) -> NDArray[np.float32]:
    """Return the band (H, W) moved back. Eighths of a pixel are exact, whatever the window."""
    if moved == (0.0, 0.0):
        return band
    return np.asarray(ndimage.shift(band, [-step for step in moved], order=1, mode="nearest"))


def displacement(
    cells: Cells, first: NDArray[np.float32], second: NDArray[np.float32], valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the rows and columns (2, h, w) by which the second band (H, W) is displaced from the first.

    One displacement around each cell. Least squares of the second on the first, its slopes and a constant
    (Lucas and Kanade, 1981, with a gain).
    0 where the ground is smooth, or the bands don't resemble each other.
    """
    first, second = _smooth(first), _smooth(second)
    known = ndimage.minimum_filter(valid, 7, mode="nearest").astype(np.float32)
    down, right = np.gradient(first)
    columns = [known, known * first, known * right, known * down]
    square = np.ones((_SHIFT_CELLS, _SHIFT_CELLS))

    def sums(values: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(ndimage.correlate(cells.sums(values), square, mode="constant"))

    right_side = np.stack([sums(x * second) for x in columns], -1)
    normal = np.empty((*right_side.shape, len(columns)))
    for i, j in combinations_with_replacement(range(len(columns)), 2):
        normal[..., i, j] = normal[..., j, i] = sums(columns[i] * columns[j])
    normal += np.maximum(normal[..., :1, :1], 1) * _NOISE**2 * np.eye(len(columns))
    _, gain, across, along = np.moveaxis(np.linalg.solve(normal, right_side[..., None])[..., 0], -1, 0)
    return np.where(gain > _LEAST_GAIN, -np.stack([along, across]) / np.maximum(gain, _LEAST_GAIN), 0.0)


def _smooth(band: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the band with less noise, by binomial weights: a running mean would depend on the window."""
    rows = np.pad(band, 1, mode="edge")
    cols = rows[:-2] + 2 * rows[1:-1] + rows[2:]
    return np.asarray((cols[:, :-2] + 2 * cols[:, 1:-1] + cols[:, 2:]) / 16, np.float32)
