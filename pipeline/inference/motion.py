"""How far a truck moves between the bands: a joint fit of its images in B02, B08, B03 and B04.

The model of the pixels around a truck, band by band, is a background that changes across the direction of
travel but hardly along it (the road, its verges and lanes), plus a blurred elongated blob whose centre moves
along that direction in proportion to the band's delay. Given the four numbers that bend (centre along and
across, axis, signed displacement) the rest is linear and is solved away (variable projection: Golub and
Pereyra, 1973).

A table of coarse candidates gives the axis. On it, a second search adds the one other thing that disturbs
most, a vehicle on the same road or something at rest, and settles which way the truck goes; that thing is
then subtracted. Damped Gauss-Newton steps give the answer, and the curvature there its uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.predictions import MOTION_BANDS
from pipeline.scenes.msi import BAND_DELAYS_S

MOTION_MARGIN_PX = 8
"""No pixel further than this from a box has any influence on what is measured in it."""

Array = NDArray[np.floating]

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
"""Of both searches, in pixels; their grids count in it."""
_AXES = np.deg2rad(np.arange(0.0, 180.0, 5.0))
_CENTRES = np.arange(-3, 4)
_MOVES = np.arange(-12, 13)
_SHIFTS = np.rint(_MOVES[:, None] * _LAG).astype(np.intp)
"""(moves, bands): where each band sees a truck that moves so far."""
_PLACES = np.arange(_CENTRES[0] + _SHIFTS.min(), _CENTRES[-1] + _SHIFTS.max() + 1)
_OTHER_ALONG, _OTHER_ACROSS = np.arange(-16, 17), np.arange(-6, 7, 2)
_OTHER_PLACES = np.arange(_OTHER_ALONG[0] + _SHIFTS.min(), _OTHER_ALONG[-1] + _SHIFTS.max() + 1)

_CENTRE_SIGMA = 0.6
"""How well the centre of a box is known beforehand, in pixels."""
_USUAL_MOVE, _USUAL_MOVE_SIGMA = 2.2, 0.6
"""Displacement of a truck on a motorway; weighed against the pixels in the searches, not in the result."""
_DARK_PENALTY, _OTHER_PENALTY = 8.0, 15.0
"""What the pixels must say, in units of log-likelihood, for a truck darker than its road, or for company."""
_APART = 2.0
"""Two vehicles' centres are at least so far from each other, in pixels."""

_ANOTHER_MOVE, _CLEAR = 1.2, 3.0
"""A displacement is clear if any that differs so much, in pixels, is so much less likely."""
_DRIFT = 0.8
"""A fit that ends further from where the search began, in pixels, is none."""
_SLOWEST = 0.5
"""What moves less, in pixels (18 km/h), is taken for something at rest near the truck: parked cars, a bridge,
the edge of a field. A truck at rest shows no row of colours, and isn't detected."""
_VAGUE = 0.6
"""With a larger deviation, in pixels, a displacement says nothing."""
_REGISTRATION = 0.1
"""Uncertainty that the fit can't see, in pixels. Two bands of Sentinel-2 lie within 0.3 px of each other in
99.7 % of cases (ESA's requirement), so each is off by 0.062 px (one sigma) in either direction, and a line
through the positions in four bands, at `_LAG`, by 1.35 times that: 0.084. The rest is for cabs, loads and
shadows of another colour, which move a truck's own middle from band to band."""

_AMPLE, _UNMEASURED = 8.0, 2.0
"""Motion so clear, in standard deviations, that more says nothing; and what says neither yes nor no."""

_OTHER_RIDGE, _TINY = 0.02, 1e-12
"""Keep a blob at the window's border from growing without limit, and a flat image from dividing by zero."""
_MODEL_ERROR = 0.01
"""Share of the image that the model can't explain even without noise: trucks are no Gaussians."""
_CHUNK = 64
_AXIS = 2
_DELTAS = np.array([0.02, 0.02, 0.01, 0.02])
_LARGEST_STEP = np.array([0.3, 0.3, 0.15, 0.4])

