"""STAC item of a run, and a static STAC catalogue of all runs of a folder."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import geopandas as gpd
import pandas as pd
import pystac
import shapely
from pystac import MediaType, RelType

from pipeline.errors import GeoreferenceError
from pipeline.layers.formats.geojson import geojson_feature, lonlat_bbox
from pipeline.layers.landcover import NODATA
from pipeline.models.legend import LegendClass
from pipeline.printable import is_text, printable
from pipeline.safe_json import read_json_object
from pipeline.scenes.scene import Scene
from pipeline.storage.atomic import replacing
from pipeline.storage.out_folder import CATALOG, COLLECTION

_EXTENSIONS: Mapping[str, str] = {
    "proj": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "classification": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "table": "https://stac-extensions.github.io/table/v1.2.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
}
CATALOG_ID = "truckscape"
COLLECTION_ID = "truckscape-scenes"
CATALOG_FILES = (COLLECTION, CATALOG)
FIRST_LIGHT = datetime(2015, 6, 23, tzinfo=UTC)
"""Launch of Sentinel-2A: no scene is older."""
_DATE_NOTE = "The source has the date of the acquisition, not its time: start and end are those of that day."
_TIME_NOTE = "The source has no acquisition time: start and end are Sentinel-2A's launch and the run's end."
_FOOTPRINT_POINTS = 16
_MEDIA_TYPES = {
    ".geojson": MediaType.GEOJSON,
    ".gpkg": MediaType.GEOPACKAGE,
    ".tif": MediaType.COG,
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": MediaType.FLATGEOBUF,
    ".pmtiles": "application/vnd.pmtiles",
    ".json": MediaType.JSON,
    ".html": MediaType.HTML,
    ".qml": MediaType.XML,
    ".png": MediaType.PNG,
}
_CODES = {".geojson": "EPSG:4326", ".pmtiles": "EPSG:3857"}
_METADATA_SUFFIXES = {".json", ".html", ".qml"}
_SHA2_256 = bytes((0x12, 32)).hex()
"""Multihash's code of the algorithm and length of the digest (https://multiformats.io/multihash)."""
_LICENCE = (
    "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
    "Legal notice on the use of Copernicus Sentinel data",
)
_PROCESSOR = pystac.Provider("truckscape", roles=[pystac.ProviderRole.PROCESSOR])
_COPERNICUS = pystac.Provider(
    "European Union/ESA/Copernicus",
    roles=[pystac.ProviderRole.PRODUCER, pystac.ProviderRole.LICENSOR],
    url="https://dataspace.copernicus.eu",
)
_SUMMARIZED = ("platform", "constellation", "instruments", "gsd", "proj:code")
_RANGES = ("truckscape:trucks", "truckscape:seen_fraction")
_IN_URLS = "%/:?#[]@!$&'()*+,;=~"
"""Characters that stay in a URL: those with a meaning there, and % of those that are encoded already."""
_ATTEMPTS = 10

log = logging.getLogger(__name__)


