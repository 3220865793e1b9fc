"""How far a truck moves between the bands: a joint fit of its images in B02, B08, B03 and B04.

The model of the pixels around a truck, band by band, is a background that changes across the direction of
travel but hardly along it (the road, its verges and lanes), plus a blurred elongated blob whose centre moves
along that direction in proportion to the band's delay. Given the four numbers that bend (centre along and
across, axis, signed displacement), the rest is linear and is solved away (variable projection: Golub and
Pereyra, 1973). A table of all coarse candidates gives the start; on its axis a second search adds the one
neighbour that disturbs most, which is then subtracted; damped Gauss-Newton steps give the answer, and the
curvature there its uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass
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
_CENTRES = np.arange(-3, 4)
_MOVES = np.arange(-12, 13)
"""Coarse search: centre (along and across) and displacement, in steps of a third of a pixel."""
_REACH = 9
_CENTRE_SIGMA = 0.6
"""How well the centre of a box is known beforehand, in pixels."""
_USUAL_MOVE, _USUAL_MOVE_SIGMA = 2.2, 0.6
"""Where two candidates are about as likely, the displacement of a truck on a motorway wins."""
_DARK_PENALTY = 8.0
_NEIGHBOUR_PENALTY = 10.0
_NEIGHBOUR_ALONG = np.arange(-16, 17)
_NEIGHBOUR_ACROSS = np.arange(-6, 7, 2)
_NEIGHBOUR_CLEAR = 2.0
"""A neighbour's centre is at least this far from the truck's, in pixels."""
_MISREGISTRATION = 0.1
"""Deviation of the bands' registration between B02 and B04 in pixels, part of every uncertainty."""

_CHUNK = 64
_DELTAS = np.array([0.02, 0.02, 0.01, 0.02])
_LARGEST_STEP = np.array([0.3, 0.3, 0.15, 0.4])

_ROWS, _COLS = (np.argwhere(np.hypot(*np.mgrid[-_HALF : _HALF + 1, -_HALF : _HALF + 1]) <= _HALF) - _HALF).T
"""The window's pixels, counted from the one in its middle: a disc, so that every axis sees as much."""


def _blob(along: Array, across: Array) -> Array:
    """A truck's image of unit height, for distances from its centre in pixels."""
    return np.asarray(np.exp(-((along / _SIGMA_ALONG) ** 2 + (across / _SIGMA_ACROSS) ** 2) / 2))


@dataclass(frozen=True)
class _Frame:
    """The window seen along one axis for each of N trucks: coordinates, weights and background."""

    along: Array
    across: Array
    root: Array
    """(N, P): coordinates of the pixels in pixels, and the roots of their weights."""
    basis: Array
    solver: Array
    """(N, P, K): the weighted background, and what turns its normal equations around."""

    @classmethod
    def of(cls, axis: Array) -> _Frame:
        """`axis` is (N,), radians clockwise from up."""
        sin, cos = np.sin(axis)[:, None], np.cos(axis)[:, None]
        along, across = _COLS * sin - _ROWS * cos, _COLS * cos + _ROWS * sin
        inside = np.minimum(_REACH_ALONG - np.abs(along), _REACH_ACROSS - np.abs(across))
        root = np.sqrt(1 / (1 + np.exp(-inside / _SOFT)))
        u = np.abs(across[..., None] - _SPLINES)
        splines = np.where(u < 1, 2 / 3 - u**2 + u**3 / 2, np.clip(2 - u, 0, None) ** 3 / 6)
        trends = np.stack([along, along * across / 2], axis=-1) / _REACH_ALONG
        basis = np.concatenate([splines, trends], axis=-1) * root[..., None]
        normal = basis.transpose(0, 2, 1) @ basis + 1e-9 * np.eye(basis.shape[-1])
        return cls(along, across, root, basis, basis @ np.linalg.inv(normal))

    @property
    def freedom(self) -> Array:
        """(N,) degrees of freedom of one band's residual."""
        return np.asarray((self.root**2).sum(axis=-1) - self.basis.shape[-1] - 1)

    def without_background(self, images: Array) -> Array:
        """(N, B, P) images, weighted, and what the background can explain of them taken away."""
        images = images * self.root[:, None]
        return np.asarray(images - (images @ self.solver) @ self.basis.transpose(0, 2, 1))

    def blobs(self, s: Array, t: Array) -> Array:
        """(N, B, P) for centres s, t that broadcast to (N, B)."""
        return _blob(self.along[:, None] - s[..., None], self.across[:, None] - t[..., None])


