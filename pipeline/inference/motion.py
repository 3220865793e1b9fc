"""Displacement of a truck between the bands: a joint fit of its images in B02, B08, B03 and B04.

The model of the pixels around a truck, band by band, is a background plus a blob. The background changes
across the direction of travel but hardly along it (the road, its verges and lanes). The blob is blurred and
elongated; its centre moves along that direction in proportion to the band's delay. Four parameters are
nonlinear: centre along and across, axis, signed displacement. The others are linear and are eliminated
(variable projection: Golub and Pereyra, 1973).

A table of coarse candidates gives the axis. On this axis a second search adds the one other object that
disturbs most, a vehicle on the same road or something at rest, and decides the sign of the motion. This
object is then subtracted. Damped Gauss-Newton steps give the result, and the curvature there its uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.predictions import MOTION_BANDS
from pipeline.scenes.msi import BAND_DELAYS_S

MOTION_MARGIN_PX = 8
"""Pixels further than this from a box have no influence on its measurement."""

Array = NDArray[np.floating]

_HALF = 7
_LAG = np.array([BAND_DELAYS_S[band] for band in MOTION_BANDS]) / BAND_DELAYS_S["B04"] - 0.5
"""Position of each band along the displacement, as a share, from the middle between B02 and B04."""

_FROM_BAND = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [lag, 0, 0]] for lag in _LAG])
"""(bands, 4, 3): derivatives of s, t and axis in each band by s, t, axis and move."""

_BLUR2 = 0.55**2 + 1 / 12
_SIGMA_ALONG = np.sqrt(_BLUR2 + 1.3**2 / 12)
_SIGMA_ACROSS = np.sqrt(_BLUR2 + 0.26**2 / 12)
"""Of a truck's image, in pixels: 13 m x 2.6 m, blurred by the optics and the pixel's own area."""

_REACH_ALONG, _REACH_ACROSS, _SOFT = 6.0, 2.8, 0.2
"""Half sides of the window, which rotates with the axis, and the softness of its edge, in pixels."""
_SPLINES = np.arange(-4.0, 5.0)
"""Centres of the background's splines across the axis, in pixels."""
_WINDOW_STEP = np.deg2rad(0.25)
"""Step of the axes for which window and background are computed; others are interpolated."""

_STEP = 1 / 3
"""Grid step of both searches, in pixels."""
_AXES = np.deg2rad(np.arange(0.0, 180.0, 5.0))
_CENTRES = np.arange(-3, 4)
_MOVES = np.arange(-12, 13)
_SHIFTS, _SHIFTS_OF = np.unique(np.rint(_MOVES[:, None] * _LAG).astype(np.intp), axis=0, return_inverse=True)
"""(shifts, bands) positions of a moving truck in each band, and (moves,) the row of each move."""
_REACHES = np.abs(_SHIFTS).max(axis=0)
_REACH = int(_REACHES.max())
_PLACES = np.arange(_CENTRES[0] - _REACH, _CENTRES[-1] + _REACH + 1)
_OTHER_ALONG, _OTHER_ACROSS = np.arange(-16, 17), np.arange(-6, 7, 2)
_OTHER_PLACES = np.arange(_OTHER_ALONG[0] - _REACH, _OTHER_ALONG[-1] + _REACH + 1)

_CENTRE_SIGMA = 0.6
"""Prior standard deviation of a box's centre, in pixels."""
_USUAL_MOVE, _USUAL_MOVE_SIGMA = 2.2, 0.6
"""Prior displacement of a truck on a motorway; used in the searches, not in the result."""
_MOVE_COST = (np.abs(_MOVES) * _STEP - _USUAL_MOVE) ** 2 / (2 * _USUAL_MOVE_SIGMA**2)
_DARK_PENALTY, _OTHER_PENALTY = 8.0, 15.0
"""Penalties, in units of log-likelihood, for a truck darker than its road, and for another object."""
_WAYS = (1, -1, 0)
"""Motion of the other object relative to the truck: the same, the opposite, none."""
_APART = 2.0
"""Minimum distance of two vehicles' centres, in pixels."""

