"""Shards put together: one raster of each kind, and every truck once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from scipy.spatial import KDTree

from pipeline.inference.motion import evidence
from pipeline.inference.predictions import (
    ANY_SCORE,
    NO_CLASS,
    PLACE_STEP_PX,
    Detections,
    MinScores,
    Predictions,
)
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
    min_scores: MinScores = ANY_SCORE,
    vehicle_calibration: Calibration | None = None,
) -> Predictions:
    """Write the shards' rasters into `folder` strip by strip, and gather their trucks.

    A calibration turns the network's scores into probabilities; detections that reach none of
    `min_scores` go. Scores of
    vehicles of any kind have their own, or the same. Holds one shard in memory at a time. A truck counts if
    its centre is on a searched pixel; that is decided here, once, so that it is the same for every tiling.
    """
    parts: list[Detections] = []
    total = skipped = 0
    class_pixels, sums = np.zeros(256, np.int64), None
    with (
        _Raster(folder / "status.part.tif", grid, None) as status,
        _Raster(folder / "landcover.part.tif", grid, NO_CLASS) as landcover,
        _Raster(folder / "landcover_probability.part.tif", grid, NO_CLASS) as probability,
    ):
        for shard in shards:
            status.write(shard.status[None], shard.first_row)
            if shard.landcover is not None:
                landcover.write(shard.landcover[None], shard.first_row)
                pixels = _pixels_by_value(shard.landcover)
                class_pixels += pixels
                if shard.probabilities is not None:
                    probability.write(shard.probabilities, shard.first_row)
                    summed = shard.probabilities.sum((1, 2), dtype=np.int64) - NO_CLASS * pixels[NO_CLASS]
                    sums = summed if sums is None else sums + summed
            parts.append(_calibrated(shard.detections, calibration, vehicle_calibration, min_scores))
            total, skipped = total + shard.tiles_total, skipped + shard.tiles_skipped
            del shard  # the next one needs the memory
    return Predictions(
        one_per_truck(Detections.concatenate(parts)),
        landcover_raster=landcover.name,
        probability_raster=probability.name,
        status_raster=str(status.path),
        class_pixels=class_pixels,
        probability_sums=sums,
        tiles_total=total,
        tiles_skipped=skipped,
    )


def _pixels_by_value(classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return (256,) the number of pixels of each value."""
    counts = np.zeros(256, np.int64)
    for row in classes:  # bincount takes 8 bytes a pixel
        counts += np.bincount(row, minlength=256)
    return counts


def _calibrated(
    detections: Detections,
    calibration: Calibration | None,
    vehicles: Calibration | None,
    min_scores: MinScores,
) -> Detections:
    """Return detections with probabilities; that of any vehicle is at least that of a heavy one."""
    if calibration is None:
        return detections
    moves = evidence(detections.displacement, detections.displacement_sigma)
    probability, any_vehicle = calibration.probability(detections.scores, moves), detections.vehicle_scores
    if any_vehicle is not None:
        any_vehicle = np.maximum(probability, (vehicles or calibration).probability(any_vehicle, moves))
    found = replace(detections, scores=probability, vehicle_scores=any_vehicle)
    return found.take(min_scores.reached(probability, any_vehicle))


class _Raster:
    """Raster of the scene's grid, written strip by strip; the first one creates the file."""

    def __init__(self, path: Path, grid: GeoBox, nodata: int | None) -> None:
        self.path = path
        self._grid, self._nodata = grid, nodata
        self._dataset: rasterio.io.DatasetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._dataset is not None:
            self._dataset.close()

    @property
    def name(self) -> str | None:
        """The path; None if nothing was written."""
        return str(self.path) if self._dataset is not None else None

    def write(self, strip: NDArray[np.uint8], first_row: int) -> None:
        """Write rows (bands, H, W) of the complete width."""
        if self._dataset is None:
            self._dataset = self._create(len(strip))
        height, width = strip.shape[1:]
        self._dataset.write(strip, window=Window(0, first_row, width, height))

    def _create(self, bands: int) -> rasterio.io.DatasetWriter:
        rows, cols = self._grid.shape
        return rasterio.open(
            self.path,
            "w",
            driver="GTiff",
            height=int(rows),
            width=int(cols),
            count=bands,
            dtype="uint8",
            crs=self._grid.crs.to_wkt() if self._grid.crs else None,
            transform=self._grid.affine,
            nodata=self._nodata,
            tiled=True,
            blockxsize=512,
            blockysize=512,
            interleave="band",
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
