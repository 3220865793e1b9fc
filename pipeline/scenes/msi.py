"""The MultiSpectral Instrument: band delays, detectors and the order in which they see the bands.

Twelve staggered detectors D01 to D12 cover the swath side by side; odd ones and even ones look forward and
backward, so the order of the bands flips from one to the next. The detector of a place comes from the
product: exact to the pixel from the detector footprints, else roughly from the viewing-angle grids.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from xml.etree.ElementTree import Element

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.errors import MetadataError

if TYPE_CHECKING:
    from shapely import Polygon

BAND_DELAYS_S = {"B02": 0.0, "B08": 0.264, "B03": 0.527, "B04": 1.005}
"""Delay from B02 in seconds in an odd detector; an even one sees the bands in reverse.

From the Sentinel-2 products' handbook (ESA); calibrated per satellite within 2 %.
"""

BandOrder = Literal["blue_first", "red_first"]

ALTITUDE_M = 786e3
"""Mean height of the orbit (ESA, Sentinel-2 user handbook)."""
INCLINATION_DEG = 98.62
"""Of the sun-synchronous orbit (ESA, Sentinel-2 user handbook)."""
_EARTH_RADIUS_M = 6371e3
_EARTH_GM = 3.986004418e14
_EARTH_TURN = 7.292e-5
"""Radians per second."""
_FLIES_NORTH_DEG = 70.0
"""Latitude up to which the satellite flies more to the north or south than to the west."""
DETECTORS = range(1, 13)
_BLUE_ID, _RED_ID = "1", "3"
"""`bandId` of B02 and B04 in the products' XML."""
_BAND_IDS = tuple(map(str, range(13)))
_STEP_M = 5000.0
"""Distance of the nodes of angle grids in all products."""
_FARTHEST_M = 2e7
"""Larger than any coordinate in UTM."""
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PLAUSIBLE_DELAY_S = (0.5, 1.5)
_DETECTOR_IN_ID = re.compile(r"detector_footprint-B\w\w-(\d\d)-", re.IGNORECASE)


@dataclass(frozen=True)
class AngleNodes:
    """Detectors with a viewing angle at the nodes of the angle grids of B02, 5 km apart."""

    x: float
    y: float
    """Map coordinates of the first node (the tile's upper left corner)."""
    step: float
    detectors: tuple[tuple[int, ...], ...]
    """Rows, north to south, of the detector at a node; 0: none, -1: more than one."""


@dataclass(frozen=True)
class MsiGeometry:
    """MSI detectors of a scene by place, and their band orders."""

    delays_s: Mapping[int, float] = field(default_factory=dict)
    """Seconds from B02 to B04 by detector, from the viewing angles; see `viewing_delays`."""
    footprint: str | None = None
    """Raster of B02's detector numbers (MSK_DETFOO since baseline 04.00); name for GDAL."""
    polygons: tuple[tuple[int, Polygon], ...] = ()
    """Detector and footprint in B02, in map coordinates (MSK_DETFOO before baseline 04.00)."""
    nodes: AngleNodes | None = None

    def delay_s(self, detector: int) -> float | None:
        """Return the seconds from B02 to B04 in `detector`; negative if B04 comes first.

        From the product's viewing angles. If they lack the detector, the handbook's delay with the sign of
        its parity (odd: blue first), which holds for Sentinel-2A, B and C. None if the viewing angles are
        implausible, or the detector does not exist.
        """
        if detector not in DETECTORS:
            return None
        delay = self.delays_s.get(detector)
        if delay is None:
            return BAND_DELAYS_S["B04"] * (1 if detector % 2 else -1)
        return delay if _PLAUSIBLE_DELAY_S[0] < abs(delay) < _PLAUSIBLE_DELAY_S[1] else None

    def band_order(self, detector: int) -> BandOrder | None:
        """Return the order in which `detector` sees blue and red; None if unknown. See `delay_s`."""
        delay = self.delay_s(detector)
        if delay is None:
            return None
        return "blue_first" if delay > 0 else "red_first"


