"""Compare the likely causes of mistakes with the simulated truth at the same places.

    python -m benchmarks.confusion_causes CASES --size 10980 --seed 11

CASES is `confusion_cases.gpkg` of a run on a product of `truckscape simulate --size SIZE --seed SEED`. Prints
two tables, of false alarms and of missed labels: likely cause by true content, as in docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pipeline.evaluation.trucks.boxes import centres
from pipeline.simulation.product_metadata import Granule
from pipeline.simulation.rendering import Vehicle
from pipeline.simulation.world import atmosphere
from pipeline.simulation.world.objects import World
from pipeline.simulation.world.stage import FAINT_PX, SLOW_KMH, Stage

BESIDE_PX = 3.5
"""A box this near to a truck is a box of it, or of a part of it."""
_CLOUD, _SHADOW = 0.05, 0.08
"""Difference of opacity and shade within 13 x 13 pixels that makes an edge."""
_PARKED_WIDTH = 0.25
_SPAN = np.arange(-6.0, 7.0)


def behind_false_alarms(stage: Stage, xy: NDArray[np.float64]) -> list[str]:
    """Return the true content of N places (x, y in pixels) of false alarms."""
    traffic, world = stage.traffic, stage.world
    aircraft = [part for each in traffic.aircraft for part in each.parts]
    apart = {
        "aircraft": _nearest(aircraft, xy) < 25,
        "train": _nearest(traffic.wagons, xy) < 3,
        "edge of a cloud": (skies := _skies(world, xy))[:, 0] > _CLOUD,
        "edge of a shadow": skies[:, 1] > _SHADOW,
        "beside a truck": _nearest(traffic.heavy, xy) < BESIDE_PX,
        "light vehicle": _nearest(traffic.light, xy) < 2.5,
        **_still(stage, xy),
        "bare road": _off_roads(world, xy) < 3,
    }
    return _first(apart, len(xy), "open ground")


def behind_misses(stage: Stage, xy: NDArray[np.float64]) -> list[str]:
    """Return what may hide N true trucks: another vehicle, haze, little contrast, or nothing."""
    trucks = [one for one in stage.vehicles() if one.weight == "heavy"]
    places = np.array([(truck.vehicle.x, truck.vehicle.y) for truck in trucks]).reshape(-1, 2)
    own = [trucks[index] for index in cKDTree(places).query(xy)[1].tolist()]
    vehicles = (*stage.traffic.heavy, *stage.traffic.light)
    others = np.array([(vehicle.x, vehicle.y) for vehicle in vehicles]).reshape(-1, 2)
    ours = np.array([(truck.vehicle.x, truck.vehicle.y) for truck in own]).reshape(-1, 2)
    second = cKDTree(others).query(ours, k=2)[0][:, 1]
    return _first(
        {
            "haze or shade": np.array([truck.light < 0.95 for truck in own]),
            "a truck within 40 m": _nearest(stage.traffic.heavy, ours, nth=2) <= 4,
            "slow": np.array([truck.vehicle.speed_kmh < SLOW_KMH + 10 for truck in own]),
            "faint": np.array([truck.contrast * truck.light < 2 * FAINT_PX for truck in own]),
            "a car within 30 m": second <= 3,
        },
        len(xy),
        "nothing of these",
    )


def _still(stage: Stage, xy: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    near = cKDTree(stage.centres).query_ball_point(xy, 3)
    parked = [any(stage.roofs[index].width == _PARKED_WIDTH for index in indices) for indices in near]
    greenhouse = np.zeros(len(xy), bool)
    for zone in stage.world.zones:
        if zone.kind in {"greenhouses", "solar"}:
            x, y = (xy - (zone.x, zone.y)).T
            u, v = (
                x * np.cos(zone.angle) + y * np.sin(zone.angle),
                y * np.cos(zone.angle) - x * np.sin(zone.angle),
            )
            greenhouse |= (np.abs(u) < zone.half_length + 1) & (np.abs(v) < zone.half_width + 1)
    return {
        "parked": np.array(parked, bool),
        "greenhouse or solar": greenhouse,
        "roof": np.array([bool(indices) for indices in near], bool),
    }


def _skies(world: World, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, 2): differences of cloud opacity and shade around each place."""
    found = []
    for x, y in xy:
        sky = atmosphere.sky(world, x + _SPAN, y + _SPAN)
        found.append((max(np.ptp(sky.cloud), np.ptp(sky.cirrus)), np.ptp(sky.shadow)))
    return np.array(found, np.float64).reshape(-1, 2)


def _nearest(vehicles: Sequence[Vehicle], xy: NDArray[np.float64], nth: int = 1) -> NDArray[np.float64]:
    if len(vehicles) < nth:
        return np.full(len(xy), np.inf)
    places = np.array([(vehicle.x, vehicle.y) for vehicle in vehicles])
    return np.asarray(cKDTree(places).query(xy, k=[nth])[0][:, 0])


def _off_roads(world: World, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    points = shapely.points(xy)
    _, distance = shapely.STRtree([road.line for road in world.roads]).query_nearest(
        points, return_distance=True, all_matches=False
    )
    return np.asarray(distance)


def _first(rules: dict[str, NDArray[np.bool_]], count: int, otherwise: str) -> list[str]:
    names = np.full(count, otherwise, dtype=object)
    for name, holds in reversed(rules.items()):
        names[holds] = name
    return [str(name) for name in names]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables; see the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args(arguments)
    cases = gpd.read_file(given.cases, layer="trucks")
    stage = Stage.of(given.size, given.seed)
    to_pixels: Affine = ~Granule(stage.world).affine(10)
    for outcome, behind in (("FP", behind_false_alarms), ("FN", behind_misses)):
        part = cases[cases["outcome"] == outcome]
        xy = np.stack(to_pixels * tuple(centres(part).T), axis=1)
        found = pd.Series(behind(stage, xy), index=part.index, name="what was there")
        sys.stdout.write(f"{outcome}\n{pd.crosstab(part['cause'], found, margins=True).to_string()}\n\n")


if __name__ == "__main__":
    main()
