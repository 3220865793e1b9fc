"""Pixels near roads."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio import features


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
    lines, margin = roads.geometry.to_numpy()[np.sort(near)], abs(grid.affine.a) / 4
    # A buffer is a polygon that cuts its round corners: what a smaller one holds is near, what lies beyond a
    # larger one is not. Exact distances are for what is between.
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
