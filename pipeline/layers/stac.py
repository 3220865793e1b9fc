"""STAC item of a run."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import geopandas as gpd
import pandas as pd
import pystac
import shapely
from pystac import MediaType, RelType

from pipeline.errors import GeoreferenceError
from pipeline.layers.formats.geojson import geojson_feature
from pipeline.layers.landcover import NODATA, PROBABILITY_SCALE
from pipeline.models.legend import LegendClass
from pipeline.scenes.readers.naming import FIRST_LIGHT
from pipeline.scenes.scene import Scene
from pipeline.storage.atomic import replacing
from pipeline.storage.out_folder import PROBABILITIES

EXTENSIONS: Mapping[str, str] = {
    "proj": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "classification": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    "table": "https://stac-extensions.github.io/table/v1.2.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
}
COLLECTION_ID = "truckscape-scenes"
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
_IN_URLS = "%/:?#[]@!$&'()*+,;=~"
"""Characters that stay in a URL: those with a meaning there, and % of those that are encoded already."""


def build_item(
    scene: Scene,
    run: Mapping[str, Any],
    outputs: Mapping[str, Path],
    legend: Sequence[LegendClass],
    layers: Mapping[str, gpd.GeoDataFrame],
) -> pystac.Item:
    """Build the STAC item (1.1) of a run: footprint, time, software, classes, columns, checksums, source.

    It links to the collection and the catalogue of the folder above, which `stac_catalog` makes.

    Parameters
    ----------
    run
        What `run.json` holds. Read from it, where present: `finished` (RFC 3339), `packages` (name to
        version), `models` (task to id), `counts.trucks`, `seen_fraction`.
    outputs
        Files by asset key. Media type and role follow from the suffix; `landcover.tif` gets the legend, and
        `landcover_probability.tif` a band for each class.
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
    item.stac_extensions = [schema for prefix, schema in EXTENSIONS.items() if prefix in used]
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
    write_json(content, path)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a STAC document; it appears complete or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _relative_href(path: Path, folder: Path) -> str:
    """Return the address of a file, seen from a folder, with names percent-encoded (RFC 3986)."""
    href = quote(Path(os.path.relpath(path, folder)).as_posix())
    return href if href.startswith("../") else f"./{href}"


def _sides(scene: Scene) -> tuple[float, float]:
    """Return width and height in units of the CRS."""
    left, bottom, right, top = scene.grid.extent.boundingbox
    return right - left, top - bottom


def _bounds_of(acquired: date | None, finished: datetime) -> tuple[datetime, datetime]:
    """Return the bounds of a time that is not known: those of its day, or of all days."""
    if acquired is None:
        return datetime.combine(FIRST_LIGHT, time(), UTC), finished
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
        "truckscape:vehicles": run.get("counts", {}).get("vehicles"),
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
    if path.name == PROBABILITIES and legend:
        fields["bands"] = [{"name": entry.name} for entry in legend]
        fields["raster:bands"] = [
            {"data_type": "uint8", "nodata": NODATA, "scale": PROBABILITY_SCALE, "offset": 0.0}
            for _ in legend
        ]
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
