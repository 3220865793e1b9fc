"""The XML of a simulated Level-2A product, as far as readers of real ones look into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

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
"""Upper left corner of the tile in UTM zone 32 north, metres."""
BASELINE = "05.09"
_ORBIT, _ABSOLUTE_ORBIT = 65, 42679
_ANGLE_STEP_M = 5000
_OF_IMAGES = (
    *((band, 10) for band in (*BANDS_10M, "TCI")),
    *((band, 20) for band in (*BANDS_20M, "SCL")),
    *((band, 60) for band in ("B01", "B09")),
)


@dataclass(frozen=True)
class Granule:
    """Names, places and angles of a simulated granule."""

    world: World

    @property
    def size(self) -> int:
        """Side in 10 m pixels."""
        return self.world.size

    @property
    def sensed(self) -> str:
        """Sensing time as in names."""
        return f"{self.world.season.acquired:%Y%m%dT%H%M%S}"

    @property
    def product(self) -> str:
        """Name of the product; its discriminator holds the seed, so that seeds make different scenes."""
        made = self.world.season.acquired.replace(hour=14, minute=0, second=0) + timedelta(
            seconds=self.world.seed % 36000
        )
        return f"S2A_MSIL2A_{self.sensed}_N0509_R{_ORBIT:03d}_{TILE}_{made:%Y%m%dT%H%M%S}.SAFE"

    @property
    def identifier(self) -> str:
        """The granule's identifier in the XML."""
        return f"S2A_OPER_MSI_L2A_TL_SIMU_{self.sensed}_A{_ABSOLUTE_ORBIT:06d}_{TILE}_N{BASELINE}"

    @property
    def folder(self) -> str:
        """The granule's folder in the product."""
        start = self.world.season.acquired + timedelta(minutes=5)
        return f"GRANULE/L2A_{TILE}_A{_ABSOLUTE_ORBIT:06d}_{start:%Y%m%dT%H%M%S}"

    def image(self, band: str, gsd: int) -> str:
        """Path of an image in the product."""
        return f"{self.folder}/IMG_DATA/R{gsd}m/{TILE}_{self.sensed}_{band}_{gsd}m.jp2"

    def affine(self, gsd: int) -> Affine:
        """Return the transform from pixels of `gsd` metres to the map."""
        return Affine(gsd, 0, LEFT, 0, -gsd, TOP)

    def detectors(self) -> list[int]:
        """Numbers of the MSI detectors that see some of it."""
        at = np.linspace(0, self.size - 1, 64) + 0.5
        return [int(number) for number in np.unique(self.world.detector(at[None, :], at[:, None]))]

    def viewing_angles(self, band: str, detector: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Zenith and azimuth of the line of sight, degrees, on the 5 km grid; NaN away from the detector.

        Shaped on the grids of a real product: B04 minus B02 is -7.3 km along track for odd detectors.
        """
        count = -(-self.size * 10 // _ANGLE_STEP_M) + 1
        at = np.arange(count) * _ANGLE_STEP_M / 10
        x, y = at[None, :], at[:, None]
        world = self.world
        stripe = (x + DETECTOR_TILT * y - world.detector_start) / world.detector_width
        away = stripe - (detector - world.first_detector) - 0.5
        look = LINE_OF_SIGHT_KM[band] * (1 if detector % 2 else -1)
        north = 5.1 * (detector - 6) + (-9.0 if detector % 2 else 5.0) + 2.5 * away + look
        east = 14.0 - 24.0 * (detector - 6) - 24.0 * away + look * EAST_OF_NORTH
        # nodes up to a cell away from the detector's stripe carry values, so that every place has some
        outside = np.abs(away) * world.detector_width > world.detector_width / 2 + _ANGLE_STEP_M / 10
        zenith = np.rad2deg(np.arctan(np.hypot(north, east) / ORBIT_KM))
        azimuth = np.rad2deg(np.arctan2(east, north)) % 360
        return np.where(outside, np.nan, zenith), np.where(outside, np.nan, azimuth)

    def footprint(self) -> str:
        """Corners as `latitude longitude` pairs."""
        to_geographic = Transformer.from_crs(EPSG, 4326, always_xy=True)
        far = self.size * 10
        corners = ((0, 0), (far, 0), (far, far), (0, far), (0, 0))
        places = [to_geographic.transform(LEFT + x, TOP - y) for x, y in corners]
        return " ".join(f"{lat:.12f} {lon:.12f}" for lon, lat in places)


def write(safe: Path, granule: Granule) -> None:
    """Write `MTD_MSIL2A.xml` and the granule's `MTD_TL.xml`."""
    _save(_product(granule), safe / "MTD_MSIL2A.xml")
    _save(_tile(granule), safe / granule.folder / "MTD_TL.xml")


def _save(root: ET.Element, path: Path) -> None:
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)


