"""The map of a report: pictures below, lines and areas above, everything inside the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from pipeline.layers.styles import rgb
from pipeline.report.cases import label
from pipeline.report.pictures import WGS84, MapImage, Picture, thinned

MAX_FEATURES = 2000
"""Largest number of features of a layer; beyond it the page shows a note."""
_DEGREES = 1e-6
_REASONS = ("#64748b", "#f8fafc", "#1e293b", "#cc79a7", "#0072b2", "#e69f00")


@dataclass(frozen=True)
class ImageLayer:
    """A picture on the map."""

    name: str
    image: MapImage
    shown: bool = True
    opacity: float = 1.0
    legend: Sequence[tuple[str, str]] = ()
    """Names and colours of what it shows."""


@dataclass(frozen=True)
class FeatureLayer:
    """Lines or polygons on the map; their colour and facts are properties of each."""

    name: str
    geojson: Mapping[str, Any]
    shown: bool = True
    legend: Sequence[tuple[str, str]] = ()
    limited: str = ""
    """Note on the total and the drawn number of features, if they differ."""


def feature_layer(
    name: str,
    frame: gpd.GeoDataFrame,
    colour: str | Callable[[Any], str],
    *,
    shown: bool = True,
    legend: Sequence[tuple[str, str]] = (),
    limit: int = MAX_FEATURES,
    detail: float = 0.0,
    facts: Callable[[dict[Any, Any]], Mapping[str, str]] | None = None,
) -> FeatureLayer:
    """Return the first `limit` rows as GeoJSON in WGS 84, with facts.

    `colour` is one for all, or a function of a row (a namedtuple). `facts` is a function of a row (a
    dictionary); without it all known values are facts. Outlines are simplified by up to `detail`, in units of
    the frame's CRS.
    """
    part = frame.iloc[:limit]
    if detail > 0:
        part = part.set_geometry(part.geometry.simplify(detail))
    colours = [colour if isinstance(colour, str) else colour(row) for row in part.itertuples()]
    part = part.to_crs(WGS84) if part.crs is not None else part
    rows = part.drop(columns=part.geometry.name).to_dict("records")
    shapes = shapely.set_precision(part.geometry.to_numpy(), _DEGREES, mode="pointwise")
    west, _, east, _ = shapely.bounds(shapes).reshape(-1, 4).T
    # Across the antimeridian the map's pictures go on beyond 180 degrees as well.
    if len(shapes) and np.nanmax(east) - np.nanmin(west) > 180:
        shapes = shapely.transform(shapes, lambda at: at + np.where(at[:, :1] < 0, [360.0, 0.0], 0.0))
    features = [
        {
            "type": "Feature",
            "properties": {"colour": hue, "facts": (facts or _facts)(row)},
            "geometry": shapely.geometry.mapping(shape),
        }
        for row, hue, shape in zip(rows, colours, shapes, strict=True)
    ]
    limited = "" if len(frame) <= limit else f"{limit:,} of {len(frame):,} are drawn"
    return FeatureLayer(name, {"type": "FeatureCollection", "features": features}, shown, legend, limited)


def not_seen_picture(areas: gpd.GeoDataFrame, grid: GeoBox) -> tuple[Picture, list[tuple[str, str]]]:
    """Draw the area not searched, each reason in its colour, thinned to `QUICKLOOK_PX`, with a legend.

    Unlike a feature layer, a picture shows any number of areas. `areas` have `reason` and `area_m2`, in the
    CRS of the grid; the larger come first, so that small ones stay visible.
    """
    shape = thinned((grid.height, grid.width))
    coarse = grid.zoom_to(shape)
    largest = areas.sort_values("area_m2", ascending=False, kind="stable")
    reasons = list(dict.fromkeys(largest["reason"].astype(str)))
    colours = {reason: _REASONS[index % len(_REASONS)] for index, reason in enumerate(reasons)}
    values = [reasons.index(reason) + 1 for reason in largest["reason"].astype(str)]
    # Corners that no pixel shows would take most of the time.
    outlines = shapely.simplify(
        largest.geometry.to_numpy(), abs(coarse.resolution.x) / 2, preserve_topology=False
    )
    drawn = [
        (outline, value) for outline, value in zip(outlines, values, strict=True) if not outline.is_empty
    ]
    codes = rasterize(
        drawn or [(coarse.extent.geom, 0)],
        out_shape=shape,
        transform=coarse.affine,
        dtype="uint8",
        fill=0,
    )
    palette = np.zeros((len(reasons) + 1, 4), dtype=np.uint8)
    for index, colour in enumerate(colours.values(), start=1):
        palette[index] = (*rgb(colour), 255)
    legend = [(reason.replace("_", " "), colour) for reason, colour in colours.items()]
    return Picture(palette[codes], coarse), legend


def map_layers(
    images: Sequence[ImageLayer], layers: Sequence[FeatureLayer], attribution: str
) -> dict[str, Any]:
    """Return images and layers for the page's script."""
    return {
        "images": [{**vars(image), "image": vars(image.image)} for image in images],
        "layers": [vars(layer) for layer in layers],
        "attribution": attribution,
    }


def _facts(row: Mapping[Any, Any]) -> dict[str, str]:
    """Format the known values of a row for people."""
    facts = {}
    for column, value in row.items():
        if pd.isna(value):
            continue
        name, unit = label(str(column))
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        if isinstance(value, datetime):
            text = f"{value:%Y-%m-%d %H:%M:%S UTC}"
        facts[name] = f"{text} {unit}".strip()
    return facts
