"""Vehicles of roads by kind: sizes, paints, loads.

Lengths and widths keep to Directive 96/53/EC, Annex I: lorries and buses of two axles up to 12 and 13.5 m,
articulated lorries up to 16.5 m, lorries with a trailer and articulated buses up to 18.75 m, widths up to
2.55 m (2.6 m for refrigerated bodies). Paints of cars are about those of the cars registered in Germany
(Kraftfahrt-Bundesamt, 2022: grey and silver 31 %, black 25 %, white 20 %, blue 11 %, red 6 %). No statistics
of other paints are known to us: vans are mostly white, and tarpaulins as in `TARPAULINS`, an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from pipeline.simulation.rendering import CAR_PAINT_SHARE, GLASS_REFLECTANCE, PIXEL_M, Vehicle
from pipeline.simulation.world.spectra import BANDS, MATERIALS, PAINTS

HEAVY_M = 8.0
"""Length from which a vehicle is a heavy one."""
TARPAULINS = {
    "white": 0.46, "silver": 0.19, "grey": 0.10, "blue": 0.08,
    "red": 0.06, "yellow": 0.05, "green": 0.03, "dark": 0.03,
}  # fmt: skip
_CARS = {
    "dark": 0.27, "white": 0.20, "grey": 0.17, "silver": 0.14, "blue": 0.11, "red": 0.06, "green": 0.03,
    "yellow": 0.02,
}  # fmt: skip
_VANS = {"white": 0.60, "silver": 0.12, "grey": 0.10, "blue": 0.06, "red": 0.04, "yellow": 0.04, "dark": 0.04}
_LOADS = ("gravel", "soil", "conifer", "concrete", "asphalt")


@dataclass(frozen=True)
class Kind:
    """Kind of vehicle; lengths and widths in metres."""

    lengths: tuple[tuple[float, float, float], ...]
    """Share, mean and deviation of the length of each type."""
    bounds: tuple[float, float]
    """Minimum and maximum length."""
    widths: tuple[float, float]
    paints: Mapping[str, float]
    """Share of each paint."""
    painted: float
    """Share of the area from above that has the reflectance of the paint; the rest is glass and gaps."""


KINDS = {
    "car": Kind(((1.0, 4.4, 0.35),), (3.4, 5.2), (1.7, 1.9), _CARS, CAR_PAINT_SHARE),
    "van": Kind(((0.4, 5.1, 0.25), (0.6, 6.2, 0.5)), (4.7, 7.4), (1.9, 2.1), _VANS, 0.75),
    "rigid lorry": Kind(
        ((0.3, 7.3, 0.5), (0.35, 9.2, 0.6), (0.35, 10.6, 0.6)), (6.0, 12.0), (2.3, 2.55), TARPAULINS, 1.0
    ),
    "articulated lorry": Kind(
        ((0.85, 16.3, 0.25), (0.15, 14.5, 0.8)), (12.0, 16.5), (2.5, 2.6), TARPAULINS, 1.0
    ),
    "lorry with trailer": Kind(
        ((0.8, 18.4, 0.3), (0.2, 15.5, 1.2)), (12.0, 18.75), (2.5, 2.6), TARPAULINS, 1.0
    ),
    "bus": Kind(
        ((0.15, 8.8, 0.4), (0.6, 12.1, 0.3), (0.15, 13.3, 0.3), (0.1, 18.2, 0.2)),
        (8.0, 18.75),
        (2.5, 2.55),
        TARPAULINS,
        0.85,
    ),
}
"""Kinds of vehicles by name."""


def is_heavy(vehicle: Vehicle) -> bool:
    """Return True if a vehicle is at least `HEAVY_M` long."""
    return vehicle.length_m >= HEAVY_M


def heavy_share(kind: Kind) -> float:
    """Return the share of a kind's vehicles that are heavy, by the distribution of `sizes`."""
    if kind.bounds[0] >= HEAVY_M or kind.bounds[1] < HEAVY_M:
        return float(kind.bounds[0] >= HEAVY_M)
    return float(sum(share * ndtr((mean - HEAVY_M) / deviation) for share, mean, deviation in kind.lengths))


