"""Measure the accuracy of speeds and headings on unseen simulated scenes, and on the real chips.

`python -m benchmarks.motion [seed ...]` prints the tables of MOTION.md. Each scene is measured at the shipped
detector's boxes near roads, and at the true boxes moved by 0.5 px at random, which excludes the effect of the
detector. Trucks that are not of high confidence are ignored.
"""

from __future__ import annotations

import sys
import time

import geopandas as gpd
import numpy as np
import rasterio
import shapely
import torch
from numpy.typing import NDArray

from benchmarks.scenes import SHARED
from pipeline.evaluation.trucks.matching import match
from pipeline.inference.motion import measure_displacement
from pipeline.inference.predictions import MOTION_BANDS
from pipeline.layers.trucks import DELAY_SIGMA, MOVING_SIGMAS
from pipeline.models.bundle import open_bundle
from pipeline.models.normalise import normalise
from pipeline.models.registry import build_network
from pipeline.scenes.msi import BAND_DELAYS_S
from pipeline.simulation.simulate import SimulatedScene, simulate_scene

SEEDS = (42, 123, *range(900, 910))
SIZE = 768
JITTER_PX = 0.5
ROAD_BUFFER_PX = 3.0
KMH_PER_PX = 36 / BAND_DELAYS_S["B04"]

Array = NDArray[np.float64]


def found_trucks(scene: SimulatedScene) -> Array:
    """Return the shipped detector's boxes near roads, above its threshold."""
    bundle = open_bundle("trucks")
    network = bundle.load_into(build_network(bundle.card)).eval()
    index = [scene.bands.index(band) for band in bundle.card.bands]
    valid = np.ones(scene.reflectance.shape[1:], bool)
    tensor = normalise(scene.reflectance[index], valid, bundle.card)
    with torch.inference_mode():
        (result,) = network(tensor[None])
    boxes: Array = result["boxes"].double().numpy()
    x, y = centres(boxes).T
    near = shapely.union_all([road.line.buffer(ROAD_BUFFER_PX) for road in scene.roads])
    enough = result["scores"].numpy() >= bundle.card.default_threshold(near_roads=True)
    return boxes[enough & shapely.contains_xy(near, x, y)]


