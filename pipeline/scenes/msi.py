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
_BLUE_ID, _RED_ID = "1", "3"
"""`bandId` of B02 and B04 in the products' XML."""
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
        if detector not in range(1, 13):
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

    The satellite is 786 km x tan(zenith) x cos(azimuth) north of the place that it sees. Between B02 and B04
    of one detector this distance changes by about 7.3 km. The satellite's northward speed converts it to a
    time: for a circular orbit of inclination i,
    v sqrt(1 - (cos i / cos latitude)^2), negative while `descending`, as Sentinel-2 does by day. (The
    Earth's rotation moves the ground eastward only.) It agrees with the handbook's 1.005 s within 3 %.
    """
    grids = {key: _northing(grid) for key, grid in _angle_grids(tile).items()}
    speed = _northward_speed(latitude_deg) * (-1 if descending else 1)
    delays: dict[int, float] = {}
    for band, detector in grids:
        if band != _BLUE_ID or (_RED_ID, detector) not in grids:
            continue
        moved = grids[_RED_ID, detector] - grids[_BLUE_ID, detector]
        if np.isfinite(moved).any():
            delays[detector] = float(np.nanmedian(moved)) / speed
    return delays


def angle_nodes(tile: Element) -> AngleNodes | None:
    """Return the detectors at the nodes of the angle grids of B02 in `MTD_TL.xml`; None without grids."""
    grids = {detector: grid for (band, detector), grid in _angle_grids(tile).items() if band == _BLUE_ID}
    position = tile.find(".//Geoposition")
    if not grids or position is None:
        return None
    try:
        x, y = (float(position.findtext(key, "")) for key in ("ULX", "ULY"))
        step = float(next(iter(grids.values())).findtext("Zenith/COL_STEP", ""))
    except ValueError as error:
        raise MetadataError("Geoposition or COL_STEP in MTD_TL.xml is not a number.") from error
    seen = {detector: np.isfinite(_northing(grid)) for detector, grid in grids.items()}
    count = np.sum(list(seen.values()), axis=0)
    which = np.sum([detector * mask for detector, mask in seen.items()], axis=0)
    which = np.where(count > 1, -1, which)
    return AngleNodes(x, y, step, tuple(tuple(int(value) for value in row) for row in which))


def footprint_polygons(gml: Element) -> tuple[tuple[int, Polygon], ...]:
    """Return detector and footprint of each feature of a `MSK_DETFOO_*.gml` (before baseline 04.00).

    The detector is the number in the feature's id: `detector_footprint-B02-05-0` is detector 5.
    """
    found: list[tuple[int, Polygon]] = []
    for feature in gml.iterfind(".//{*}MaskFeature"):
        gml_id = next((value for key, value in feature.attrib.items() if key.endswith("}id")), "")
        match = _DETECTOR_IN_ID.search(gml_id)
        ring = feature.find(".//{*}posList")
        if not match or ring is None or not ring.text:
            raise MetadataError(f"A detector footprint lacks its number or its outline: {gml_id or 'no id'}.")
        dimension = int(ring.get("srsDimension", "2"))
        try:
            coordinates = np.array(ring.text.split(), np.float64).reshape(-1, dimension)[:, :2]
            found.append((int(match[1]), shapely.Polygon(coordinates)))
        except ValueError as error:
            raise MetadataError(f"The outline of {gml_id} is not a list of coordinates.") from error
    return tuple(found)


def _angle_grids(tile: Element) -> dict[tuple[str, int], Element]:
    try:
        return {
            (grid.attrib["bandId"], int(grid.attrib["detectorId"])): grid
            for grid in tile.iter("Viewing_Incidence_Angles_Grids")
        }
    except (KeyError, ValueError) as error:
        raise MetadataError("A grid of viewing angles in MTD_TL.xml lacks its band or detector.") from error


def _northing(grid: Element) -> NDArray[np.float64]:
    """Return the metres by which the satellite is north of each node."""
    try:
        zenith, azimuth = (
            np.array(
                [row.text.split() for row in grid.iterfind(f"{angle}/Values_List/VALUES") if row.text]
            ).astype(np.float64)
            for angle in ("Zenith", "Azimuth")
        )
        return ALTITUDE_M * np.tan(np.radians(zenith)) * np.cos(np.radians(azimuth))
    except ValueError as error:
        raise MetadataError(
            f"The viewing angles of detector {grid.get('detectorId')} in MTD_TL.xml are no grid of numbers."
        ) from error


def _northward_speed(latitude_deg: float) -> float:
    speed = math.sqrt(_EARTH_GM / (_EARTH_RADIUS_M + ALTITUDE_M))
    eastward_share = math.cos(math.radians(INCLINATION_DEG)) / math.cos(math.radians(latitude_deg))
    return speed * math.sqrt(max(0.0, 1 - eastward_share**2))
