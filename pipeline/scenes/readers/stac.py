"""Reader of STAC items, from a file or URL, with one raster a band."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse, urlsplit

import pystac
from odc.geo.geobox import GeoBox

from pipeline.errors import MetadataError, MissingBandError, NotAProductError, SceneNotFoundError
from pipeline.input_warnings import warn
from pipeline.redaction import is_url, without_secrets
from pipeline.safe_json import MOST_BYTES, parse_json, read_json, read_json_object, read_limited
from pipeline.scenes.download import fetch
from pipeline.scenes.raster.datasets import local_file, open_raster
from pipeline.scenes.raster.grids import on_grid, scene_grid
from pipeline.scenes.readers import stac_properties
from pipeline.scenes.readers.geotiff import DEFAULT_SCALE
from pipeline.scenes.readers.naming import band_name, native_gsd, parse_time
from pipeline.scenes.readers.reader import Reader
from pipeline.scenes.readers.stac_properties import OffsetStatements
from pipeline.scenes.scene import BAND_NAMES, BANDS_10M, BandSource, Scene, scene_name

COMMON_NAMES: Mapping[str, str] = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge071": "B05",
    "rededge1": "B05",
    "rededge075": "B06",
    "rededge2": "B06",
    "rededge078": "B07",
    "rededge3": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
}
"""Sentinel-2 bands by common name of the EO extension and of catalogues."""

MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    pystac.STACError,
    pystac.STACTypeError,
)
"""Errors that a document with invalid STAC fields can cause."""

_STORES: Mapping[str, str] = {"s3": "/vsis3/", "gs": "/vsigs/"}
_MOST_ASSETS = 1000
_MOST_HREF = 4096
_RASTER_SUFFIXES = (".tif", ".tiff", ".jp2")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_DATA = {"thumbnail", "overview", "visual", "metadata"}
_GSD_IN_KEY = re.compile(r"_(10|20|60)m$")


@dataclass(frozen=True)
class _BandAsset:
    band: str
    href: str
    gsd: float
    is_tiff: bool
    scale: float | None
    offset: float | None
    nodata: float | None

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """Best first: at the band's own resolution, a GeoTIFF, fine."""
        native = 20.0 if self.band == "SCL" else native_gsd(self.band)
        return self.gsd != native, not self.is_tiff, self.gsd


def open_stac_item(href: str) -> Scene:
    """Open the Sentinel-2 scene of a STAC item; `href` is the item's file or URL.

    Bands are found by `eo:bands` or `bands`, by key, and by common name. Remote rasters are read by ranges.
    Scale, offset and nodata come from `raster:bands` (or STAC 1.1's `bands`). Where the item's other
    statements about the offset (`boa_offset_applied`, the processing baseline) disagree with that, the bands
    get the likelier one and the scene the other as `other_offset`, for the pixels to decide.

    An item is not trusted: one from a server leads to servers only, never to files of this machine.

    Raises
    ------
    SceneNotFoundError
        If the item can't be fetched; UnreachableError where that may pass.
    NotAProductError
        If it is not a STAC item, larger than any, or none of its assets is a Sentinel-2 band.
    MetadataError
        If a band lies where no band may, or its fields are not as STAC says.
    MissingBandError
        If there is no 10 m band.
    CorruptImageError, GeoreferenceError
        If the header of a 10 m band can't be read, or is not georeferenced.
    """
    return _opened(_read_item(href), href, None if is_url(href) else Path(href))


def scene_of_item(item: pystac.Item) -> Scene:
    """Return the Sentinel-2 scene of a STAC item in memory, such as a search result with signed addresses.

    Local files are read unless the item's own address is that of a server. Errors as `open_stac_item`.
    """
    href = item.get_self_href() or ""
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    file = Path(href) if href and not is_url(href) and Path(href).is_file() else None
    return _opened(_checked_item(document, href), href or item.id, file)


def _opened(item: pystac.Item, href: str, file: Path | None) -> Scene:
    """Return the scene of an item; `file` is the item's own."""
    try:
        return _scene(item, href, file)
    except MALFORMED as error:
        raise MetadataError(
            f"Fields of the STAC item {item.id} are not as STAC says ({str(error)[:200]}): {href}"
        ) from error


