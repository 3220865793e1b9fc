"""A run's outputs as a STAC item, so that they can be found, understood and traced back to their scene."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pystac
import shapely
from pystac import MediaType

from pipeline.errors import GeoreferenceError
from pipeline.files import replacing
from pipeline.layers.export import GEOJSON_DECIMALS
from pipeline.layers.landcover import NODATA
from pipeline.models.bundle import LegendClass
from pipeline.scenes.scene import Scene

EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/table/v1.2.0/schema.json",
)
FIRST_LIGHT = datetime(2015, 6, 23, tzinfo=UTC)
"""Launch of Sentinel-2A: no scene is older."""
_TIME_NOTE = "The source tells no acquisition time: start and end are Sentinel-2A's launch and the run's end."
_FOOTPRINT_POINTS = 16
_MEDIA_TYPES = {
    ".geojson": MediaType.GEOJSON,
    ".gpkg": MediaType.GEOPACKAGE,
    ".tif": MediaType.COG,
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": MediaType.FLATGEOBUF,
    ".json": MediaType.JSON,
    ".html": MediaType.HTML,
    ".png": MediaType.PNG,
}
_METADATA_SUFFIXES = {".json", ".html"}


def build_item(
    scene: Scene,
    run: Mapping[str, Any],
    outputs: Mapping[str, Path],
    legend: Sequence[LegendClass],
    layers: Mapping[str, gpd.GeoDataFrame],
) -> pystac.Item:
    """The STAC item (1.1) of a run: footprint, time, software, classes, columns, and a link to the source.

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
    footprint = scene.grid.footprint("EPSG:4326", npoints=_FOOTPRINT_POINTS, wrapdateline=True).geom
    footprint = shapely.transform(footprint, lambda places: places.round(GEOJSON_DECIMALS))
    finished = _moment(run.get("finished")) or datetime.now(UTC)
    item = pystac.Item(
        id=scene.id,
        geometry=shapely.geometry.mapping(shapely.orient_polygons(footprint)),
        bbox=_bbox(footprint),
        datetime=scene.acquired and scene.acquired.astimezone(UTC),
        start_datetime=None if scene.acquired else FIRST_LIGHT,
        end_datetime=None if scene.acquired else finished,
        properties=_properties(scene, run, finished),
        stac_extensions=list(EXTENSIONS),
    )
    for key, path in outputs.items():
        item.add_asset(key, _asset(path, legend, layers.get(path.stem)))
    if "trucks" in layers:
        item.properties["table:columns"] = _columns(layers["trucks"])
    source = scene.href if "://" in scene.href else Path(scene.href).resolve().as_uri()
    item.add_link(pystac.Link(pystac.RelType.DERIVED_FROM, source, title=f"Source scene {scene.id}"))
    return item


def write_item(item: pystac.Item, path: Path) -> None:
    """The item as JSON; the hrefs of its assets become relative to its folder.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    placed = item.clone()
    placed.set_self_href(str(path.resolve()))
    placed.make_asset_hrefs_relative()
    content = placed.to_dict(include_self_link=False, transform_hrefs=False)
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
        "truckscape:time_note": None if scene.acquired else _TIME_NOTE,
    }
    return {
        **{name: value for name, value in known.items() if value is not None},
        "proj:code": code,
        "proj:shape": list(scene.shape),
        "proj:transform": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
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
    if path.suffix == ".geojson":
        fields["proj:code"] = "EPSG:4326"
    return pystac.Asset(
        href=str(path.resolve()),
        title=path.name,
        media_type=_MEDIA_TYPES.get(path.suffix),
        roles=["metadata" if path.suffix in _METADATA_SUFFIXES else "data"],
        extra_fields=fields,
    )


def _classes(legend: Sequence[LegendClass]) -> list[dict[str, Any]]:
    """Classes of the classification extension; its names are without spaces, titles are free."""
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


def _bbox(footprint: shapely.Geometry) -> list[float]:
    """West, south, east, north; west is greater than east across the antimeridian (RFC 7946, 5.2)."""
    parts = shapely.bounds(shapely.get_parts(footprint))
    _, south, _, north = shapely.bounds(footprint).tolist()
    in_the_west = parts[:, 0] < 0
    if len(parts) > 1 and in_the_west.any() and not in_the_west.all():
        return [float(parts[~in_the_west, 0].min()), south, float(parts[in_the_west, 2].max()), north]
    return [float(edge) for edge in shapely.bounds(footprint)]


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
