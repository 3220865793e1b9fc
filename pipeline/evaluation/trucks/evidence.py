"""Measurements of the pixels around places, from which causes of mistakes are inferred."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, maximum_filter, median_filter

from pipeline.inference.motion import measure_displacement
from pipeline.inference.predictions import MOTION_BANDS
from pipeline.scenes.detectors import detectors_at
from pipeline.scenes.msi import BAND_DELAYS_S
from pipeline.scenes.raster.patches import Patch, patches
from pipeline.scenes.scene import Scene

EVIDENCE_COLUMNS = (
    "brightness",
    "contrast",
    "bright_px",
    "ndwi",
    "displacement_px",
    "displacement_sigma_px",
    "far_displacement_px",
    "surroundings_shift_px",
    "cloud_m",
    "shadow_m",
    "no_data_m",
    "seam_m",
)
"""See `measure_evidence`."""

PATCH_PX = 81
SEAM_REACH_M = 200.0
_HALF = PATCH_PX // 2
_LOCAL_PX, _NEAR_PX, _WIDE_PX = 5, 10, 20
"""Half sides of surroundings. Brightness is compared with the first two: large roofs fill the smaller. Bright
pixels are counted in the second. The shift is measured in the third."""
_DISPLACED_HALF = 15
_VISIBLE = tuple(MOTION_BANDS.index(band) for band in ("B02", "B03", "B04"))
_B02, _B03, _B04, _B08 = (MOTION_BANDS.index(band) for band in ("B02", "B03", "B04", "B08"))
_LAG = np.array([BAND_DELAYS_S[band] for band in MOTION_BANDS]) / BAND_DELAYS_S["B04"]
_AT_ONCE = 64
_CLOUD, _SHADOW = (8, 9, 10), (3,)
_LEAST_FAR_PX = 4.5
"""160 km/h: nothing on a road is so much faster than a truck."""
_FAR_SIGMAS = 5.0
_BACKGROUND_PX = 9
_WINDS = ((1, 0), (-1, 0), (0, 1), (0, -1))
_SEAM_STEPS_M = (25.0, 50.0, 100.0, SEAM_REACH_M)


def can_measure(scene: Scene | None) -> bool:
    """Return True if a scene has the bands that `measure_evidence` needs."""
    return scene is not None and all(band in scene.bands for band in MOTION_BANDS)


def measure_evidence(scene: Scene, xy: NDArray[np.float64], sizes_m: NDArray[np.float64]) -> pd.DataFrame:
    """Measure `EVIDENCE_COLUMNS` at N places: (N, 2) x and y in the scene's CRS, (N, 2) widths and heights.

    - `brightness`: mean reflectance of B02, B03 and B04 in the 3 x 3 pixels of the place; `contrast`: its
      excess over the median of 11 x 11 or 21 x 21 pixels, the darker; `bright_px`: number of connected pixels
      around the brightest one that are brighter than half of the contrast, at most 441.
    - `ndwi`: median of (B03 - B08) / (B03 + B08) in 5 x 5 pixels (McFeeters, 1996), above 0 over water.
    - `displacement_px`, `displacement_sigma_px`: displacement between B02 and B04 by
      `pipeline.inference.motion`: NaN and infinite if no motion is measured.
    - `far_displacement_px`: displacement of an object that each band sees alone, at places in a row and in
      proportion to the bands' delays, at least 4.5 px from B02 to B04: an aircraft. NaN without one.
    - `surroundings_shift_px`: shift of the 41 x 41 pixels around from B02 to B04: small for the ground,
      larger for a cloud because of its height (Lucas and Kanade, 1981, with a gain); NaN if they don't fit.
    - `cloud_m`, `shadow_m`, `no_data_m`: metres to the nearest pixel of cloud or cirrus, of cloud shadow
      (both by the scene classification), and without data or outside of the scene; NaN beyond 400 m.
    - `seam_m`: metres to ground that another MSI detector saw; NaN beyond `SEAM_REACH_M` or if detectors
      are unknown.

    Takes some 3 ms a place, without decoding: each block is decoded once.

    Raises
    ------
    MissingBandError
        If a band of `MOTION_BANDS` is not in the scene; see `can_measure`.
    CorruptImageError
        If a block can't be decoded.
    """
    table = np.full((len(xy), len(EVIDENCE_COLUMNS)), np.nan)
    frame = pd.DataFrame(table, columns=list(EVIDENCE_COLUMNS))
    if not len(xy):
        return frame
    centres = np.stack(~scene.grid.affine * tuple(xy.T), axis=1)
    sides = sizes_m / abs(scene.grid.resolution.x)
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    values: dict[int, dict[str, float]] = {}
    found = patches(scene, centres, PATCH_PX, MOTION_BANDS, classes=True)
    while group := list(islice(found, _AT_ONCE)):
        moved, sigma = _displacements(group, boxes)
        for patch, (dx, dy), deviation in zip(group, moved, sigma, strict=True):
            values[patch.index] = {
                **_of_patch(patch, abs(scene.grid.resolution.x)),
                "displacement_px": float(np.hypot(dx, dy)),
                "displacement_sigma_px": float(deviation),
            }
    measured = pd.DataFrame.from_dict(values, orient="index").reindex(range(len(xy)))
    frame[list(measured.columns)] = measured.to_numpy()
    frame["seam_m"] = _seam_distance(scene, xy)
    return frame


def _displacements(
    group: Sequence[Patch], boxes: NDArray[np.float64]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Measure the boxes in the middle of patches at once, on a stack of the patches."""
    part = slice(_HALF - _DISPLACED_HALF, _HALF + _DISPLACED_HALF + 1)
    side = 2 * _DISPLACED_HALF + 1
    reflectance = np.concatenate([patch.reflectance[:, part, part] for patch in group], axis=1)
    valid = np.concatenate([patch.valid[part, part] for patch in group], axis=0)
    corners = np.array([(patch.col + part.start, patch.row + part.start) for patch in group], np.float64)
    corners[:, 1] -= side * np.arange(len(group))
    theirs = boxes[[patch.index for patch in group]] - np.tile(corners, 2)
    moved, sigma = measure_displacement(reflectance, valid, theirs)
    return np.asarray(moved), np.asarray(sigma)


