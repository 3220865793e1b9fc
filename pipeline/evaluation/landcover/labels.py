"""Reference land cover: rasters of classes, polygons and points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from pipeline.errors import CorruptImageError, LabelsError
from pipeline.evaluation import columns
from pipeline.evaluation.features import read_polygons_or_points
from pipeline.input_warnings import warn
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.scenes.raster.datasets import local_raster, open_raster
from pipeline.storage.untrusted_vectors import file_of, split_layer
from pipeline.storage.vector_places import warn_if_elsewhere

UNLABELLED = 255
LANDCOVER_LAYERS = ("landcover", "labels")
"""Layers of a file of several that are land-cover labels by their names."""
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


_CLASS_COLUMNS = ("class", "fclass", "name")
_WHAT = "Land-cover labels"
"""Name of the file in messages."""
_ON_EDGE_PX = 1e-6
"""Share of a pixel within which a point is on its edge: coordinates are not exact to the last digit."""


class LandcoverLabels(Protocol):
    """Reference land cover, on the grid of the prediction."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Read (H, W) class values in `window` of the prediction's grid; `UNLABELLED` without a class."""
        ...

    @property
    def unknown_classes(self) -> tuple[str, ...]:
        """Classes of the file that are none of the legend's, so that their areas are unlabelled."""
        ...


@dataclass(frozen=True)
class RasterLabels:
    """Labels from a raster, brought to `grid` by nearest neighbour."""

    path: Path
    grid: GeoBox

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Read (H, W) class values; the raster's own nodata, and pixels outside of it, are `UNLABELLED`."""
        with (
            open_raster(local_raster(self.path, _WHAT), _WHAT) as source,
            WarpedVRT(
                source,
                crs=self.grid.crs.to_wkt() if self.grid.crs else None,
                transform=self.grid.affine,
                width=self.grid.width,
                height=self.grid.height,
                resampling=Resampling.nearest,
                nodata=UNLABELLED,
                dtype="uint8",
                # With GDAL's own 1/8 px, the pixel taken from another CRS depends on the window read.
                tolerance=1e-6,
            ) as warped,
        ):
            values: NDArray[np.uint8] = warped.read(1, window=window)
            return values

    @property
    def unknown_classes(self) -> tuple[str, ...]:
        """Empty: values are not checked here; the comparison counts those that are no class."""
        return ()


@dataclass(frozen=True)
class PolygonLabels:
    """Labels from polygons; a pixel has the class of the polygon that holds its centre."""

    polygons: gpd.GeoDataFrame
    """In the grid's CRS, column `value`. Where they overlap the smaller one wins: the pond in the forest."""
    grid: GeoBox
    unknown_classes: tuple[str, ...] = ()
    """Classes of the file that are none of the legend's; their polygons are not among these."""

    @cached_property
    def _by_area(self) -> gpd.GeoDataFrame:
        return self.polygons.iloc[np.argsort(-self.polygons.area.to_numpy(), kind="stable")]

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Read (H, W) class values; pixels without a polygon are `UNLABELLED`, not background."""
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


@dataclass(frozen=True)
class PointLabels:
    """Labels from points; each labels the pixel that it is on, and no other."""

    pixels: NDArray[np.int64]
    """(N,) rows and (N,) columns, (2, N), each pixel once."""
    values: NDArray[np.uint8]
    """(N,)."""
    unknown_classes: tuple[str, ...] = ()
    """Classes of the file that are none of the legend's; their points are not among these."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Read (H, W) class values; pixels without a point are `UNLABELLED`, not background."""
        height, width = int(window.height), int(window.width)
        read = np.full((height, width), UNLABELLED, dtype=np.uint8)
        rows, cols = self.pixels - np.array([[window.row_off], [window.col_off]], dtype=np.int64)
        inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
        read[rows[inside], cols[inside]] = self.values[inside]
        return read


def feature_labels(
    features: gpd.GeoDataFrame, grid: GeoBox, path: Path | str, unknown_classes: tuple[str, ...] = ()
) -> PolygonLabels | PointLabels:
    """Return labels from polygons or points of the file `path`, in the grid's CRS, by their column `value`.

    A pixel with points of different values has no label, and is counted in a warning. A point between pixels
    is on the one with the higher row or column. Points outside of the grid are left out.
    """
    if features.empty or features.geometry.geom_type.iloc[0] != "Point":
        return PolygonLabels(features, grid, unknown_classes)
    xy = shapely.get_coordinates(features.geometry.to_numpy()).T
    cols, rows = np.floor(np.stack(~grid.affine * (xy[0], xy[1])) + _ON_EDGE_PX)
    inside = (rows >= 0) & (rows < grid.height) & (cols >= 0) & (cols < grid.width)
    labelled = np.stack([rows[inside], cols[inside], features["value"].to_numpy()[inside]]).astype(np.int64)
    labelled = np.unique(labelled, axis=1)  # several points of one class label their pixel once
    pixels, first, count = np.unique(labelled[:2], axis=1, return_index=True, return_counts=True)
    if ambiguous := int((count > 1).sum()):
        warn(
            f"{path}: {_WHAT}: {ambiguous} of {len(count)} pixels with points are not used, since their "
            "points are of different classes."
        )
    return PointLabels(
        pixels[:, count == 1], labelled[2, first[count == 1]].astype(np.uint8), unknown_classes
    )


