"""Digital numbers to reflectance, with nodata masked first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.scene import BandSource

_LOWEST, _HIGHEST = -9999, 1_000_000
"""Between them are the numbers of reflectance in any unit."""


def has_number(values: NDArray[np.float32], number: float, source: BandSource) -> NDArray[np.bool_]:
    """Return a mask of the reflectance that a digital number of a band has."""
    return np.equal(values, to_reflectance(np.array([number], np.float32), source)[0])


def is_impossible(numbers: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return a mask of the finite numbers that no unit of reflectance has, such as those of no data."""
    return ~_possible(numbers) & np.isfinite(numbers)


def _possible(numbers: NDArray[np.generic]) -> NDArray[np.bool_]:
    if numbers.dtype.kind == "u" and numbers.dtype.itemsize <= 2:
        return np.ones(numbers.shape, np.bool_)
    return np.greater(numbers, _LOWEST) & np.less(numbers, _HIGHEST)


def to_reflectance(
    numbers: NDArray[np.generic], source: BandSource
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Convert digital numbers of one band to (reflectance, valid), both of the shape of `numbers`.

    reflectance = DN * scale + offset, which for a Sentinel-2 product is (DN + ADD_OFFSET) / QUANTIFICATION
    (ESA, Sentinel-2 Products Specification Document). The nodata value is masked *before* the offset is
    added: with the offset of -1000 of baseline 04.00, DN 0 is no data, while DN 1 to 1000 are dark pixels
    whose reflectance is not positive. Numbers that are not finite are invalid, and so are -9999 and below
    and a million and above: no unit of reflectance has them, but files leave them where they have no data.
    Reflectance is 0 where invalid.
    """
    valid = np.isfinite(numbers) & _possible(numbers)
    if source.nodata is not None and np.isfinite(source.nodata):
        valid &= numbers != source.nodata
    everywhere = bool(valid.all())
    reflectance = (numbers if everywhere else np.where(valid, numbers, 0)).astype(np.float32)
    reflectance *= np.float32(source.scale)
    reflectance += np.float32(source.offset)
    if not everywhere:
        reflectance[~valid] = 0.0
    return reflectance, valid
