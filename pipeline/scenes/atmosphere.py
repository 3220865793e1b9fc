"""Model atmosphere of one parameter: reflectance of the surface (L2A) at its top (L1C), and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PATH_RADIANCE = {
    "B01": 0.100, "B02": 0.075, "B03": 0.048, "B04": 0.028, "B05": 0.021, "B06": 0.016, "B07": 0.014,
    "B08": 0.011, "B8A": 0.010, "B09": 0.004, "B11": 0.002, "B12": 0.001,
}  # fmt: skip
"""Reflectance of the atmosphere alone at a haze of 1: near wavelength to the power -4, as of molecules."""

TRANSMITTANCE = {
    "B01": 0.78, "B02": 0.83, "B03": 0.88, "B04": 0.91, "B05": 0.91, "B06": 0.93, "B07": 0.93, "B08": 0.94,
    "B8A": 0.95, "B09": 0.85, "B11": 0.96, "B12": 0.96,
}  # fmt: skip
"""Transmittance of the atmosphere, down and up, at a haze of 1; fitted to pairs of L1C and L2A products."""

HAZE = (0.5, 1.5)
"""Range of the haze of clear scenes; 1 is the mean of the pairs."""
_DARK_PERCENT = 1.0


def top_of_atmosphere(
    reflectance: NDArray[np.float32], bands: Sequence[str], haze: float = 1.0
) -> NDArray[np.float32]:
    """Return reflectance (C, ...) of the surface as seen through the atmosphere: t * reflectance + p.

    `haze` scales p and 1 - t.

    Raises
    ------
    KeyError
        If a band is not in `PATH_RADIANCE`.
    """
    path, through = _coefficients(bands, haze, reflectance.ndim)
    return np.asarray(reflectance * through + path, np.float32)


def surface(reflectance: NDArray[np.float32], bands: Sequence[str], haze: float = 1.0) -> NDArray[np.float32]:
    """Return reflectance (C, ...) without the atmosphere: the inverse of `top_of_atmosphere`.

    Where the haze is less than assumed, dark pixels fall below 0.
    """
    path, through = _coefficients(bands, haze, reflectance.ndim)
    return np.asarray((reflectance - path) / through, np.float32)


def haze_of(reflectance: NDArray[np.float32], bands: Sequence[str]) -> float:
    """Return the haze in reflectance (C, N) at the top of the atmosphere, from its darkest pixels in B02.

    Dark-object subtraction (Chavez, Remote Sensing of Environment 24:459, 1988): the darkest percent of the
    pixels is taken to have 0.02 at the surface. The result is within `HAZE`.
    """
    values = reflectance[bands.index("B02")]
    dark = float(np.percentile(values[np.isfinite(values)], _DARK_PERCENT))
    return float(np.clip((dark - 0.02) / (PATH_RADIANCE["B02"] - 0.02 * (1 - TRANSMITTANCE["B02"])), *HAZE))


def _coefficients(
    bands: Sequence[str], haze: float, dimensions: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    shape = (len(bands), *(1,) * (dimensions - 1))
    path = np.array([PATH_RADIANCE[band] for band in bands], np.float32) * np.float32(haze)
    loss = (1 - np.array([TRANSMITTANCE[band] for band in bands], np.float32)) * np.float32(haze)
    return path.reshape(shape), (1 - loss).reshape(shape)