def _add(
    parent: ET.Element, tag: str, text: object = None, attributes: Mapping[str, object] | None = None
) -> ET.Element:
    child = ET.SubElement(parent, tag, {key: str(value) for key, value in (attributes or {}).items()})
    child.text = None if text is None else str(text)
    return child


def _time(granule: Granule, seconds: float = 0.0) -> str:
    moment = granule.world.season.acquired + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _product(granule: Granule) -> ET.Element:
    space = "https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd"
    ET.register_namespace("n1", space)
    root = ET.Element(f"{{{space}}}Level-2A_User_Product")
    general = _add(root, f"{{{space}}}General_Info")
    info = _add(general, "Product_Info")
    for tag, text in (
        ("PRODUCT_START_TIME", _time(granule)),
        ("PRODUCT_STOP_TIME", _time(granule)),
        ("PRODUCT_URI", granule.product),
        ("PROCESSING_LEVEL", "Level-2A"),
        ("PRODUCT_TYPE", "S2MSI2A"),
        ("PROCESSING_BASELINE", BASELINE),
        ("PRODUCT_DOI", SIMULATED_DOI),
        ("GENERATION_TIME", _time(granule, 13000)),
        ("PREVIEW_IMAGE_URL", "Not applicable"),
        ("PREVIEW_GEO_INFO", "Not applicable"),
    ):
        _add(info, tag, text)
    take = _add(
        info,
        "Datatake",
        None,
        {"datatakeIdentifier": f"GS2A_{granule.sensed}_{_ABSOLUTE_ORBIT:06d}_N{BASELINE}"},
    )
    _add(take, "SPACECRAFT_NAME", "Sentinel-2A")
    _add(take, "DATATAKE_TYPE", "INS-NOBS")
    _add(take, "DATATAKE_SENSING_START", _time(granule))
    _add(take, "SENSING_ORBIT_NUMBER", _ORBIT)
    _add(take, "SENSING_ORBIT_DIRECTION", "DESCENDING")
    _add(_add(info, "Query_Options", None, {"completeSingleTile": "true"}), "PRODUCT_FORMAT", "SAFE_COMPACT")
    listed = _add(
        _add(_add(info, "Product_Organisation"), "Granule_List"),
        "Granule",
        None,
        {
            "granuleIdentifier": granule.identifier,
            "imageFormat": "JPEG2000",
        },
    )
    for band, gsd in _OF_IMAGES:
        _add(listed, "IMAGE_FILE", granule.image(band, gsd).removesuffix(".jp2"))
    image = _add(general, "Product_Image_Characteristics")
    for text, index in (("NODATA", 0), ("SATURATED", 65535)):
        special = _add(image, "Special_Values")
        _add(special, "SPECIAL_VALUE_TEXT", text)
        _add(special, "SPECIAL_VALUE_INDEX", index)
    order = _add(image, "Image_Display_Order")
    for tag, channel in (("RED_CHANNEL", 3), ("GREEN_CHANNEL", 2), ("BLUE_CHANNEL", 1)):
        _add(order, tag, channel)
    values = _add(image, "QUANTIFICATION_VALUES_LIST")
    _add(values, "BOA_QUANTIFICATION_VALUE", 10000, {"unit": "none"})
    _add(values, "AOT_QUANTIFICATION_VALUE", 1000.0, {"unit": "none"})
    _add(values, "WVP_QUANTIFICATION_VALUE", 1000.0, {"unit": "cm"})
    offsets = _add(image, "BOA_ADD_OFFSET_VALUES_LIST")
    for number in range(len(BAND_NAMES)):
        _add(offsets, "BOA_ADD_OFFSET", -1000, {"band_id": number})
    _add(image, "REFERENCE_BAND", 3)
    geometric = _add(root, f"{{{space}}}Geometric_Info")
    outline = _add(_add(_add(geometric, "Product_Footprint"), "Product_Footprint"), "Global_Footprint")
    _add(outline, "EXT_POS_LIST", granule.footprint())
    system = _add(geometric, "Coordinate_Reference_System")
    _add(system, "GEO_TABLES", "EPSG", {"version": 1})
    _add(system, "HORIZONTAL_CS_TYPE", "GEOGRAPHIC")
    return root


