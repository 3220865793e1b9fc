"""Reflectances of chips, and properties common to all of one chip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CHIP_BANDS = ("B02", "B03", "B04", "B08")
Image = NDArray[np.float32]

ROOFS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    # lowest and highest reflectance in B02, B03, B04, B08
    "white": ((0.30, 0.30, 0.30, 0.30), (0.75, 0.75, 0.75, 0.75)),
    "grey": ((0.16, 0.16, 0.16, 0.16), (0.36, 0.36, 0.36, 0.40)),
    "red": ((0.03, 0.03, 0.22, 0.26), (0.08, 0.08, 0.48, 0.55)),
    "blue": ((0.18, 0.10, 0.04, 0.10), (0.36, 0.24, 0.10, 0.40)),
    "yellow": ((0.05, 0.24, 0.34, 0.38), (0.10, 0.42, 0.58, 0.62)),
    "green": ((0.04, 0.14, 0.05, 0.16), (0.10, 0.28, 0.12, 0.45)),
    "dark": ((0.02, 0.02, 0.02, 0.02), (0.06, 0.06, 0.06, 0.10)),
    "greenhouse": ((0.14, 0.16, 0.15, 0.22), (0.34, 0.38, 0.38, 0.55)),
    "solar": ((0.05, 0.04, 0.035, 0.05), (0.10, 0.09, 0.08, 0.16)),
}
TRUCK_COLOURS = {"white": 0.50, "grey": 0.22, "blue": 0.08, "red": 0.07, "yellow": 0.07, "green": 0.06}


@dataclass(frozen=True)
class ChipWorld:
    """Properties common to all of a chip."""

    order: int
    """+1 if B02 is first, -1 if B04 is."""
    noise: float
    sigma: dict[str, float]
    """Blur of each band, in pixels."""
    shadow_heading: float
    shadow_length_m: float
    driving_side: int
    """+1 if traffic keeps right, -1 if it keeps left."""

    @property
    def blur(self) -> float:
        """Return the mean blur of the bands, in pixels."""
        return float(np.mean(list(self.sigma.values())))


def any_world(rng: np.random.Generator) -> ChipWorld:
    """Draw a random world with the variation of scenes."""
    common = rng.uniform(0.38, 0.62)
    return ChipWorld(
        order=int(rng.choice([-1, 1])),
        noise=float(np.exp(rng.uniform(np.log(0.0008), np.log(0.006)))),
        sigma={band: float(common + rng.normal(0, 0.03)) for band in CHIP_BANDS},
        shadow_heading=float(rng.uniform(0, 360)),
        shadow_length_m=float(rng.uniform(1.5, 9.0)),
        driving_side=1 if rng.uniform() < 0.8 else -1,
    )


def colour(rng: np.random.Generator, name: str) -> Image:
    """Return (4,) reflectance of a roof of that colour."""
    low, high = (np.array(ends, dtype=np.float32) for ends in ROOFS[name])
    level = rng.uniform()
    return np.clip(low + (high - low) * (level + rng.normal(0, 0.06, 4)), 0.01, 0.9).astype(np.float32)


def truck_colour(rng: np.random.Generator) -> str:
    """Draw the name of a colour, with the frequencies of lorries."""
    return str(rng.choice(list(TRUCK_COLOURS), p=list(TRUCK_COLOURS.values())))


def paint(rng: np.random.Generator, name: str) -> dict[str, float]:
    """Draw the reflectance by band of a roof of that colour."""
    return dict(zip(CHIP_BANDS, colour(rng, name).tolist(), strict=True))


def asphalt(rng: np.random.Generator) -> Image:
    """Return (4,) reflectance of asphalt, concrete or gravel."""
    level = rng.uniform(0.035, 0.20) if rng.uniform() < 0.85 else rng.uniform(0.2, 0.32)
    tint = np.array(
        [rng.uniform(0.75, 1.0), rng.uniform(0.9, 1.02), rng.uniform(0.98, 1.15), rng.uniform(1.05, 1.5)]
    )
    return (level * tint).astype(np.float32)


def blend(image: Image, share: Image, what: Image) -> None:
    """Cover a share (H, W) of each pixel of an image (4, H, W) with a colour (4,), in place."""
    image += share[None] * (what[:, None, None] - image)


def fractal(rng: np.random.Generator, size: int, smoothest: float) -> Image:
    """Draw noise (size, size) of four octaves, unit deviation; the coarsest has a sigma of `smoothest` px."""
    field = np.zeros((size, size))
    for octave in range(4):
        layer = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), smoothest / 2**octave, mode="wrap")
        field += layer / max(float(layer.std()), 1e-9) / 1.8**octave
    return (field / field.std()).astype(np.float32)