@lru_cache(maxsize=1)
def _table() -> tuple[_Frame, NDArray[np.float32]]:
    """The frames of all axes, and (A, S * T, P) blobs on the coarse grid, projected and of unit length."""
    frame = _Frame.of(_AXES)
    s, t = np.meshgrid(np.arange(-_REACH, _REACH + 1) * _STEP, _CENTRES * _STEP, indexing="ij")
    blobs = frame.without_background(frame.blobs(s.reshape(1, -1), t.reshape(1, -1)))
    blobs /= np.linalg.norm(blobs, axis=-1, keepdims=True)
    return frame, (blobs * frame.root[:, None]).astype(np.float32)


def _along_across(x: Array, y: Array, axis: Array) -> tuple[Array, Array]:
    return x * np.sin(axis) - y * np.cos(axis), x * np.cos(axis) + y * np.sin(axis)


def _coarse(values: Array, centre: Array) -> tuple[Array, Array]:
    """The best candidate of the table for N trucks: (N, 4) of s, t, axis, move, and (N,) +1 or -1, bright or dark.

    `values` is (N, 4, P), `centre` (N, 2) where the boxes' centres lie in the window.
    """
    frame, blobs = _table()
    count, bands = values.shape[:2]
    images = values.reshape(1, count * bands, -1)
    left = (images * frame.root[:, None] ** 2 * images).sum(axis=-1) - (
        ((images * frame.root[:, None]) @ frame.solver) * ((images * frame.root[:, None]) @ frame.basis)
    ).sum(axis=-1)
    left = np.maximum(left, 1e-12).astype(np.float32).reshape(-1, 1, 1, count, bands)
    match = blobs @ images[0].T.astype(np.float32)
    match = match.reshape(len(_AXES), 2 * _REACH + 1, len(_CENTRES), count, bands)
    off_s, off_t = _along_across(*centre.T, _AXES[:, None])
    grid = _CENTRES * _STEP
    prior = (
        (grid[:, None, None] - off_s[:, None, None]) ** 2 + (grid[:, None] - off_t[:, None, None]) ** 2
    ) / (2 * _CENTRE_SIGMA**2)
    half_freedom = np.float32(frame.freedom.mean() / 2)
    best, lowest = np.zeros((count, 5)), np.full(count, np.inf)
    for sign, penalty in ((1, 0.0), (-1, _DARK_PENALTY)):
        cost_band = half_freedom * np.log(np.maximum(left - np.clip(sign * match, 0, None) ** 2, 1e-3 * left))
        cost_band = np.ascontiguousarray(np.moveaxis(cost_band, -1, 0))
        for move in _MOVES:
            cost = (prior + (penalty + _move_cost(move * _STEP))).astype(np.float32)
            for band, lag in enumerate(_LAG):
                first = _REACH + _CENTRES[0] + int(np.rint(move * lag))
                cost += cost_band[band][:, first : first + len(_CENTRES)]
            flat = cost.reshape(-1, count)
            index = flat.argmin(axis=0)
            value = flat[index, np.arange(count)]
            axis, i, j = np.unravel_index(index, cost.shape[:3])
            better = value < lowest
            found = np.stack(
                [grid[i], grid[j], _AXES[axis], np.full(count, move * _STEP), np.full(count, sign)], axis=1
            )
            best[better], lowest[better] = found[better], value[better]
    return best[:, :4], best[:, 4]


def _move_cost(move: Array | float) -> Array | float:
    return (np.abs(move) - _USUAL_MOVE) ** 2 / (2 * _USUAL_MOVE_SIGMA**2)


