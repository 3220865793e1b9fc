"""Reading what is held to be true: truck boxes, and land cover as a raster or as polygons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from pipeline.errors import LabelsError
from pipeline.models.segmenter import DYNAMIC_WORLD

UNLABELLED = 255
CONFIDENCES = ("high", "medium", "low", "ignore")
COUNT_NEITHER_WAY = ("low", "ignore")

OSM_FCLASS: Mapping[str, str] = {
    "water": "water",
    "reservoir": "water",
    "river": "water",
    "riverbank": "water",
    "lake": "water",
    "dock": "water",
    "forest": "trees",
    "wood": "trees",
    "grass": "grass",
    "meadow": "grass",
    "village_green": "grass",
    "golf_course": "grass",
    "wetland": "flooded vegetation",
    "marsh": "flooded vegetation",
    "swamp": "flooded vegetation",
    "farm": "crops",
    "farmland": "crops",
    "scrub": "shrub and scrub",
    "heath": "shrub and scrub",
    "residential": "built",
    "commercial": "built",
    "industrial": "built",
    "retail": "built",
    "quarry": "bare",
    "beach": "bare",
    "sand": "bare",
    "bare_rock": "bare",
    "glacier": "snow and ice",
}
"""OSM land use (`fclass` as in Geofabrik's extracts) to Dynamic World.

Mixed or ambiguous uses (park, cemetery, allotments, orchard, vineyard, military, nature reserve, recreation
ground, farmyard) are left out on purpose: they say how land is used, not what covers it.
"""


def read_truck_labels(path: Path | str, crs: Any | None = None) -> gpd.GeoDataFrame:
    """Truck boxes of any vector file, brought to `crs` (left in their own without one).

    Columns: `id` (text), `confidence` (one of `CONFIDENCES`, `high` where not given), `travel_deg`
    (degrees clockwise from north; a column `heading_deg` is taken as the same), `speed_kmh` (both NaN where
    unknown), `geometry`. A file may hold no boxes: then there are no trucks.

    Raises
    ------
    LabelsError
        If the file is missing or unreadable, has no CRS, holds anything but polygons, or an unknown
        confidence.
    """
    frame = read_polygons(path, "Truck labels", crs, layer="trucks")
    empty = pd.Series(np.nan, index=frame.index)
    travel = frame.get("travel_deg", frame.get("heading_deg", empty))
    confidence = frame.get("confidence", pd.Series(None, index=frame.index, dtype=object))
    confidence = (
        confidence.astype(object).where(confidence.notna(), "high").astype(str).str.strip().str.lower()
    )
    unknown = sorted(set(confidence) - set(CONFIDENCES))
    if unknown:
        raise LabelsError(
            f"Column confidence of {path} is one of {', '.join(CONFIDENCES)}. Received: {', '.join(unknown)}"
        )
    return gpd.GeoDataFrame(
        {
            "id": frame.get("id", pd.Series(frame.index + 1, index=frame.index)).astype(str),
            "confidence": confidence,
            "travel_deg": pd.to_numeric(travel, errors="coerce").astype(float),
            "speed_kmh": pd.to_numeric(frame.get("speed_kmh", empty), errors="coerce").astype(float),
        },
        geometry=frame.geometry,
        crs=frame.crs,
    )


def read_predicted_trucks(path: Path | str) -> gpd.GeoDataFrame:
    """The trucks that a run has left (`trucks.geojson`, `trucks.gpkg`), or anyone's boxes, in their own CRS.

    Raises
    ------
    LabelsError
        As `read_polygons`.
    """
    return read_polygons(path, "Predicted trucks", layer="trucks")


def read_seen(predicted: Path | str) -> gpd.GeoDataFrame | None:
    """Where a run looked for trucks: layer `seen` of `predicted`, or of the `trucks.gpkg` beside it.

    None where there is no such layer: then everything counts as looked at.
    """
    for path in (Path(predicted), Path(predicted).with_name("trucks.gpkg")):
        if path.suffix == ".gpkg" and path.is_file() and "seen" in pyogrio.list_layers(path)[:, 0]:
            return read_polygons(path, "Area seen", layer="seen")
    return None


def read_polygons(
    path: Path | str, what: str, crs: Any | None = None, layer: str | None = None
) -> gpd.GeoDataFrame:
    """Polygons of a vector file, valid, in `crs`; `layer` is preferred where there are several.

    `what` names the file in messages ("Truck labels").

    Raises
    ------
    LabelsError
        If the file is missing or unreadable, has no CRS, or holds anything but polygons.
    """
    if not Path(path).exists():
        raise LabelsError(f"{what} not found: {path}")
    try:
        layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
        frame = gpd.read_file(path, layer=layer if layer in layers else layers[0])
    except (DataSourceError, DataLayerError, IndexError) as error:
        raise LabelsError(
            f"{what} can't be read as a vector file (GeoPackage, GeoJSON, Shapefile, ...): {path}"
        ) from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise LabelsError(f"{what} must be polygons; {path} has no geometry.")
    if frame.empty and frame.crs is None and crs is not None:
        return frame.set_crs(crs)
    if frame.crs is None:
        raise LabelsError(
            f"{what} have no CRS: {path}. Assign one, e.g. with QGIS or ogr2ogr -a_srs EPSG:32632."
        )
    kinds = set(frame.geometry.geom_type.dropna())
    wrong = sorted(kinds - {"Polygon", "MultiPolygon"})
    if wrong:
        raise LabelsError(f"{what} must be polygons; {path} holds {', '.join(wrong)}.")
    frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty].reset_index(drop=True)
    frame = frame.set_geometry(frame.geometry.make_valid())
    return frame if crs is None else frame.to_crs(crs)


class LandcoverLabels(Protocol):
    """Land cover held to be true, on the grid of the prediction."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """(H, W) class values in `window` of the prediction's grid; `UNLABELLED` where there are none."""
        ...


@dataclass(frozen=True)
class RasterLabels:
    """Labels from a raster, brought to `grid` by nearest neighbour."""

    path: Path
    grid: GeoBox

    def read(self, window: Window) -> NDArray[np.uint8]:
        """(H, W) class values; the raster's own nodata, and what lies outside of it, is `UNLABELLED`."""
        with (
            rasterio.open(self.path) as source,
            WarpedVRT(
                source,
                crs=self.grid.crs.to_wkt() if self.grid.crs else None,
                transform=self.grid.affine,
                width=self.grid.width,
                height=self.grid.height,
                resampling=Resampling.nearest,
                nodata=UNLABELLED,
                dtype="uint8",
            ) as warped,
        ):
            values: NDArray[np.uint8] = warped.read(1, window=window)
            return values


@dataclass(frozen=True)
class PolygonLabels:
    """Labels from polygons; a pixel has the class of the polygon that holds its centre."""

    polygons: gpd.GeoDataFrame
    """In the grid's CRS, column `value`. Where they overlap the smaller counts: the pond in the forest."""
    grid: GeoBox

    @cached_property
    def _by_area(self) -> gpd.GeoDataFrame:
        return self.polygons.iloc[np.argsort(-self.polygons.area.to_numpy(), kind="stable")]

    def read(self, window: Window) -> NDArray[np.uint8]:
        """(H, W) class values; what no polygon covers is `UNLABELLED`, not background."""
        part = self.grid[window.toslices()]
        near = self._by_area[self._by_area.intersects(shapely.box(*part.boundingbox.bbox))]
        shape = (int(part.height), int(part.width))
        if near.empty:
            return np.full(shape, UNLABELLED, dtype=np.uint8)
        burnt: NDArray[np.uint8] = rasterize(
            zip(near.geometry, near["value"], strict=True),
            out_shape=shape,
            transform=part.affine,
            fill=UNLABELLED,
            dtype="uint8",
        )
        return burnt


def read_landcover_labels(path: Path | str, grid: GeoBox) -> LandcoverLabels:
    """Land-cover labels on `grid`: a raster of Dynamic World values (255 none), or polygons with a class.

    Polygons have a column `class` (value or name of a Dynamic World class), `fclass` (OSM land use, see
    `OSM_FCLASS`) or `name` (of a class), looked for in this order; a class that isn't known leaves its
    polygon unlabelled. Opening reads no pixels.

    Raises
    ------
    LabelsError
        If the file is missing or unreadable, has no CRS, is of the wrong geometry type, has no class column,
        or no class of it is known.
    """
    if not Path(path).exists():
        raise LabelsError(f"Land-cover labels not found: {path}")
    try:
        with rasterio.open(path) as source:
            if source.crs is None:
                raise LabelsError(
                    f"Land-cover labels have no CRS: {path}. Assign one, e.g. gdal_edit -a_srs."
                )
            if source.dtypes[0] != "uint8":
                raise LabelsError(
                    f"A land-cover label raster holds uint8 class values 0-8 (255: none). "
                    f"{path} is {source.dtypes[0]}."
                )
        return RasterLabels(Path(path), grid)
    except RasterioError:
        return PolygonLabels(_class_polygons(path, grid), grid)


def _class_polygons(path: Path | str, grid: GeoBox) -> gpd.GeoDataFrame:
    frame = read_polygons(
        path, "Land-cover labels", grid.crs.to_wkt() if grid.crs else None, layer="landcover"
    )
    column = next((name for name in ("class", "fclass", "name") if name in frame), None)
    if column is None:
        raise LabelsError(
            f"Land-cover polygons need a column class, fclass or name. "
            f"{path} has: {', '.join(frame.columns[:-1])}"
        )
    values = frame[column].map(_class_value)
    if len(frame) and values.isna().all():
        raise LabelsError(
            f"No class of column {column} in {path} is known. Received: "
            f"{', '.join(sorted(set(frame[column].astype(str)))[:5])}; "
            f"Dynamic World's are: {', '.join(item.name for item in DYNAMIC_WORLD)}."
        )
    known = values.notna()
    return gpd.GeoDataFrame(
        {"value": values[known].astype(np.uint8)}, geometry=frame.geometry[known], crs=frame.crs
    )


_VALUES = {item.name: item.value for item in DYNAMIC_WORLD}


def _class_value(label: object) -> int | None:
    """Value of a Dynamic World class from its value, its name or an OSM fclass; None where unknown."""
    text = str(label).strip().lower()
    if text.removesuffix(".0").isdigit():
        value = int(text.removesuffix(".0"))
        return value if value in _VALUES.values() else None
    name = OSM_FCLASS.get(text, text.replace("_", " ").replace("&", "and"))
    return _VALUES.get(name)
