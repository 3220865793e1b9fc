"""Units in which files have reflectance, and advice for those that the values look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.scene import BandSource

VISIBLE = ("B02", "B03", "B04")

_UNITS: Mapping[str, float] = {
    "reflectance from 0 to 1": 1.0,
    "per cent": 0.01,
    "8-bit values": 1 / 255,
    "reflectance x 1000": 1e-3,
    "digital numbers (reflectance x 10000)": 1e-4,
    "16-bit values": 1 / 65535,
}
_MOST_PER_CENT, _MOST_8_BIT = 150, 255
_ROUNDING = 0.01
_TYPICAL = 0.02, 1.1
"""Median reflectance of the visible bands, by day; the highest are of snow and clouds."""
_BRIGHTEST, _BRIGHT_PERCENTILE = 3.0, 99.8


def units_advice(
    bands: Mapping[str, NDArray[np.float32]],
    sources: Mapping[str, BandSource],
    offset_option: Callable[[Mapping[str, NDArray[np.float32]]], str],
) -> str:
    """Return a sentence with the likely units of the values in the file, and the options for each.

    `bands` are reflectance (H, W) by the present scale and offset, NaN without data. `offset_option` returns
    what to add to the options for reflectance in the right unit.
    """
    numbers = {
        name: (values - np.float32(sources[name].offset)) / np.float32(sources[name].scale)
        for name, values in bands.items()
    }
    visible = {name: values for name, values in numbers.items() if name in VISIBLE} or numbers
    median = float(np.median([np.nanmedian(values) for values in visible.values()]))
    used = {source.scale for source in sources.values()}
    looks = [
        f"{unit}: give --scale {scale:.6g}"
        + offset_option({name: values * np.float32(scale) for name, values in numbers.items()})
        for unit, scale in _fitting(numbers, median).items()
        if not any(np.isclose(scale, used_scale) for used_scale in used)
    ]
    if looks:
        return f"The values in the file (median {median:.4g}) look like {'; or like '.join(looks)}."
    return (
        f"The values in the file (median {median:.4g}) are in no known unit: give --scale and --offset, with "
        "reflectance = value x scale + offset, or leave such bands out with --bands."
    )


def _fitting(numbers: Mapping[str, NDArray[np.float32]], median: float) -> dict[str, float]:
    """Return units and their scales in which the numbers have a usual median and brightness."""
    brightest = max(float(np.nanpercentile(values, _BRIGHT_PERCENTILE)) for values in numbers.values())
    fitting = {
        unit: scale
        for unit, scale in _UNITS.items()
        if _TYPICAL[0] <= median * scale <= _TYPICAL[1] and brightest * scale < _BRIGHTEST
    }
    if brightest > _MOST_8_BIT:
        fitting.pop("8-bit values", None)
    if brightest > _MOST_PER_CENT:
        fitting.pop("per cent", None)
    elif not all(np.allclose(v, np.round(v), atol=_ROUNDING, equal_nan=True) for v in numbers.values()):
        fitting.pop("8-bit values", None)
    return fitting