_ANOTHER_MOVE, _CLEAR = 1.2, 3.0
"""A displacement is clear if all that differ by the first, in pixels, are less likely by the second."""
_DRIFT = 0.8
"""Largest distance of a fit from the start of the search, in pixels."""
_SLOWEST = 0.5
"""Lowest displacement in pixels (18 km/h). Below it the object is at rest near the truck: parked cars, a
bridge, the edge of a field. A truck at rest shows no row of colours, and isn't detected."""
_VAGUE = 0.6
"""Largest useful standard deviation of a displacement, in pixels."""
_REGISTRATION = 0.1
"""Uncertainty outside of the fit, in pixels.

Two bands of Sentinel-2 are within 0.3 px of each other in 99.7 % of cases (ESA's requirement). So each is off
by 0.062 px (one sigma) in either direction, and a line through the positions in four bands, at `_LAG`, by
1.35 times that: 0.084. The rest is for cabs, loads and shadows of another colour, which move a truck's centre
from band to band.
"""

AMPLE_EVIDENCE = 8.0
"""Upper limit of the evidence, in standard deviations: more has no effect."""
_UNMEASURED = 2.0
"""Evidence where it could not be measured: neutral."""

_OTHER_RIDGE, _TINY = 0.02, 1e-12
"""Limit a blob at the window's border, and avoid a division by zero in a flat image."""
_MODEL_ERROR = 0.01
"""Share of the image that the model can't explain even without noise: trucks are not Gaussians."""
_CHUNK = 64
_LARGEST_STEP = np.array([0.3, 0.3, 0.15, 0.4])

_ROWS, _COLS = (np.argwhere(np.hypot(*np.mgrid[-_HALF : _HALF + 1, -_HALF : _HALF + 1]) <= _HALF) - _HALF).T
"""The P pixels around a truck, relative to its box's centre: a disc, the same for every axis."""

# All matrix products are stacks of small ones, one a truck: a truck's numbers are the same in
# any batch, to the bit, and BLAS starts no threads.


def measure_displacement(
    reflectance: NDArray[np.floating], valid: NDArray[np.bool_], boxes: Array
) -> tuple[Array, Array]:
    """Measure the displacement of each truck from B02 to B04, and its standard deviation.

    `reflectance` is (4, H, W) in the order of `MOTION_BANDS`, `valid` (H, W), `boxes` (N, 4) x_min, y_min,
    x_max, y_max in pixels of that array, from the upper left corner of its upper left pixel. Returns (N, 2)
    dx, dy and (N,) the standard deviation along the motion (across it is less), in pixels. If no displacement
    is clearly more likely than all others, or the likeliest is too small, the displacement is NaN and its
    deviation infinite; if pixels are missing, both are NaN. The deviation includes the fit, whose noise is
    the residual of each band, and the bands' registration, but not their delays. Nothing beyond
    `MOTION_MARGIN_PX` from a box matters, and no box affects another: every tile that contains the box with
    that margin gives the same result.

    Takes about 1 ms of one core a truck in batches of 32 or more, 2 ms in fives, 7 ms alone, 0.1 s once at
    the beginning, and less than 60 MB; starts no threads.
    """
    height, width = valid.shape
    displacement, sigma = np.full((len(boxes), 2), np.nan), np.full(len(boxes), np.nan)
    # rounded, so that rounding errors of coordinates from another corner don't matter
    middle = np.round((boxes[:, :2] + boxes[:, 2:]) * 32) / 64
    pixel = np.floor(middle).astype(np.intp)
    rows, cols = pixel[:, 1:] + _ROWS, pixel[:, :1] + _COLS
    inside = (cols >= 0) & (cols < width) & (rows >= 0) & (rows < height)
    rows, cols = np.where(inside, rows, 0), np.where(inside, cols, 0)
    complete = np.flatnonzero((inside & valid[rows, cols]).all(axis=1))
    for part in np.split(complete, range(_CHUNK, len(complete), _CHUNK)) if len(complete) else []:
        values = reflectance[:, rows[part], cols[part]].transpose(1, 0, 2).astype(np.float32)
        move, axis, along = _fit(values, middle[part] - pixel[part] - 0.5)
        displacement[part] = np.stack([move * np.sin(axis), -move * np.cos(axis)], axis=1)
        sigma[part] = along
    return displacement, sigma


