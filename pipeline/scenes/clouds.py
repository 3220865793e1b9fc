"""Masks of clouds and their shadows: from the scene classification of L2A, or from s2cloudless for L1C."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy import ndimage

from pipeline.scenes.raster.read import read_classes, read_pixels
from pipeline.scenes.scene import Scene

SCL_CLOUDS = (8, 9)
"""Classes of the scene classification: cloud of medium and of high probability."""
SCL_CIRRUS = 10
SCL_CLOUD_SHADOW = 3

CLOUDLESS_BANDS = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")
"""The ten bands that the model of s2cloudless takes, in its order, as top-of-atmosphere reflectance."""

# What sentinelhub's s2cloudless recommends at 60 m: mean probability over a disk, threshold, dilation.
_CELL_PX = 6
_THRESHOLD = 0.4
_AVERAGE_CELLS = 4
_DILATION_CELLS = 2
_HALO_CELLS = _AVERAGE_CELLS + _DILATION_CELLS


def has_clouds_information(scene: Scene) -> bool:
    """Return whether `cloud_mask` has a source: an SCL, or L1C with ten bands and the extra `clouds`."""
    return scene.scl is not None or _suits_cloudless(scene)


def cloud_mask(scene: Scene, window: Window, cirrus: bool = False) -> NDArray[np.bool_] | None:
    """Return a mask (H, W) of clouds in `window` of the 10 m grid; None without a source.

    L2A: classes 8 and 9 of the SCL, with `cirrus` also thin cirrus (10). L1C: the pixel classifier of
    s2cloudless (Skakun et al., Remote Sensing of Environment 274:112990, 2022) on cells of 60 m counted
    from the scene's corner, averaged and dilated as its authors recommend; it does not separate cirrus.
    The value of a pixel depends on its place only, not on the window. Errors as `read_pixels`.
    """
    if scene.scl is not None:
        classes = (*SCL_CLOUDS, SCL_CIRRUS) if cirrus else SCL_CLOUDS
        there = read_classes(scene, scene.scl, window)
        clouds = np.zeros(there.shape, np.bool_)
        for cloud in classes:  # a fifth of the time of isin
            clouds |= there == cloud
        return clouds
    return _cloudless_mask(scene, window) if _suits_cloudless(scene) else None


def shadow_mask(scene: Scene, window: Window) -> NDArray[np.bool_] | None:
    """Return a mask (H, W) of cloud shadow in `window` of the 10 m grid (class 3 of the SCL); None without.

    Shadows of mountains and houses are dark areas (class 2) and not included. Errors as `read_pixels`.
    """
    if scene.scl is None:
        return None
    return np.asarray(read_classes(scene, scene.scl, window) == SCL_CLOUD_SHADOW)


def _suits_cloudless(scene: Scene) -> bool:
    has_bands = all(band in scene.bands for band in CLOUDLESS_BANDS)
    return (
        scene.level == "L1C" and has_bands and _model_file() is not None and find_spec("lightgbm") is not None
    )


@cache
def _model_file() -> Path | None:
    """Find the weights in the installed package without importing it, which would need OpenCV."""
    spec = find_spec("s2cloudless")
    if spec is None or spec.origin is None:
        return None
    files = sorted((Path(spec.origin).parent / "models").glob("*lightGBM*.txt"))
    return files[-1] if files else None


@cache
def _model() -> Any:
    import lightgbm

    return lightgbm.Booster(model_file=str(_model_file()))


def _cloudless_mask(scene: Scene, window: Window) -> NDArray[np.bool_]:
    rows, cols = scene.shape
    top, left = (max(0, int(start) // _CELL_PX - _HALO_CELLS) for start in (window.row_off, window.col_off))
    bottom = min(-(-rows // _CELL_PX), -(-int(window.row_off + window.height) // _CELL_PX) + _HALO_CELLS)
    right = min(-(-cols // _CELL_PX), -(-int(window.col_off + window.width) // _CELL_PX) + _HALO_CELLS)
    around = Window.from_slices(
        (top * _CELL_PX, min(rows, bottom * _CELL_PX)), (left * _CELL_PX, min(cols, right * _CELL_PX))
    )
    pixels = read_pixels(scene, around, CLOUDLESS_BANDS)
    cells, known = _cell_means(pixels.reflectance, pixels.valid)
    probability = np.zeros(known.shape, np.float64)
    if known.any():
        probability[known] = _model().predict(cells[:, known].T, num_threads=1)
    disk = _disk(_AVERAGE_CELLS)
    clouds = ndimage.correlate(probability, disk / disk.sum(), mode="nearest") > _THRESHOLD
    clouds = ndimage.binary_dilation(clouds, _disk(_DILATION_CELLS))
    row = np.arange(window.row_off, window.row_off + window.height) // _CELL_PX - top
    col = np.arange(window.col_off, window.col_off + window.width) // _CELL_PX - left
    mask: NDArray[np.bool_] = clouds[np.ix_(row, col)]
    return mask


def _cell_means(
    reflectance: NDArray[np.float32], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean (C, h, w) of the valid pixels of each cell, and a mask (h, w) of cells with any."""
    bands, height, width = reflectance.shape
    cells = (-(-height // _CELL_PX), -(-width // _CELL_PX))
    total, count = np.zeros((bands, *cells)), np.zeros(cells)
    # Pixel by pixel of the cell, so that the order of summing and its rounding are the same in every window.
    for i in range(_CELL_PX):
        for j in range(_CELL_PX):
            part = reflectance[:, i::_CELL_PX, j::_CELL_PX]
            rows, cols = part.shape[1:]
            total[:, :rows, :cols] += part
            count[:rows, :cols] += valid[i::_CELL_PX, j::_CELL_PX]
    return total / np.maximum(count, 1), count > 0


def _disk(radius: int) -> NDArray[np.float64]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.float64)
