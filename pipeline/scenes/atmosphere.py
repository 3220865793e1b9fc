"""Model atmosphere of one parameter: reflectance of the surface (L2A) at its top (L1C), and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PATH_RADIANCE = {
    "B01": 0.118, "B02": 0.089, "B03": 0.057, "B04": 0.035, "B05": 0.030, "B06": 0.029, "B07": 0.028,
    "B08": 0.027, "B8A": 0.023, "B09": 0.010, "B11": 0.004, "B12": 0.002,
}  # fmt: skip
"""Reflectance of the atmosphere alone at a haze of 1."""

TRANSMITTANCE = {
    "B01": 0.58, "B02": 0.62, "B03": 0.66, "B04": 0.77, "B05": 0.75, "B06": 0.82, "B07": 0.87, "B08": 0.81,
    "B8A": 0.91, "B09": 0.80, "B11": 0.89, "B12": 0.81,
}  # fmt: skip
"""Transmittance of the atmosphere, down and up, at a haze of 1.

Both are means over three L1C and L2A products of one acquisition (Denmark, Brazil, Punjab): ratio of the
standard deviations of a band, and what remains of the means; each band correlates with 0.995 or more. B01 and
B09 are extrapolated. L2A lies further from L1C than a standard atmosphere without aerosol: water vapour
absorbs in B08, B11 and B12, and the correction of adjacency sharpens the surface.
"""

HAZE = (0.5, 1.5)
"""Range of the haze of clear scenes; 1 is the mean of the pairs."""
_LOSS = 0.5
"""Share of the loss of light that changes with the haze; gases and neighbouring ground take the rest."""
_ALBEDO = np.float32(1.8)
"""Spherical albedo of the atmosphere in units of its path radiance."""
_BRIGHTEST = np.float32(1.2)
"""Reflectance from which light that returns to the ground is no longer added to."""
_DARK_PERCENT = 1.0
_DARK = np.full(1, 0.02, np.float32)
"""Reflectance of the darkest pixels at the surface in B02."""


def top_of_atmosphere(
    reflectance: NDArray[np.float32], bands: Sequence[str], haze: float = 1.0
) -> NDArray[np.float32]:
    """Return reflectance (C, ...) of the surface r as seen through the atmosphere: p + t r / (1 - s r).

    As Vermote et al., IEEE Transactions on Geoscience and Remote Sensing 35:675, 1997. `haze` scales the path
    radiance p, the spherical albedo s, and half as much the loss 1 - t.

    Raises
    ------
    KeyError
        If a band is not in `PATH_RADIANCE`.
    """
    path, through = _coefficients(bands, haze, reflectance.ndim)
    again = 1 - _ALBEDO * path * np.clip(reflectance, 0, _BRIGHTEST)
    return np.asarray(reflectance * through / again + path, np.float32)


def surface(reflectance: NDArray[np.float32], bands: Sequence[str], haze: float = 1.0) -> NDArray[np.float32]:
    """Return reflectance (C, ...) without the atmosphere: the inverse of `top_of_atmosphere`.

    Where the haze is less than assumed, dark pixels fall below 0.
    """
    path, through = _coefficients(bands, haze, reflectance.ndim)
    single = (reflectance - path) / through
    ground = single / (1 + _ALBEDO * path * np.maximum(single, 0))
    beyond = single * (1 - _ALBEDO * path * _BRIGHTEST)
    return np.asarray(np.where(ground > _BRIGHTEST, beyond, ground), np.float32)


def haze_of(reflectance: NDArray[np.float32], bands: Sequence[str]) -> float:
    """Return the haze in reflectance (C, N) at the top of the atmosphere, from its darkest pixels in B02.

    Dark-object subtraction (Chavez, Remote Sensing of Environment 24:459, 1988): the darkest percent of the
    pixels is taken to have 0.02 at the surface. The result is within `HAZE`.
    """
    values = reflectance[bands.index("B02")]
    dark = float(np.percentile(values[np.isfinite(values)], _DARK_PERCENT))
    thin, thick = (float(top_of_atmosphere(_DARK, ("B02",), haze)[0]) for haze in HAZE)
    return float(np.interp(dark, (thin, thick), HAZE))


def _coefficients(
    bands: Sequence[str], haze: float, dimensions: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    shape = (len(bands), *(1,) * (dimensions - 1))
    path = np.array([PATH_RADIANCE[band] for band in bands], np.float32) * np.float32(haze)
    clear = np.array([TRANSMITTANCE[band] for band in bands], np.float32)
    through = clear * (1 - np.float32(_LOSS * (haze - 1)) * (1 - clear))
    return path.reshape(shape), through.reshape(shape)
