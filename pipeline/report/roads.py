"""Roads of a scene: on the map by number of trucks, with figures of a clicked segment, and as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from pipeline.evaluation.trucks.boxes import column
from pipeline.report.map import FeatureLayer, feature_layer

MAX_ROWS = 300
"""Rows of the table of traffic on a page."""
_RAMP = ("#d4d4d8", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""None, then viridis: it rises in lightness, for every kind of colour vision."""
_POINTS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")

_FIGURES = (
    *("trucks", "expected", "expected_low", "expected_high", "flow_per_hour", "flow_low", "flow_high"),
    *("mean_speed_kmh", "seen_km"),
)


def road_layer(segments: gpd.GeoDataFrame, detail: float = 0.0) -> FeatureLayer:
    """Return segments (`pipeline.layers.traffic`) by trucks on a kilometre, the busiest first.

    `detail` is the tolerance of their lines, as of `feature_layer`.
    """
    density = column(segments, "trucks_per_km")
    busiest = segments.iloc[np.argsort(-np.nan_to_num(density), kind="stable")]
    known = density[np.isfinite(density) & (density > 0)]
    steps = np.unique(np.quantile(known, [0.25, 0.5, 0.75]).round(1)) if len(known) else np.zeros(0)
    levels = ["no trucks", *(f"more than {low:g} on a km" for low in (0.0, *steps.tolist()))]
    legend = list(zip(levels, _RAMP, strict=False))

    def colour(row: Any) -> str:
        value = row.trucks_per_km
        level = 1 + int(np.searchsorted(steps, value, side="left")) if value > 0 else 0
        return legend[min(level, len(legend) - 1)][1]

    return feature_layer(
        "roads by trucks", busiest, colour, legend=legend, detail=detail, facts=segment_facts
    )


def segment_facts(segment: dict[Any, Any]) -> dict[str, str]:
    """Return what is known of a segment, a row of the layer `road_segments`, for people.

    Each figure with its 95 % interval; counts and flow also by direction.
    """
    known = {str(name): value for name, value in segment.items() if not pd.isna(value)}
    facts = {
        "road": _title(known) or str(known.get("road_id", "without a name")),
        "class": str(known.get("road_class", "unknown")),
    }
    if "hidden" in known:
        return facts | {"searched": f"no: {known['hidden']}"}
    if "seen_km" in known and "length_m" in known:
        facts["searched"] = f"{known['seen_km']:.2f} of {known['length_m'] / 1000:.2f} km"
    if "count" in known:
        facts["trucks"] = f"{known['count']:.0f} detected"
        if known.get("count_unresolved"):
            facts["trucks"] += f", {known['count_unresolved']:.0f} of unknown direction"
    _with_interval(facts, known, "expected", "expected trucks", ".1f")
    _with_interval(facts, known, "flow", "flow", ".0f", "_per_hour", " trucks per hour")
    if "mean_speed_kmh" in known:
        error = f" ± {known['speed_se_kmh']:.0f}" if "speed_se_kmh" in known else ""
        facts["mean speed"] = f"{known['mean_speed_kmh']:.0f}{error} km/h"
    for way, turn in (("forward", 0.0), ("backward", 180.0)):
        if f"count_{way}" in known and "azimuth_deg" in known:
            flow = known.get(f"flow_{way}")
            hourly = "" if flow is None else f", {flow:.0f} per hour"
            towards = f"towards {compass(known['azimuth_deg'] + turn)}"
            facts[towards] = f"{known[f'count_{way}']:.0f} detected{hourly}"
    return facts


@dataclass(frozen=True)
class RoadRow:
    """Traffic of a road in one direction; null figures are NaN."""

    road: str
    road_class: str
    direction: str
    trucks: float
    expected: float
    expected_interval: tuple[float, float]
    flow_per_hour: float
    flow_interval: tuple[float, float]
    mean_speed_kmh: float
    seen_km: float


def road_rows(traffic: pd.DataFrame | None) -> list[RoadRow]:
    """Return the first `MAX_ROWS` rows of a table of `pipeline.traffic.table`, most expected trucks first."""
    if traffic is None:
        return []
    ordered = traffic.sort_values("expected", ascending=False, kind="stable", na_position="last")
    return [_row(row) for row in ordered.head(MAX_ROWS).to_dict("records")]


def _row(row: dict[Any, Any]) -> RoadRow:
    figure = {name: math.nan if pd.isna(row[name]) else float(row[name]) for name in _FIGURES}
    return RoadRow(
        road=_title(row) or "without a name",
        road_class="" if pd.isna(row["road_class"]) else str(row["road_class"]),
        direction=str(row["direction"]),
        trucks=figure["trucks"],
        expected=figure["expected"],
        expected_interval=(figure["expected_low"], figure["expected_high"]),
        flow_per_hour=figure["flow_per_hour"],
        flow_interval=(figure["flow_low"], figure["flow_high"]),
        mean_speed_kmh=figure["mean_speed_kmh"],
        seen_km=figure["seen_km"],
    )


def _title(road: Mapping[Any, Any]) -> str:
    """Return number and name of a road, as far as it has them."""
    known = [road[key] for key in ("ref", "name") if not pd.isna(road.get(key)) and road[key]]
    return ", ".join(map(str, known))


def compass(azimuth_deg: float) -> str:
    """Return the nearest of the eight points of the compass."""
    return _POINTS[round(azimuth_deg / 45) % 8]


def _with_interval(
    facts: dict[str, str],
    known: dict[str, Any],
    name: str,
    title: str,
    form: str,
    suffix: str = "",
    unit: str = "",
) -> None:
    if name + suffix not in known:
        return
    facts[title] = f"{known[name + suffix]:{form}}{unit}"
    if f"{name}_low" in known and f"{name}_high" in known:
        facts[title] += f" (95 %: {known[f'{name}_low']:{form}} to {known[f'{name}_high']:{form}})"