_ROWS, _COLS = (np.argwhere(np.hypot(*np.mgrid[-_HALF : _HALF + 1, -_HALF : _HALF + 1]) <= _HALF) - _HALF).T
"""The P pixels around a truck, counted from the one at its box's centre: a disc, the same for every axis."""


def measure_displacement(
    reflectance: NDArray[np.floating], valid: NDArray[np.bool_], boxes: Array
) -> tuple[Array, Array]:
    """Where B04 sees each truck minus where B02 sees it, and one standard deviation of that.

    `reflectance` is (4, H, W) in the order of `MOTION_BANDS`, `valid` (H, W), `boxes` (N, 4) x_min, y_min,
    x_max, y_max in pixels of that array, counted from the upper left corner of its upper left pixel.
    Returns (N, 2) dx, dy and (N,) the deviation along the motion (across it is less), in pixels. Where no
    displacement is clearly more likely than all others, or the likeliest is hardly one, the displacement is
    NaN and its deviation infinite; where pixels are missing, both are NaN. The deviation is that of the fit,
    whose noise is what the model leaves of each band, and that of the bands' registration; that of their
    delays is not in it. Nothing beyond `MOTION_MARGIN_PX` from a box matters, and no box matters to another:
    any tile that holds the box with that margin gives the same.
    Takes about 6 ms of one core a truck, and less than 200 MB.
    """
    height, width = valid.shape
    displacement, sigma = np.full((len(boxes), 2), np.nan), np.full(len(boxes), np.nan)
    # rounded, so that the rounding errors of coordinates counted from another corner don't matter
    middle = np.round((boxes[:, :2] + boxes[:, 2:]) * 32) / 64
    pixel = np.floor(middle).astype(np.intp)
    rows, cols = pixel[:, 1:] + _ROWS, pixel[:, :1] + _COLS
    inside = (cols >= 0) & (cols < width) & (rows >= 0) & (rows < height)
    rows, cols = np.where(inside, rows, 0), np.where(inside, cols, 0)
    complete = np.flatnonzero((inside & valid[rows, cols]).all(axis=1))
    for part in np.split(complete, range(_CHUNK, len(complete), _CHUNK)) if len(complete) else []:
        values = reflectance[:, rows[part], cols[part]].transpose(1, 0, 2).astype(np.float64)
        move, axis, along = _fit(values, middle[part] - pixel[part] - 0.5)
        displacement[part] = np.stack([move * np.sin(axis), -move * np.cos(axis)], axis=1)
        sigma[part] = along
    return displacement, sigma


def evidence(displacement: Array, sigma: Array) -> Array:
    """By how many standard deviations each of N trucks is seen to move: at most `_AMPLE`, 0 if not clear.

    Takes what `measure_displacement` gives; `_UNMEASURED` where pixels were missing, as beside the border.
    """
    length = np.hypot(*displacement.T)
    seen = np.minimum(np.divide(length, sigma, out=np.zeros(len(sigma)), where=np.isfinite(length)), _AMPLE)
    return np.where(np.isnan(sigma), _UNMEASURED, seen)


def _fit(values: Array, centre: Array) -> tuple[Array, Array, Array]:
    """Signed displacement, axis (radians clockwise from up) and the former's deviation, each (N,).

    `values` is (N, 4, P), `centre` (N, 2) the boxes' centres from the disc's middle.
    """
    values = values - np.median(values, axis=-1, keepdims=True)
    at, sign = _search_axes(values, centre)
    at, _ = _refine(values, centre, at, sign, iterations=3)
    start, clear, other = _search_pairs(values, centre, at, sign)
    values = _without_other(values, start, other, sign)
    at, covariance = _refine(values, centre, start, sign, iterations=6)
    move, axis = at[:, 3], at[:, 2]
    sigma = np.hypot(np.sqrt(covariance[:, 3, 3]), _REGISTRATION)
    believed = (clear >= _CLEAR) & (np.abs(move - start[:, 3]) <= _DRIFT)
    believed &= (np.abs(move) >= _SLOWEST) & (sigma <= _VAGUE)
    return np.where(believed, move, np.nan), axis, np.where(believed, sigma, np.inf)


