"""How far a truck moves between the bands: a joint fit of its images in B02, B08, B03 and B04.

The model of the pixels around a truck, band by band, is a background that changes across the direction of
travel but hardly along it (the road, its verges and lanes), plus a blurred elongated blob whose centre moves
along that direction in proportion to the band's delay. Given the four numbers that bend (centre along and
across, axis, signed displacement), the rest is linear and is solved away (variable projection: Golub and
Pereyra, 1973). A table of all coarse candidates gives the start, damped Gauss-Newton steps the answer, and
the curvature there its uncertainty.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.predictions import MOTION_BANDS
from pipeline.scenes.msi import BAND_DELAYS_S

MOTION_MARGIN_PX = 8
"""No pixel further than this from a box has any influence on what is measured in it."""

Array = NDArray[np.float64]

_HALF = 7
_LAG = np.array([BAND_DELAYS_S[band] for band in MOTION_BANDS]) / BAND_DELAYS_S["B04"] - 0.5
"""Share of the displacement at which each band sees the truck, from the middle between B02 and B04."""

_BLUR2 = 0.55**2 + 1 / 12
_SIGMA_ALONG = np.sqrt(_BLUR2 + 1.3**2 / 12)
_SIGMA_ACROSS = np.sqrt(_BLUR2 + 0.26**2 / 12)
"""Of a truck's image, in pixels: 13 m x 2.6 m through the optics' blur and the pixel's own area."""

_REACH_ALONG, _REACH_ACROSS, _SOFT = 6.0, 2.8, 0.2
"""The window turns with the axis: its half sides, and how softly it ends, in pixels."""
_SPLINES = np.arange(-4.0, 5.0)
"""Middles of the background's splines across the axis, in pixels."""

_STEP = 1 / 3
_AXES = np.deg2rad(np.arange(0.0, 180.0, 5.0))
_CENTRE_STEPS, _ACROSS_STEPS, _MOVE_STEPS = 5, 4, 12
"""Coarse search, in steps of a third of a pixel: centre along and across the axis, displacement."""
_CENTRE_SIGMA = 0.6
"""How well the centre of a box is known beforehand, in pixels."""
_CHUNK = 64
_DARK_PENALTY = 8.0
_USUAL, _USUAL_SIGMA = 2.2, 0.6
_MISREGISTRATION = 0.1
_LARGEST_STEP = np.array([0.3, 0.3, 0.15, 0.4])
_ITERATIONS = 8
_DELTAS = np.array([0.02, 0.02, 0.01, 0.02])

_ROWS, _COLS = (np.argwhere(np.hypot(*np.mgrid[-_HALF : _HALF + 1, -_HALF : _HALF + 1]) <= _HALF) - _HALF).T
"""The window's pixels, counted from the one in its middle: a disc, so that every axis sees as much."""


def _turned(axis: Array) -> tuple[Array, Array]:
    """Coordinates along and across `axis` (radians clockwise from up), (..., P), of the window's pixels."""
    sin, cos = np.sin(axis)[..., None], np.cos(axis)[..., None]
    return _COLS * sin - _ROWS * cos, _COLS * cos + _ROWS * sin


def _window(along: Array, across: Array) -> Array:
    """Weight of each pixel: one within the turned window, falling to zero around its border."""
    inside = np.minimum(_REACH_ALONG - np.abs(along), _REACH_ACROSS - np.abs(across))
    return np.asarray(1 / (1 + np.exp(-inside / _SOFT)))


def _background(along: Array, across: Array) -> Array:
    """(..., P, K): cubic splines across the axis, one a pixel, and gentle trends along it."""
    u = np.abs(across[..., None] - _SPLINES)
    splines = np.where(u < 1, 2 / 3 - u**2 + u**3 / 2, np.clip(2 - u, 0, None) ** 3 / 6)
    trends = np.stack([along, along * across / 2], axis=-1) / _REACH_ALONG
    return np.concatenate([splines, trends], axis=-1)


def _blob(along: Array, across: Array) -> Array:
    """A truck's image of unit height, for distances from its centre in pixels."""
    return np.asarray(np.exp(-((along / _SIGMA_ALONG) ** 2 + (across / _SIGMA_ACROSS) ** 2) / 2))


@lru_cache(maxsize=1)
def _table() -> tuple[Array, Array, Array]:
    """The coarse search's linear algebra, for each axis: the residual's part along each blob, (A, P, C);
    an orthonormal basis of the weighted background, (A, P, K); the roots of the weights, (A, P)."""
    along, across = _turned(_AXES)
    root = np.sqrt(_window(along, across))
    basis, _ = np.linalg.qr(_background(along, across) * root[..., None])
    reach = _CENTRE_STEPS + _MOVE_STEPS // 2
    s = np.arange(-reach, reach + 1) * _STEP
    t = np.arange(-_ACROSS_STEPS, _ACROSS_STEPS + 1) * _STEP
    s, t = (grid.ravel() for grid in np.meshgrid(s, t, indexing="ij"))
    blobs = _blob(along[..., None] - s, across[..., None] - t) * root[..., None]
    blobs -= basis @ (basis.transpose(0, 2, 1) @ blobs)
    blobs /= np.linalg.norm(blobs, axis=1, keepdims=True)
    return blobs, basis, root


