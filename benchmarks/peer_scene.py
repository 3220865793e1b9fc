"""Write the image for the comparisons: a tiled GeoTIFF of a simulated scene, all bands on the 10 m grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
from rasterio.windows import Window

from benchmarks.products import KEPT, Product, product
from pipeline.models.bundle import open_bundle
from pipeline.roads.read import read_roads
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.read import read_pixels

SHARE_NEAR_ROADS = 0.10
_SAMPLE = 20_000


@dataclass(frozen=True)
class PeerScene:
    """Paths of the image and the truth."""

    image: Path
    trucks: Path
    roads: Path


def peer_scene(size: int) -> PeerScene:
    """Return the image of a simulated scene of `size` x `size` pixels; it is written once."""
    made = product(size)
    image = KEPT / f"peers-{size}.tif"
    if not image.is_file():
        _write_image(made, image)
    return PeerScene(image, made.trucks, made.roads)


def tenth_near_roads(scene: PeerScene) -> float:
    """Return the distance from roads, in metres, that contains a tenth of the pixels, by a sample."""
    grid = open_scene(str(scene.image)).grid
    roads = read_roads(scene.roads, str(grid.crs)).geometry.to_numpy()
    rows, cols = np.random.default_rng(0).uniform(0, tuple(grid.shape), (_SAMPLE, 2)).T
    corner = grid.affine
    points = shapely.points(corner.c + cols * corner.a, corner.f + rows * corner.e)
    _, distance = shapely.STRtree(roads).query_nearest(points, return_distance=True, all_matches=False)
    return float(np.quantile(distance, SHARE_NEAR_ROADS))


def _write_image(made: Product, path: Path) -> None:
    source = open_scene(str(made.safe))
    bands = open_bundle("landcover").card.bands
    rows, cols = source.shape
    pixels = read_pixels(source, Window(0, 0, cols, rows), bands)
    numbers = np.clip(np.round(pixels.reflectance * 10000), 1, 65535).astype(np.uint16)
    numbers[:, ~pixels.valid] = 0
    part = path.with_suffix(".part.tif")
    with rasterio.open(
        part,
        "w",
        driver="GTiff",
        width=cols,
        height=rows,
        count=len(bands),
        dtype="uint16",
        crs=str(source.grid.crs),
        transform=source.grid.affine,
        nodata=0,
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
    ) as file:
        file.write(numbers)
        file.descriptions, file.scales = bands, [1e-4] * len(bands)
    part.replace(path)