def build_item(
    scene: Scene,
    run: Mapping[str, Any],
    outputs: Mapping[str, Path],
    legend: Sequence[LegendClass],
    layers: Mapping[str, gpd.GeoDataFrame],
) -> pystac.Item:
    """Build the STAC item (1.1) of a run: footprint, time, software, classes, columns, checksums, source.

    It links to the collection and the catalogue of the folder above, which `write_catalog` makes.

    Parameters
    ----------
    run
        What `run.json` holds. Read from it, where present: `finished` (RFC 3339), `packages` (name to
        version), `models` (task to id), `counts.trucks`, `seen_fraction`.
    outputs
        Files by asset key. Media type and role follow from the suffix; `landcover.tif` gets the legend.
    legend
        The classes of the land-cover raster; empty without one.
    layers
        The vector layers by name: `outputs` of that file name get their columns and row count.

    Raises
    ------
    GeoreferenceError
        If the scene's place on Earth is unknown.
    """
    if scene.grid.crs is None:
        raise GeoreferenceError(f"{scene.id} has no CRS, so its footprint is unknown.")
    outline = shapely.segmentize(scene.grid.extent.geom, max(_sides(scene)) / _FOOTPRINT_POINTS)
    footprint = geojson_feature(outline, scene.grid.crs.to_wkt(), scene.id)
    finished = _moment(run.get("finished")) or datetime.now(UTC)
    time = scene.acquired if isinstance(scene.acquired, datetime) else None
    first, last = _bounds_of(scene.acquired, finished)
    item = pystac.Item(
        id=scene.id,
        geometry=footprint["geometry"],
        bbox=footprint["bbox"],
        datetime=time.astimezone(UTC) if time else None,
        start_datetime=None if time else first,
        end_datetime=None if time else last,
        properties=_properties(scene, run, finished),
        collection=COLLECTION_ID,
    )
    for key, path in outputs.items():
        item.add_asset(key, _asset(path, legend, layers.get(path.stem)))
    if "trucks" in layers:
        item.properties["table:columns"] = _columns(layers["trucks"])
    # Only extensions in use are named: some require fields.
    reported = [*item.properties, *(name for asset in item.assets.values() for name in asset.extra_fields)]
    used = {name.partition(":")[0] for name in reported}
    item.stac_extensions = [schema for prefix, schema in _EXTENSIONS.items() if prefix in used]
    source = quote(scene.href, safe=_IN_URLS) if "://" in scene.href else Path(scene.href).resolve().as_uri()
    item.links = [
        pystac.Link(RelType.ROOT, "../catalog.json", MediaType.JSON),
        pystac.Link(RelType.PARENT, "../collection.json", MediaType.JSON),
        pystac.Link(RelType.COLLECTION, "../collection.json", MediaType.JSON),
        pystac.Link(RelType.DERIVED_FROM, source, title=f"Source scene {scene.id}"),
    ]
    return item


def write_item(item: pystac.Item, path: Path) -> None:
    """Write the item as JSON; the hrefs of its assets become relative to its folder.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    content = item.to_dict(include_self_link=False, transform_hrefs=False)
    for asset in content["assets"].values():
        asset["href"] = _relative_href(Path(asset["href"]), path.resolve().parent)
    _write_json(content, path)


def _relative_href(path: Path, folder: Path) -> str:
    """Return the address of a file, seen from a folder, with names percent-encoded (RFC 3986)."""
    href = quote(Path(os.path.relpath(path, folder)).as_posix())
    return href if href.startswith("../") else f"./{href}"


def write_catalog(out: Path) -> Path | None:
    """Write `catalog.json` and `collection.json` of all runs below `out`.

    Returns the catalogue, None without runs. Rebuilt from every `out/*/item.json` of `write_item`, with
    relative links, so that the folder can be moved or served. Simultaneous runs may each call it; the last
    writer has seen all items.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    for _ in range(_ATTEMPTS):
        found = _state(out)
        items = list(_items(found))
        if not items:
            return None
        _write_json(
            _collection(items).to_dict(include_self_link=False, transform_hrefs=False),
            out / COLLECTION,
        )
        if _state(out) == found:
            break
    catalog = pystac.Catalog(
        CATALOG_ID, "Layers made by truckscape from Sentinel-2 scenes.", title="truckscape"
    )
    catalog.links = [
        pystac.Link(RelType.ROOT, "./catalog.json", MediaType.JSON),
        pystac.Link(
            RelType.CHILD, "./collection.json", MediaType.JSON, title="Trucks and land cover by scene"
        ),
    ]
    _write_json(catalog.to_dict(include_self_link=False, transform_hrefs=False), out / CATALOG)
    return out / CATALOG


def _state(out: Path) -> dict[Path, int]:
    """Return the items below a folder, with their times of writing."""
    state = {}
    for path in sorted(out.glob("*/item.json")):
        with suppress(OSError):  # another run is replacing it
            state[path] = path.stat().st_mtime_ns
    return state


def _items(paths: Iterable[Path]) -> Iterator[tuple[str, pystac.Item]]:
    """Return our items by the names of their folders; other items are left out."""
    for path in paths:
        try:
            content = read_json_object(path)
            if content.get("collection") == COLLECTION_ID:
                yield path.parent.name, _item(content, path.parent.name)
        except Exception as error:  # noqa: BLE001 a document of others can fail anywhere
            log.warning(
                "%s is left out of the catalogue: not a STAC item of ours (%s)",
                printable(path),
                printable(error)[:200],
            )