def _of_patch(patch: Patch, pixel_m: float) -> dict[str, float]:
    distances = {
        "no_data_m": _nearest(~patch.valid, pixel_m),
        **(
            {}
            if patch.classes is None
            else {
                "cloud_m": _nearest(np.isin(patch.classes, _CLOUD), pixel_m),
                "shadow_m": _nearest(np.isin(patch.classes, _SHADOW), pixel_m),
            }
        ),
    }
    if not patch.valid[_HALF, _HALF]:
        return distances
    return {
        **distances,
        **_brightness(patch),
        "ndwi": _ndwi(patch),
        "far_displacement_px": far_displacement(patch.reflectance, patch.valid),
        "surroundings_shift_px": surroundings_shift(patch.reflectance, patch.valid),
    }


def _around(half: int) -> tuple[slice, slice]:
    return (slice(_HALF - half, _HALF + half + 1),) * 2


def _brightness(patch: Patch) -> dict[str, float]:
    visible = patch.reflectance[list(_VISIBLE)].mean(axis=0)
    near, valid = visible[_around(_NEAR_PX)], patch.valid[_around(_NEAR_PX)]
    background = min(
        float(np.median(visible[around][patch.valid[around]]))
        for around in (_around(_LOCAL_PX), _around(_NEAR_PX))
    )
    brightness = float(visible[_around(1)][patch.valid[_around(1)]].mean())
    middle = near[_NEAR_PX - 2 : _NEAR_PX + 3, _NEAR_PX - 2 : _NEAR_PX + 3]
    row, col = np.unravel_index(int(np.argmax(middle)), middle.shape)
    parts, _ = label(valid & (near > (middle[row, col] + background) / 2))
    own = parts[row + _NEAR_PX - 2, col + _NEAR_PX - 2]
    return {
        "brightness": brightness,
        "contrast": brightness - background,
        "bright_px": float(np.count_nonzero(parts == own)) if own else 0.0,
    }


def _ndwi(patch: Patch) -> float:
    green, infrared = (patch.reflectance[band][_around(2)] for band in (_B03, _B08))
    total = green + infrared
    return float(np.median(np.divide(green - infrared, total, out=np.zeros_like(total), where=total > 0)))


