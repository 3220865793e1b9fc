"""Detections that are no trucks at the default threshold, in a search without roads, and the reason.

Without roads, whatever resembles a truck is searched: surf and vessels, torrents, hairpins, roofs. Most of
these have no measured motion. Trucks mostly have one, and those without it are on roads where others move.
"""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.spatial import KDTree

WATER, NO_MOTION = "water", "no_motion"
COMPANY_M = 500.0
"""A detection without measured motion is a truck if one that moves is within this distance."""
_MARGIN_PX = 1


def look_alike_reasons(
    trucks: gpd.GeoDataFrame, counted: NDArray[np.bool_], on_water: NDArray[np.bool_]
) -> NDArray[np.object_]:
    """Return (N,) why rows of the layer of trucks are look-alikes; empty for trucks.

    `water`: mapped water is all around (`on_water`). `no_motion`: no motion is measured, and nothing on land
    that is above the threshold (`counted`) moves within `COMPANY_M`.
    """
    moves = trucks["speed_kmh"].notna().to_numpy()
    reasons = no_reasons(len(trucks))
    centres = trucks.geometry.centroid
    places = np.stack([centres.x, centres.y], axis=1)
    company = places[moves & counted & ~on_water]
    apart = KDTree(company).query(places)[0] if len(company) else np.full(len(trucks), np.inf)
    reasons[~moves & (apart > COMPANY_M)] = NO_MOTION
    reasons[on_water] = WATER
    return reasons


def no_reasons(count: int) -> NDArray[np.object_]:
    """Return reasons (N,) of detections that all may be trucks."""
    return np.full(count, "", dtype=object)


def all_around(raster: Path, places: NDArray[np.float64], value: int) -> NDArray[np.bool_]:
    """Return (N,) whether the pixels at places (N, 2; x, y on the map) and all beside them have a value.

    A margin of one pixel, so that a bridge, or a wet road, is no water. False outside of the raster.
    """
    found = np.zeros(len(places), np.bool_)
    with rasterio.open(raster) as source:
        height, width = source.shape
        cols, rows = (np.floor(pixels).astype(np.intp) for pixels in ~source.transform @ tuple(places.T))
        inside = (cols >= 0) & (rows >= 0) & (cols < width) & (rows < height)
        for index in np.flatnonzero(inside).tolist():
            row, col = int(rows[index]), int(cols[index])
            first = max(0, row - _MARGIN_PX), max(0, col - _MARGIN_PX)
            last = min(height, row + _MARGIN_PX + 1), min(width, col + _MARGIN_PX + 1)
            window = Window.from_slices((first[0], last[0]), (first[1], last[1]))
            found[index] = (source.read(1, window=window) == value).all()
    return found
