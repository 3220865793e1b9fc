"""Metadata of a simulated Level-2A product: the part of the XML that readers use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import jinja2
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from pipeline.scenes.readers.safe import SIMULATED_DOI
from pipeline.scenes.scene import BAND_NAMES, BANDS_10M, BANDS_20M
from pipeline.simulation.world.atmosphere import EAST_OF_NORTH, LINE_OF_SIGHT_KM, ORBIT_KM
from pipeline.simulation.world.objects import DETECTOR_TILT, World

EPSG = 32632
TILE = "T32UPD"
LEFT, TOP = 600000, 5900040
"""Upper left corner of the tile in UTM zone 32 north, in metres."""
BASELINE = "05.09"
_ORBIT, _ABSOLUTE_ORBIT = 65, 42679
_ANGLE_STEP_M = 5000
_IMAGES = (
    *((band, 10) for band in (*BANDS_10M, "TCI")),
    *((band, 20) for band in (*BANDS_20M, "SCL")),
    *((band, 60) for band in ("B01", "B09")),
)


@dataclass(frozen=True)
class Granule:
    """Names, positions and angles of a simulated granule."""

    world: World

    @property
    def size(self) -> int:
        """Return the side in 10 m pixels."""
        return self.world.size

    @property
    def sensed(self) -> str:
        """Return the sensing time as in names."""
        return f"{self.world.season.acquired:%Y%m%dT%H%M%S}"

    @property
    def product(self) -> str:
        """Return the name of the product; its discriminator has the seed, so seeds make different scenes."""
        made = self.world.season.acquired.replace(hour=14, minute=0, second=0) + timedelta(
            seconds=self.world.seed % 36000
        )
        return f"S2A_MSIL2A_{self.sensed}_N0509_R{_ORBIT:03d}_{TILE}_{made:%Y%m%dT%H%M%S}.SAFE"

    @property
    def identifier(self) -> str:
        """Return the granule's identifier in the XML."""
        return f"S2A_OPER_MSI_L2A_TL_SIMU_{self.sensed}_A{_ABSOLUTE_ORBIT:06d}_{TILE}_N{BASELINE}"

    @property
    def datatake(self) -> str:
        """Return the identifier of the datatake in the XML."""
        return f"GS2A_{self.sensed}_{_ABSOLUTE_ORBIT:06d}_N{BASELINE}"

    def time(self, seconds: float = 0.0) -> str:
        """Return the sensing time plus `seconds` in the format of the XML."""
        moment = self.world.season.acquired + timedelta(seconds=seconds)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"

    def side(self, gsd: int) -> int:
        """Return the side in pixels of `gsd` metres."""
        return -(-self.size * 10 // gsd)

    @property
    def folder(self) -> str:
        """Return the granule's folder in the product."""
        start = self.world.season.acquired + timedelta(minutes=5)
        return f"GRANULE/L2A_{TILE}_A{_ABSOLUTE_ORBIT:06d}_{start:%Y%m%dT%H%M%S}"

    def image(self, band: str, gsd: int) -> str:
        """Return the path of an image in the product."""
        return f"{self.folder}/IMG_DATA/R{gsd}m/{TILE}_{self.sensed}_{band}_{gsd}m.jp2"

    def affine(self, gsd: int) -> Affine:
        """Return the transform from pixels of `gsd` metres to the map."""
        return Affine(gsd, 0, LEFT, 0, -gsd, TOP)

    def detectors(self) -> list[int]:
        """Return the numbers of the MSI detectors with pixels in the granule."""
        at = np.linspace(0, self.size - 1, 64) + 0.5
        return [int(number) for number in np.unique(self.world.detector(at[None, :], at[:, None]))]

    @property
    def angle_nodes(self) -> int:
        """Return the side of the grids of angles."""
        return -(-self.size * 10 // _ANGLE_STEP_M) + 1

    def viewing_angles(self, band: str, detector: int) -> dict[str, NDArray[np.float64]]:
        """Return zenith and azimuth of the line of sight, degrees, on the 5 km grid; NaN off the detector.

        Shaped on the grids of a real product: B04 minus B02 is -7.3 km along track for odd detectors.
        """
        at = np.arange(self.angle_nodes) * _ANGLE_STEP_M / 10
        x, y = at[None, :], at[:, None]
        world = self.world
        stripe = (x + DETECTOR_TILT * y - world.detector_start) / world.detector_width
        away = stripe - (detector - world.first_detector) - 0.5
        look = LINE_OF_SIGHT_KM[band] * (1 if detector % 2 else -1)
        north = 5.1 * (detector - 6) + (-9.0 if detector % 2 else 5.0) + 2.5 * away + look
        east = 14.0 - 24.0 * (detector - 6) - 24.0 * away + look * EAST_OF_NORTH
        # nodes up to a cell from the detector's stripe have values, so that interpolation works everywhere
        outside = np.abs(away) * world.detector_width > world.detector_width / 2 + _ANGLE_STEP_M / 10
        zenith = np.rad2deg(np.arctan(np.hypot(north, east) / ORBIT_KM))
        azimuth = np.rad2deg(np.arctan2(east, north)) % 360
        angles = {"zenith": zenith, "azimuth": azimuth}
        return {name: np.where(outside, np.nan, values) for name, values in angles.items()}

    def footprint(self) -> str:
        """Return the corners as `latitude longitude` pairs."""
        to_geographic = Transformer.from_crs(EPSG, 4326, always_xy=True)
        far = self.size * 10
        corners = ((0, 0), (far, 0), (far, far), (0, far), (0, 0))
        places = [to_geographic.transform(LEFT + x, TOP - y) for x, y in corners]
        return " ".join(f"{lat:.12f} {lon:.12f}" for lon, lat in places)


def write(safe: Path, granule: Granule) -> None:
    """Write `MTD_MSIL2A.xml` and the granule's `MTD_TL.xml`."""
    season, nodes = granule.world.season, np.ones((granule.angle_nodes, granule.angle_nodes))
    sun = {"zenith": season.sun_zenith_deg * nodes, "azimuth": season.sun_azimuth_deg * nodes}
    views = [
        {"band": number, "detector": detector, **granule.viewing_angles(band, detector)}
        for number, band in enumerate(BAND_NAMES)
        for detector in granule.detectors()
    ]
    constants = {
        "baseline": BASELINE, "bands": BAND_NAMES, "doi": SIMULATED_DOI, "epsg": EPSG, "images": _IMAGES,
        "left": LEFT, "orbit": _ORBIT, "step_m": _ANGLE_STEP_M, "top": TOP,
    }  # fmt: skip
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.simulation", "metadata"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters["angles"] = lambda row: " ".join("NaN" if np.isnan(v) else f"{v:.6g}" for v in row)
    templates.filters["mean_angle"] = lambda grids: float(np.nanmean(grids))
    for path in (safe / "MTD_MSIL2A.xml", safe / granule.folder / "MTD_TL.xml"):
        template = templates.get_template(f"{path.name}.j2")
        text = template.render(granule=granule, sun=sun, views=views, **constants)
        path.write_text(text, encoding="utf-8")