def _scene(item: pystac.Item, href: str, file: Path | None) -> Scene:
    properties = item.properties
    best: dict[str, _BandAsset] = {}
    for asset in _band_assets(item, is_url(href)):
        if asset.band not in best or asset.rank < best[asset.band].rank:
            best[asset.band] = asset
    scl = best.pop("SCL", None)
    if not best:
        raise NotAProductError(f"No asset of the STAC item {item.id} is a Sentinel-2 band: {href}")
    level = stac_properties.level(properties, item.collection_id, item.id)
    statements = stac_properties.offset_statements(properties, item.id, level)
    bands, other_offset = _sources(best, statements)
    sources = [*bands.values()]
    if scl:
        sources.append(BandSource("SCL", scl.href, scale=1.0, nodata=0.0, gsd=scl.gsd))
    files = [file, *(local_file(source.href) for source in sources)]
    grid, crs = _grid(bands, item.id)
    moment = properties.get("datetime") or properties.get("start_datetime")
    return Scene(
        id=item.id,
        href=without_secrets(href),
        grid=grid,
        bands={name: on_grid(source, crs, grid) for name, source in bands.items()},
        acquired=parse_time(moment) if moment else None,
        platform=stac_properties.platform(properties, item.id),
        level=level,
        baseline=statements.baseline,
        tile=stac_properties.tile(properties, item.id),
        scl=on_grid(sources[-1], crs, grid, is_classes=True) if scl else None,
        files=tuple(each for each in files if each is not None),
        radiometry="item" if statements.says_something or _states_offset(best) else "assumed",
        other_offset=other_offset,
        footprint=stac_properties.footprint(item.geometry),
        datastrip=stac_properties.datastrip(properties),
        processed=stac_properties.processed(properties, item.id),
    )


def _read_item(href: str) -> pystac.Item:
    text = fetch(href, "The STAC item", MOST_BYTES) if is_url(href) else _read_file(href)
    try:
        document = parse_json(text)
    except ValueError as error:
        raise NotAProductError(f"Not a STAC item ({str(error).removeprefix('is ')}): {href}") from error
    if not (isinstance(document, dict) and document.get("type") == "Feature" and "assets" in document):
        raise NotAProductError(f"Not a STAC item (a GeoJSON Feature with assets): {href}")
    return _checked_item(document, href)


def _checked_item(document: dict[str, Any], href: str) -> pystac.Item:
    """Return a document as an item whose assets are relative to `href`, if it has an address."""
    if isinstance(document["assets"], dict) and len(document["assets"]) > _MOST_ASSETS:
        raise NotAProductError(f"A STAC item has at most {_MOST_ASSETS} assets: {href}")
    # No link is followed. Relative addresses of assets are relative to the item.
    document["links"] = []
    try:
        item = pystac.Item.from_dict(document, preserve_dict=False)
    except MALFORMED as error:
        raise NotAProductError(f"Not a valid STAC item ({str(error)[:200]}): {href}") from error
    if not isinstance(item.id, str) or not isinstance(item.properties, dict):
        raise NotAProductError(f"Not a valid STAC item (its id is no text, or its properties none): {href}")
    item.id = scene_name(item.id)  # it also appears in messages
    if href:
        item.set_self_href(href if is_url(href) else str(Path(href).resolve()))
    return item


def _read_file(href: str) -> bytes:
    try:
        return read_limited(Path(href))
    except OSError as error:
        raise SceneNotFoundError(f"The STAC item can't be read: {href} ({error.strerror})") from error
    except ValueError as error:
        raise NotAProductError(f"The STAC item {error}: {href}") from error


def _band_assets(item: pystac.Item, fetched: bool) -> Iterator[_BandAsset]:
    for key, asset in item.assets.items():
        described = _described(asset)
        band = _band_of(key, asset, described)
        href = asset.get_absolute_href()
        if band is None or href is None:
            continue
        fields = described[0] | {
            name.removeprefix("raster:"): value
            for name, value in asset.extra_fields.items()
            if name.startswith("raster:") and name != "raster:bands"
        }
        size = _GSD_IN_KEY.search(key)
        gsd = fields.get("spatial_resolution") or asset.extra_fields.get("gsd") or (size and size[1])
        scale = _finite(fields.get("scale"), "scale", item.id, above=0.0)
        offset = _finite(fields.get("offset"), "offset", item.id)
        if offset is not None and abs(offset) >= 1.0:  # in digital numbers, as the product's XML has it
            offset *= DEFAULT_SCALE if scale is None else scale
        yield _BandAsset(
            band,
            _gdal_href(href, f"Band {band} of the STAC item {item.id}", fetched),
            float(gsd or (20.0 if band == "SCL" else native_gsd(band))),
            "tiff" in (asset.media_type or "") or urlparse(href).path.lower().endswith((".tif", ".tiff")),
            scale,
            offset,
            _float(fields.get("nodata", asset.extra_fields.get("nodata")), "nodata", item.id),
        )


def _described(asset: pystac.Asset) -> list[dict[str, Any]]:
    """Merge an asset's `eo:bands`, `raster:bands` and `bands` into one description a band."""
    fields = asset.extra_fields
    lists = [fields.get(key) or [] for key in ("eo:bands", "raster:bands", "bands")]
    count = max(1, *(len(entries) for entries in lists))
    merged: list[dict[str, Any]] = [{} for _ in range(count)]
    for entries in lists:
        for i, entry in enumerate(entries):
            for name, value in entry.items():
                merged[i].setdefault(name.removeprefix("raster:").removeprefix("eo:"), value)
    return merged


