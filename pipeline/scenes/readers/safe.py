"""Reader of ESA's Sentinel-2 products: a `.SAFE` folder, or its zip, read in place."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

import shapely
from odc.geo.geobox import GeoBox
from shapely import Polygon

from pipeline.errors import GeoreferenceError, MetadataError, MissingBandError, NotAProductError
from pipeline.input_warnings import warn
from pipeline.redaction import is_url
from pipeline.scenes.msi import MsiGeometry, angle_nodes, footprint_polygons, viewing_delays
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.raster.grids import scene_grid
from pipeline.scenes.readers.band_folder import is_band_folder
from pipeline.scenes.readers.checksums import listed_checksums
from pipeline.scenes.readers.naming import datastrip_start, native_gsd, parse_time, processed_in_name
from pipeline.scenes.readers.product_files import (
    METADATA,
    PARTS,
    Level,
    Product,
    is_refused,
    is_zip,
    product_files,
    product_folders,
    root_of,
    zips_in,
)
from pipeline.scenes.readers.reader import Reader
from pipeline.scenes.readers.safe_consistency import check_consistent, check_place
from pipeline.scenes.readers.safe_metadata import (
    ROOTS,
    baseline_of,
    offsets,
    parse,
    platform_of,
    quantification,
    text,
    text_or_empty,
)
from pipeline.scenes.scene import BAND_NAMES, BANDS_10M, BandSource, Scene, scene_name

SIMULATED_DOI = "simulated by truckscape"
"""PRODUCT_DOI of the products of our own simulator."""

_IMAGE = re.compile(r"IMG_DATA/(?:R\d\dm/)?[^/]*_(B\d\d|B8A|SCL)(?:_(\d\d)m)?\.jp2$")
_FOOTPRINT = re.compile(r"QI_DATA/[^/]*MSK_DETFOO_B02[^/]*\.(jp2|gml)$")
_TILE = re.compile(r"_T(\d\d[A-Z]{3})_")
_PLAIN_NAME = re.compile(r"\w[\w.-]*")


def open_safe(path: Path) -> Scene:
    """Open a `.SAFE` folder or its zip: L1C or L2A, of any baseline since 02.04.

    A folder that holds one product, or a part of a product, stands for it; see `product_folders`.

    Offsets and the quantification value come from the product's XML, band by band, never from its date.
    Nothing is extracted. Reads the metadata, and the header of one band for the grid.

    Raises
    ------
    NotAProductError
        If there is no product, or more than one, or it has several tiles.
    MetadataError
        If metadata are missing, broken, or unsafe (entities, zip members outside of the product).
    MissingBandError
        If it has none of the bands at 10 m.
    CorruptImageError, GeoreferenceError
        If the header of a band can't be read, or is not georeferenced.
    """
    product = product_files(path)
    metadata_name, level = _metadata_of(product)
    metadata = parse(product, metadata_name, ROOTS["product", level])
    tile_name = _tile_metadata_of(product)
    tile = parse(product, tile_name, ROOTS["tile", level])

    granule = PurePosixPath(tile_name).parent
    images = _images(product, granule)
    baseline, platform = baseline_of(metadata), platform_of(metadata)
    used = {band: name for band, (_, name) in images.items()}
    check_consistent(metadata, tile, level, product.safe_name, used)
    bands = _bands(product, metadata, level, baseline, images)
    grid = _grid(product, tile, bands)
    scl, footprint = images.get("SCL"), _footprint(product, granule)
    files = sorted({metadata_name, tile_name, *used.values(), *([footprint] if footprint else [])})
    simulated = metadata.findtext(".//PRODUCT_DOI", "").strip() == SIMULATED_DOI
    uri = text_or_empty(metadata, "PRODUCT_URI")
    return Scene(
        id=_scene_id(product, metadata),
        href=str(product.root),
        grid=grid,
        bands=bands,
        acquired=parse_time(text(tile, "SENSING_TIME")),
        platform=platform,
        level=level,
        baseline=baseline,
        tile=_tile_of(tile, product),
        simulated=simulated,
        scl=BandSource("SCL", product.href(scl[1]), scale=1.0, nodata=0.0, gsd=scl[0]) if scl else None,
        msi=_msi(product, metadata, tile, grid, footprint),
        files=(product.root,) if product.prefix is not None else tuple(product.root / name for name in files),
        checksums=listed_checksums(product, files),
        radiometry="product",
        # Simulated scenes differ by the seed in their names.
        datastrip=uri if simulated else datastrip_start(text_or_empty(tile, "DATASTRIP_ID")),
        processed=processed_in_name(uri),
    )


def _metadata_of(product: Product) -> tuple[str, Level]:
    found: list[tuple[str, Level]] = [
        (name, "L1C" if level == "L1C" else "L2A")
        for name, level in METADATA.items()
        if name in product.names
    ]
    if not found:
        raise NotAProductError(
            f"{product.root} has neither MTD_MSIL1C.xml nor MTD_MSIL2A.xml; a Sentinel-2 product has one."
        )
    if len(found) > 1:
        raise NotAProductError(
            f"{product.root} has metadata of both L1C and L2A; a product has one level: separate them."
        )
    return found[0]


def _tile_metadata_of(product: Product) -> str:
    names = [name for name in product.names if re.fullmatch(r"GRANULE/[^/]+/MTD_TL\.xml", name)]
    if not names:
        raise MetadataError(f"GRANULE/*/MTD_TL.xml is missing in {product.root}; download the product again.")
    if len(names) > 1:
        raise NotAProductError(
            f"A product has one tile since December 2016; {product.root} has {len(names)}: split it."
        )
    return names[0]


def _images(product: Product, granule: PurePosixPath) -> dict[str, tuple[float, str]]:
    """Return pixel size and path by band (and SCL), at its native resolution, else the finest available."""
    found: dict[str, tuple[float, str]] = {}
    for name, match in product.matching(_IMAGE):
        if not PurePosixPath(name).is_relative_to(granule):
            continue
        band = match[1]
        native = 20.0 if band == "SCL" else native_gsd(band)
        gsd = float(match[2] or native)
        if band in found and found[band][0] == gsd:
            raise MetadataError(
                f"{product.root} has two images of {band} at {gsd:g} m, {PurePosixPath(found[band][1]).name} "
                f"and {PurePosixPath(name).name}; a product has one. Download it again."
            )
        if band not in found or (gsd != native, gsd) < (found[band][0] != native, found[band][0]):
            found[band] = (gsd, name)
    return found


def _bands(
    product: Product, metadata: Element, level: Level, baseline: str, images: dict[str, tuple[float, str]]
) -> dict[str, BandSource]:
    quantum = quantification(metadata, level, baseline)
    added = offsets(metadata, level, baseline)
    bands = {}
    for name in BAND_NAMES:
        if name not in images:
            continue
        if added and name not in added:
            raise MetadataError(
                f"The offset of {name} is missing in the metadata, though other bands have one."
            )
        gsd, href = images[name][0], product.href(images[name][1])
        if gsd != native_gsd(name):
            warn(
                f"{name} has no image at {native_gsd(name):g} m, so that of {gsd:g} m is used; an incomplete "
                f"product? {href}"
            )
        bands[name] = BandSource(name, href, 1, 1.0 / quantum, added.get(name, 0.0) / quantum, 0.0, gsd)
    return bands


def _grid(product: Product, tile: Element, bands: dict[str, BandSource]) -> GeoBox:
    finest = [bands[name] for name in BANDS_10M if name in bands and bands[name].gsd == 10.0]
    if not finest:
        raise MissingBandError(
            f"The 10 m grid needs one of {', '.join(BANDS_10M)} at 10 m; {product.root} has: "
            f"{', '.join(bands) or 'none'}."
        )
    with open_raster(finest[0].href, f"Band {finest[0].name}") as dataset:
        grid = scene_grid(dataset)
        if grid.crs != dataset.crs.to_wkt():
            raise GeoreferenceError(
                f"Images of a product are in UTM; {dataset.name} is in {dataset.crs.to_string()}."
            )
        check_place(tile, dataset)
        return grid


def _scene_id(product: Product, metadata: Element) -> str:
    name = product.safe_name
    if name.upper().endswith(".SAFE"):
        return scene_name(name[: -len(".SAFE")])
    name = re.sub(r"\.SAFE$", "", text(metadata, "PRODUCT_URI"), flags=re.IGNORECASE)
    if not _PLAIN_NAME.fullmatch(name):
        raise MetadataError(
            f"PRODUCT_URI may have letters, digits, '_', '-' and '.' only. Received: {name[:200]!r}. "
            "Download the product again."
        )
    return name


def _tile_of(tile: Element, product: Product) -> str | None:
    match = _TILE.search(text(tile, "TILE_ID")) or _TILE.search(product.safe_name)
    return match[1] if match else None


def _footprint(product: Product, granule: PurePosixPath) -> str | None:
    """Return the path of the detector footprints: the raster, else the polygons of older products."""
    found = [name for name, _ in product.matching(_FOOTPRINT) if PurePosixPath(name).is_relative_to(granule)]
    return max(found, key=lambda name: name.endswith(".jp2"), default=None)


def _msi(
    product: Product, metadata: Element, tile: Element, grid: GeoBox, footprint: str | None
) -> MsiGeometry:
    latitude = grid.extent.to_crs("EPSG:4326").centroid.coords[0][1]
    descending = metadata.findtext(".//SENSING_ORBIT_DIRECTION", "DESCENDING").strip().upper() != "ASCENDING"
    is_raster = footprint is not None and footprint.endswith(".jp2")
    return MsiGeometry(
        delays_s=viewing_delays(tile, latitude, descending),
        footprint=product.href(footprint) if footprint and is_raster else None,
        polygons=_polygons(product, footprint, grid) if footprint and not is_raster else (),
        nodes=angle_nodes(tile),
    )


def _polygons(product: Product, name: str, grid: GeoBox) -> tuple[tuple[int, Polygon], ...]:
    polygons = footprint_polygons(parse(product, name))
    scene = shapely.box(*grid.boundingbox)
    if polygons and not any(shapely.box(*polygon.bounds).intersects(scene) for _, polygon in polygons):
        raise MetadataError(f"The detector footprints in {name} are not on the scene; download it again.")
    return polygons


def _is_product(path: Path) -> bool:
    if path.is_dir():
        return _is_among_others(path) or (not is_band_folder(path) and bool(zips_in(path)))
    return is_refused(path) or path.suffix.upper() == ".SAFE" or path.name in PARTS or is_zip(path)


def _is_among_others(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in (".zip", ".safe", "") and is_zip(path)
    if path.suffix.upper() == ".SAFE" or root_of(path):
        return True
    return path.is_dir() and not is_band_folder(path) and bool(product_folders(path))


READER = Reader(
    "a .SAFE folder or its zip",
    lambda href: not is_url(href) and _is_product(Path(href)),
    lambda href, _: open_safe(Path(href)),
    finds=_is_among_others,
)
