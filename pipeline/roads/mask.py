"""Pixels near roads."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio import features


def road_mask(roads: gpd.GeoDataFrame, grid: GeoBox, buffer_m: float) -> NDArray[np.bool_]:
    """Return a mask (H, W) of the pixels of `grid` whose centre is within `buffer_m` metres of a road.

    The mask is exact, so it does not depend on how a scene is cut into windows. `roads` are in the grid's
    CRS; distant ones cost nothing once GeoPandas has built its spatial index.
    """
    mask = np.zeros(tuple(grid.shape), np.bool_)
    box = grid.extent.boundingbox
    reach = buffer_m + 2 * abs(grid.affine.a)
    near = roads.sindex.query(
        shapely.box(box.left - reach, box.bottom - reach, box.right + reach, box.top + reach)
    )
    if len(near) == 0:
        return mask
    lines, margin = roads.geometry.to_numpy()[np.sort(near)], abs(grid.affine.a) / 4
    # A buffer polygon cuts its round corners. Pixels in a smaller one are near, pixels outside a larger one
    # are not; exact distances are needed only between the two.
    near_enough, candidates = (
        features.rasterize(
            list(shapely.buffer(lines, distance)),
            out_shape=mask.shape,
            transform=grid.affine,
            fill=0,
            dtype="uint8",
        ).astype(np.bool_)
        for distance in (max(buffer_m - margin, buffer_m / 2), buffer_m * 1.02 + margin)
    )
    mask |= near_enough
    rows, cols = np.nonzero(candidates & ~near_enough)
    corner = grid.affine
    xs, ys = corner.c + (cols + 0.5) * corner.a, corner.f + (rows + 0.5) * corner.e
    hits = shapely.STRtree(lines).query(shapely.points(xs, ys), predicate="dwithin", distance=buffer_m)[0]
    mask[rows[hits], cols[hits]] = True
    return mask
