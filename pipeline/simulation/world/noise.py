"""Random fields as functions of place and seed, so that any window of a world renders alone.

All values are hashes of lattice coordinates, so they are independent of earlier computations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

# Mean over all offsets of the sum of squared cubic B-spline weights, squared for two dimensions; with
# uniform noise of variance 1/12 it gives the variance of the interpolated field.
_SPLINE_VARIANCE = (151 / 315) ** 2 / 12
_DENSE = 4096
"""Maximum size of a matrix of weights that is not worth a sparse one."""


def hashed(seed: int, *keys: ArrayLike) -> NDArray[np.uint32]:
    """Return a well mixed 32-bit number for each combination of integer keys, with broadcasting."""
    state = np.atleast_1d(np.uint32(seed & 0xFFFFFFFF)) ^ np.uint32(0x9E3779B9)
    for key in keys:
        state = state ^ np.asarray(key).astype(np.int64).astype(np.uint32)
        state = state * np.uint32(0x85EBCA6B)
        state = state ^ (state >> np.uint32(13))
        state = state * np.uint32(0xC2B2AE35)
        state = state ^ (state >> np.uint32(16))
    return np.asarray(state, dtype=np.uint32)


def uniform(seed: int, *keys: ArrayLike) -> NDArray[np.float32]:
    """Return uniform numbers in [0, 1), one for each combination of integer keys."""
    return (hashed(seed, *keys) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def smooth_field(
    xs: NDArray[np.float64], ys: NDArray[np.float64], wavelength: float, seed: int
) -> NDArray[np.float32]:
    """Return white noise of `wavelength` spacing through cubic B-splines: (len(ys), len(xs)), mean 0,
    variance 1."""
    rows, first_y, count_y = _spline(ys / wavelength)
    cols, first_x, count_x = _spline(xs / wavelength)
    lattice = uniform(
        seed, np.arange(first_y, first_y + count_y)[:, None], np.arange(first_x, first_x + count_x)[None, :]
    ) - np.float32(0.5)
    # a small lattice and four weights a row are far cheaper than gathering nodes for every pixel
    out = np.asarray((cols @ (rows @ lattice).T).T, np.float32)
    return np.ascontiguousarray(out) * np.float32(_SPLINE_VARIANCE**-0.5)


def fractal_field(
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    wavelength: float,
    seed: int,
    octaves: int = 4,
    gain: float = 0.5,
) -> NDArray[np.float32]:
    """Return a sum of smooth fields, each of half the wavelength and `gain` times the amplitude."""
    out = smooth_field(xs, ys, wavelength, seed)
    for octave in range(1, octaves):
        detail = smooth_field(xs, ys, wavelength / 2**octave, seed + octave)
        detail *= np.float32(gain**octave)
        out += detail
    out /= np.float32(np.sqrt(sum(gain ** (2 * octave) for octave in range(octaves))))
    return out


def _spline(at: NDArray[np.float64]) -> tuple[csr_array | NDArray[np.float32], int, int]:
    """Return the weights (places, nodes) of cubic B-splines, the first node's number, and the number of
    nodes."""
    whole = np.floor(at)
    f = (at - whole).astype(np.float32)
    taps = [(1 - f) ** 3 / 6, (3 * f**3 - 6 * f**2 + 4) / 6, (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6, f**3 / 6]
    first = int(whole.min())
    nodes = (whole.astype(np.int64) - first)[:, None] + np.arange(4)
    count = int(nodes[:, 3].max()) + 1
    weights = np.stack(taps, axis=1)
    if len(at) * count <= _DENSE:
        dense = np.zeros((len(at), count), np.float32)
        dense[np.arange(len(at))[:, None], nodes] = weights
        return dense, first, count
    starts = np.arange(0, 4 * len(at) + 1, 4)
    return csr_array((weights.ravel(), nodes.ravel(), starts), (len(at), count)), first, count
