"""Warnings about roads that are not on a scene."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely

from pipeline.input_warnings import warn
from pipeline.roads.read import in_view, road_extent, unread_classes
from pipeline.storage.vector_places import warn_if_elsewhere

_SO = "no truck is searched"


def warn_without_roads(
    roads: gpd.GeoDataFrame,
    path: Path,
    crs: Any,
    scene: tuple[float, float, float, float],
    *,
    buffer_m: float,
    margin_m: float,
) -> None:
    """Warn if no road can be seen within `buffer_m` of a scene, and say how far away the nearest is.

    `roads` were read from `path` in `crs`, within `margin_m` of `scene` (x_min, y_min, x_max, y_max).
    """
    near, wide = (shapely.box(*scene).buffer(metres, join_style="mitre") for metres in (buffer_m, margin_m))
    on_scene = roads[roads.intersects(near)]
    if len(in_view(on_scene)):
        return
    if len(on_scene):
        kinds = ", ".join(f"{number} {kind}" for kind, number in Counter(on_scene["hidden"]).most_common())
        warn(f"Roads: no road on the scene can be seen from above ({kinds}), so {_SO}. File: {path}.")
        return
    if len(roads):
        warn_if_elsewhere(roads, crs, near.bounds, f"Roads: {path}", _SO)
        return
    if others := unread_classes(path, crs, wide.bounds):
        named = ", ".join(f"{number} {kind}" for kind, number in others.most_common(4))
        warn(
            f"Roads: {path} has no motorway, trunk, primary or secondary road near the scene, but {named}. "
            f"Other classes are not read from OpenStreetMap files, so {_SO}. Save them as lines of a "
            "GeoPackage to use them."
        )
        return
    extent = road_extent(path)
    if extent.empty:
        warn(f"Roads: {path} has no road, so {_SO}.")
    elif not warn_if_elsewhere(extent, crs, near.bounds, f"Roads: {path}", _SO, is_extent=True):
        warn(
            f"Roads: {path} is of this area, but it has no road in use within {margin_m / 1000:g} km of the "
            f"scene, so {_SO}."
        )
