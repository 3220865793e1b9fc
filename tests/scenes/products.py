"""Small Sentinel-2 products written for the tests: JPEG 2000 images and hand-written metadata."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from pipeline.scenes.scene import BAND_NAMES, BANDS_10M, BANDS_20M

CRS = "EPSG:32632"
ORIGIN = (600000.0, 5800000.0)
SIZE = 240
"""Pixels at 10 m; a multiple of 6, so that all three grids end together."""
STEM = "T32UPD_20240615T102021"
PRODUCTS = {
    "L1C": "S2B_MSIL1C_20240615T102021_N0510_R065_T32UPD_20240615T123456",
    "L2A": "S2B_MSIL2A_20240615T102021_N0510_R065_T32UPD_20240615T133456",
}
ALL_MINUS_1000 = dict.fromkeys(BAND_NAMES, -1000)
GRANULE = "GRANULE/L1C_T32UPD_A037000_20240615T102345"


def product_name(level: str, baseline: str = "05.10") -> str:
    return PRODUCTS[level].replace("N0510", f"N{baseline.replace('.', '')}")


def gsd_of(band: str) -> int:
    return 10 if band in BANDS_10M else 20 if band in BANDS_20M or band == "SCL" else 60


def write_raster(path: Path, array: np.ndarray, gsd: float = 10, origin=ORIGIN, crs=CRS, **profile) -> Path:
    """A raster of (H, W) or (C, H, W); JPEG 2000 without loss or GeoTIFF, by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = array[None] if array.ndim == 2 else array
    jp2 = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "BLOCKXSIZE": 64, "BLOCKYSIZE": 64}
    profile = ({"driver": "GTiff"} if path.suffix == ".tif" else jp2) | profile
    descriptions = profile.pop("descriptions", None)
    scales = profile.pop("scales", None)
    tags = profile.pop("tags", {})
    with rasterio.open(
        path,
        "w",
        width=bands.shape[2],
        height=bands.shape[1],
        count=len(bands),
        dtype=bands.dtype,
        crs=crs,
        transform=profile.pop("transform", from_origin(*origin, gsd, gsd)),
        **profile,
    ) as dataset:
        dataset.write(bands)
        dataset.update_tags(**tags)
        if descriptions:
            dataset.descriptions = descriptions
        if scales:
            dataset.scales = scales
    return path