def _item(content: dict[str, Any], folder: str) -> pystac.Item:
    """Return an item that can be part of a collection; any error for other content."""
    if not is_text(folder):
        raise ValueError("the name of its folder is not UTF-8")
    item = pystac.Item.from_dict(content, migrate=False)
    texts = [item.id, *item.assets, *(asset.title for asset in item.assets.values())]
    if not all(isinstance(text, str | None) and is_text(text) for text in texts):
        raise ValueError("its id, or a title, is no text")
    if not item.bbox or len(item.bbox) != 4 or not all(map(math.isfinite, item.bbox)):
        raise ValueError("its bbox is none")
    for name in _RANGES:
        if not isinstance(item.properties.get(name), int | float | None):
            raise ValueError(f"its {name} is no number")
    for name in _SUMMARIZED:
        value, kind = item.properties.get(name), int | float | None if name == "gsd" else str | None
        if not all(isinstance(one, kind) for one in (value if isinstance(value, list) else [value])):
            raise ValueError(f"its {name} is of another type")
    if any(moment is None or moment.tzinfo is None for moment in _span([item])):
        raise ValueError("its time has no time zone")
    alone = _collection([(folder, item)]).to_dict(include_self_link=False, transform_hrefs=False)
    json.dumps(alone, allow_nan=False)
    return item


def _collection(items: Sequence[tuple[str, pystac.Item]]) -> pystac.Collection:
    properties = [item.properties for _, item in items]
    simulated = [entry.get("truckscape:simulated", False) for entry in properties]
    collection = pystac.Collection(
        COLLECTION_ID,
        "Moving trucks and land cover from Sentinel-2 scenes, one item a scene. "
        + ("Simulated scenes." if all(simulated) else "Contains modified Copernicus Sentinel data."),
        pystac.Extent(
            pystac.SpatialExtent([lonlat_bbox([item.bbox for _, item in items if item.bbox])]),
            pystac.TemporalExtent([_span(item for _, item in items)]),
        ),
        title="Trucks and land cover by scene",
        license="other",
        keywords=["Sentinel-2", "trucks", "traffic", "land cover"],
        providers=[_PROCESSOR] if all(simulated) else [_COPERNICUS, _PROCESSOR],
        summaries=pystac.Summaries(_summaries(properties)),
        stac_extensions=[_EXTENSIONS["proj"]],
    )
    collection.item_assets = {
        key: pystac.ItemAssetDefinition(_asset_definition(asset))
        for _, item in items
        for key, asset in item.assets.items()
    }
    collection.links = [
        pystac.Link(RelType.ROOT, "./catalog.json", MediaType.JSON),
        pystac.Link(RelType.PARENT, "./catalog.json", MediaType.JSON),
        pystac.Link(RelType.LICENSE, _LICENCE[0], title=_LICENCE[1]),
        *(
            pystac.Link(RelType.ITEM, f"./{quote(folder)}/item.json", MediaType.GEOJSON, item.id)
            for folder, item in items
        ),
    ]
    return collection


def _asset_definition(asset: pystac.Asset) -> dict[str, Any]:
    reported = {"title": asset.title, "type": asset.media_type, "roles": asset.roles}
    return {name: value for name, value in reported.items() if value is not None}


def _span(items: Iterable[pystac.Item]) -> list[datetime | None]:
    """Return the first and last time of items."""
    moments = [
        moment
        for item in items
        for moment in (item.datetime, item.common_metadata.start_datetime, item.common_metadata.end_datetime)
        if moment is not None
    ]
    return [min(moments), max(moments)]


