"""Roads: lines with an id and a class, and the pixels near them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio.errors
import pyproj.exceptions
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio import features

from pipeline.errors import LabelsError

_ID_COLUMNS = ("road_id", "osm_id", "osm_way_id", "id")
_CLASS_COLUMNS = ("road_class", "highway", "fclass")


def read_roads(
    path: Path, crs: Any, bounds: tuple[float, float, float, float] | None = None
) -> gpd.GeoDataFrame:
    """Road lines of a GeoPackage, GeoJSON or Shapefile, in `crs`: columns `road_id`, `road_class`, geometry.

    The id is that of OpenStreetMap where the file has it, else the feature's number; the class is the
    column `road_class`, `highway` or `fclass`, None where there is none. `bounds` (x_min, y_min, x_max,
    y_max, in `crs`) leaves out roads that don't come near it.

    Raises
    ------
    LabelsError
        If the file can't be read, has no CRS, or holds something else than lines.
    """
    try:
        roads = gpd.read_file(path, engine="pyogrio")
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError) as error:
        raise LabelsError(
            f"Roads can't be read: {path} is not there, or no GeoPackage, GeoJSON or Shapefile."
        ) from error
    if not isinstance(roads, gpd.GeoDataFrame):
        raise LabelsError(f"Roads are lines; {path} has no geometry.")
    if roads.crs is None:
        raise LabelsError(f"Roads without a coordinate reference system can't be placed; set it in {path}.")
    roads = roads[~(roads.geometry.isna() | roads.geometry.is_empty)]
    others = sorted(set(roads.geom_type) - {"LineString", "MultiLineString"})
    if others:
        raise LabelsError(f"Roads are lines; {path} holds: {', '.join(others)}.")
    try:
        roads = roads.to_crs(crs)
    except pyproj.exceptions.ProjError as error:
        raise LabelsError(f"Roads can't be reprojected from {roads.crs.to_string()}: {path}") from error
    geometry = shapely.force_2d(roads.geometry.to_numpy())
    table = gpd.GeoDataFrame(
        {
            "road_id": pd.Series(_ids(roads), dtype=object),
            "road_class": pd.Series(_classes(roads), dtype=object),
        },
        geometry=geometry,
        crs=roads.crs,
    )
    if bounds is not None:
        table = table[table.intersects(shapely.box(*bounds))]
    return table.reset_index(drop=True)


def _ids(roads: gpd.GeoDataFrame) -> list[str]:
    for column in _ID_COLUMNS:
        if column in roads and roads[column].notna().all():
            return [str(value) for value in roads[column]]
    return [str(number) for number in roads.index]


def _classes(roads: gpd.GeoDataFrame) -> list[str | None]:
    for column in _CLASS_COLUMNS:
        if column in roads:
            return [None if pd.isna(value) else str(value) for value in roads[column]]
    return [None] * len(roads)


def road_mask(roads: gpd.GeoDataFrame, grid: GeoBox, buffer_m: float) -> NDArray[np.bool_]:
    """Pixels (H, W) of `grid` whose centre lies within `buffer_m` metres of a road.

    Exact, so it is the same for every way to cut a scene into windows. `roads` are in the grid's CRS;
    those far from the grid cost nothing once GeoPandas has built its spatial index.
    """
    mask = np.zeros(tuple(grid.shape), np.bool_)
    box = grid.extent.boundingbox
    reach = buffer_m + 2 * abs(grid.affine.a)
    near = roads.sindex.query(
        shapely.box(box.left - reach, box.bottom - reach, box.right + reach, box.top + reach)
    )
    if len(near) == 0:
        return mask
    lines = roads.geometry.to_numpy()[np.sort(near)]
    # Candidates: a buffer is a polygon that cuts its round corners, hence the margin. Then exact distances.
    rough = features.rasterize(
        list(shapely.buffer(lines, reach)), out_shape=mask.shape, transform=grid.affine, dtype="uint8"
    )
    rows, cols = np.nonzero(rough)
    corner = grid.affine
    xs, ys = corner.c + (cols + 0.5) * corner.a, corner.f + (rows + 0.5) * corner.e
    hits = shapely.STRtree(lines).query(shapely.points(xs, ys), predicate="dwithin", distance=buffer_m)[0]
    mask[rows[hits], cols[hits]] = True
    return mask