def _without_neighbour(values: Array, centre: Array, at: Array, sign: Array) -> tuple[Array, Array]:
    """`values` without the neighbouring vehicle that disturbs most, if there is one, and the new start.

    On the axis of `at`, pairs of a truck near the box's centre and a vehicle of about the same speed, in
    either direction, further off. Two blobs on the background are solved in closed form for each band.
    """
    count = len(values)
    frame = _Frame.of(at[:, 2])
    data = frame.without_background(values) * sign[:, None, None]
    off_s, off_t = _along_across(*centre.T, at[:, 2])
    s0, t0 = np.rint(off_s / _STEP) * _STEP, at[:, 1]

    target_s = np.arange(-_REACH, _REACH + 1)
    reach = _NEIGHBOUR_ALONG[-1] + 6
    other_s, other_t = np.meshgrid(np.arange(-reach, reach + 1), _NEIGHBOUR_ACROSS, indexing="ij")
    own = frame.without_background(frame.blobs(s0[:, None] + target_s * _STEP, t0[:, None]))
    other = frame.without_background(
        frame.blobs(s0[:, None] + other_s.ravel() * _STEP, t0[:, None] + other_t.ravel() * _STEP)
    )
    n, m = (own**2).sum(axis=-1)[:, None, :, None], (other**2).sum(axis=-1)[:, None, None] + 0.02
    gram = (own @ other.transpose(0, 2, 1))[:, None]
    u = (data @ own.transpose(0, 2, 1))[..., None]
    w = (data @ other.transpose(0, 2, 1))[:, :, None]
    det = np.maximum(n * m - gram**2, 1e-3 * n * m)
    a, c = m * u - gram * w, n * w - gram * u
    alone = np.clip(u, 0, None) ** 2 / n
    gain = np.where(a <= 0, np.clip(w, 0, None) ** 2 / m, np.where(c <= 0, alone, (u * a + w * c) / det))
    left = np.maximum((data**2).sum(axis=-1), 1e-12)[..., None, None]
    half_freedom = frame.freedom[:, None, None, None] / 2
    pair_cost = (half_freedom * np.log(np.maximum(left - gain, 1e-3 * left))).astype(np.float32)
    pair_cost = pair_cost.reshape(count, 4, len(target_s), 2 * reach + 1, len(_NEIGHBOUR_ACROSS))
    alone_cost = (half_freedom * np.log(np.maximum(left - alone, 1e-3 * left)))[..., 0]

    rows = np.arange(count)
    lowest = np.full(count, np.inf)
    start, neighbour = at.copy(), np.full((count, 3), np.nan)
    apart = np.hypot(_NEIGHBOUR_ALONG[:, None], _NEIGHBOUR_ACROSS) * _STEP
    for move in _MOVES:
        shift = np.rint(move * _LAG).astype(int)
        for centre_s in _CENTRES:
            base = _move_cost(move * _STEP) + (centre_s * _STEP + s0 - off_s) ** 2 / (2 * _CENTRE_SIGMA**2)
            value = base + sum(alone_cost[:, b, _REACH + centre_s + shift[b]] for b in range(4))
            better = value < lowest
            lowest[better] = value[better]
            start[better, 0], start[better, 3] = s0[better] + centre_s * _STEP, move * _STEP
            neighbour[better] = np.nan
            for way in (1, -1):
                cost = np.zeros((count, len(_NEIGHBOUR_ALONG), len(_NEIGHBOUR_ACROSS)), np.float32)
                for b in range(4):
                    first = reach + _NEIGHBOUR_ALONG[0] + way * shift[b]
                    cost += pair_cost[
                        :, b, _REACH + centre_s + shift[b], first : first + len(_NEIGHBOUR_ALONG)
                    ]
                distance = np.hypot(_NEIGHBOUR_ALONG[:, None] - centre_s, _NEIGHBOUR_ACROSS) * _STEP
                cost[:, distance < _NEIGHBOUR_CLEAR] = np.inf
                flat = cost.reshape(count, -1)
                index = flat.argmin(axis=1)
                value = flat[rows, index] + base + _NEIGHBOUR_PENALTY
                better = value < lowest
                lowest[better] = value[better]
                start[better, 0], start[better, 3] = s0[better] + centre_s * _STEP, move * _STEP
                i, j = np.unravel_index(index, cost.shape[1:])
                found = np.stack(
                    [
                        s0 + _NEIGHBOUR_ALONG[i] * _STEP,
                        t0 + _NEIGHBOUR_ACROSS[j] * _STEP,
                        np.full(count, way * move * _STEP),
                    ],
                    axis=1,
                )
                neighbour[better] = found[better]
    has = ~np.isnan(neighbour[:, 0])
    own = frame.blobs(start[:, :1] + start[:, 3:] * _LAG, start[:, 1:2])
    other = frame.blobs(neighbour[:, :1] + neighbour[:, 2:] * _LAG, neighbour[:, 1:2])
    p_own, p_other = frame.without_background(own), frame.without_background(np.nan_to_num(other))
    n, m, g = (p_own**2).sum(-1), (p_other**2).sum(-1) + 0.02, (p_own * p_other).sum(-1)
    u, w = (data * p_own).sum(-1), (data * p_other).sum(-1)
    height = np.where(m * u - g * w > 0, (n * w - g * u) / np.maximum(n * m - g**2, 1e-3 * n * m), w / m)
    height = np.clip(height, 0, None) * sign[:, None]
    return np.where(has[:, None, None], values - height[..., None] * np.nan_to_num(other), values), start


