"""Simulated Sentinel-2 scenes with their truth, in memory and as products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.simulation.product import SimulatedProduct, write_product
from pipeline.simulation.world.demand import Demand
from pipeline.simulation.world.network import Road
from pipeline.simulation.world.objects import World
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.stage import SimulatedVehicle, Stage

MIN_SIZE = 64
MAX_SIZE = 10980


def simulate(out: Path, size: int = 1024, seed: int = 0, demand: Demand | None = None) -> SimulatedProduct:
    """Write a simulated Level-2A product of `size` x `size` pixels of 10 m, with its truth, to `out`.

    The same arguments give the same pixels and truth. `demand` is the traffic in relation to what is counted
    on such roads. 1024 px take about 15 s. See `dates.simulate_dates` for the same place on several dates.

    Raises
    ------
    OutputError
        If `out` already has a product, or can't be written.
    ConfigError
        If the size is out of range.
    """
    check_size(size)
    return write_product(out, Stage.of(size, seed, demand=demand))


@dataclass(frozen=True)
class SimulatedScene:
    """Pixels of a simulated scene, with its truth."""

    bands: tuple[str, ...]
    reflectance: NDArray[np.float32]
    """(C, H, W), reflectance 0-1, in the order of `bands`."""
    landcover: NDArray[np.uint8]
    detector: NDArray[np.uint8]
    cloud: NDArray[np.float32]
    """(H, W), opacity 0-1, the larger of thick and thin cloud."""
    shadow: NDArray[np.float32]
    """(H, W), share of sunlight blocked by clouds."""
    vehicles: tuple[SimulatedVehicle, ...]
    """Truth: heavy and light vehicles. Those of `confidence` "low" and "ignore" should be ignored."""
    world: World

    @property
    def trucks(self) -> tuple[SimulatedVehicle, ...]:
        """Return the heavy vehicles."""
        return tuple(one for one in self.vehicles if one.weight == "heavy")

    @property
    def roads(self) -> tuple[Road, ...]:
        """Return the roads, in pixels."""
        return self.world.roads


def check_size(size: int) -> None:
    """Check the size of a simulated scene; raises ConfigError if it is out of range."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ConfigError(
            f"A simulated scene must have {MIN_SIZE} to {MAX_SIZE} pixels a side. Received: size={size}"
        )


def simulate_scene(
    size: int = 1024,
    seed: int = 0,
    bands: Sequence[str] = BANDS,
    traffic: bool = True,
    demand: Demand | None = None,
) -> SimulatedScene:
    """Return a simulated scene of `size` x `size` pixels of 10 m, the same for the same arguments.

    Without `traffic` nothing moves: a background for training. `demand` is as for `simulate`.
    Takes 3-8 s for 1024 px and about 500 bytes a pixel of a block; the result itself holds 4 bytes for each
    pixel and band.

    Raises
    ------
    ConfigError
        If the size is out of range.
    ValueError
        If a band is not in an L2A product.
    """
    check_size(size)
    unknown = [band for band in bands if band not in BANDS]
    if unknown:
        raise ValueError(
            f"bands must be of an L2A product: {', '.join(BANDS)}. Received: {', '.join(unknown)}"
        )
    stage = Stage.of(size, seed, traffic, demand)
    shape = (size, size)
    reflectance = np.empty((len(bands), *shape), np.float32)
    landcover, detector = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    cloud, shadow = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for block in stage.render(tuple(bands)):
        rows, cols = block.window.toslices()
        height, width = landcover[rows, cols].shape
        part = (slice(height), slice(width))
        reflectance[:, rows, cols] = block.reflectance[:, *part]
        landcover[rows, cols], detector[rows, cols] = block.landcover[part], block.detector[part]
        cloud[rows, cols] = np.maximum(block.sky.cloud, block.sky.cirrus)[part]
        shadow[rows, cols] = block.sky.shadow[part]
    return SimulatedScene(
        tuple(bands), reflectance, landcover, detector, cloud, shadow, stage.vehicles(), stage.world
    )
