"""The MSI detector that saw each place of a scene, from the best source that its product has."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from pipeline.scenes.msi import AngleNodes, MsiGeometry
from pipeline.scenes.raster.read import read_points
from pipeline.scenes.scene import BandSource


def detectors_at(msi: MsiGeometry, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number (1-12) of the detector whose B02 pixels show the map points (xs, ys); 0: unknown.

    The best source wins: the footprint raster, exact to the pixel; footprint polygons, unknown
    where two overlap; angle grids, unknown unless the nodes around a point agree, which leaves out
    strips of about 5 km between neighbouring detectors. Other bands change the detector up to a few
    hundred metres further. Raises CorruptImageError if the raster can't be decoded.
    """
    xs, ys = np.atleast_1d(np.asarray(xs, np.float64)), np.atleast_1d(np.asarray(ys, np.float64))
    if len(xs) == 0:
        return np.zeros(0, np.int64)
    if msi.footprint is not None:
        source = BandSource("MSK_DETFOO_B02", msi.footprint, scale=1.0, nodata=0.0)
        return read_points(source, xs, ys).astype(np.int64)
    if msi.polygons:
        return _detectors_of_polygons(msi.polygons, xs, ys)
    if msi.nodes is not None:
        return _detectors_of_nodes(msi.nodes, xs, ys)
    return np.zeros(len(xs), np.int64)


def detector_at(msi: MsiGeometry, x: float, y: float) -> int | None:
    """Return the detector of one point as `detectors_at` does; None where unknown."""
    return int(detectors_at(msi, np.array([x]), np.array([y]))[0]) or None


def _detectors_of_polygons(
    polygons: tuple[tuple[int, Polygon], ...], xs: NDArray[np.float64], ys: NDArray[np.float64]
) -> NDArray[np.int64]:
    found = np.zeros(len(xs), np.int64)
    for detector, polygon in polygons:
        hit = shapely.intersects_xy(polygon, xs, ys)
        found[hit] = np.where((found[hit] == 0) | (found[hit] == detector), detector, -1)
    found[found < 0] = 0
    return found


def _detectors_of_nodes(
    nodes: AngleNodes, xs: NDArray[np.float64], ys: NDArray[np.float64]
) -> NDArray[np.int64]:
    grid = np.array(nodes.detectors, np.int64)
    rows, cols = grid.shape
    col = np.floor((xs - nodes.x) / nodes.step).astype(np.intp)
    row = np.floor((nodes.y - ys) / nodes.step).astype(np.intp)
    inside = (col >= 0) & (row >= 0) & (col < cols) & (row < rows)
    col, row = np.clip(col, 0, cols - 1), np.clip(row, 0, rows - 1)
    right, below = np.minimum(col + 1, cols - 1), np.minimum(row + 1, rows - 1)
    around = np.stack([grid[row, col], grid[row, right], grid[below, col], grid[below, right]])
    highest = around.max(axis=0)
    # 0 (outside the swath) says nothing against the one detector that the other nodes name.
    agree = ((around == highest) | (around == 0)).all(axis=0)
    return np.where(inside & agree & (highest > 0), highest, 0)
