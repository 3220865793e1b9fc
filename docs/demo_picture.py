"""Draw docs/demo.png from the output of `make demo`: python docs/demo_picture.py runs/demo"""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas as gpd
import matplotlib as mpl
import numpy as np
import rasterio
from rasterio.windows import Window

from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.read import read_pixels

mpl.use("agg")
import matplotlib.pyplot as plt

SIZE_PX = (60, 100)


def main(demo: Path) -> None:
    """Find the window with most trucks, and draw it twice."""
    (safe,) = (demo / "scene").glob("*.SAFE")
    (folder,) = (demo / "layers").glob("S2*")
    scene = open_scene(str(safe))
    trucks = gpd.read_file(folder / "trucks.gpkg", layer="trucks")
    trucks = trucks[trucks.heading_deg.notna()]
    to_pixels = ~scene.grid.affine
    centres = np.array([to_pixels * (point.x, point.y) for point in trucks.centroid])
    height, width = SIZE_PX
    best = max(centres, key=lambda c: (np.abs(centres - c) < (width / 2, height / 2)).all(1).sum())
    rows, cols = scene.shape
    left = int(np.clip(best[0] - width / 2, 0, cols - width))
    top = int(np.clip(best[1] - height / 2, 0, rows - height))
    window = Window(left, top, width, height)
    colours = read_pixels(scene, window, ("B04", "B03", "B02")).reflectance.transpose(1, 2, 0)
    colours = np.clip(colours / np.percentile(colours, 99.5), 0, 1) ** 0.75
    figure, (imagery, cover) = plt.subplots(1, 2, figsize=(16, 5), layout="constrained")
    extent = (left, left + width, top + height, top)
    imagery.imshow(colours, extent=extent, interpolation="nearest")
    for (x, y), truck in zip(centres, trucks.itertuples(), strict=True):
        if not (left < x < left + width and top < y < top + height):
            continue
        x_min, y_min, x_max, y_max = truck.geometry.bounds
        corner, opposite = to_pixels * (x_min, y_max), to_pixels * (x_max, y_min)
        size = np.subtract(opposite, corner)
        imagery.add_patch(plt.Rectangle(corner, *size, fill=False, ec="#ffe600", lw=1.4))
        angle = np.deg2rad(truck.heading_deg)
        imagery.annotate(
            "",
            (x + 5 * np.sin(angle), y - 5 * np.cos(angle)),
            (x, y),
            arrowprops={"arrowstyle": "->", "color": "#ffe600", "lw": 1.2},
        )
        imagery.annotate(f"{truck.speed_kmh:.0f} km/h", (x, y - 2.6), color="white", fontsize=8, ha="center")
    with rasterio.open(folder / "landcover.tif") as raster:
        classes, table = raster.read(1), raster.colormap(1)
    palette = np.array([table[value] for value in range(256)], np.uint8)
    palette[255] = 255
    cover.imshow(palette[classes], interpolation="nearest")
    cover.add_patch(plt.Rectangle((left, top), width, height, fill=False, ec="black", lw=1.5))
    for axes in (imagery, cover):
        axes.set_axis_off()
    figure.savefig(Path(__file__).with_name("demo.png"), dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
