"""Masks of clouds, their rims and shadows: by the scene classification of L2A, s2cloudless, or brightness."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy import ndimage

from pipeline.scenes.bright_clouds import bright_clouds, can_find_clouds
from pipeline.scenes.cells import Cells, disk
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

_RIM_CELL_PX, _RIM_CELLS = 2, 5
"""Rim of a cloud: 100 m, on cells of 20 m. On simulated scenes version 2 of the bundle `landcover` had false
built or snow on 44 % of the ground up to 20 m from clouds of the scene classification, 11 % at 80 to 100 m,
3.5 % beyond 400 m."""

CloudSource = Literal["scl", "s2cloudless", "threshold", "none"]


def cloud_source(scene: Scene) -> CloudSource:
    """Return the source of the clouds that land cover leaves out; see `rim_mask`.

    `scl` and `s2cloudless` also keep clouds from the search for trucks.
    """
    if scene.scl is not None:
        return "scl"
    if _suits_cloudless(scene):
        return "s2cloudless"
    return "threshold" if can_find_clouds(scene) else "none"


def has_clouds_information(scene: Scene) -> bool:
    """Return whether `cloud_mask` has a source: an SCL, or L1C with ten bands and the extra `clouds`."""
    return cloud_source(scene) in ("scl", "s2cloudless")


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


def rim_mask(scene: Scene, window: Window) -> NDArray[np.bool_] | None:
    """Return a mask (H, W) of what has no land cover beside the clouds of `cloud_mask`; None if nothing.

    With an SCL: clouds and what is within 100 m of them. Without any source: clouds that `bright_clouds`
    finds, with the same margin. Clouds of s2cloudless already include a margin of 120 m. The value of a pixel
    depends on its place only, not on the window. Errors as `read_pixels`.
    """
    source = cloud_source(scene)
    if source in ("s2cloudless", "none"):
        return None
    cells = Cells.around(scene.shape, window, _RIM_CELL_PX, _RIM_CELLS)
    clouds = bright_clouds(scene, cells.window) if source == "threshold" else cloud_mask(scene, cells.window)
    if clouds is None or not clouds.any():
        return None
    clear = cells.sums(clouds) == 0
    return cells.on_pixels(ndimage.distance_transform_edt(clear) <= _RIM_CELLS, window)


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
    cells = Cells.around(scene.shape, window, _CELL_PX, _HALO_CELLS)
    pixels = read_pixels(scene, cells.window, CLOUDLESS_BANDS)
    count = cells.sums(pixels.valid)
    known = count > 0
    means = np.stack([cells.sums(band) for band in pixels.reflectance]) / np.maximum(count, 1)
    probability = np.zeros(known.shape, np.float64)
    if known.any():
        probability[known] = _model().predict(means[:, known].T, num_threads=1)
    near = disk(_AVERAGE_CELLS).astype(np.float64)
    clouds = ndimage.correlate(probability, near / near.sum(), mode="nearest") > _THRESHOLD
    return cells.on_pixels(ndimage.binary_dilation(clouds, disk(_DILATION_CELLS)), window)
