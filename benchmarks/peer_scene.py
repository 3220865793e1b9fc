"""The image that all peers get: a tiled GeoTIFF of a simulated scene, all bands on the 10 m grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from benchmarks.products import KEPT, Product, product
from pipeline.models.bundle import open_bundle
from pipeline.scenes.opening import open_scene
from pipeline.scenes.roads import read_roads, road_mask

ROAD_BUFFER_M = 30.0
SHARE_NEAR_ROADS = 0.10


@dataclass(frozen=True)
class PeerScene:
    """Where the image and the truth lie."""

    image: Path
    trucks: Path
    roads: Path
    """Some of the scene's roads: about a tenth of the pixels lies within 30 m of them."""


def peer_scene(size: int) -> PeerScene:
    """The image of a simulated scene of `size` x `size` pixels; written unless it is there."""
    made = product(size)
    scene = PeerScene(KEPT / f"peers-{size}.tif", made.trucks, KEPT / f"peers-{size}-roads.gpkg")
    if not scene.image.is_file():
        _write_image(made, scene.image)
    if not scene.roads.is_file():
        _write_roads(made, scene.roads)
    return scene


def share_near_roads(scene: PeerScene) -> float:
    """The share of the pixels within 30 m of the scene's roads."""
    grid = open_scene(str(scene.image)).grid
    return float(_near(gpd.read_file(scene.roads), grid).mean())


def _write_image(made: Product, path: Path) -> None:
    source = open_scene(str(made.safe))
    bands = open_bundle("landcover").card.bands
    rows, cols = source.shape
    pixels = source.read(Window(0, 0, cols, rows), bands)
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


def _write_roads(made: Product, path: Path) -> None:
    """As many of the scene's roads, the greatest classes and the longest first, as make up the share."""
    grid = open_scene(str(made.safe)).grid
    roads = read_roads(made.roads, str(grid.crs))
    classes = ["motorway", "trunk", "primary", "secondary", "tertiary"]
    rank = {name: place for place, name in enumerate(classes)}
    order = sorted(
        roads.index,
        key=lambda i: (rank.get(roads.road_class[i] or "", len(rank)), -roads.geometry[i].length),
    )
    near = np.zeros(tuple(grid.shape), bool)
    chosen = []
    for index in order:
        chosen.append(index)
        near |= _near(roads.loc[[index]], grid)
        if near.mean() >= SHARE_NEAR_ROADS:
            break
    part = path.with_suffix(".part.gpkg")
    part.unlink(missing_ok=True)
    roads.loc[chosen].to_file(part, layer="roads")
    part.replace(path)


def _near(roads: gpd.GeoDataFrame, grid: GeoBox) -> NDArray[np.bool_]:
    return road_mask(roads, grid, ROAD_BUFFER_M)