def evidence(displacement: Array, sigma: Array) -> Array:
    """Return the evidence of motion of N trucks in standard deviations: 0 (unclear) to AMPLE_EVIDENCE.

    Takes the results of `measure_displacement`; `_UNMEASURED` where pixels were missing, as at the border.
    """
    length = np.hypot(*displacement.T)
    seen = np.divide(length, sigma, out=np.zeros(len(sigma)), where=np.isfinite(length))
    return np.where(np.isnan(sigma), _UNMEASURED, np.minimum(seen, AMPLE_EVIDENCE))


def _fit(values: NDArray[np.float32], centre: Array) -> tuple[Array, Array, Array]:
    """Return signed displacement, axis (radians clockwise from up) and the former's deviation, each (N,).

    `values` is (N, 4, P), `centre` (N, 2) the boxes' centres relative to the disc's centre.
    """
    move, axis, deviation = np.full(len(values), np.nan), np.zeros(len(values)), np.full(len(values), np.inf)
    values = values - np.median(values, axis=-1, keepdims=True)
    at, sign = _search_axes(values, centre)
    at, _ = _refine(values, centre, at, sign, iterations=3)
    start, clear, values = _search_pairs(values, centre, at, sign)
    believed = np.flatnonzero(clear >= _CLEAR)
    start = start[believed]
    at, covariance = _refine(values[believed], centre[believed], start, sign[believed], iterations=6)
    sigma = np.hypot(np.sqrt(covariance[:, 3, 3]), _REGISTRATION)
    good = (np.abs(at[:, 3] - start[:, 3]) <= _DRIFT) & (np.abs(at[:, 3]) >= _SLOWEST) & (sigma <= _VAGUE)
    believed = believed[good]
    move[believed], axis[believed], deviation[believed] = at[good, 3], at[good, 2], sigma[good]
    return move, axis, deviation


@dataclass(frozen=True)
class _Frame:
    """The disc along one axis for each of N trucks: coordinates, weights and background, in float32."""

    along: Array
    across: Array
    """(N, P) coordinates, in pixels."""
    root: Array
    background: Array
    """(N, P) roots of the weights, and (N, K, P) orthonormal images that span any weighted background."""
    root_slope: Array
    background_slope: Array
    """Their derivatives with respect to the axis, in 1/radian."""

    @classmethod
    def of(cls, axis: Array) -> _Frame:
        """Build frames for `axis` (N,), radians clockwise from up. Interpolates weights and background in
        `_windows`."""
        along, across = _turn(_COLS, _ROWS, axis[:, None])
        position = axis % np.pi / _WINDOW_STEP
        low = np.minimum(position.astype(np.intp), round(np.pi / _WINDOW_STEP) - 1)
        windows = _windows()
        here = windows[low]
        slope = windows[low + 1] - here
        here += slope * (position - low).astype(np.float32)[:, None, None]
        slope *= np.float32(1 / _WINDOW_STEP)
        return cls(
            along.astype(np.float32),
            across.astype(np.float32),
            *(here[:, 0], here[:, 1:]),
            *(slope[:, 0], slope[:, 1:]),
        )

    @property
    def freedom(self) -> Array:
        """Degrees of freedom (N,) of one band's residual."""
        return np.asarray((self.root**2).sum(axis=-1) - self.background.shape[1] - 1)

    def without_background(self, images: Array) -> Array:
        """Return weighted images (N, B, P) minus their projection on the background."""
        return np.asarray(images - (images @ self.background.swapaxes(1, 2)) @ self.background)

    def profiles(self, s: Array, t: Array) -> tuple[Array, Array]:
        """Return the factors of images of vehicles of unit height.

        An image is a product of (N, S, P) for centres s along, (N, S), and (N, T, P) for centres t across,
        (N, T).
        """
        along = (self.along[:, None] - s[..., None].astype(np.float32)) / np.float32(_SIGMA_ALONG)
        across = (self.across[:, None] - t[..., None].astype(np.float32)) / np.float32(_SIGMA_ACROSS)
        return np.exp(along**2 / -2), np.exp(across**2 / -2)

    def blobs(self, s: Array, t: Array, move: Array) -> Array:
        """Return images (N, 4, P) in all bands, unweighted, of moving vehicles, (N,) each."""
        along, across = self.profiles(_positions(s, move), t[:, None])
        return along * across


