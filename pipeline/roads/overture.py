"""Segments of Overture Maps with the columns of OpenStreetMap."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from shapely import ops

_KINDS = {"road": "highway", "rail": "railway", "water": "waterway"}
"""OpenStreetMap's key for each `subtype`."""
_FLAGS = {"is_tunnel": "tunnel", "is_covered": "covered"}
_HEADINGS = {"backward": "yes", "forward": "-1"}
"""Values of `oneway` where a heading is denied to all."""
_CONDITIONS = ("mode", "using", "recognized", "vehicle", "during")
_Rule = tuple[float, float, str, str]
"""Two fractions of a line, and the key and value that hold between them."""


def with_osm_columns(roads: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return segments of Overture Maps (theme transportation) with OpenStreetMap's columns; others unchanged.

    A segment is cut where its rules change (tunnel, direction, speed limit). Nested columns may be JSON.
    Schema: https://docs.overturemaps.org/schema/reference/transportation/segment/
    """
    if not {"subtype", "class"} <= set(roads) or not set(roads["subtype"].dropna()) <= set(_KINDS):
        return roads
    lines = roads.explode(ignore_index=True)
    segments = lines.drop(columns=lines.geometry.name).to_dict("records")
    tags, shapes = [], []
    for segment, line in zip(segments, lines.geometry, strict=True):
        rules = list(_rules(segment))
        cuts = sorted({0.0, 1.0, *(at for rule in rules for at in rule[:2])})
        for start, end in pairwise(cuts):
            of_part = {key: value for first, last, key, value in rules if first <= start and end <= last}
            tags.append({"id": segment.get("id"), **_tags(segment), **of_part})
            shapes.append(ops.substring(line, start, end, normalized=True) if len(cuts) > 2 else line)
    return gpd.GeoDataFrame(pd.DataFrame(tags, dtype=object), geometry=shapes, crs=roads.crs)


def _tags(segment: Mapping[Any, Any]) -> dict[str, Any]:
    link = "_link" if segment.get("subclass") == "link" else ""
    kind = segment["class"] if isinstance(segment["class"], str) else "unknown"
    key = _KINDS.get(segment["subtype"], "highway")
    names = _value(segment.get("names"))
    refs = [route.get("ref") for route in _values(segment.get("routes"))]
    return {
        key: f"{kind}{link}",
        "name": names.get("primary") if isinstance(names, Mapping) else None,
        "ref": [ref for ref in refs if ref],
    }


def _rules(segment: Mapping[Any, Any]) -> Iterator[_Rule]:
    flags = segment.get("road_flags")
    if isinstance(flags, str) and _value(flags) is None:  # as geopandas writes nested columns
        flags = [{"values": [name for name in _FLAGS if name in flags]}]
    for flag in _values(flags):
        for key in (_FLAGS[name] for name in flag.get("values") or () if name in _FLAGS):
            yield *_between(flag), key, "yes"
    for rule in _values(segment.get("access_restrictions")):
        when = rule.get("when") or {}
        heading = _HEADINGS.get(when.get("heading") or "")
        if heading and rule.get("access_type") == "denied" and not any(map(when.get, _CONDITIONS)):
            yield *_between(rule), "oneway", heading
    for rule in _values(segment.get("speed_limits")):
        limit = rule.get("max_speed") or {}
        if limit.get("value") and not any((rule.get("when") or {}).values()):
            unit = "" if limit.get("unit") in (None, "km/h") else f" {limit['unit']}"
            yield *_between(rule), "maxspeed", f"{limit['value']}{unit}"


def _between(rule: Mapping[str, Any]) -> tuple[float, float]:
    """Return the fractions of the line at which a rule begins and ends."""
    start, end = rule.get("between") or (0.0, 1.0)
    return max(float(start or 0.0), 0.0), min(1.0 if end is None else float(end), 1.0)


def _values(value: Any) -> list[Mapping[str, Any]]:
    """Return the items of a nested column that are mappings."""
    found = _value(value)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _value(value: Any) -> Any:
    """Return a nested value of plain lists and dictionaries, also from JSON; None if it is none."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, np.ndarray | list | tuple):
        return [_value(each) if not isinstance(each, str) else each for each in value]
    if isinstance(value, Mapping):
        return {key: each if isinstance(each, str) else _value(each) for key, each in value.items()}
    return value
