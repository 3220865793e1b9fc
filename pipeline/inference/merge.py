"""Shards put together: one raster of each kind, and every truck once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.spatial import KDTree

from pipeline.inference.motion import evidence
from pipeline.inference.predictions import NODATA, PLACE_STEP_PX, Detections, Predictions
from pipeline.inference.shards import Shard
from pipeline.models.boxes import suppressed
from pipeline.models.bundle import Calibration

SAME_TRUCK_PX = 0.5
"""Boxes whose centres are nearer than this are one truck, seen from the cores of two tiles."""
SCORE_STEP = 1e-4
"""Finer differences are rounding noise, see `one_per_truck`."""


def merge_shards(
    shards: Iterable[Shard],
    grid: GeoBox,
    folder: Path,
    calibration: Calibration | None = None,
    min_score: float = 0.0,
) -> Predictions:
    """Write the shards' rasters into `folder` strip by strip, and gather their trucks.

    A calibration turns the network's scores into probabilities; detections below `min_score` go. Holds one
    shard in memory at a time. A truck counts if its centre is on a searched pixel;
    that is decided here, once, so that it is the same for every tiling.
    """
    landcover, status = folder / "landcover.part.tif", folder / "status.part.tif"
    parts: list[Detections] = []
    total = skipped = 0
    with _strips(status, grid, NODATA) as status_out, _strips(landcover, grid, 255) as landcover_out:
        any_landcover = False
        for shard in shards:
            rows = slice(shard.first_row, shard.first_row + len(shard.status))
            window = rasterio.windows.Window.from_slices(rows, (0, shard.status.shape[1]))
            status_out.write(shard.status, 1, window=window)
            if shard.landcover is not None:
                landcover_out.write(shard.landcover, 1, window=window)
                any_landcover = True
            parts.append(_calibrated(shard.detections, calibration, min_score))
            total, skipped = total + shard.tiles_total, skipped + shard.tiles_skipped
    if not any_landcover:
        landcover.unlink()
    detections = one_per_truck(Detections.concatenate(parts))
    return Predictions(detections, str(landcover) if any_landcover else None, str(status), total, skipped)


def _calibrated(detections: Detections, calibration: Calibration | None, min_score: float) -> Detections:
    if calibration is None:
        return detections
    moves = evidence(detections.displacement, detections.displacement_sigma)
    probability = calibration.probability(detections.scores, moves)
    return replace(detections, scores=probability).take(probability >= min_score)


def _strips(path: Path, grid: GeoBox, nodata: int) -> rasterio.io.DatasetWriter:
    rows, cols = grid.shape
    return rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=int(rows),
        width=int(cols),
        count=1,
        dtype="uint8",
        crs=grid.crs.to_wkt() if grid.crs else None,
        transform=grid.affine,
        nodata=nodata if nodata == 255 else None,
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        zlevel=1,
        bigtiff="if_safer",
    )


def one_per_truck(detections: Detections) -> Detections:
    """Return the best box of each truck, from top to bottom, whatever their order.

    The best box of all stays, and every other whose centre is within `SAME_TRUCK_PX` of it is removed; then
    the best of the rest stays, and so on. The best has the highest score; of equal ones the upper, then the
    left one wins.

    Another tiling sums in another order, and gives the same box other last digits. So all comparisons use
    scores rounded to `SCORE_STEP` and centres rounded to `PLACE_STEP_PX`: values that differ by such noise
    only are equal, above all those that are equal by nature (borders, halves of a pixel, scores of 1).
    Rounding has edges: a number within the noise of the middle between two steps (under 1 % of the
    coordinates for noise of 1e-4 px) may be rounded either way. Then two boxes may swap places, and of two
    that are half a pixel apart one may stay or both. The box that stays for a truck may differ, too, but not
    by more than the noise.

    Takes about 1.6 s and 0.12 GB for a million boxes, a quarter of them duplicates. The number of rounds is
    half that of boxes in the longest chain in which each is within reach of the next and better than it.
    """
    places = np.rint(detections.centres / PLACE_STEP_PX)
    tree = KDTree(places, balanced_tree=False)  # a million points: 0.6 s with the query, STRtree 3.4 s
    pairs = tree.query_pairs(SAME_TRUCK_PX / PLACE_STEP_PX, output_type="ndarray")
    crowded = np.zeros(len(detections), dtype=bool)
    crowded[pairs] = True
    rank = np.empty(len(detections), dtype=np.intp)
    rank[crowded] = _rank(detections.take(crowded), places[crowded])
    free = np.flatnonzero(~suppressed(rank, pairs))
    x, y = places[free].T
    return detections.take(free[np.lexsort((x, y))])


def _rank(detections: Detections, places: NDArray[np.float64]) -> NDArray[np.intp]:
    """(N,) 0 for the best. Equal rounded values are ranked by all digits, whatever the order."""
    digits = np.column_stack(
        (detections.scores, detections.boxes, detections.displacement, detections.displacement_sigma)
    )
    rounded = np.column_stack((places, -np.rint(detections.scores / SCORE_STEP)))
    rank = np.empty(len(detections), dtype=np.intp)
    rank[np.lexsort((*digits.T, *rounded.T))] = np.arange(len(detections))
    return rank