def _positions(s: Array, move: Array) -> Array:
    """Return (N, 4): position of a moving object along the axis in each band."""
    return s[:, None] + move[:, None] * _LAG


def _turn(x: NDArray[Any], y: NDArray[Any], axis: Array) -> tuple[Array, Array]:
    """Return coordinates along and across an axis."""
    return x * np.sin(axis) - y * np.cos(axis), x * np.cos(axis) + y * np.sin(axis)


@lru_cache(maxsize=1)
def _windows() -> NDArray[np.float32]:
    """Return (A + 1, 1 + K, P): for every axis of a fine grid, roots of the weights, and the background's
    images."""
    axes = np.arange(round(np.pi / _WINDOW_STEP) + 1)[:, None] * _WINDOW_STEP
    along, across = _turn(_COLS, _ROWS, axes)
    inside = np.minimum(_REACH_ALONG - np.abs(along), _REACH_ACROSS - np.abs(across))
    root = np.sqrt(1 / (1 + np.exp(-inside / _SOFT)))[..., None]
    u = np.abs(across[..., None] - _SPLINES)
    cubic = np.where(u < 1, 2 / 3 - u**2 + u**3 / 2, np.clip(2 - u, 0, None) ** 3 / 6)
    trends = np.stack([along, along * across / 2], axis=-1) / _REACH_ALONG
    images = np.concatenate([cubic, trends], axis=-1) * root
    factor = np.linalg.cholesky(images.swapaxes(1, 2) @ images + 1e-9 * np.eye(images.shape[-1]))
    orthonormal = images @ np.linalg.inv(factor).swapaxes(1, 2)
    return np.concatenate([root, orthonormal], axis=-1).swapaxes(1, 2).astype(np.float32, order="C")


def _cost(explained: Array, total: Array, freedom: Array) -> NDArray[np.float32]:
    """Return minus the log-likelihood, up to a constant, if the residual of each band is its noise."""
    least = np.float32(_MODEL_ERROR) * total
    left = total + least - explained
    np.maximum(left, least, out=left)
    np.log(left, out=left)
    left *= freedom / 2
    return left


@lru_cache(maxsize=1)
def _table() -> tuple[_Frame, NDArray[np.float32]]:
    """Return the frames of all axes, and (S, P, A * T) blobs of the coarse grid, scaled to unit length."""
    frame = _Frame.of(_AXES)
    along, across = frame.profiles(_PLACES[None] * _STEP, _CENTRES[None] * _STEP)
    across *= frame.root[:, None]
    blobs = [frame.without_background(along[:, [nth]] * across) for nth in range(len(_PLACES))]
    weighted = [blob / np.linalg.norm(blob, axis=-1, keepdims=True) * frame.root[:, None] for blob in blobs]
    return frame, np.ascontiguousarray(
        np.stack(weighted).reshape(len(_PLACES), -1, len(_COLS)).swapaxes(1, 2)
    )


