"""The map of a report: pictures below, features above, everything inside the page."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import geopandas as gpd
import shapely
from markupsafe import Markup

from pipeline.report.pictures import WGS84, MapImage

MAX_FEATURES = 5000
_DEGREES = 1e-7
_LEAFLET = files("pipeline.report") / "static" / "leaflet"


@dataclass(frozen=True)
class ImageLayer:
    """A picture on the map."""

    name: str
    image: MapImage
    shown: bool = True
    opacity: float = 1.0


@dataclass(frozen=True)
class FeatureLayer:
    """Polygons of one colour on the map."""

    name: str
    colour: str
    geojson: Mapping[str, Any]
    shown: bool = True
    marked: bool = False
    """Whether each has a dot of constant size: boxes of trucks are too small to be seen from afar."""


def feature_layer(
    name: str,
    colour: str,
    frame: gpd.GeoDataFrame,
    *,
    shown: bool = True,
    marked: bool = False,
    limit: int = MAX_FEATURES,
    detail: float = 0.0,
) -> FeatureLayer:
    """The first `limit` rows as GeoJSON in WGS 84, with what their columns say for the popup.

    Outlines may be off by `detail`, in units of the frame's CRS.
    """
    part = frame.iloc[:limit]
    if detail > 0:
        part = part.set_geometry(part.geometry.simplify(detail))
    part = part.to_crs(WGS84) if part.crs is not None else part
    rows = part.drop(columns=part.geometry.name).to_dict("records")
    shapes = shapely.set_precision(part.geometry.to_numpy(), _DEGREES, mode="pointwise")
    features = [
        {
            "type": "Feature",
            "properties": {key: plain for key, value in row.items() if (plain := _plain(value)) is not None},
            "geometry": shapely.geometry.mapping(shape),
        }
        for row, shape in zip(rows, shapes, strict=True)
    ]
    title = name if len(frame) <= limit else f"{name}, the first {limit:,} of {len(frame):,}"
    return FeatureLayer(
        title, colour, {"type": "FeatureCollection", "features": features}, shown=shown, marked=marked
    )


def map_json(images: Sequence[ImageLayer], layers: Sequence[FeatureLayer], attribution: str) -> Markup:
    """All of it for the page's script; safe to stand inside a `script` element."""
    data = {
        "images": [{**vars(image), "image": vars(image.image)} for image in images],
        "layers": [vars(layer) for layer in layers],
        "attribution": attribution,
    }
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), default=str)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def leaflet_script() -> Markup:
    """Leaflet's code under its licence, without the pointer to its source map."""
    code = (_LEAFLET / "leaflet.js").read_text(encoding="utf-8")
    licence = (_LEAFLET / "LICENSE").read_text(encoding="utf-8")
    return Markup(f"/*\n{licence}*/\n{re.sub(r'//# sourceMappingURL=.*', '', code)}")


def leaflet_style() -> Markup:
    """Leaflet's style sheet with its images inside."""

    def inline(found: re.Match[str]) -> str:
        image = _LEAFLET / "images" / found[1]
        if not image.is_file():
            return "none"
        return f"url(data:image/png;base64,{base64.b64encode(image.read_bytes()).decode('ascii')})"

    style = (_LEAFLET / "leaflet.css").read_text(encoding="utf-8")
    return Markup(re.sub(r"url\(images/([\w.-]+)\)", inline, style))


def _plain(value: Any) -> Any:
    """A value for a popup; None for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value if isinstance(value, bool | int | str) else str(value)
