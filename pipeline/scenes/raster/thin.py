"""A thinned read of one band, for statistics of a scene."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window
from scipy import ndimage

from pipeline.input_warnings import warn
from pipeline.redaction import redacted
from pipeline.scenes.raster.blocks import Raster, blocks_of, decoded, raster_of
from pipeline.scenes.raster.datasets import is_remote, unreadable, with_dataset
from pipeline.scenes.raster.radiometry import is_impossible, to_reflectance
from pipeline.scenes.scene import BandSource

_SIDE_PX = 768
_MOST_PX = 2**22
"""Rasters up to so many pixels are decoded completely."""
_PLACES = 3
_PLACE_M = 2560.0


def thinned(source: BandSource) -> NDArray[np.float32]:
    """Return reflectance of a band on a coarse grid, (H, W); NaN where there is no data.

    A raster with overviews or few pixels is read at most 768 px a side. Of any other one, nine places of
    256 px at 10 m are read, one below the other, since decoding all of it would take too long. Pixels beside
    others without data are left out: overviews mix the two. Bands of one size and resolution have the same
    pixels. Raises CorruptImageError.
    """
    raster = raster_of(source)
    try:
        numbers, mask = with_dataset(
            source.href, f"Band {source.name}", raster.state, partial(_read, raster, source), source.warp
        )
    except RasterioError as error:
        _find_damage(raster, source)
        raise unreadable(
            source.href,
            f"Band {source.name} can't be decoded",
            "is truncated or damaged; fetch it again.",
            error,
        ) from redacted(error)
    _warn_of_impossible(numbers[mask], source)
    reflectance, valid = to_reflectance(numbers, source)
    valid = valid & mask
    if not valid.all():
        valid = ndimage.binary_erosion(valid, np.ones((3, 3)), border_value=1)
    reflectance[~valid] = np.nan
    return reflectance


def _warn_of_impossible(numbers: NDArray[np.generic], source: BandSource) -> None:
    """Warn of numbers that no unit of reflectance has, unless the file declares them as nodata."""
    odd = numbers[is_impossible(numbers)]
    odd = odd[odd != (math.nan if source.nodata is None else source.nodata)]
    if not odd.size:
        return
    values, counts = np.unique(odd, return_counts=True)
    number = float(values[counts.argmax()])
    mixed = " It is warped, which mixes the pixels beside them with that number." if source.warp else ""
    warn(
        f"{source.href} has pixels of {number:.9g}, which no reflectance has: they count as no data, but "
        f"the file does not say so.{mixed} Declare it: gdal_edit.py -a_nodata {number:.9g}, or --nodata."
    )


def _find_damage(raster: Raster, source: BandSource) -> None:
    """Decode a local raster block by block: the error of a damaged one names its place."""
    rows, cols = raster.shape
    for block in () if is_remote(source.href) else blocks_of(raster, source, slice(0, rows), slice(0, cols)):
        decoded(raster, source, block)


def _read(
    raster: Raster, source: BandSource, dataset: DatasetReader
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    rows, cols = raster.shape
    windows: list[Window | None] = [None]
    step = 1
    while max(rows, cols) > step * _SIDE_PX:  # resolutions of JPEG 2000 and usual overviews are powers of two
        step *= 2
    shape = math.ceil(rows / step), math.ceil(cols / step)
    has_overviews = bool(dataset.overviews(source.index))
    if not has_overviews and (rows * cols > _MOST_PX or is_remote(source.href)):
        side = round(_PLACE_M / source.gsd)
        shape = min(rows, side), min(cols, side)
        windows = [
            Window(round(x * (cols - shape[1])), round(y * (rows - shape[0])), shape[1], shape[0])
            for y in np.linspace(0.1, 0.9, _PLACES)
            for x in np.linspace(0.1, 0.9, _PLACES)
        ]
    numbers = [dataset.read(source.index, window=window, out_shape=shape) for window in windows]
    valid = np.ones((len(windows) * shape[0], shape[1]), np.bool_)
    if raster.masked[source.index - 1]:
        masks = [dataset.read_masks(source.index, window=window, out_shape=shape) for window in windows]
        valid &= np.vstack(masks) != 0
    for mask in source.masks:
        values = [dataset.read(mask.index, window=window, out_shape=shape) for window in windows]
        valid &= np.vstack(values) > 0
    return np.vstack(numbers), valid