@dataclass(frozen=True)
class _Frame:
    """The disc seen along one axis for each of N trucks: coordinates, weights and background."""

    along: Array
    across: Array
    root: Array
    """(N, P): coordinates in pixels, and the roots of the weights."""
    background: Array
    """(N, P, K): orthonormal images that any weighted background is made of."""

    @classmethod
    def of(cls, axis: Array) -> _Frame:
        """`axis` is (N,), radians clockwise from up."""
        along, across = _turn(_COLS, _ROWS, axis[:, None])
        inside = np.minimum(_REACH_ALONG - np.abs(along), _REACH_ACROSS - np.abs(across))
        root = np.sqrt(1 / (1 + np.exp(-inside / _SOFT)))
        u = np.abs(across[..., None] - _SPLINES)
        cubic = np.where(u < 1, 2 / 3 - u**2 + u**3 / 2, np.clip(2 - u, 0, None) ** 3 / 6)
        trends = np.stack([along, along * across / 2], axis=-1) / _REACH_ALONG
        images = np.concatenate([cubic, trends], axis=-1) * root[..., None]
        factor = np.linalg.cholesky(images.transpose(0, 2, 1) @ images + 1e-9 * np.eye(images.shape[-1]))
        return cls(along, across, root, images @ np.linalg.inv(factor).transpose(0, 2, 1))

    def replaced(self, where: NDArray[np.bool_], by: _Frame) -> _Frame:
        """The same, with the frames `by` where it says so."""
        pairs = ((getattr(self, field.name), getattr(by, field.name)) for field in fields(self))
        return _Frame(*(np.where(where.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in pairs))

    @property
    def freedom(self) -> Array:
        """(N,) degrees of freedom of one band's residual."""
        return np.asarray((self.root**2).sum(axis=-1) - self.background.shape[-1] - 1)

    def without_background(self, images: Array) -> Array:
        """(N, B, P) images, weighted, less what the background can explain of them."""
        images = images * self.root[:, None]
        return np.asarray(images - (images @ self.background) @ self.background.transpose(0, 2, 1))

    def blobs(self, s: Array, t: Array) -> Array:
        """(N, B, P) images of vehicles of unit height, for centres s along and t across, (N, B) or (N, 1)."""
        along, across = self.profiles(s, t)
        return along * across

    def profiles(self, s: Array, t: Array) -> tuple[Array, Array]:
        """Factors of `blobs` that depend on s and t only, (N, S, P) and (N, T, P)."""
        along = (self.along[:, None] - s[..., None]) / _SIGMA_ALONG
        across = (self.across[:, None] - t[..., None]) / _SIGMA_ACROSS
        return np.exp(-(along**2) / 2), np.exp(-(across**2) / 2)

    def blob_grid(self, s: Array, t: Array) -> Array:
        """(N, T, S, P) blobs without background for all pairs of s, (N, S), and t, (N, T)."""
        along, across = self.profiles(s, t)
        images = along[:, None] * (across * self.root[:, None])[:, :, None]
        background = self.background[:, None]
        return np.asarray(images - (images @ background) @ background.transpose(0, 1, 3, 2))


def _turn(x: NDArray, y: NDArray, axis: Array) -> tuple[Array, Array]:
    """Coordinates along and across an axis."""
    return x * np.sin(axis) - y * np.cos(axis), x * np.cos(axis) + y * np.sin(axis)


def _move_cost(steps: np.integer) -> float:
    return float((abs(steps) * _STEP - _USUAL_MOVE) ** 2 / (2 * _USUAL_MOVE_SIGMA**2))


def _cost(explained: Array, total: Array, freedom: Array) -> NDArray[np.float32]:
    """Minus the log-likelihood, up to a constant, if each band's noise is what is left in it."""
    left = np.maximum(total - explained, 0) + np.float32(_MODEL_ERROR) * total
    return np.log(left) * (freedom / 2).astype(np.float32)


@lru_cache(maxsize=1)
def _table() -> tuple[_Frame, NDArray[np.float32]]:
    """The frames of all axes, and (A, T * S, P) blobs of the coarse grid, scaled to unit length."""
    frame = _Frame.of(_AXES)
    blobs = frame.blob_grid(_PLACES[None] * _STEP, _CENTRES[None] * _STEP)
    blobs *= frame.root[:, None, None] / np.linalg.norm(blobs, axis=-1, keepdims=True)
    return frame, blobs.reshape(len(_AXES), -1, len(_COLS)).astype(np.float32)


def _search_axes(values: Array, centre: Array) -> tuple[Array, Array]:
    """The most likely candidate of the table, (N, 4) s, t, axis, move, and (N,) its sign, -1 if dark."""
    frame, blobs = _table()
    count = len(values)
    rows = np.arange(count)
    weighted = values[:, None] * frame.root[:, None]
    total = (weighted**2).sum(axis=-1) - ((weighted @ frame.background) ** 2).sum(axis=-1)
    total = np.maximum(total, _TINY).transpose(2, 0, 1)[..., None, None].astype(np.float32)
    match = blobs @ values[:, None].transpose(0, 1, 3, 2).astype(np.float32)
    match = match.reshape(count, len(_AXES), len(_CENTRES), len(_PLACES), -1).transpose(4, 0, 1, 2, 3)
    box_s, box_t = (box[..., None, None] for box in _turn(centre[:, :1], centre[:, 1:], _AXES))
    s, t = _CENTRES * _STEP, _CENTRES[:, None] * _STEP
    prior = (((s - box_s) ** 2 + (t - box_t) ** 2) / (2 * _CENTRE_SIGMA**2)).astype(np.float32)
    best, lowest = np.zeros((count, 5)), np.full(count, np.inf)
    for sign, penalty in ((1, 0.0), (-1, _DARK_PENALTY)):
        band_costs = _cost(np.clip(sign * match, 0, None) ** 2, total, frame.freedom[:, None, None])
        for move, shifts in zip(_MOVES, _SHIFTS, strict=True):
            cost = prior + np.float32(penalty + _move_cost(move))
            for band_cost, first in zip(band_costs, shifts + _CENTRES[0] - _PLACES[0], strict=True):
                cost += band_cost[..., first : first + len(_CENTRES)]
            flat = cost.reshape(count, -1)
            index = flat.argmin(axis=1)
            axis, j, i = np.unravel_index(index, cost.shape[1:])
            found = [s[i], t[j, 0], _AXES[axis], np.full(count, move * _STEP), np.full(count, sign)]
            better = flat[rows, index] < lowest
            best[better], lowest[better] = np.stack(found, axis=1)[better], flat[rows, index][better]
    return best[:, :4], best[:, 4]


def _two_heights(n: Array, m: Array, g: Array, u: Array, w: Array) -> tuple[Array, Array]:
    """Heights, not negative, of two blobs: squares n, m, product g of theirs, products u, w with the data."""
    det = np.maximum(n * m - g**2, 1e-3 * n * m)
    a, c = (m * u - g * w) / det, (n * w - g * u) / det
    first, second = np.where(a > 0, c <= 0, False), a <= 0
    a = np.where(first, np.maximum(u, 0) / n, np.maximum(a, 0))
    return a, np.where(second, np.maximum(w, 0) / m, np.maximum(c, 0))


def _search_pairs(values: Array, centre: Array, at: Array, sign: Array) -> tuple[Array, Array, Array]:
    """On the axis of `at`, the most likely truck near the box's centre, alone or beside one other thing.

    The other thing is a vehicle that goes as fast, in either direction, or rests (and may lie under the
    truck). Returns the truck, (N, 4) like `at`; (N,) by how much any other displacement is less likely, in
    units of log-likelihood; and the other thing, (N, 3) s, t, move, NaN where there is none.
    """
    count = len(values)
    rows = np.arange(count)
    frame = _Frame.of(at[:, 2])
    data = frame.without_background(values) * sign[:, None, None]
    box_s, _ = _turn(centre[:, 0], centre[:, 1], at[:, 2])
    s0, t0 = np.rint(box_s / _STEP) * _STEP, at[:, 1]

    own = frame.without_background(frame.blobs(s0[:, None] + _PLACES * _STEP, t0[:, None])).astype(np.float32)
    other = frame.blob_grid(s0[:, None] + _OTHER_PLACES * _STEP, t0[:, None] + _OTHER_ACROSS * _STEP)
    other = other.astype(np.float32)
    # axes from here on: trucks, bands, places of the truck, across and along for the other thing
    n, m = (
        (own**2).sum(axis=-1)[:, None, :, None, None],
        (other**2).sum(axis=-1)[:, None, None] + _OTHER_RIDGE,
    )
    g = (own[:, None] @ other.transpose(0, 1, 3, 2)).transpose(0, 2, 1, 3)[:, None]
    u = (data.astype(np.float32) @ own.transpose(0, 2, 1))[..., None, None]
    w = (data[:, None].astype(np.float32) @ other.transpose(0, 1, 3, 2)).transpose(0, 2, 1, 3)[:, :, None]
    a, c = _two_heights(n, m, g, u, w)
    total = np.maximum((data**2).sum(axis=-1), _TINY).astype(np.float32)[..., None, None, None]
    freedom = frame.freedom[:, None, None, None, None]
    pair = _cost(a * u + c * w, total, freedom).transpose(1, 2, 0, 3, 4)
    alone = _cost(np.maximum(u, 0) ** 2 / n, total, freedom)[..., 0, 0].transpose(1, 2, 0)

    best, by_move = np.full((count, 5), np.nan), np.full((len(_MOVES), count), np.inf)
    lowest = np.full(count, np.inf)
    for nth, (move, shifts) in enumerate(zip(_MOVES, _SHIFTS, strict=True)):
        for place in _CENTRES:
            s = s0 + place * _STEP
            prior = _move_cost(move) + (s - box_s) ** 2 / (2 * _CENTRE_SIGMA**2)
            own_place = place + shifts - _PLACES[0]
            nothing = np.full(count, np.nan)
            found = [(prior + sum(alone[b, i] for b, i in enumerate(own_place)), nothing, nothing, nothing)]
            distance = np.hypot(_OTHER_ALONG - place, _OTHER_ACROSS[:, None]) * _STEP
            for way in (1, -1, 0):
                first = way * shifts + _OTHER_ALONG[0] - _OTHER_PLACES[0]
                cost = sum(
                    pair[b, i, ..., f : f + len(_OTHER_ALONG)]
                    for b, (i, f) in enumerate(zip(own_place, first, strict=True))
                )
                cost = np.where(distance < _APART * abs(way), np.float32(np.inf), cost).reshape(count, -1)
                index = cost.argmin(axis=1)
                j, i = np.unravel_index(index, distance.shape)
                found.append(
                    (
                        prior + _OTHER_PENALTY + cost[rows, index],
                        s0 + _OTHER_ALONG[i] * _STEP,
                        t0 + _OTHER_ACROSS[j] * _STEP,
                        np.full(count, way * move * _STEP),
                    )
                )
            for cost, *thing in found:
                by_move[nth] = np.minimum(by_move[nth], cost)
                better = cost < lowest
                lowest[better] = cost[better]
                best[better] = np.stack([s, np.full(count, move * _STEP), *thing], axis=1)[better]
    elsewhere = np.abs(_MOVES[:, None] * _STEP - best[:, 1]) > _ANOTHER_MOVE
    clear = np.where(elsewhere, by_move, np.inf).min(axis=0) - lowest
    return np.stack([best[:, 0], t0, at[:, 2], best[:, 1]], axis=1), clear, best[:, 2:]


def _without_other(values: Array, at: Array, other: Array, sign: Array) -> Array:
    """`values` less the other thing's image, as high as it is beside the truck's own."""
    has = ~np.isnan(other[:, 0])
    values, frame, at, other = values.copy(), _Frame.of(at[has, 2]), at[has], other[has]
    images = [
        frame.blobs(s[:, None] + move[:, None] * _LAG, t[:, None])
        for s, t, move in (at[:, [0, 1, 3]].T, other.T)
    ]
    own, others = (frame.without_background(image) for image in images)
    data = frame.without_background(values[has]) * sign[has, None, None]
    _, height = _two_heights(
        (own**2).sum(axis=-1),
        (others**2).sum(axis=-1) + _OTHER_RIDGE,
        (own * others).sum(axis=-1),
        (own * data).sum(axis=-1),
        (others * data).sum(axis=-1),
    )
    values[has] -= (height * sign[has, None])[..., None] * images[1]
    return values


def _residual(frame: _Frame, data: Array, at: Array, sign: Array) -> Array:
    """What a truck at `at` leaves of `data`, (N, 4, P), weighted and without background as that is."""
    s, t, _, move = at.T
    blobs = frame.without_background(frame.blobs(s[:, None] + move[:, None] * _LAG, t[:, None]))
    height = (data * blobs).sum(axis=-1) / (blobs**2).sum(axis=-1)
    height = sign[:, None] * np.maximum(sign[:, None] * height, 0)
    return np.asarray(data - height[..., None] * blobs)


def _refine(values: Array, centre: Array, start: Array, sign: Array, iterations: int) -> tuple[Array, Array]:
    """Damped Gauss-Newton steps from `start`: (N, 4) of s, t, axis, move, and their (N, 4, 4) covariance."""
    count = len(start)

    def evaluate(at: Array) -> tuple[_Frame, Array, Array]:
        frame = _Frame.of(at[:, 2])
        data = frame.without_background(values)
        return frame, data, _residual(frame, data, at, sign)

    def misfit(residual: Array, noise: Array, at: Array) -> Array:
        s, t, axis, _ = at.T
        x, y = s * np.sin(axis) + t * np.cos(axis), t * np.sin(axis) - s * np.cos(axis)
        prior = (np.stack([x, y], axis=1) - centre) / _CENTRE_SIGMA
        return np.concatenate([(residual / noise).reshape(count, -1), prior], axis=1)

    at, damping = start.copy(), np.full(count, 1e-3)
    frame, data, residual = evaluate(at)
    for iteration in range(iterations + 1):
        noise = np.sqrt((residual**2).sum(axis=-1) / frame.freedom[:, None] + _TINY)[..., None]
        here = misfit(residual, noise, at)
        slopes = []
        for k, delta in enumerate(_DELTAS):
            moved = at + delta * np.eye(4)[k]
            there = evaluate(moved)[2] if k == _AXIS else _residual(frame, data, moved, sign)
            slopes.append((misfit(there, noise, moved) - here) / delta)
        jacobian = np.stack(slopes, axis=-1)
        curvature = jacobian.transpose(0, 2, 1) @ jacobian + 1e-9 * np.eye(4)
        if iteration == iterations:
            break
        damped = curvature * (1 + damping[:, None, None] * np.eye(4))
        step = -np.linalg.solve(damped, jacobian.transpose(0, 2, 1) @ here[..., None])[..., 0]
        tried = at + np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        new_frame, new_data, new_residual = evaluate(tried)
        better = (misfit(new_residual, noise, tried) ** 2).sum(axis=1) < (here**2).sum(axis=1)
        at = np.where(better[:, None], tried, at)
        data[better], residual[better] = new_data[better], new_residual[better]
        frame = frame.replaced(better, new_frame)
        damping = np.where(better, damping / 5, damping * 8)
    return at, np.linalg.inv(curvature)