def far_displacement(reflectance: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    """Return the displacement from B02 to B04 of an object alone in its band; see `measure_evidence`.

    `reflectance` is (4, S, S) in the order of `MOTION_BANDS`, `valid` (S, S).
    """
    half = valid.shape[0] // 2
    middle = slice(half - _BACKGROUND_PX, half + _BACKGROUND_PX + 1)
    noise = _noise(reflectance)
    here = _alone(_above(reflectance[:, middle, middle]), noise)[:, _BACKGROUND_PX, _BACKGROUND_PX]
    if here.max() <= _FAR_SIGMAS:
        return float("nan")
    above = _above(reflectance)
    above[:, ~valid] = 0
    alone = _alone(above, noise)
    span = np.arange(-half, half + 1)
    dx, dy = (axis.ravel() for axis in np.meshgrid(span, span))
    length = np.hypot(dx, dy)
    far = (length >= _LEAST_FAR_PX) & (length <= half - 4)
    dx, dy, length = dx[far], dy[far], length[far]
    best, found = _FAR_SIGMAS, float("nan")
    for lag in _LAG:
        score = np.full(len(dx), np.inf)
        for band, other in enumerate(_LAG):
            col, row = (np.rint(half + (other - lag) * d).astype(np.intp) for d in (dx, dy))
            score = np.minimum(score, alone[band, row, col])
        at = int(np.argmax(score))
        if score[at] > best:
            best, found = float(score[at]), float(length[at])
    return found


def _noise(reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (4, 1, 1): standard deviation of a band from pixel to pixel."""
    steps = np.abs(np.diff(reflectance, axis=2)).reshape(len(reflectance), -1)
    return np.maximum(1.4826 / np.sqrt(2) * np.median(steps, axis=1), 1e-3)[:, None, None]


def _above(reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (4, S, S): excess over the median of the surroundings."""
    return np.stack([band - median_filter(band, _BACKGROUND_PX) for band in reflectance])


def _alone(above: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (4, S, S): excess of each band over the others' largest, in standard deviations.

    It is the maximum within a pixel, since places are rounded.
    """
    sigmas = above / noise
    others = [np.delete(sigmas, band, axis=0).max(axis=0) for band in range(len(sigmas))]
    beyond = sigmas - np.maximum(others, 0)
    return np.asarray(maximum_filter(beyond, (1, 3, 3)))


def surroundings_shift(reflectance: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    """Return the shift of the surroundings from B02 to B04 in pixels; see `measure_evidence`."""
    part = _around(_WIDE_PX)
    if not valid[part].all():
        return float("nan")
    first, second = (
        gaussian_filter(reflectance[band][part].astype(np.float64), 1.5) for band in (_B02, _B04)
    )
    down, right = np.gradient(first)
    columns = np.stack([first, np.ones_like(first), right, down], axis=-1).reshape(-1, 4)
    answer, *_ = np.linalg.lstsq(columns, second.ravel(), rcond=None)
    gain = answer[0]
    left = second.ravel() - columns @ answer
    explained = 1 - left.var() / max(float(second.var()), 1e-12)
    if gain < 0.3 or explained < 0.85:
        return float("nan")
    return float(np.hypot(answer[2], answer[3]) / gain)


def _nearest(mask: NDArray[np.bool_], pixel_m: float) -> float:
    row, col = np.nonzero(mask)
    if not len(row):
        return float("nan")
    return float(np.hypot(row - _HALF, col - _HALF).min() * pixel_m)


def _seam_distance(scene: Scene, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N,): the smallest of `_SEAM_STEPS_M` at which the detector differs, in any of 4 directions."""
    distance = np.full(len(xy), np.nan)
    if scene.msi is None:
        return distance
    steps = [(east * step, north * step) for step in _SEAM_STEPS_M for east, north in _WINDS]
    places = np.concatenate([xy, *(xy + step for step in steps)])
    own, *others = detectors_at(scene.msi, *places.T).reshape(-1, len(xy))
    for step, other in reversed(list(zip(steps, others, strict=True))):
        distance[(own > 0) & (other > 0) & (own != other)] = np.hypot(*step)
    return distance
