"""Area and road length observed: what counts of false positives are divided by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.evaluation.trucks.scores import Surroundings


@dataclass(frozen=True)
class Exposure:
    """Area and road length observed; NaN if unknown."""

    seen_km2: float
    """The area seen; if the evaluation is restricted to roads, only that near them."""
    road_km: float
    """Length of the road lines in the area seen; the two carriageways of a motorway are two lines."""


def exposure(surroundings: Surroundings) -> Exposure:
    """Measure the area and the roads that were observed; lines that coincide count once."""
    seen, roads = surroundings.seen, surroundings.roads
    if seen is None:
        return Exposure(float("nan"), float("nan"))
    area = seen.geometry.to_numpy()
    if roads is None:
        return Exposure(float(shapely.area(area).sum()) / 1e6, float("nan"))
    whole, lines = _joined(area), roads.geometry.to_numpy()
    strips = shapely.union_all(shapely.buffer(lines, surroundings.road_buffer_m))
    near_km2 = shapely.area(shapely.intersection(strips, whole)) / 1e6
    length_km = shapely.length(shapely.intersection(shapely.union_all(lines), whole)) / 1e3
    return Exposure(float(near_km2), float(length_km))


def _joined(areas: NDArray[np.object_]) -> shapely.Geometry:
    """Return the union. A run's layers are coverages, whose union takes a fraction of the time."""
    try:
        whole = shapely.coverage_union_all(areas)
    except shapely.GEOSException:  # areas from elsewhere may overlap
        return shapely.union_all(areas)
    return whole if shapely.is_valid(whole) else shapely.union_all(areas)