def viewing_delays(tile: Element, latitude_deg: float, descending: bool = True) -> dict[int, float]:
    """Compute the seconds from B02 to B04 by detector from the viewing-angle grids of `MTD_TL.xml`.

    The satellite is 786 km x tan(zenith) x cos(azimuth) north of the place that it sees, and with the sine
    east of it. Between B02 and B04 of one detector this offset changes by about 7.4 km. For a circular orbit
    of inclination i the satellite flies north at v sqrt(1 - (cos i / cos latitude)^2), negative while
    `descending`, as Sentinel-2 does by day. The way north over this speed is the time; it agrees with the
    handbook's 1.005 s within 3 %. Close to the turning points of the orbit at 81.4 degrees, beyond which the
    instrument sees 2 degrees further, the satellite flies west: there the time is the way along the track
    over the speed along it, both seen from the turning Earth. Raises MetadataError.
    """
    grids = _angle_grids(tile)
    delays: dict[int, float] = {}
    for band, detector in grids:
        if band != _BLUE_ID or (_RED_ID, detector) not in grids:
            continue
        east, north = (
            red - blue
            for red, blue in zip(
                grids[_RED_ID, detector].offset, grids[_BLUE_ID, detector].offset, strict=True
            )
        )
        if np.isfinite(north).any():
            way = float(np.nanmedian(east)), float(np.nanmedian(north))
            delays[detector] = _seconds(*way, latitude_deg, descending)
    return delays


def angle_nodes(tile: Element) -> AngleNodes | None:
    """Return the detectors at the nodes of the angle grids of B02 in `MTD_TL.xml`; None without grids."""
    grids = {detector: grid for (band, detector), grid in _angle_grids(tile).items() if band == _BLUE_ID}
    position = tile.find(".//Geoposition")
    if not grids or position is None:
        return None
    x, y = (number(position.findtext(key), f"{key} in MTD_TL.xml") for key in ("ULX", "ULY"))
    seen = {detector: np.isfinite(grid.offset[1]) for detector, grid in grids.items()}
    count = np.sum(list(seen.values()), axis=0)
    which = np.sum([detector * mask for detector, mask in seen.items()], axis=0)
    which = np.where(count > 1, -1, which)
    return AngleNodes(x, y, _STEP_M, tuple(tuple(int(value) for value in row) for row in which))


def footprint_polygons(gml: Element) -> tuple[tuple[int, Polygon], ...]:
    """Return detector and footprint of each feature of a `MSK_DETFOO_*.gml` (before baseline 04.00).

    The detector is the number in the feature's id: `detector_footprint-B02-05-0` is detector 5. Raises
    MetadataError.
    """
    found: list[tuple[int, Polygon]] = []
    for feature in gml.iterfind(".//{*}MaskFeature"):
        gml_id = next((value for key, value in feature.attrib.items() if key.endswith("}id")), "")
        match = _DETECTOR_IN_ID.search(gml_id)
        ring = feature.find(".//{*}posList")
        if not match or int(match[1]) not in DETECTORS or ring is None or not ring.text:
            raise MetadataError(f"A detector footprint lacks its number or its outline: {gml_id or 'no id'}.")
        found.append((int(match[1]), _outline(ring.text, ring.get("srsDimension", "2"), gml_id)))
    return tuple(found)


def number(text: str | None, what: str) -> float:
    """Return a decimal number in metadata. Raises MetadataError for other text, and what is not finite."""
    value = float(text) if text and _DECIMAL.fullmatch(text.strip()) else math.nan
    if not math.isfinite(value):
        raise MetadataError(f"{what} is not a number: {(text or '')[:80]!r}. Download the product again.")
    return value


def _outline(text: str, dimension: str, gml_id: str) -> Polygon:
    if dimension not in ("2", "3"):
        raise MetadataError(f"srsDimension of {gml_id} must be 2 or 3. Received: {dimension[:80]!r}")
    try:
        coordinates = np.array(text.split(), np.float64).reshape(-1, int(dimension))[:, :2]
        if np.abs(coordinates).max(initial=0.0) < _FARTHEST_M:  # False for NaN
            return shapely.Polygon(coordinates)
    except ValueError as error:
        raise MetadataError(f"The outline of {gml_id} is not a list of coordinates.") from error
    raise MetadataError(f"The outline of {gml_id} has coordinates that are no place in UTM.")


