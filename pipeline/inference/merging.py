"""Shards put together: one raster of each kind, and every truck once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from scipy.spatial import KDTree

from pipeline.inference.predictions import NODATA, Detections, Predictions
from pipeline.inference.shards import Shard

SAME_TRUCK_PX = 0.5
"""Boxes whose centres are nearer than this are one truck, seen from the cores of two tiles."""


def merge_shards(shards: Iterable[Shard], grid: GeoBox, folder: Path) -> Predictions:
    """Write the shards' rasters into `folder` strip by strip, and gather their trucks.

    Holds one shard in memory at a time. A truck counts where its centre lies on a pixel that was looked at;
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
            parts.append(shard.detections)
            total, skipped = total + shard.tiles_total, skipped + shard.tiles_skipped
    if not any_landcover:
        landcover.unlink()
    detections = one_per_truck(Detections.concatenate(parts))
    return Predictions(detections, str(landcover) if any_landcover else None, str(status), total, skipped)


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
    """The best box of each truck, from top to bottom; the order they come in does not matter.

    Of boxes whose centres are within `SAME_TRUCK_PX` the one with the highest score stays (of equals the
    upper, then the left one).
    """
    centres = detections.centres
    order = np.lexsort((*detections.boxes.T[::-1], -detections.scores))
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    beaten = np.zeros(len(detections), dtype=bool)
    if len(detections):
        pairs = KDTree(centres).query_pairs(SAME_TRUCK_PX, output_type="ndarray")
        for first, second in pairs[
            np.argsort(np.minimum(rank[pairs[:, 0]], rank[pairs[:, 1]]), kind="stable")
        ]:
            better, worse = (first, second) if rank[first] < rank[second] else (second, first)
            if not beaten[better]:
                beaten[worse] = True
    kept = detections.take(~beaten)
    return kept.take(np.lexsort((*kept.boxes.T, *kept.centres.T)))