def _residual(frame: _Frame, data: Array, at: Array, sign: Array) -> Array:
    """What the model at `at` (N, 4) leaves of `data`, (N, 4, P), both weighted and without background."""
    s, t, _, move = at.T
    blobs = frame.without_background(frame.blobs(s[:, None] + move[:, None] * _LAG, t[:, None]))
    height = (data * blobs).sum(axis=-1) / (blobs**2).sum(axis=-1)
    height = sign[:, None] * np.clip(sign[:, None] * height, 0, None)
    return np.asarray(data - height[..., None] * blobs)


def _refine(values: Array, centre: Array, start: Array, sign: Array, iterations: int) -> tuple[Array, Array]:
    """Damped Gauss-Newton steps from `start`: (N, 4) of s, t, axis, move, and their (N, 4, 4) covariance."""
    count = len(start)

    def misfit(residual: Array, at: Array) -> Array:
        x = at[:, 0] * np.sin(at[:, 2]) + at[:, 1] * np.cos(at[:, 2])
        y = at[:, 1] * np.sin(at[:, 2]) - at[:, 0] * np.cos(at[:, 2])
        prior = (np.stack([x, y], axis=1) - centre) / _CENTRE_SIGMA
        return np.concatenate([(residual / noise[..., None]).reshape(count, -1), prior], axis=1)

    def evaluate(at: Array) -> tuple[_Frame, Array, Array]:
        frame = _Frame.of(at[:, 2])
        data = frame.without_background(values)
        return frame, data, _residual(frame, data, at, sign)

    at, damping = start.copy(), np.full(count, 1e-3)
    frame, data, residual = evaluate(at)
    for iteration in range(iterations + 1):
        noise = np.sqrt((residual**2).sum(axis=-1) / frame.freedom[:, None]) + 1e-6
        full = misfit(residual, at)
        columns = []
        for k, delta in enumerate(_DELTAS):
            moved = at + delta * np.eye(4)[k]
            other = evaluate(moved)[2] if k == 2 else _residual(frame, data, moved, sign)
            columns.append((misfit(other, moved) - full) / delta)
        jacobian = np.stack(columns, axis=-1)
        curvature = jacobian.transpose(0, 2, 1) @ jacobian + 1e-9 * np.eye(4)
        if iteration == iterations:
            break
        slope = jacobian.transpose(0, 2, 1) @ full[..., None]
        damped = curvature * (1 + damping[:, None, None] * np.eye(4))
        step = np.clip(-np.linalg.solve(damped, slope)[..., 0], -_LARGEST_STEP, _LARGEST_STEP)
        _, _, new = evaluate(at + step)
        better = (misfit(new, at + step) ** 2).sum(axis=1) < (full**2).sum(axis=1)
        at = np.where(better[:, None], at + step, at)
        damping = np.where(better, damping / 5, damping * 8)
        frame, data, residual = evaluate(at)
    return at, np.linalg.inv(curvature)


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
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    pixel = np.floor(middle).astype(np.intp)
    cols, rows = pixel[:, :1] + _COLS, pixel[:, 1:] + _ROWS
    inside = (cols >= 0) & (cols < width) & (rows >= 0) & (rows < height)
    cols, rows = np.clip(cols, 0, width - 1), np.clip(rows, 0, height - 1)
    index = np.flatnonzero((inside & valid[rows, cols]).all(axis=1))
    for first in range(0, len(index), _CHUNK):
        part = index[first : first + _CHUNK]
        values = reflectance[:, rows[part], cols[part]].transpose(1, 0, 2).astype(np.float64)
        values -= np.median(values, axis=-1, keepdims=True)
        centre = middle[part] - pixel[part] - 0.5
        start, sign = _coarse(values, centre)
        at, _ = _refine(values, centre, start, sign, 3)
        values, start = _without_neighbour(values, centre, at, sign)
        at, covariance = _refine(values, centre, start, sign, 6)
        axis, move = at[:, 2], at[:, 3]
        displacement[part] = move[:, None] * np.stack([np.sin(axis), -np.cos(axis)], axis=-1)
        sigma[part] = np.sqrt(covariance[:, 3, 3] + _MISREGISTRATION**2)
    return displacement, sigma