def sizes(kind: Kind, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw (count, 2): length and width in metres."""
    shares, means, deviations = (np.array(column) for column in zip(*kind.lengths, strict=True))
    type_of = rng.choice(len(shares), count, p=shares)
    lengths = np.clip(rng.normal(means[type_of], deviations[type_of]), *kind.bounds)
    return np.stack([lengths, rng.uniform(*kind.widths, count)], axis=1)


def paints(kind: Kind, count: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """Draw the mean reflectance from above, by band, of each vehicle."""
    names, shares = zip(*kind.paints.items(), strict=True)
    spectra = np.array([PAINTS[name] for name in names])[rng.choice(len(names), count, p=shares)]
    seen = kind.painted * _worn(spectra, rng) + (1 - kind.painted) * GLASS_REFLECTANCE
    return [dict(zip(BANDS, row, strict=True)) for row in seen.tolist()]


def _worn(spectra: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (N, bands) paints, more or less clean and faded."""
    brightness = np.clip(rng.normal(1.0, 0.14, (len(spectra), 1)), 0.6, 1.35)
    tilt = 1 + rng.normal(0, 0.06, (len(spectra), 1)) * np.linspace(-1, 1, len(BANDS))
    return np.clip(spectra * brightness * tilt, 0.02, 1.05)


def parts(lorry: Vehicle, rng: np.random.Generator) -> list[Vehicle]:
    """Return what has another colour than its lorry and moves with it: cab, trailer, gaps, open load."""
    if lorry.kind not in {"rigid lorry", "articulated lorry", "lorry with trailer"}:
        return []
    found = []
    if lorry.length_m > 11 and rng.random() < 0.35:
        found.append(_part(lorry, lorry.length_m / 2 - 1.2, 2.4, _tarpaulin(rng)))
    if lorry.kind == "lorry with trailer":
        if rng.random() < 0.2:
            found.append(_part(lorry, -0.24 * lorry.length_m, 0.42 * lorry.length_m, _tarpaulin(rng)))
        dark = dict.fromkeys(BANDS, GLASS_REFLECTANCE)
        found.append(_part(lorry, 0.02 * lorry.length_m, 1.2, dark))
    if rng.random() < 0.07:
        load = np.asarray(MATERIALS[str(rng.choice(_LOADS))].spectrum)
        worn = dict(zip(BANDS, _worn(load[None], rng)[0].tolist(), strict=True))
        carried = _part(lorry, -0.08 * lorry.length_m, 0.6 * lorry.length_m, worn)
        found.append(replace(carried, width_m=0.8 * lorry.width_m))
    return found


def _tarpaulin(rng: np.random.Generator) -> dict[str, float]:
    return paints(KINDS["articulated lorry"], 1, rng)[0]


def _part(lorry: Vehicle, ahead_m: float, length_m: float, reflectance: Mapping[str, float]) -> Vehicle:
    dx, dy = lorry.direction
    x, y = lorry.x + ahead_m / PIXEL_M * dx, lorry.y + ahead_m / PIXEL_M * dy
    return replace(lorry, x=x, y=y, length_m=length_m, reflectance=reflectance, kind="")


def contrast(vehicle: Vehicle, surface: Sequence[float], bands: Sequence[str] = BANDS) -> float:
    """Return the contrast of a vehicle, reflectance times pixels: that of the second best visible band.

    A vehicle that differs in one band only is far less visible: a third of that band counts. `surface` is
    the reflectance of the ground below by band, in the order of `bands`.
    """
    contrasts = sorted(
        abs(vehicle.reflectance[band] - surface[bands.index(band)]) for band in ("B02", "B03", "B04")
    )
    shown = max(contrasts[1], contrasts[2] / 3)
    return float(shown * vehicle.length_m * vehicle.width_m / PIXEL_M**2)
