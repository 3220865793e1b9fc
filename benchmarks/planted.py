"""Simulated place on some dates, with lorries that stand beside its motorway on most of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.config import Config
from pipeline.evaluation.trucks.boxes import centres
from pipeline.run import Request, run_directly
from pipeline.simulation.counters import write_counters
from pipeline.simulation.product import SimulatedProduct, write_product
from pipeline.simulation.product_metadata import Granule
from pipeline.simulation.rendering import Vehicle
from pipeline.simulation.world.demand import Demand
from pipeline.simulation.world.fleet import KINDS, paints, sizes
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.objects import World
from pipeline.simulation.world.stage import Stage
from pipeline.storage.out_folder import RECORD

DAYS = tuple(date(2023, 6, day) for day in (1, 6, 11, 16, 21, 26))
"""Thursday, Tuesday, Sunday, Friday, Wednesday, Monday."""
EVERY_PX, ON_DATES = 80, 5
"""Distance of the lorries along the motorway, and the number of dates of each."""
AT_M = 15.0
"""Distance up to which a detection is of what stands, as boxes of moving vehicles reach beyond them."""
TRUCK_M = 20.0
"""Distance up to which a detection is of a true vehicle."""


@dataclass(frozen=True)
class PlantedPlace:
    """Place of a seed: products, truth and counters in a folder, and where lorries stand."""

    folder: Path
    seed: int
    size: int
    days: Sequence[date] = DAYS
    demand: Demand = field(default_factory=Demand)

    @property
    def roads(self) -> Path:
        """Lines of all roads."""
        return self.folder / "truth" / "roads.gpkg"

    @property
    def counters(self) -> Path:
        """Counts of the stations."""
        return self.folder / "counters.csv"

    def trucks(self, day: date) -> Path:
        """Return the true vehicles of a date."""
        return self.folder / "truth" / day.isoformat() / "trucks.gpkg"

    def make(self) -> list[Path]:
        """Simulate the dates that are missing; return the product of each."""
        world = plan_world(self.size, self.seed)
        stands, products = self._standing(world), []
        for number, day in enumerate(self.days):
            stage = Stage.of(self.size, self.seed, demand=self.demand, day=day)
            product = SimulatedProduct.of(self.folder, Granule(stage.world))
            products.append(product.safe)
            if product.safe.exists():
                continue
            shutil.rmtree(product.trucks.parent, ignore_errors=True)  # of a killed process
            lorries = (*stage.traffic.heavy, *(one for one, on in stands if number in on))
            write_product(self.folder, replace(stage, traffic=replace(stage.traffic, heavy=lorries)))
        write_counters(self.counters, world, self.demand, self.days)
        return products

    def run(self, config: Config, out: Path) -> Path:
        """Run the dates that have no result in `out`, near roads; return `out`."""
        for product in self.make():
            if not (out / product.stem / RECORD).exists():
                run_directly(Request(str(product), out, config, roads=self.roads))
        return out

    def stands(self) -> NDArray[np.float64]:
        """Return where lorries stand (N, 2), in the CRS of the products."""
        world = plan_world(self.size, self.seed)
        to_map = Granule(world).affine(10)
        return np.array([to_map * (one.x, one.y) for one, _ in self._standing(world)]).reshape(-1, 2)

    def _standing(self, world: World) -> list[tuple[Vehicle, list[int]]]:
        """Return lorries beside the motorway, and the numbers of the dates of each."""
        rng = np.random.default_rng(self.seed)
        found = []
        kind = KINDS["articulated lorry"]
        motorway = next(road for road in world.roads if road.road_class == "motorway")
        for along in np.arange(EVERY_PX / 2, motorway.line.length, EVERY_PX):
            (x, y), (dx, dy) = motorway.place(along)
            aside = (motorway.half_width_m + rng.uniform(2, 12)) / 10 * rng.choice([-1, 1])
            (length, width), *_ = sizes(kind, 1, rng).tolist()
            heading = float(np.degrees(np.arctan2(dx, -dy)) % 360)
            x, y = float(x - dy * aside), float(y + dx * aside)
            paint, *_ = paints(kind, 1, rng)
            if min(x, y) > 20 and max(x, y) < world.size - 20:
                one = Vehicle(x, y, heading, 85.0, length, width, paint, "articulated lorry")
                found.append((one, rng.permutation(len(self.days))[:ON_DATES].tolist()))
        return found


@dataclass(frozen=True)
class Flagged:
    """Detections of a place: which are of what stands, which of true vehicles, and which are flagged."""

    often: NDArray[np.bool_]
    """(N,): of lorries that stand and are detected on three dates or more."""
    passes: NDArray[np.bool_]
    """(N,): of vehicles that pass."""
    recurring: NDArray[np.bool_]
    """(N,)."""

    @classmethod
    def of(cls, trucks: gpd.GeoDataFrame, place: PlantedPlace) -> Flagged:
        """Compare the layer of all dates of a place with its truth."""
        xy = centres(trucks)
        static, which = _near(xy, place.stands(), AT_M)
        passes = np.zeros(len(trucks), bool)
        for day in place.days:
            here = (trucks["acquired_date"] == day.isoformat()).to_numpy()
            vehicles = gpd.read_file(place.trucks(day))
            passes[here] = _near(xy[here], centres(vehicles), TRUCK_M)[0] & ~static[here]
        dates = pd.Series(trucks["acquired_date"].to_numpy()[static]).groupby(which[static]).nunique()
        often = static & np.isin(which, dates[dates >= 3].index)
        return cls(often, passes, trucks["recurring"].to_numpy(bool))


def _near(
    of: NDArray[np.float64], places: NDArray[np.float64], metres: float
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return whether each of `of` (N, 2) has one of `places` (M, 2) within some metres, and which."""
    if not len(of) or not len(places):
        return np.zeros(len(of), bool), np.zeros(len(of), np.intp)
    away, which = KDTree(places).query(of, distance_upper_bound=metres)
    return np.isfinite(away), which
