"""Compare land-cover polygons of a granule with `rasterio.features.shapes` on the same sieved raster.

    python -m benchmarks.landcover_polygons                    # patchy noise, 10980 x 10980
    python -m benchmarks.landcover_polygons RASTER             # a class raster of your own

Prints wall-clock and CPU seconds and the peak memory of the process up to the written GeoPackage, then those
of `shapes`, then checks the GeoPackage block by block. Without arguments it writes RESULTS.md.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy.ndimage import gaussian_filter

from benchmarks.results import bar, save, table
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.layers.landcover import NODATA, polygonise, write_cog
from pipeline.layers.polygonise.outline import outline
from pipeline.layers.polygonise.regions import absorb_small, label_regions, read_strips
from pipeline.layers.styles import landcover_style
from pipeline.models.bundle import open_bundle

MIN_AREA_M2 = 500
BLOCK_M = 5_000
SIDE = 10_980
SIMPLIFY_M = 15.0


def patchy(side: int, seed: int, scale: float, classes: int = 9) -> NDArray[np.uint8]:
    """Return (side, side), the index of the highest of several smoothed noise fields; `scale` in pixels."""
    rng = np.random.default_rng(seed)
    highest = np.full((side, side), -np.inf, dtype=np.float32)
    raster = np.zeros((side, side), dtype=np.uint8)
    for value in range(classes):
        noise = gaussian_filter(rng.standard_normal((side, side), dtype=np.float32), scale, truncate=3)
        above = noise > highest
        raster[above] = value
        highest[above] = noise[above]
    return raster


def write_patchy(path: Path, side: int, seed: int, scale: float) -> None:
    """Write a patchy raster, stored like the merged shards of a granule."""
    raster = patchy(side, seed, scale)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=raster.shape[0], width=raster.shape[1],
        crs="EPSG:32632", transform=Affine(10, 0, 500_000, 0, -10, 5_800_000), tiled=True, blockxsize=512,
        blockysize=512, compress="deflate", zlevel=1,
    ) as target:  # fmt: skip
        target.write(raster, 1)


@contextmanager
def measured(name: str, figures: dict[str, NDArray[np.float64]]) -> Iterator[None]:
    """Print and keep wall-clock and CPU seconds of the block, threads included."""
    begun = np.array([time.perf_counter(), time.process_time()])
    yield
    figures[name] = np.array([time.perf_counter(), time.process_time()]) - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    clock, processor = figures[name]
    say(f"{name}: {clock:.1f} s, {processor:.1f} s of processor; peak so far {peak:.0f} MB")


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(path: Path, folder: Path, simplify_m: float) -> dict[str, Any]:
    """Measure and check one raster."""
    legend = open_bundle("landcover").card.classes
    figures: dict[str, NDArray[np.float64]] = {}
    gpkg = folder / "landcover.gpkg"
    with measured("COG", figures):
        write_cog(path, folder / "landcover.tif", legend)
    with measured("polygons", figures):
        layer = polygonise(path, legend, MIN_AREA_M2, simplify_m)
    with measured("GeoPackage", figures):
        write_gpkg(gpkg, {"landcover": layer}, {"landcover": landcover_style(legend)})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    polygons = layer.geometry.to_numpy()
    simple = int(shapely.get_num_coordinates(polygons).sum())
    areas = np.bincount(layer["class"], weights=shapely.area(polygons), minlength=256)
    worst_polygon = float(np.abs(shapely.area(polygons) / layer.area_m2 - 1).max())
    del layer, polygons

    with rasterio.open(path) as source:
        transform = source.transform
        regions = label_regions(read_strips(source), NODATA)
    pixel_area = abs(transform.determinant)
    regions = absorb_small(regions, math.ceil(MIN_AREA_M2 / pixel_area))
    before = np.bincount(regions.values, weights=regions.sizes, minlength=256) * pixel_area
    present = before > 0
    worst_class = float((np.abs(areas - before)[present] / before[present]).max())
    along_pixels = int(shapely.get_num_coordinates(outline(regions, transform)).sum())
    say(f"areas against the sieved raster: {worst_class:.1e} of a class, {worst_polygon:.1e} of a polygon")
    say(f"{simple} nodes of {along_pixels} along pixel edges")
    sieved = np.append(regions.values, np.uint8(NODATA))[regions.labels()]
    extent = (regions.shape[1] * transform.a, regions.shape[0] * transform.e)
    del regions
    with measured("shapes alone", figures):
        count = sum(1 for _ in shapes(sieved, mask=sieved != NODATA, connectivity=4, transform=transform))
    ratio = (figures["polygons"] + figures["GeoPackage"]) / figures["shapes alone"]
    say(f"{count} shapes; ratio {ratio[0]:.2f} by the clock, {ratio[1]:.2f} by the processor (bar: 4)")
    del sieved
    valid = valid_by_blocks(gpkg, transform, extent)
    say(f"valid by blocks: {valid}")
    seconds = {
        name: {"seconds": f"{clock:.1f}", "CPU s": f"{cpu:.1f}"} for name, (clock, cpu) in figures.items()
    }
    return {
        "polygons": count,
        "peak_mb": round(peak),
        "worst_class": worst_class,
        "worst_polygon": worst_polygon,
        "nodes": simple,
        "nodes_along_pixels": along_pixels,
        "ratio": round(float(ratio[1]), 2),
        "valid_by_blocks": valid,
        "rows": [{"what": name} | row for name, row in seconds.items()],
    }


def report(figures: dict[str, Any]) -> None:
    """Write the section of RESULTS.md."""
    lines = [
        f"Patchy noise of {SIDE} x {SIDE} px and nine classes, polygons below {MIN_AREA_M2} m2 merged into "
        f"their largest neighbour, simplified with {SIMPLIFY_M:g} m: {figures['polygons']:,} polygons. "
        "`shapes` is `rasterio.features.shapes` alone, on the same sieved raster, without simplification.",
        "",
        *table(figures["rows"]),
        "",
        f"Peak memory up to the written GeoPackage: {figures['peak_mb']:,} MB. Relative difference to the "
        f"area of the pixels: at most {figures['worst_class']:.1e} per class and "
        f"{figures['worst_polygon']:.1e} per polygon. Nodes: {figures['nodes']:,} of "
        f"{figures['nodes_along_pixels']:,} along pixel edges "
        f"({figures['nodes'] / figures['nodes_along_pixels']:.0%}). A valid coverage, checked in blocks of "
        f"{BLOCK_M / 1000:g} km: {'yes' if figures['valid_by_blocks'] else 'no'}.",
    ]
    bars = [
        bar("land-cover polygons: CPU time / that of shapes alone", figures["ratio"], 4, True),
        bar("land-cover polygons: peak memory", figures["peak_mb"], 2500, True, " MB"),
        bar(
            "area per class after simplification: largest error",
            100 * figures["worst_class"],
            0.1,
            True,
            " %",
        ),
    ]
    save("landcover_polygons", "Land-cover polygons", lines, figures, bars)


def valid_by_blocks(gpkg: Path, transform: Affine, extent: tuple[float, float]) -> bool:
    """Return whether the polygons of each block are valid, and a coverage."""
    for left in np.arange(0, extent[0], BLOCK_M):
        for down in np.arange(0, -extent[1], BLOCK_M):
            x, y = transform.c + left, transform.f - down
            box = (x, y - BLOCK_M, x + BLOCK_M, y)
            some = pyogrio.read_dataframe(gpkg, layer="landcover", bbox=box).geometry.to_numpy()
            if not (shapely.is_valid(some).all() and shapely.coverage_is_valid(some)):
                return False
    return True


def main(given: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("raster", nargs="?", type=Path, help="a class raster; without one, noise is made")
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=4.0, help="smoothing of the noise, pixels")
    parser.add_argument("--simplify", type=float, default=SIMPLIFY_M, help="metres")
    arguments = parser.parse_args(given)
    with TemporaryDirectory() as scratch:
        path = arguments.raster or Path(scratch) / "classes.tif"
        if arguments.raster is None:
            # Another process, whose memory is not counted.
            making = Process(
                target=write_patchy, args=(path, arguments.side, arguments.seed, arguments.scale)
            )
            making.start()
            making.join()
        figures = run(path, Path(scratch), arguments.simplify)
    if arguments == parser.parse_args([]):
        report(figures)


if __name__ == "__main__":
    main()
