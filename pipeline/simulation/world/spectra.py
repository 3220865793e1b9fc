"""Spectra of the simulator: surface reflectance of its materials by Sentinel-2 band.

Orders of magnitude are from L2A pixels of Central Europe in summer (BigEarthNet patches), by land-cover
class.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
"""Bands of an L2A product: all except B10."""

WATER, TREES, GRASS, FLOODED, CROPS, SHRUB, BUILT, BARE = range(8)
"""Legend of Dynamic World, without snow (8)."""

VARIANTS = 64
"""Shades of each material."""


@dataclass(frozen=True)
class Material:
    """Ground material: its class, its variation and its mean spectrum."""

    landcover: int
    spread: float
    """Standard deviation of the logarithm of brightness, from parcel to parcel."""
    companion: str
    """Material that mixes in patches with this one."""
    mixing: float
    """Amount of the companion."""
    grain: float
    """Relative brightness variation from pixel to pixel."""
    spectrum: tuple[float, ...]
    """Spectrum in the order of `BANDS`."""


def _tables() -> tuple[dict[str, Material], dict[str, dict[str, tuple[float, ...]]]]:
    """Read the materials, and the spectra of roofs and paints by kind, from `spectra.csv`."""
    materials: dict[str, Material] = {}
    spectra: dict[str, dict[str, tuple[float, ...]]] = {"roof": {}, "paint": {}}
    classes = ("water", "trees", "grass", "flooded", "crops", "shrub", "built", "bare")
    with (files("pipeline.simulation.world") / "spectra.csv").open(encoding="utf-8") as table:
        for row in csv.DictReader(table):
            spectrum = tuple(float(row[band]) for band in BANDS)
            if row["kind"] != "material":
                spectra[row["kind"]][row["name"]] = spectrum
                continue
            spread, mixing, grain = (float(row[key]) for key in ("spread", "mixing", "grain"))
            materials[row["name"]] = Material(
                classes.index(row["landcover"]), spread, row["companion"], mixing, grain, spectrum
            )
    return materials, spectra


MATERIALS, _SPECTRA = _tables()
ROOFS, PAINTS = _SPECTRA["roof"], _SPECTRA["paint"]

NAMES = tuple(MATERIALS)
INDEX = {name: index for index, name in enumerate(NAMES)}
LANDCOVER = np.array([material.landcover for material in MATERIALS.values()], np.uint8)
"""Class of each material, (materials,)."""
COMPANION = np.array([INDEX[material.companion] for material in MATERIALS.values()], np.uint16)
MIXING = np.array([material.mixing for material in MATERIALS.values()], np.float32)
GRAIN = np.array([material.grain for material in MATERIALS.values()], np.float32)


def palette(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (materials x `VARIANTS`, bands) reflectance: all materials in many brightnesses and colours."""
    shades = []
    slope = np.linspace(-1, 1, len(BANDS))
    for material in MATERIALS.values():
        brightness = rng.normal(0, material.spread, (VARIANTS, 1))
        tilt = rng.normal(0, material.spread / 2, (VARIANTS, 1)) * slope
        shades.append(np.asarray(material.spectrum) * np.exp(brightness + tilt))
    return np.concatenate(shades).astype(np.float32)
