"""Spectra: surface reflectance by Sentinel-2 band of everything that the simulator draws.

Order of size from L2A pixels of Central Europe in summer (BigEarthNet patches), by land-cover class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
"""The bands of an L2A product: all but B10."""

WATER, TREES, GRASS, FLOODED, CROPS, SHRUB, BUILT, BARE = range(8)
"""Dynamic World's legend, without snow (8)."""

VARIANTS = 64
"""Shades of each material."""


@dataclass(frozen=True)
class Material:
    """A kind of ground: its class, how it varies, and its mean spectrum."""

    landcover: int
    spread: float
    """Standard deviation of the logarithm of brightness, from parcel to parcel."""
    companion: str
    """The material that shows through in patches."""
    mixing: float
    """How much of the companion shows through."""
    grain: float
    """Relative brightness variation from pixel to pixel."""
    spectrum: tuple[float, ...]
    """By band, in the order of `BANDS`."""


# fmt: off
MATERIALS: dict[str, Material] = {
    "lake": Material(
        WATER, .25, "river", .25, .02,
        (.022, .024, .030, .018, .015, .012, .012, .010, .009, .008, .006, .004),
    ),
    "river": Material(
        WATER, .15, "lake", .20, .03,
        (.042, .050, .066, .046, .040, .026, .025, .022, .020, .015, .008, .006),
    ),
    "conifer": Material(
        TREES, .10, "broadleaf", .55, .15,
        (.017, .019, .032, .018, .052, .165, .205, .220, .235, .235, .105, .046),
    ),
    "broadleaf": Material(
        TREES, .08, "conifer", .50, .11,
        (.018, .021, .045, .022, .074, .280, .355, .372, .385, .390, .160, .070),
    ),
    "meadow": Material(
        GRASS, .12, "fallow", .45, .04,
        (.027, .035, .072, .041, .115, .320, .395, .415, .430, .430, .205, .108),
    ),
    "lush": Material(
        CROPS, .14, "fallow", .25, .03,
        (.020, .026, .056, .026, .088, .370, .485, .500, .520, .520, .170, .075),
    ),
    "cereal": Material(
        CROPS, .15, "fallow", .30, .03,
        (.024, .031, .062, .040, .100, .260, .320, .335, .355, .355, .190, .100),
    ),
    "ripe": Material(
        CROPS, .16, "stubble", .35, .03,
        (.050, .066, .102, .125, .170, .240, .270, .290, .310, .310, .310, .220),
    ),
    "stubble": Material(
        CROPS, .16, "soil", .35, .03,
        (.068, .090, .135, .178, .212, .255, .278, .298, .320, .320, .360, .275),
    ),
    "soil": Material(
        CROPS, .18, "dark_soil", .35, .04,
        (.050, .062, .087, .118, .138, .158, .172, .186, .202, .202, .280, .238),
    ),
    "light_soil": Material(
        CROPS, .16, "soil", .30, .04,
        (.098, .132, .182, .240, .268, .290, .305, .322, .340, .340, .420, .370),
    ),
    "dark_soil": Material(
        CROPS, .14, "soil", .25, .04,
        (.036, .042, .055, .068, .085, .105, .120, .130, .145, .150, .210, .180),
    ),
    "fallow": Material(
        GRASS, .15, "meadow", .40, .06,
        (.034, .046, .082, .078, .142, .250, .290, .310, .330, .330, .255, .155),
    ),
    "verge": Material(
        GRASS, .10, "meadow", .40, .07,
        (.040, .053, .080, .082, .130, .210, .240, .260, .275, .275, .250, .165),
    ),
    "shrub": Material(
        SHRUB, .12, "broadleaf", .55, .13,
        (.026, .033, .056, .048, .094, .215, .260, .280, .300, .300, .205, .115),
    ),
    "marsh": Material(
        FLOODED, .12, "lake", .40, .12,
        (.032, .040, .060, .048, .090, .165, .195, .210, .220, .220, .150, .080),
    ),
    "gravel": Material(
        BARE, .15, "sand", .50, .08,
        (.088, .110, .142, .166, .190, .206, .216, .228, .240, .240, .290, .250),
    ),
    "sand": Material(
        BARE, .12, "gravel", .40, .05,
        (.112, .145, .192, .232, .255, .270, .280, .292, .305, .305, .360, .315),
    ),
    "asphalt": Material(
        BUILT, .10, "concrete", .18, .05,
        (.062, .070, .076, .082, .090, .102, .110, .118, .126, .126, .150, .135),
    ),
    "concrete": Material(
        BUILT, .14, "asphalt", .50, .10,
        (.135, .158, .180, .194, .205, .215, .222, .235, .245, .245, .260, .235),
    ),
    "garden": Material(
        BUILT, .10, "concrete", .45, .15,
        (.030, .038, .064, .050, .105, .225, .270, .285, .300, .300, .190, .115),
    ),
    "track": Material(
        BARE, .12, "verge", .50, .10,
        (.085, .105, .140, .165, .190, .215, .230, .245, .260, .260, .300, .250),
    ),
}