def _summaries(properties: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the properties of items: values as lists, figures as ranges."""
    summaries: dict[str, Any] = {}
    for name in _SUMMARIZED:
        values = [entry[name] for entry in properties if entry.get(name) is not None]
        flat = [value for one in values for value in (one if isinstance(one, list) else [one])]
        if flat:
            summaries[name] = sorted(set(flat))
    for name in _RANGES:
        figures = [entry[name] for entry in properties if entry.get(name) is not None]
        if figures:
            summaries[name] = {"minimum": min(figures), "maximum": max(figures)}
    return summaries


def _write_json(content: Mapping[str, Any], path: Path) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _sides(scene: Scene) -> tuple[float, float]:
    """Return width and height in units of the CRS."""
    left, bottom, right, top = scene.grid.extent.boundingbox
    return right - left, top - bottom


def _bounds_of(acquired: date | None, finished: datetime) -> tuple[datetime, datetime]:
    """Return the bounds of a time that is not known: those of its day, or of all days."""
    if acquired is None:
        return FIRST_LIGHT, finished
    day = datetime(acquired.year, acquired.month, acquired.day, tzinfo=UTC)
    return day, day + timedelta(days=1, seconds=-1)


def _time_note(acquired: date | None) -> str | None:
    if acquired is None:
        return _TIME_NOTE
    return None if isinstance(acquired, datetime) else _DATE_NOTE


def _properties(scene: Scene, run: Mapping[str, Any], finished: datetime) -> dict[str, Any]:
    crs, affine = scene.grid.crs, scene.grid.affine
    code = None if crs is None or crs.epsg is None else f"EPSG:{crs.epsg}"
    known: dict[str, Any] = {
        "title": f"Trucks and land cover of {scene.id}",
        "platform": scene.platform,
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "gsd": 10,
        "proj:wkt2": None if crs is None or code else crs.to_wkt(),
        "processing:datetime": finished.isoformat().replace("+00:00", "Z"),
        "processing:software": dict(run.get("packages", {})),
        "truckscape:models": run.get("models"),
        "truckscape:trucks": run.get("counts", {}).get("trucks"),
        "truckscape:seen_fraction": run.get("seen_fraction"),
        "truckscape:simulated": True if scene.simulated else None,
        "truckscape:time_note": _time_note(scene.acquired),
    }
    return {
        **{name: value for name, value in known.items() if value is not None},
        "proj:code": code,
        "proj:shape": list(scene.shape),
        "proj:transform": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
        "proj:bbox": [float(edge) for edge in scene.grid.extent.boundingbox],
    }


def _asset(path: Path, legend: Sequence[LegendClass], layer: gpd.GeoDataFrame | None) -> pystac.Asset:
    fields: dict[str, Any] = {}
    if path.name == "landcover.tif" and legend:
        fields["classification:classes"] = _classes(legend)
        fields["data_type"], fields["nodata"] = "uint8", NODATA
    if layer is not None and path.suffix != ".tif":
        fields["table:columns"] = _columns(layer)
        fields["table:row_count"] = len(layer)
        fields["table:primary_geometry"] = layer.geometry.name
    if path.suffix in _CODES:
        fields["proj:code"] = _CODES[path.suffix]
    if path.is_file():
        with path.open("rb") as file:
            fields["file:checksum"] = _SHA2_256 + hashlib.file_digest(file, "sha256").hexdigest()
        fields["file:size"] = path.stat().st_size
    return pystac.Asset(
        href=str(path.resolve()),
        title=path.name,
        media_type=_MEDIA_TYPES.get(path.suffix),
        roles=["metadata" if path.suffix in _METADATA_SUFFIXES else "data"],
        extra_fields=fields,
    )


def _classes(legend: Sequence[LegendClass]) -> list[dict[str, Any]]:
    """Return the classes of the classification extension; names have no spaces, titles are free."""
    classes: list[dict[str, Any]] = [
        {
            "value": entry.value,
            "name": re.sub(r"[^0-9A-Za-z_-]+", "_", entry.name),
            "title": entry.name,
            "color_hint": entry.colour.removeprefix("#").upper(),
        }
        for entry in legend
    ]
    return [*classes, {"value": NODATA, "name": "nodata", "title": "no data", "nodata": True}]


def _columns(layer: gpd.GeoDataFrame) -> list[dict[str, str]]:
    return [{"name": str(name), "type": _column_type(layer[name])} for name in layer.columns]


def _column_type(column: pd.Series) -> str:
    if isinstance(column, gpd.GeoSeries):
        return "geometry"
    for test, name in (
        (pd.api.types.is_bool_dtype, "boolean"),
        (pd.api.types.is_integer_dtype, "integer"),
        (pd.api.types.is_float_dtype, "number"),
        (pd.api.types.is_datetime64_any_dtype, "datetime"),
    ):
        if test(column):
            return name
    return "string"


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