def _tile(granule: Granule) -> ET.Element:
    space = "https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd"
    ET.register_namespace("n1", space)
    root = ET.Element(f"{{{space}}}Level-2A_Tile_ID")
    general = _add(root, f"{{{space}}}General_Info")
    _add(general, "TILE_ID", granule.identifier, {"metadataLevel": "Brief"})
    _add(general, "SENSING_TIME", _time(granule, 300), {"metadataLevel": "Standard"})
    geometric = _add(root, f"{{{space}}}Geometric_Info")
    geocoding = _add(geometric, "Tile_Geocoding", None, {"metadataLevel": "Brief"})
    _add(geocoding, "HORIZONTAL_CS_NAME", "WGS84 / UTM zone 32N")
    _add(geocoding, "HORIZONTAL_CS_CODE", f"EPSG:{EPSG}")
    for gsd in (10, 20, 60):
        size = _add(geocoding, "Size", None, {"resolution": gsd})
        _add(size, "NROWS", -(-granule.size * 10 // gsd))
        _add(size, "NCOLS", -(-granule.size * 10 // gsd))
    for gsd in (10, 20, 60):
        place = _add(geocoding, "Geoposition", None, {"resolution": gsd})
        for tag, value in (("ULX", LEFT), ("ULY", TOP), ("XDIM", gsd), ("YDIM", -gsd)):
            _add(place, tag, value)
    _add_angles(_add(geometric, "Tile_Angles", None, {"metadataLevel": "Standard"}), granule)
    quality = _add(root, f"{{{space}}}Quality_Indicators_Info", None, {"metadataLevel": "Standard"})
    masks = _add(quality, "Pixel_Level_QI", None, {"geometry": "FULL_RESOLUTION"})
    for number, band in enumerate(BAND_NAMES):
        if band != "B10":
            path = f"{granule.folder}/QI_DATA/MSK_DETFOO_{band}.jp2"
            _add(masks, "MASK_FILENAME", path, {"bandId": number, "type": "MSK_DETFOO"})
    return root


def _add_angles(angles: ET.Element, granule: Granule) -> None:
    season = granule.world.season
    count = -(-granule.size * 10 // _ANGLE_STEP_M) + 1
    sun = _add(angles, "Sun_Angles_Grid")
    _add_grid(sun, "Zenith", np.full((count, count), season.sun_zenith_deg))
    _add_grid(sun, "Azimuth", np.full((count, count), season.sun_azimuth_deg))
    mean_sun = _add(angles, "Mean_Sun_Angle")
    _add(mean_sun, "ZENITH_ANGLE", season.sun_zenith_deg, {"unit": "deg"})
    _add(mean_sun, "AZIMUTH_ANGLE", season.sun_azimuth_deg, {"unit": "deg"})
    views = [
        (number, detector, *granule.viewing_angles(band, detector))
        for number, band in enumerate(BAND_NAMES)
        for detector in granule.detectors()
    ]
    for number, detector, zenith, azimuth in views:
        grid = _add(
            angles, "Viewing_Incidence_Angles_Grids", None, {"bandId": number, "detectorId": detector}
        )
        _add_grid(grid, "Zenith", zenith)
        _add_grid(grid, "Azimuth", azimuth)
    means = _add(angles, "Mean_Viewing_Incidence_Angle_List")
    for number in range(len(BAND_NAMES)):
        mean = _add(means, "Mean_Viewing_Incidence_Angle", None, {"bandId": number})
        here = [(zenith, azimuth) for band, _, zenith, azimuth in views if band == number]
        _add(mean, "ZENITH_ANGLE", float(np.nanmean([zenith for zenith, _ in here])), {"unit": "deg"})
        _add(mean, "AZIMUTH_ANGLE", float(np.nanmean([azimuth for _, azimuth in here])), {"unit": "deg"})


def _add_grid(parent: ET.Element, tag: str, values: NDArray[np.float64]) -> None:
    grid = _add(parent, tag)
    _add(grid, "COL_STEP", _ANGLE_STEP_M, {"unit": "m"})
    _add(grid, "ROW_STEP", _ANGLE_STEP_M, {"unit": "m"})
    listed = _add(grid, "Values_List")
    for row in values:
        _add(listed, "VALUES", " ".join("NaN" if np.isnan(value) else f"{value:.6g}" for value in row))