def _search_axes(values: Array, centre: Array) -> tuple[Array, Array]:
    """Return the likeliest candidate of the table, (N, 4) s, t, axis, move, and its sign (N,), -1 if dark."""
    frame, blobs = _table()
    count = len(values)
    shape = (len(_CENTRES), len(_AXES), len(_CENTRES))
    in_background = values[:, None] @ (frame.root[:, None] * frame.background).swapaxes(1, 2)
    total = values**2 @ (frame.root**2).T - (in_background**2).sum(axis=-1).swapaxes(1, 2)
    total = np.maximum(total, _TINY)
    # axes from here on: trucks, places along, bands, axes and places across
    match = values[:, None] @ blobs
    total, freedom = (np.repeat(each, len(_CENTRES), axis=-1) for each in (total[:, None], frame.freedom))
    box_s, box_t = _turn(centre[:, :1], centre[:, 1:], _AXES)
    s, t = _CENTRES[:, None, None] * _STEP, _CENTRES * _STEP
    off2 = (s - box_s[:, None, :, None]) ** 2 + (t - box_t[:, None, :, None]) ** 2
    prior = (off2 / (2 * _CENTRE_SIGMA**2)).astype(np.float32).reshape(count, len(_CENTRES), -1)
    lowest = np.empty((2, len(_SHIFTS), count))
    index = np.empty(lowest.shape, np.intp)
    for nth, bound in enumerate((np.maximum, np.minimum)):
        costs = _cost(bound(match, 0) ** 2, total, freedom)
        lowest[nth], index[nth] = _best_places(costs, prior)
    lowest[1] += _DARK_PENALTY
    by_move = lowest[:, _SHIFTS_OF] + _MOVE_COST[:, None]
    dark, move = np.unravel_index(by_move.reshape(-1, count).argmin(axis=0), by_move.shape[:2])
    place, axis, row = np.unravel_index(index[dark, _SHIFTS_OF[move], np.arange(count)], shape)
    at = [_CENTRES[place] * _STEP, _CENTRES[row] * _STEP, _AXES[axis], _MOVES[move] * _STEP]
    return np.stack(at, axis=1), np.where(dark, -1, 1).astype(np.float32)


def _best_places(costs: Array, prior: Array) -> tuple[Array, Array]:
    """Return for each row of `_SHIFTS` the lowest sum over bands, and its index, (shifts, N)."""
    found = []
    for shifts in _SHIFTS:
        cost = prior.copy()
        for band, first in enumerate(shifts + _REACH):
            cost += costs[:, first : first + len(_CENTRES), band]
        found.append(_lowest(cost))
    lowest, index = zip(*found, strict=True)
    return np.stack(lowest), np.stack(index)


