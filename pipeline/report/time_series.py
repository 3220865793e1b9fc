"""Traffic over time as a picture: trucks by area or by length of road, scene by scene, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import matplotlib.dates as mdates
import numpy as np
from matplotlib.figure import Figure

from pipeline.layers.flow import poisson_interval
from pipeline.storage.atomic import replacing

_FIRST, _LAST = 2015, 2199
"""Years of Sentinel-2; others can't be drawn on one axis with them."""
_COLOUR, _GRID = "#0f766e", "#e5e7eb"


class CountedScene(Protocol):
    """The required fields of a scene."""

    @property
    def acquired(self) -> str | None:
        """Time of acquisition, RFC 3339, or its date."""

    @property
    def trucks(self) -> int | None:
        """Number of detected trucks."""

    @property
    def seen_km2(self) -> float | None:
        """Searched area."""

    @property
    def road_km(self) -> float | None:
        """The length of road in that; None where there were no roads."""

    @property
    def simulated(self) -> bool | None:
        """True if the scene is simulated."""


def write_time_series(scenes: Sequence[CountedScene], path: Path) -> Path | None:
    """Trucks by kilometre of road, or by 100 square kilometres without roads, over the date; the file.

    Bars are 95 % intervals of a Poisson mean (Garwood, 1936): of the count alone, not of what the detector
    misses. Scenes without a date, which the title counts, and those of which nothing was seen can't be shown;
    None if no scene can.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    by_road = any(scene.road_km for scene in scenes)
    points = [point for scene in scenes if (point := _point(scene, by_road))]
    if not points:
        return None
    points.sort(key=lambda point: point[0])
    dates, counts, sizes = zip(*points, strict=True)
    unit = "km of road" if by_road else "100 km² searched"
    kind = "simulated scenes" if all(scene.simulated for scene in scenes) else "scenes"
    undated = sum(scene.acquired is None and scene.trucks is not None for scene in scenes)
    figure = _figure(
        list(dates),
        np.array(counts, np.float64),
        np.array(sizes, np.float64),
        f"trucks per {unit}",
        f"{len(points)} {kind}, {sum(counts)} trucks"
        + (f"; {undated} without a date not shown" if undated else ""),
    )
    with replacing(path) as part:
        figure.savefig(part, dpi=150, metadata={"Software": None})
    return path


def _point(scene: CountedScene, by_road: bool) -> tuple[datetime, int, float] | None:
    """Return time, trucks and size of a scene; None if one is unknown, or of another type."""
    try:
        if not scene.acquired or scene.trucks is None:
            return None
        size = (scene.road_km or 0.0) if by_road else (scene.seen_km2 or 0.0) / 100
        moment, trucks = _moment(scene.acquired), round(scene.trucks)
    except (AttributeError, OverflowError, TypeError, ValueError):
        return None
    is_plausible = 0 < size < math.inf and trucks >= 0 and _FIRST <= moment.year <= _LAST
    return (moment, trucks, size) if is_plausible else None


def _moment(acquired: str) -> datetime:
    """Return the place of a time, or of a date's begin, on the axis."""
    moment = datetime.fromisoformat(acquired)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _figure(dates: list[datetime], counts: np.ndarray, sizes: np.ndarray, unit: str, title: str) -> Figure:
    low, high = poisson_interval(counts)
    values = counts / sizes
    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.errorbar(
        mdates.date2num(dates),
        values,
        yerr=[values - low / sizes, high / sizes - values],
        fmt="o",
        color=_COLOUR,
        ecolor=f"{_COLOUR}66",
        ms=4,
        lw=1.2,
    )
    axes.xaxis_date()
    axes.set_ylim(bottom=0)
    axes.set_ylabel(unit)
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(color=_GRID, lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.autofmt_xdate()
    return figure