def read_landcover_labels(path: Path | str, grid: GeoBox) -> LandcoverLabels:
    """Land-cover labels on `grid`: a raster of Dynamic World values (255 none), or features with a class.

    Features are polygons or points. They have a column `class` (value or name of a Dynamic World class),
    `fclass` (OSM land use, see `OSM_FCLASS`) or `name` (of a class), in this order; a class that isn't known
    leaves its feature unlabelled and is listed (`unknown_classes`), also in a warning. Labels elsewhere than
    the grid are a warning. Opening reads no pixels.

    Raises
    ------
    LabelsError
        If the file is missing or unreadable, has no CRS, is of the wrong geometry type, has no class column
        or several bands, or no class of it is known.
    """
    if not file_of(path).exists():
        raise LabelsError(f"Land-cover labels not found: {path}")
    if split_layer(path)[1] is not None:
        return _class_features(path, grid)
    try:
        with open_raster(local_raster(path, _WHAT), _WHAT) as source:
            if source.crs is None:
                raise LabelsError(
                    f"Land-cover labels have no CRS: {path}. Assign one, e.g. gdal_edit -a_srs."
                )
            if source.dtypes[0] != "uint8":
                raise LabelsError(
                    f"A land-cover label raster holds uint8 class values 0-8 (255: none). "
                    f"{path} is {source.dtypes[0]}."
                )
            if source.count > 1:
                raise LabelsError(
                    f"A land-cover label raster has one band of classes. {path} has {source.count}; write "
                    "one to another file, e.g. gdal_translate -b 1."
                )
            extent = gpd.GeoDataFrame(geometry=[shapely.box(*source.bounds)], crs=source.crs)
        _warn_if_elsewhere(extent, path, grid)
        return RasterLabels(Path(path), grid)
    except CorruptImageError:
        return _class_features(path, grid)


def _class_features(path: Path | str, grid: GeoBox) -> PolygonLabels | PointLabels:
    crs = grid.crs.to_wkt() if grid.crs else None
    frame = read_polygons_or_points(path, _WHAT, crs, LANDCOVER_LAYERS)
    if frame.empty:
        return PolygonLabels(frame.assign(value=np.uint8(UNLABELLED)), grid)
    frame = columns.renamed(frame, _CLASS_COLUMNS)
    column = next((name for name in _CLASS_COLUMNS if name in frame), None)
    if column is None:
        raise LabelsError(
            f"Land-cover labels need a column class, fclass or name. "
            f"{path} has: {', '.join(frame.columns[:-1])}"
        )
    values = frame[column].map(_class_value)
    if values.isna().all():
        raise LabelsError(
            f"No class of column {column} in {path} is known. Received: "
            f"{', '.join(sorted(set(frame[column].astype(str)))[:5])}; "
            f"Dynamic World's are: {', '.join(item.name for item in DYNAMIC_WORLD)}."
        )
    known = values.notna()
    unknown = columns.text(frame, column, "null")[~known]
    notes = columns.misspelt([*map(str, frame.columns)], ("class",)) if column == "name" else []
    if len(unknown):
        notes.append(
            f"{len(unknown)} of {len(frame)} features are not used, since column {column} has "
            f"{columns.counted(unknown)}, none of {', '.join(_VALUES)}."
        )
    for note in notes:
        warn(f"{path}: {_WHAT}: {note}")
    _warn_if_elsewhere(frame, path, grid)
    labelled = gpd.GeoDataFrame(
        {"value": values[known].astype(np.uint8)}, geometry=frame.geometry[known], crs=frame.crs
    )
    return feature_labels(labelled, grid, path, tuple(sorted(set(unknown))))


def _warn_if_elsewhere(frame: gpd.GeoDataFrame, path: Path | str, grid: GeoBox) -> None:
    if grid.crs is not None:
        what, bounds = f"{_WHAT} {path}", grid.boundingbox.bbox
        warn_if_elsewhere(frame, grid.crs.to_wkt(), bounds, what, "no land cover is measured")


_VALUES = {item.name: item.value for item in DYNAMIC_WORLD}


def _class_value(label: object) -> int | None:
    """Value of a Dynamic World class from its value, its name or an OSM fclass; None where unknown."""
    text = str(label).strip().lower()
    if text.removesuffix(".0").isdigit():
        value = int(text.removesuffix(".0"))
        return value if value in _VALUES.values() else None
    name = OSM_FCLASS.get(text, text.replace("_", " ").replace("&", "and"))
    return _VALUES.get(name)