def _lowest(cost: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return (N,) the lowest of each truck's costs, and its index."""
    flat = cost.reshape(len(cost), -1)
    index = flat.argmin(axis=1)
    return flat[np.arange(len(flat)), index], index


def _two_heights(n: Array, m: Array, g: Array, u: Array, w: Array) -> tuple[Array, Array]:
    """Return non-negative heights of two blobs: squares n, m, product g of theirs, products u, w with the
    data."""
    det = np.maximum(n * m - g**2, 1e-3 * n * m)
    a, c = (m * u - g * w) / det, (n * w - g * u) / det
    first, second = np.where(a > 0, c <= 0, False), a <= 0
    a = np.where(first, np.maximum(u, 0) / n, np.maximum(a, 0))
    return a, np.where(second, np.maximum(w, 0) / m, np.maximum(c, 0))


def _explained_by_two(u: Array, w: Array, cosine: Array, scale: Array) -> Array:
    """Return how much of the data two blobs of unit length with non-negative heights explain.

    `u` and `w` are their products with the data, `cosine` that with each other, `scale` 1 / (1 - cosine^2);
    all are broadcast. One blob explains the data alone, and the other the rest. The lesser of both orders is
    the one without a negative height (`np.where` would select it, but takes longer).
    """
    rest_w, rest_u = w - cosine * u, u - cosine * w
    first = np.maximum(rest_w, 0) ** 2 * scale + np.maximum(u, 0) ** 2 + (rest_w > 0) * np.minimum(u, 0) ** 2
    second = np.maximum(rest_u, 0) ** 2 * scale + np.maximum(w, 0) ** 2 + (rest_u > 0) * np.minimum(w, 0) ** 2
    return np.asarray(np.minimum(first, second))


def _pair_costs(frame: _Frame, data: Array, s0: Array, t0: Array) -> tuple[Array, list[Array]]:
    """Return costs of a truck alone, (N, 4, places), and for each band with another object, (N, places, along
    * across).

    Places are counted from s0 and t0, (N, 1); in a band they are as many as its `_REACHES` needs.
    """
    along, across = frame.profiles(s0 + _PLACES * _STEP, t0)
    own = frame.without_background(along * across * frame.root[:, None])
    own /= np.linalg.norm(own, axis=-1, keepdims=True)
    total = np.maximum((data**2).sum(axis=-1), _TINY)[..., None]
    u = data @ own.swapaxes(1, 2)
    alone = _cost(np.maximum(u, 0) ** 2, total, frame.freedom[:, None, None])

    # axes from here on: trucks, places of the other object across, images or truck's places, places along
    along, across = frame.profiles(s0 + _OTHER_PLACES * _STEP, t0 + _OTHER_ACROSS * _STEP)
    across *= frame.root[:, None]
    images = np.concatenate([frame.background, data, own], axis=1)[:, None]
    products = (images * across[:, :, None]) @ np.ascontiguousarray(along.swapaxes(1, 2))[:, None]
    split = np.cumsum([frame.background.shape[1], len(MOTION_BANDS)])
    in_background, w, cosine = np.split(products, split, axis=2)
    squares = across**2 @ (along**2).swapaxes(1, 2) - (in_background**2).sum(axis=2)
    length = np.sqrt(squares + _OTHER_RIDGE)[:, :, None]
    w, cosine = w / length, cosine / length
    scale = 1 / np.maximum(1 - cosine**2, np.float32(1e-3))
    pairs = []
    for band, reach in enumerate(_REACHES):
        mine, along_ = (slice(_REACH - reach, size - _REACH + reach) for size in cosine.shape[2:])
        args = w[:, :, [band], along_], cosine[:, :, mine, along_], scale[:, :, mine, along_]
        explained = _explained_by_two(u[:, None, band, mine, None], *args)
        costs = _cost(explained, total[:, band, None, None], frame.freedom[:, None, None, None])
        pairs.append(costs.transpose(0, 2, 3, 1).reshape(*costs.shape[::2], -1))
    return alone, pairs


def _search_pairs(values: Array, centre: Array, at: Array, sign: Array) -> tuple[Array, Array, Array]:
    """Find on the axis of `at` the most likely truck near the box's centre, alone or beside another object.

    The other object is a vehicle of the same speed, in either direction, or rests (and may be under the
    truck). Returns the truck, (N, 4) like `at`; (N,) by how much any other displacement is less likely, in
    units of log-likelihood; and `values` minus the other object, with its height beside the truck.
    """
    count = len(values)
    frame = _Frame.of(at[:, 2])
    data = frame.without_background(values * frame.root[:, None]) * sign[:, None, None]
    box_s, _ = _turn(centre[:, 0], centre[:, 1], at[:, 2])
    s0, t0 = np.rint(box_s / _STEP) * _STEP, at[:, 1]
    alone, pairs = _pair_costs(frame, data, s0[:, None], t0[:, None])

    # the other object: none, the same motion, the opposite motion, or at rest
    prior = ((s0 - box_s)[:, None] + _CENTRES * _STEP) ** 2 / (2 * _CENTRE_SIGMA**2)
    shape = (len(_CENTRES), len(_OTHER_ALONG), len(_OTHER_ACROSS))
    distance = np.hypot(_OTHER_ALONG[:, None] - _CENTRES[:, None, None], _OTHER_ACROSS) * _STEP
    beside = prior[..., None] + _OTHER_PENALTY + np.where(distance < _APART, np.inf, 0).reshape(shape[0], -1)
    under = np.broadcast_to(prior[..., None] + _OTHER_PENALTY, beside.shape)
    prior, beside, under = (array.astype(np.float32) for array in (prior, beside, under))
    lowest = np.empty((1 + len(_WAYS), len(_SHIFTS), count))
    index = np.empty(lowest.shape, np.intp)
    for nth, shifts in enumerate(_SHIFTS):
        cost = prior + sum(
            alone[:, b, first : first + len(_CENTRES)] for b, first in enumerate(shifts + _REACH)
        )
        lowest[0, nth], index[0, nth] = _lowest(cost)
        for kind, way in enumerate(_WAYS, 1):
            cost = (beside if way else under).copy()
            for pair, mine, theirs in zip(pairs, shifts + _REACHES, way * shifts + _REACHES, strict=True):
                part = slice(theirs * shape[2], (theirs + shape[1]) * shape[2])
                cost += pair[:, mine : mine + len(_CENTRES), part]
            lowest[kind, nth], index[kind, nth] = _lowest(cost)

    by_move = lowest.min(axis=0)[_SHIFTS_OF] + _MOVE_COST[:, None]
    best = by_move.argmin(axis=0)
    elsewhere = np.abs(_MOVES[:, None] - _MOVES[best]) * _STEP > _ANOTHER_MOVE
    clear = np.where(elsewhere, by_move, np.inf).min(axis=0) - by_move.min(axis=0)
    rows, shift = np.arange(count), _SHIFTS_OF[best]
    kind = lowest[:, shift, rows].argmin(axis=0)
    place, i, j = np.unravel_index(index[kind, shift, rows], shape)
    place = np.where(kind == 0, index[0, shift, rows], place)
    move = _MOVES[best] * _STEP
    start = np.stack([s0 + _CENTRES[place] * _STEP, t0, at[:, 2], move], axis=1)
    other = np.stack([s0 + _OTHER_ALONG[i] * _STEP, t0 + _OTHER_ACROSS[j] * _STEP], axis=1)
    other_move = np.array([0, *_WAYS])[kind] * move
    company = _beside(frame, data, start, other, other_move) * (sign * (kind > 0))[:, None, None]
    return start, clear, values - company


def _beside(frame: _Frame, data: Array, truck: Array, other: Array, move: Array) -> Array:
    """Return the image (N, 4, P) of an object with (N, 2) s, t, and (N,) move, with its height beside the
    truck."""
    own = frame.without_background(frame.blobs(truck[:, 0], truck[:, 1], truck[:, 3]) * frame.root[:, None])
    image = frame.blobs(other[:, 0], other[:, 1], move)
    others = frame.without_background(image * frame.root[:, None])
    _, height = _two_heights(
        (own**2).sum(axis=-1),
        (others**2).sum(axis=-1) + _OTHER_RIDGE,
        (own * others).sum(axis=-1),
        (own * data).sum(axis=-1),
        (others * data).sum(axis=-1),
    )
    return height[..., None] * image


@dataclass(frozen=True)
class _Expansion:
    """Second-order expansion of the misfit of each of N trucks around a place."""

    left: Array
    noise2: Array
    """(N, 4): sum of squares left in each band, and the variance that it implies."""
    prior: Array
    gradient: Array
    curvature: Array
    """(N,) misfit with the box's centre, and (N, 4), (N, 4, 4) of half of it, for the noise here."""

    @classmethod
    def of(cls, values: Array, centre: Array, at: Array, sign: Array) -> _Expansion:
        """Expand around `at`, (N, 4) s, t, axis, move, with the derivatives of Golub and Pereyra."""
        s, t, axis, move = at.T
        frame = _Frame.of(axis)
        root = frame.root[:, None]
        bare = frame.blobs(s, t, move)
        blob = bare * root
        along = (frame.along[:, None] - _positions(s, move)[..., None].astype(np.float32)) / np.float32(
            _SIGMA_ALONG**2
        )
        across = (frame.across - t[:, None].astype(np.float32))[:, None] / np.float32(_SIGMA_ACROSS**2)
        images = np.concatenate([values * root, blob, along * blob, across * blob], axis=1)
        inside = images @ frame.background.swapaxes(1, 2)
        images -= inside @ frame.background
        data, image, by_s, by_t = np.split(images, 4, axis=1)

        square = (image**2).sum(axis=-1)
        height = (data * image).sum(axis=-1) / square
        height = np.where(height * sign[:, None] > 0, height, 0).astype(np.float32)[..., None]
        residual = data - height * image
        left = (residual**2).sum(axis=-1)
        noise2 = left / frame.freedom[:, None] + _TINY

        # the axis rotates the window and the background, too
        turn = frame.root_slope[:, None] * np.concatenate([values, bare], axis=1)
        turn -= inside[:, : turn.shape[1]] @ frame.background_slope
        data_by_axis, image_by_axis = np.split(turn, 2, axis=1)
        image_by_axis += (across * frame.along[:, None] - along * frame.across[:, None]) * blob
        by_axis = frame.without_background(data_by_axis - height * image_by_axis)

        # of the residual in each band, by s, t and axis: with fixed height, then with the height adapted
        slopes = np.stack([-height * by_s, -height * by_t, by_axis], axis=2)
        slopes_of_image = np.stack([by_s, by_t, image_by_axis], axis=2)
        gives_way = slopes @ image[..., None] + slopes_of_image @ residual[..., None]
        gives_way *= (height != 0)[..., None] / square[..., None, None]
        slopes -= gives_way * image[:, :, None]
        products = slopes @ slopes.swapaxes(2, 3)
        products[..., 2, 2] += ((residual @ frame.background_slope.swapaxes(1, 2)) ** 2).sum(axis=-1)
        gradient = (_FROM_BAND @ (slopes @ residual[..., None] / noise2[..., None, None])).sum(axis=1)[..., 0]
        curvature = (_FROM_BAND @ (products / noise2[..., None, None]) @ _FROM_BAND.swapaxes(1, 2)).sum(
            axis=1
        )

        sine, cosine, zero = np.sin(axis), np.cos(axis), np.zeros_like(axis)
        x, y = s * sine + t * cosine, t * sine - s * cosine
        off = (np.stack([x, y], axis=-1) - centre) / _CENTRE_SIGMA
        off_slopes = (
            np.array([[sine, -cosine], [cosine, sine], [-y, x], [zero, zero]]).transpose(2, 0, 1)
            / _CENTRE_SIGMA
        )
        return cls(
            left,
            noise2,
            (off**2).sum(axis=-1),
            gradient + (off_slopes @ off[..., None])[..., 0],
            curvature + off_slopes @ off_slopes.swapaxes(1, 2) + 1e-9 * np.eye(4),
        )

    def misfit(self, noise2: Array) -> Array:
        """Return the total misfit (N,) for that noise."""
        return np.asarray((self.left / noise2).sum(axis=-1) + self.prior)

    def replaced(self, where: NDArray[np.bool_], by: _Expansion) -> _Expansion:
        """Return the same, with the entries of `by` where `where` is true."""
        pairs = ((getattr(self, field.name), getattr(by, field.name)) for field in fields(self))
        return _Expansion(*(np.where(where.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in pairs))


def _refine(values: Array, centre: Array, start: Array, sign: Array, iterations: int) -> tuple[Array, Array]:
    """Take damped Gauss-Newton steps from `start`: (N, 4) of s, t, axis, move, and their (N, 4, 4)
    covariance."""
    at, damping = start, np.full(len(start), 1e-3)
    here = _Expansion.of(values, centre, at, sign)
    for _ in range(iterations):
        damped = here.curvature * (1 + damping[:, None, None] * np.eye(4))
        step = -np.linalg.solve(damped, here.gradient[..., None])[..., 0]
        tried = at + np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        there = _Expansion.of(values, centre, tried, sign)
        better = there.misfit(here.noise2) < here.misfit(here.noise2)
        at, here = np.where(better[:, None], tried, at), here.replaced(better, there)
        damping = np.where(better, damping / 5, damping * 8)
    return at, np.linalg.inv(here.curvature)
