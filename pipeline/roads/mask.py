"""Pixels near roads."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio import features

from pipeline.storage.vector_shapes import pieces

_LINES_AT_A_TIME = 20_000


def road_mask(roads: gpd.GeoDataFrame, grid: GeoBox, buffer_m: float) -> NDArray[np.bool_]:
    """Return a mask (H, W) of the pixels of `grid` whose centre is within `buffer_m` metres of a road.

    The mask is exact, so it does not depend on how a scene is cut into windows. `roads` are in the grid's
    CRS; distant ones cost nothing once GeoPandas has built its spatial index.
    """
    mask = np.zeros(tuple(grid.shape), np.bool_)
    box = grid.extent.boundingbox
    reach = buffer_m + 2 * abs(grid.affine.a)
    around = shapely.box(box.left - reach, box.bottom - reach, box.right + reach, box.top + reach)
    near = roads.sindex.query(around)
    lines = pieces(roads.geometry.to_numpy()[np.sort(near)])[0]
    lines, margin = lines[shapely.intersects(shapely.envelope(lines), around)], abs(grid.affine.a) / 4
    if len(lines) == 0:
        return mask
    # A buffer polygon cuts its round corners. Pixels in a smaller one are near, pixels outside a larger one
    # are not; exact distances are needed only between the two.
    near_enough, candidates = (
        _burnt(lines, distance, grid)
        for distance in (max(buffer_m - margin, buffer_m / 2), buffer_m * 1.02 + margin)
    )
    mask |= near_enough
    rows, cols = np.nonzero(candidates & ~near_enough)
    corner = grid.affine
    xs, ys = corner.c + (cols + 0.5) * corner.a, corner.f + (rows + 0.5) * corner.e
    hits = shapely.STRtree(lines).query(shapely.points(xs, ys), predicate="dwithin", distance=buffer_m)[0]
    mask[rows[hits], cols[hits]] = True
    return mask


def _burnt(lines: NDArray[np.object_], distance: float, grid: GeoBox) -> NDArray[np.bool_]:
    """Return a mask (H, W) of the pixels within a distance of lines, some thousand lines at a time."""
    burnt = np.zeros(tuple(grid.shape), np.uint8)
    for start in range(0, len(lines), _LINES_AT_A_TIME):
        strips = shapely.buffer(lines[start : start + _LINES_AT_A_TIME], distance)
        features.rasterize(list(strips), out=burnt, transform=grid.affine)
    return burnt.astype(np.bool_)