@dataclass(frozen=True)
class _AngleGrid:
    """The line of sight of one band in one detector, on a grid of 5 km."""

    offset: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Metres by which the satellite is east and north of each node; NaN where it does not see it."""


def _angle_grids(tile: Element) -> dict[tuple[str, int], _AngleGrid]:
    """Return the angle grids of B02 and B04 by band and detector."""
    grids: dict[tuple[str, int], _AngleGrid] = {}
    for element in tile.iter("Viewing_Incidence_Angles_Grids"):
        band, detector = element.get("bandId", "").strip(), element.get("detectorId", "").strip()
        if band not in _BAND_IDS or detector.lstrip("0") not in map(str, DETECTORS):
            raise MetadataError(
                "A grid of viewing angles in MTD_TL.xml lacks its band (0 to 12) or detector (1 to 12). "
                f"Received: bandId={band[:20]!r}, detectorId={detector[:20]!r}"
            )
        key = band, int(detector)
        if band not in (_BLUE_ID, _RED_ID):
            continue
        if key in grids:
            raise MetadataError(
                f"MTD_TL.xml has two grids of viewing angles of band {band}, detector {key[1]}."
            )
        grids[key] = _angle_grid(element, key[1])
    if len({grid.offset[0].shape for grid in grids.values()}) > 1:
        raise MetadataError("The grids of viewing angles in MTD_TL.xml have different sizes.")
    return grids


def _angle_grid(element: Element, detector: int) -> _AngleGrid:
    wrong = f"The viewing angles of detector {detector} in MTD_TL.xml are no grid of"
    try:
        zenith, azimuth = (
            np.array(
                [row.text.split() for row in element.iterfind(f"{angle}/Values_List/VALUES") if row.text]
            ).astype(np.float64)
            for angle in ("Zenith", "Azimuth")
        )
    except ValueError as error:
        raise MetadataError(f"{wrong} numbers.") from error
    if zenith.ndim != 2 or zenith.shape != azimuth.shape:
        raise MetadataError(f"{wrong} pairs of zenith and azimuth.")
    with np.errstate(invalid="ignore"):
        if (np.abs(zenith - 45) > 45).any() or (np.abs(azimuth) > 360).any():
            raise MetadataError(f"{wrong} degrees: zenith 0 to 90, azimuth 0 to 360.")
    for step in (f"{angle}/{axis}_STEP" for angle in ("Zenith", "Azimuth") for axis in ("COL", "ROW")):
        if number(element.findtext(step), f"{step} of detector {detector} in MTD_TL.xml") != _STEP_M:
            raise MetadataError(f"{wrong} nodes {_STEP_M:g} m apart, as in all products.")
    away = ALTITUDE_M * np.tan(np.radians(zenith))
    return _AngleGrid((away * np.sin(np.radians(azimuth)), away * np.cos(np.radians(azimuth))))


def _seconds(east: float, north: float, latitude_deg: float, descending: bool) -> float:
    """Return the seconds in which the satellite flies so many metres."""
    speed = math.sqrt(_EARTH_GM / (_EARTH_RADIUS_M + ALTITUDE_M))
    parallel = math.cos(math.radians(latitude_deg))
    # West of the turning point, which the satellite does not pass, it flies along the parallel.
    eastward_share = max(-1.0, math.cos(math.radians(INCLINATION_DEG)) / max(parallel, 1e-9))
    northward = speed * math.sqrt(1 - eastward_share**2) * (-1 if descending else 1)
    if abs(latitude_deg) <= _FLIES_NORTH_DEG:
        return north / northward
    eastward = speed * eastward_share - _EARTH_TURN * _EARTH_RADIUS_M * parallel
    return (east * eastward + north * northward) / (eastward**2 + northward**2)