def centres(boxes: Array) -> Array:
    """Return the centres (N, 2) of boxes (N, 4)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def errors(scene: SimulatedScene, boxes: Array, trucks: NDArray[np.intp]) -> Array:
    """Return (N, 3): error and deviation in km/h, heading error in degrees; NaN if not measured."""
    index = [scene.bands.index(band) for band in MOTION_BANDS]
    pixels = scene.reflectance[index]
    moved, sigma = measure_displacement(pixels, np.ones(pixels.shape[1:], bool), boxes)
    vehicles = [scene.trucks[truck].vehicle for truck in trucks]
    way = np.array([vehicle.direction for vehicle in vehicles]).reshape(-1, 2)
    way *= np.array([scene.trucks[truck].order for truck in trucks]).reshape(-1, 1)
    true = np.array([vehicle.speed_kmh for vehicle in vehicles])
    speed, sigma = np.hypot(*moved.T) * KMH_PER_PX, sigma * KMH_PER_PX
    off = np.rad2deg(np.arccos(np.clip((moved * way).sum(axis=1) * KMH_PER_PX / speed, -1, 1)))
    off[~(speed >= MOVING_SIGMAS * sigma)] = np.nan
    return np.stack([speed - true, np.hypot(sigma, DELAY_SIGMA * speed), off], axis=1)


def row(name: str, measured: Array) -> str:
    """Return a row of the table."""
    error, sigma, off = measured.T
    known, pointing = ~np.isnan(error), off[~np.isnan(off)]
    size = np.abs(error[known])
    cells = [
        name,
        f"{len(error)}",
        f"{100 * (1 - known.mean()):.0f} %",
        f"{np.median(size):.1f}",
        f"{np.sqrt((size**2).mean()):.1f}",
        f"{100 * (size < sigma[known]).mean():.0f} %",
        f"{(pointing > 90).sum()} of {len(pointing)}",
    ]
    return f"| {' | '.join(cells)} |"


def simulated(seeds: tuple[int, ...]) -> None:
    """Print the tables of both kinds of boxes, by seed and pooled."""
    bands = tuple(dict.fromkeys([*open_bundle("trucks").card.bands, *MOTION_BANDS]))
    tables: dict[str, list[tuple[int, Array]]] = {"shipped detector": [], "true boxes": []}
    seconds, count = 0.0, 0
    for seed in seeds:
        scene = simulate_scene(SIZE, seed, bands)
        truth = np.array([truck.box for truck in scene.trucks]).reshape(-1, 4)
        low = np.array([truck.confidence != "high" for truck in scene.trucks], bool)
        found = found_trucks(scene)
        matching = match(centres(found) * 10, centres(truth) * 10, low, 20.0)
        hits, firm = matching.true_positives, np.flatnonzero(~low)
        jitter = np.tile(np.random.default_rng(seed).normal(0, JITTER_PX, (len(firm), 2)), 2)
        start = time.perf_counter()
        tables["shipped detector"].append((seed, errors(scene, found[hits], matching.reference_of[hits])))
        tables["true boxes"].append((seed, errors(scene, truth[firm] + jitter, firm)))
        seconds, count = seconds + time.perf_counter() - start, count + len(hits) + len(firm)
    for name, parts in tables.items():
        lines = [
            f"| {name}: seed | trucks | no speed | median error | RMSE, km/h | within one sigma | flips |",
            f"|{'---|' * 7}",
            *(row(str(seed), part) for seed, part in parts if len(part)),
            row("all", np.concatenate([part for _, part in parts])),
            "",
        ]
        sys.stdout.write("\n".join([*lines, ""]))
    sys.stdout.write(f"{1000 * seconds / count:.1f} ms a truck\n\n")


def real(name: str) -> None:
    """Print speeds and headings of the trucks drawn by eye on a real chip."""
    with rasterio.open(SHARED / "trucks" / f"{name}.tif") as dataset:
        index = [dataset.descriptions.index(band) + 1 for band in MOTION_BANDS]
        image = dataset.read(index).astype(np.float32) * np.float32(dataset.scales[0])
        to_pixel = ~dataset.transform
    labels = gpd.read_file(SHARED / "trucks" / f"{name}_trucks.gpkg")
    west, south, east, north = labels.geometry.bounds.to_numpy().T
    (x0, y0), (x1, y1) = to_pixel @ (west, north), to_pixel @ (east, south)
    moved, sigma = measure_displacement(
        image, np.ones(image.shape[1:], bool), np.stack([x0, y0, x1, y1], axis=1)
    )
    speed, sigma = np.hypot(*moved.T) * KMH_PER_PX, sigma * KMH_PER_PX
    off = np.rad2deg(np.arctan2(moved[:, 0], -moved[:, 1])) - labels["travel_deg"].to_numpy()
    off = np.abs((off + 90) % 180 - 90)
    for confidence in ("high", "medium", "low"):
        there = (labels["confidence"] == confidence).to_numpy()
        known = there & ~np.isnan(speed)
        text = f"{name}, {confidence}: {there.sum()} trucks, {there.sum() - known.sum()} without speed"
        if known.any():
            text += (
                f"; {speed[known].min():.0f}-{speed[known].max():.0f} km/h, median sigma "
                f"{np.median(sigma[known]):.0f}; axis off by {np.median(off[known]):.0f} degrees, at most "
                f"{off[known].max():.0f}"
            )
        sys.stdout.write(f"- {text}\n")


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    if SHARED.is_dir():
        real("a2_braunschweig")
        real("walserberg_a8")
        sys.stdout.write("\n")
    simulated(tuple(int(seed) for seed in sys.argv[1:]) or SEEDS)


if __name__ == "__main__":
    main()