def _coarse(values: Array, centre: Array) -> tuple[Array, Array]:
    """The best candidate of the table for N trucks: (N, 4) of s, t, axis, move, and (N,) its likelihood gain.

    `values` is (N, 4, P), `centre` (N, 2) where the boxes' centres lie in the window.
    """
    blobs, basis, root = _table()
    count = len(values)
    data = root[:, :, None] * values.reshape(-1, values.shape[-1]).T
    unexplained = (data**2).sum(axis=1) - ((basis.transpose(0, 2, 1) @ data) ** 2).sum(axis=1)
    along_blob = blobs.transpose(0, 2, 1) @ data
    reach = _CENTRE_STEPS + _MOVE_STEPS // 2
    shape = (len(_AXES), 2 * reach + 1, 2 * _ACROSS_STEPS + 1, count, len(MOTION_BANDS))
    freedom = root.shape[1] and (root**2).sum(axis=1).mean() - basis.shape[-1] - 1
    unexplained = unexplained.reshape(len(_AXES), 1, 1, count, -1)
    floor = 1e-3 * unexplained + 1e-12
    s = np.arange(-_CENTRE_STEPS, _CENTRE_STEPS + 1) * _STEP
    t = np.arange(-_ACROSS_STEPS, _ACROSS_STEPS + 1) * _STEP
    sin, cos = np.sin(_AXES)[:, None], np.cos(_AXES)[:, None]
    box_s = centre[:, 0] * sin - centre[:, 1] * cos
    box_t = centre[:, 0] * cos + centre[:, 1] * sin
    prior = (
        (s[None, :, None, None] - box_s[:, None, None, :]) ** 2
        + (t[None, None, :, None] - box_t[:, None, None, :]) ** 2
    ) / (2 * _CENTRE_SIGMA**2)
    best_cost = np.full(count, np.inf)
    best = np.zeros((count, 5))
    null = freedom / 2 * np.log(np.maximum(unexplained, floor))[:, 0, 0].sum(axis=-1)
    for sign, penalty in ((1, 0.0), (-1, _DARK_PENALTY)):
        gain = np.clip(sign * along_blob.reshape(shape), 0, None) ** 2
        cost_band = freedom / 2 * np.log(np.maximum(unexplained - gain, floor))
        for move in range(-_MOVE_STEPS, _MOVE_STEPS + 1):
            cost = prior + (penalty + (abs(move) * _STEP - _USUAL) ** 2 / (2 * _USUAL_SIGMA**2))
            for band, lag in enumerate(_LAG):
                first = reach - _CENTRE_STEPS + int(np.rint(move * lag))
                cost = cost + cost_band[:, first : first + 2 * _CENTRE_STEPS + 1, :, :, band]
            flat = cost.reshape(-1, count)
            index = flat.argmin(axis=0)
            lowest = flat[index, np.arange(count)]
            axis, i, j = np.unravel_index(index, cost.shape[:3])
            found = np.stack(
                [s[i], t[j], _AXES[axis], np.full(count, move * _STEP), np.full(count, sign)], axis=-1
            )
            better = lowest < best_cost
            best[better], best_cost[better] = found[better], lowest[better]
    return best, null.min(axis=0) - best_cost


def _residual(values: Array, centre: Array, at: Array, sign: Array) -> tuple[Array, Array]:
    """What the model at `at` (N, 4) leaves unexplained: (N, 4, P) weighted, and (N, 4) heights of the blobs."""
    s, t, axis, move = at.T
    along, across = _turned(axis)
    root = np.sqrt(_window(along, across))
    basis = _background(along, across) * root[..., None]
    moved = along[:, None] - s[:, None, None] - move[:, None, None] * _LAG[:, None]
    blobs = _blob(moved, (across - t[:, None])[:, None]) * root[:, None]
    data = values * root[:, None]
    both = np.concatenate([data, blobs], axis=1).transpose(0, 2, 1)
    normal = basis.transpose(0, 2, 1) @ basis + 1e-9 * np.eye(basis.shape[-1])
    both = both - basis @ np.linalg.solve(normal, basis.transpose(0, 2, 1) @ both)
    data, blobs = np.split(both.transpose(0, 2, 1), 2, axis=1)
    height = (data * blobs).sum(axis=-1) / (blobs**2).sum(axis=-1)
    height = sign[:, None] * np.clip(sign[:, None] * height, 0, None)
    return data - height[..., None] * blobs, height