def _band_of(key: str, asset: pystac.Asset, described: list[dict[str, Any]]) -> str | None:
    if len(described) != 1 or _NOT_DATA & {*(asset.roles or ()), key.lower()}:
        return None
    stem = key.lower().removesuffix("-jp2")
    if _GSD_IN_KEY.sub("", stem) == "scl":
        return "SCL"
    names = (described[0].get("name"), stem, described[0].get("common_name"))
    for name in names:
        band = band_name(name) or COMMON_NAMES.get(_GSD_IN_KEY.sub("", str(name).lower()))
        if band:
            return band
    return None


def _gdal_href(href: str, what: str, fetched: bool) -> str:
    """Return the name of an address for GDAL. Raises MetadataError for an address that no band may have."""
    if len(href) > _MOST_HREF:
        raise MetadataError(f"The address of {what} has more than {_MOST_HREF} characters: {href[:200]}...")
    address = urlparse(href)
    if _CONTROL.search(href):
        raise MetadataError(f"The address of {what} has control characters: {href[:200]!r}")
    if is_url(href):
        return f"/vsicurl/{href}"
    if address.scheme in _STORES:
        return f"{_STORES[address.scheme]}{address.netloc}{address.path}"
    path = unquote(address.path) if address.scheme == "file" else href
    is_raster = path.lower().endswith(_RASTER_SUFFIXES) and not path.startswith("/vsi")
    if fetched or address.scheme not in ("", "file") or not is_raster:
        places = "http, https, s3 or gs" if fetched else "http, https, s3, gs, or a file (.tif, .jp2)"
        raise MetadataError(f"The address of {what} must be {places}. Received: {href[:200]}")
    return path


def _finite(value: Any, what: str, item_id: str, above: float = -math.inf) -> float | None:
    number = _float(value, what, item_id)
    if number is not None and not above < number < math.inf:
        raise MetadataError(f"{what} of a band of {item_id} gives no reflectance: {number:g}")
    return number


def _float(value: Any, what: str, item_id: str) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise MetadataError(f"{what} of a band of {item_id} is not a number: {value!r}") from error


def _sources(
    assets: Mapping[str, _BandAsset], statements: OffsetStatements
) -> tuple[dict[str, BandSource], float | None]:
    """Return the sources of bands, and the offset that another statement gives them."""
    bands, other_offset = {}, None
    all_stated = {asset.offset for asset in assets.values()} - {None}
    common = all_stated.pop() if len(all_stated) == 1 else None  # some catalogues leave out some bands
    for name in BAND_NAMES:
        if name not in assets:
            continue
        asset = assets[name]
        offset, other = statements.candidates(common if asset.offset is None else asset.offset)
        other_offset = other if other_offset is None else other_offset
        scale = DEFAULT_SCALE if asset.scale is None else asset.scale
        nodata = 0.0 if asset.nodata is None else asset.nodata
        bands[name] = BandSource(name, asset.href, 1, scale, offset, nodata, asset.gsd)
    return bands, other_offset


def _states_offset(assets: Mapping[str, _BandAsset]) -> bool:
    return any(asset.offset is not None for asset in assets.values())


def _grid(bands: Mapping[str, BandSource], item_id: str) -> tuple[GeoBox, str]:
    """Return the scene's grid, and the CRS of its rasters as WKT."""
    finest = [bands[name] for name in BANDS_10M if name in bands and bands[name].gsd == 10.0]
    if not finest:
        raise MissingBandError(
            f"The 10 m grid needs one of {', '.join(BANDS_10M)} at 10 m; the STAC item {item_id} has: "
            f"{', '.join(bands)}."
        )
    with open_raster(finest[0].href, f"Band {finest[0].name}") as dataset:
        return scene_grid(dataset), dataset.crs.to_wkt()


def item_id(path: Path) -> str | None:
    """Return the id of a STAC item in a file; None if it is something else.

    Warns of a file that can't be read.
    """
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        why = f"can't be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        warn(f"{path} {why}, so it is no STAC item that can be run.")
        return None
    is_item = isinstance(document, dict) and document.get("type") == "Feature" and "assets" in document
    return str(document["id"]) if is_item and "id" in document else None


def asset_files(path: Path) -> list[Path]:
    """Return the local files that a STAC item in a file names as assets; none if it is something else."""
    try:
        assets = list(read_json_object(path)["assets"].values())[:_MOST_ASSETS]
        hrefs = [urlsplit(str(asset["href"])) for asset in assets]
        places = [
            unquote(href.path) if href.scheme else href.geturl()
            for href in hrefs
            if href.scheme in ("", "file")
        ]
        return [file for place in places if (file := path.parent / place).is_file()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _is_json(path: Path) -> bool:
    return path.suffix.lower() in (".json", ".geojson")


READER = Reader(
    "a STAC item (.json file or URL)",
    lambda href: is_url(href) or _is_json(Path(href)),
    lambda href, _: open_stac_item(href),
    finds=lambda path: _is_json(path) and bool(item_id(path)),
)