ROOFS: dict[str, tuple[float, ...]] = {
    "tile": (.055, .066, .090, .185, .215, .235, .250, .270, .290, .290, .330, .290),
    "red": (.060, .070, .080, .300, .340, .350, .355, .360, .365, .360, .380, .330),
    "brown": (.050, .060, .072, .098, .118, .140, .155, .170, .185, .185, .230, .210),
    "slate": (.075, .080, .086, .090, .094, .100, .106, .114, .120, .120, .140, .140),
    "grey": (.150, .165, .180, .190, .196, .204, .210, .220, .228, .228, .245, .235),
    "light": (.280, .320, .350, .365, .372, .380, .384, .390, .395, .390, .380, .340),
    "white": (.520, .620, .670, .690, .690, .690, .690, .690, .680, .660, .600, .500),
    "greenhouse": (.200, .230, .250, .250, .285, .350, .380, .395, .405, .400, .300, .220),
    "solar": (.085, .080, .062, .055, .058, .068, .078, .090, .105, .105, .180, .170),
}

PAINTS: dict[str, tuple[float, ...]] = {
    "white": (.68, .74, .75, .75, .75, .75, .75, .74, .74, .70, .58, .47),
    "silver": (.42, .46, .48, .49, .49, .49, .49, .50, .50, .50, .46, .42),
    "grey": (.28, .30, .31, .32, .32, .33, .33, .34, .34, .34, .33, .30),
    "blue": (.30, .34, .22, .14, .15, .22, .28, .34, .38, .38, .34, .28),
    "red": (.08, .08, .09, .42, .50, .54, .55, .56, .56, .56, .48, .40),
    "yellow": (.10, .14, .46, .56, .58, .60, .60, .60, .60, .60, .50, .42),
    "green": (.12, .15, .28, .14, .18, .32, .38, .42, .44, .44, .34, .24),
    "dark": (.05, .05, .05, .05, .06, .07, .08, .09, .10, .10, .12, .11),
}
# fmt: on

NAMES = tuple(MATERIALS)
INDEX = {name: index for index, name in enumerate(NAMES)}
LANDCOVER = np.array([material.landcover for material in MATERIALS.values()], np.uint8)
"""(materials,): class of each."""
COMPANION = np.array([INDEX[material.companion] for material in MATERIALS.values()], np.uint16)
MIXING = np.array([material.mixing for material in MATERIALS.values()], np.float32)
GRAIN = np.array([material.grain for material in MATERIALS.values()], np.float32)


def palette(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (materials x `VARIANTS`, bands) reflectance: every material in many brightnesses and colours."""
    shades = []
    slope = np.linspace(-1, 1, len(BANDS))
    for material in MATERIALS.values():
        brightness = rng.normal(0, material.spread, (VARIANTS, 1))
        tilt = rng.normal(0, material.spread / 2, (VARIANTS, 1)) * slope
        shades.append(np.asarray(material.spectrum) * np.exp(brightness + tilt))
    return np.concatenate(shades).astype(np.float32)


def by_band(spectrum: tuple[float, ...], brightness: float = 1.0) -> dict[str, float]:
    """Return a spectrum as a mapping from band name to reflectance, at most 1.1."""
    return {band: min(1.1, value * brightness) for band, value in zip(BANDS, spectrum, strict=True)}