def _refine(values: Array, centre: Array, start: Array, sign: Array) -> tuple[Array, Array, Array, Array]:
    """Damped Gauss-Newton steps: (N, 4) s, t, axis, move; (N, 4, 4) covariance; heights and noise (N, 4)."""
    at = start.copy()
    count = len(at)
    along, across = _turned(at[:, 2])
    freedom = _window(along, across).sum(axis=-1)[:, None] - len(_SPLINES) - 3

    def prior(at: Array) -> Array:
        sin, cos = np.sin(at[:, 2]), np.cos(at[:, 2])
        x, y = at[:, 0] * sin + at[:, 1] * cos, -at[:, 0] * cos + at[:, 1] * sin
        return (np.stack([x, y], axis=-1) - centre) / _CENTRE_SIGMA

    damping = np.full(count, 1e-3)
    residual, height = _residual(values, centre, at, sign)
    noise = np.sqrt((residual**2).sum(axis=-1) / freedom) + 1e-6
    for last in [False] * _ITERATIONS + [True]:
        noise = np.sqrt((residual**2).sum(axis=-1) / freedom) + 1e-6
        full = np.concatenate([(residual / noise[..., None]).reshape(count, -1), prior(at)], axis=1)
        columns = []
        for k, delta in enumerate(_DELTAS):
            moved = at.copy()
            moved[:, k] += delta
            other, _ = _residual(values, centre, moved, sign)
            other = np.concatenate([(other / noise[..., None]).reshape(count, -1), prior(moved)], axis=1)
            columns.append((other - full) / delta)
        jacobian = np.stack(columns, axis=-1)
        curvature = jacobian.transpose(0, 2, 1) @ jacobian
        if last:
            break
        slope = np.einsum("npk,np->nk", jacobian, full)
        scale = np.einsum("nkk->nk", curvature)
        damped = curvature + np.einsum("nk,kl->nkl", damping[:, None] * scale + 1e-9, np.eye(4))
        step = -np.linalg.solve(damped, slope[..., None])[..., 0]
        step = np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        tried = at + step
        new_residual, new_height = _residual(values, centre, tried, sign)
        new_full = np.concatenate(
            [(new_residual / noise[..., None]).reshape(count, -1), prior(tried)], axis=1
        )
        better = (new_full**2).sum(axis=1) < (full**2).sum(axis=1)
        at[better], residual[better], height[better] = tried[better], new_residual[better], new_height[better]
        damping = np.where(better, damping / 5, damping * 8)
    return at, np.linalg.inv(curvature + 1e-9 * np.eye(4)), height, noise


def measure_displacement(
    reflectance: NDArray[np.floating], valid: NDArray[np.bool_], boxes: Array
) -> tuple[Array, Array]:
    """Where B04 sees each truck minus where B02 sees it, and one standard deviation of that.

    `reflectance` is (4, H, W) in the order of `MOTION_BANDS`, `valid` (H, W), `boxes` (N, 4) x_min, y_min,
    x_max, y_max in pixels of that array, counted from the upper left corner of its upper left pixel.
    Returns (N, 2) dx, dy and (N,) the deviation along the motion, both in pixels; NaN where pixels are
    missing or no moving blob can be told from the background. Nothing beyond `MOTION_MARGIN_PX` from a box
    matters, so any tile that holds the box with that margin gives the same result.
    """
    height, width = valid.shape
    displacement, sigma = np.full((len(boxes), 2), np.nan), np.full(len(boxes), np.nan)
    if not len(boxes):
        return displacement, sigma
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    pixel = np.floor(middle).astype(np.intp)
    cols, rows = pixel[:, :1] + _COLS, pixel[:, 1:] + _ROWS
    inside = (cols >= 0) & (cols < width) & (rows >= 0) & (rows < height)
    cols, rows = np.clip(cols, 0, width - 1), np.clip(rows, 0, height - 1)
    there = (inside & valid[rows, cols]).all(axis=1)
    index = np.flatnonzero(there)
    for first in range(0, len(index), _CHUNK):
        part = index[first : first + _CHUNK]
        values = reflectance[:, rows[part], cols[part]].transpose(1, 0, 2).astype(np.float64)
        values -= np.median(values, axis=-1, keepdims=True)
        centre = middle[part] - pixel[part] - 0.5
        best, gain = _coarse(values, centre)
        at, covariance, _, _ = _refine(values, centre, best[:, :4], best[:, 4])
        axis, move = at[:, 2], at[:, 3]
        displacement[part] = move[:, None] * np.stack([np.sin(axis), -np.cos(axis)], axis=-1)
        sigma[part] = np.sqrt(covariance[:, 3, 3] + _MISREGISTRATION**2)
    return displacement, sigma