def numbers(band: str, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """Digital numbers of a band at its own resolution; random, never 0."""
    side = size * 10 // gsd_of(band)
    rng = np.random.default_rng([seed, *band.encode()])
    return rng.integers(1, 6000, (side, side)).astype(np.uint16)


def angle_grid(band_id: int, detector: int, northing_m: float, seen: np.ndarray) -> str:
    """One element of viewing angles: the satellite stands `northing_m` north of the nodes that are `seen`."""
    zenith = np.degrees(np.arctan2(abs(northing_m), 786e3))
    azimuth = 0.0 if northing_m > 0 else 180.0

    def grid(name: str, value: float) -> str:
        rows = "".join(
            f"<VALUES>{' '.join(f'{value:.9f}' if hit else 'NaN' for hit in row)}</VALUES>" for row in seen
        )
        return (
            f'<{name}><COL_STEP unit="m">5000</COL_STEP><ROW_STEP unit="m">5000</ROW_STEP>'
            f"<Values_List>{rows}</Values_List></{name}>"
        )

    return (
        f'<Viewing_Incidence_Angles_Grids bandId="{band_id}" detectorId="{detector}">'
        f"{grid('Zenith', zenith)}{grid('Azimuth', azimuth)}</Viewing_Incidence_Angles_Grids>"
    )


def tile_xml(grids: str = "", origin=ORIGIN, level: str = "L1C", baseline: str = "05.10") -> str:
    kind = f"Level-{level[1:]}"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:{kind}_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_{kind}_Tile_Metadata.xsd">
<n1:General_Info><TILE_ID>S2B_OPER_MSI_{level}_TL_2BPS_20240615T123456_A037000_T32UPD_N{baseline}</TILE_ID>
<SENSING_TIME>2024-06-15T10:23:45.678Z</SENSING_TIME></n1:General_Info>
<n1:Geometric_Info><Tile_Geocoding><HORIZONTAL_CS_CODE>{CRS}</HORIZONTAL_CS_CODE>
<Geoposition resolution="10"><ULX>{origin[0]:.0f}</ULX><ULY>{origin[1]:.0f}</ULY></Geoposition>
</Tile_Geocoding><Tile_Angles>{grids}</Tile_Angles></n1:Geometric_Info></n1:{kind}_Tile_ID>"""


def product_xml(
    level: str = "L1C",
    baseline: str = "05.10",
    offsets: Mapping[str, int] | None = None,
    doi: str = "https://doi.org/10.5270/S2_-742ikth",
    direction: str = "DESCENDING",
) -> str:
    kind = f"Level-{level[1:]}"
    quantum, tag = (
        ("<QUANTIFICATION_VALUE>10000</QUANTIFICATION_VALUE>", "RADIO_ADD_OFFSET")
        if level == "L1C"
        else (
            "<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE>"
            "<AOT_QUANTIFICATION_VALUE>1000</AOT_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>",
            "BOA_ADD_OFFSET",
        )
    )
    if offsets is None:
        offsets = ALL_MINUS_1000 if baseline >= "04.00" else {}
    listed = "".join(
        f'<{tag} band_id="{BAND_NAMES.index(band)}">{offset}</{tag}>' for band, offset in offsets.items()
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:{kind}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_{kind}.xsd">
<n1:General_Info>
<Product_Info><PRODUCT_START_TIME>2024-06-15T10:20:21.024Z</PRODUCT_START_TIME>
<PRODUCT_URI>{product_name(level, baseline)}.SAFE</PRODUCT_URI>
<PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE><PRODUCT_DOI>{doi}</PRODUCT_DOI><Datatake><SPACECRAFT_NAME>Sentinel-2B</SPACECRAFT_NAME>
<SENSING_ORBIT_DIRECTION>{direction}</SENSING_ORBIT_DIRECTION></Datatake></Product_Info>
<Product_Image_Characteristics>{quantum}{listed}</Product_Image_Characteristics>
</n1:General_Info></n1:{kind}_User_Product>"""


def write_safe(
    folder: Path,
    level: str = "L1C",
    images: Mapping[str, np.ndarray] | None = None,
    product: str | None = None,
    tile: str | None = None,
    footprint: np.ndarray | str | None = None,
    baseline: str = "05.10",
) -> Path:
    """A `.SAFE` folder below `folder`; all bands of the level unless `images` are given (SCL for L2A)."""
    root = folder / f"{product_name(level, baseline)}.SAFE"
    if images is None:
        bands = [band for band in BAND_NAMES if level == "L1C" or band != "B10"]
        images = {band: numbers(band) for band in bands}
    for band, array in images.items():
        gsd = gsd_of(band)
        name = f"{STEM}_{band}.jp2" if level == "L1C" else f"R{gsd}m/{STEM}_{band}_{gsd}m.jp2"
        write_raster(root / GRANULE / "IMG_DATA" / name, array, gsd)
    if isinstance(footprint, np.ndarray):
        write_raster(root / GRANULE / "QI_DATA" / "MSK_DETFOO_B02.jp2", footprint)
    elif footprint:
        path = root / GRANULE / "QI_DATA" / "MSK_DETFOO_B02.gml"
        path.parent.mkdir(parents=True)
        path.write_text(footprint)
    product = product_xml(level, baseline) if product is None else product
    (root / f"MTD_MSI{level}.xml").write_text(product)
    (root / GRANULE / "MTD_TL.xml").write_text(
        tile_xml(level=level, baseline=baseline) if tile is None else tile
    )
    return root


def write_manifest(safe: Path, algorithm: str = "SHA3-256", function: str = "sha3_256") -> None:
    """A `manifest.safe` like ESA's, with the checksums of all files."""
    streams = "".join(
        f'<dataObject ID="D{i}"><byteStream mimeType="text/xml" size="{file.stat().st_size}">'
        f'<fileLocation locatorType="URL" '
        f'href="./{file.relative_to(safe).as_posix()}"/><checksum checksumName="{algorithm}">'
        f"{hashlib.new(function, file.read_bytes()).hexdigest().upper()}</checksum></byteStream></dataObject>"
        for i, file in enumerate(sorted(file for file in safe.rglob("*") if file.is_file()))
    )
    (safe / "manifest.safe").write_text(
        '<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" version="esa/safe/sentinel/1.1"><metadataSection/>'
        f"<dataObjectSection>{streams}</dataObjectSection></xfdu:XFDU>"
    )


def zip_of(safe: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(safe.rglob("*")):
            archive.write(file, file.relative_to(safe.parent))
    return target
