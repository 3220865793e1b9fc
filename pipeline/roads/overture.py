"""Segments of Overture Maps with the columns of OpenStreetMap."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice, pairwise
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
_ALL = (0.0, 1.0)
"""Fractions of a line at which it begins and ends."""
_MOST_RULES = 1000
_Rule = tuple[float, float, str, str]
"""Two fractions of a line, and the key and value that hold between them."""


def with_osm_columns(roads: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return segments of Overture Maps (theme transportation) with OpenStreetMap's columns; others unchanged.

    A segment is cut where its rules change (tunnel, direction, speed limit). Nested columns may be JSON.
    Schema: https://docs.overturemaps.org/schema/reference/transportation/segment/
    """
    if not {"subtype", "class"} <= set(roads) or not set(roads["subtype"].dropna().map(str)) <= set(_KINDS):
        return roads
    lines = roads.explode(ignore_index=True)
    segments = lines.drop(columns=lines.geometry.name).to_dict("records")
    tags, shapes = [], []
    for segment, line in zip(segments, lines.geometry, strict=True):
        rules = list(islice(_rules(segment), _MOST_RULES))
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
        values = flag.get("values")
        named = [name for name in values if isinstance(name, str)] if isinstance(values, list) else []
        for key in (_FLAGS[name] for name in named if name in _FLAGS):
            yield *_between(flag), key, "yes"
    for rule in _values(segment.get("access_restrictions")):
        when = _mapping(rule.get("when"))
        heading = _HEADINGS.get(str(when.get("heading")))
        if heading and rule.get("access_type") == "denied" and not any(map(when.get, _CONDITIONS)):
            yield *_between(rule), "oneway", heading
    for rule in _values(segment.get("speed_limits")):
        limit = _mapping(rule.get("max_speed"))
        if limit.get("value") and not any(_mapping(rule.get("when")).values()):
            unit = "" if limit.get("unit") in (None, "km/h") else f" {limit['unit']}"
            yield *_between(rule), "maxspeed", f"{limit['value']}{unit}"


def _between(rule: Mapping[str, Any]) -> tuple[float, float]:
    """Return the fractions of the line at which a rule begins and ends."""
    between = _value(rule.get("between"))
    if not isinstance(between, list) or len(between) != len(_ALL):
        return _ALL
    start, end = (
        edge if each is None else _fraction(each, edge) for each, edge in zip(between, _ALL, strict=True)
    )
    return start, end


def _fraction(value: Any, default: float) -> float:
    """Return a number from 0 to 1; the default for what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(min(max(value, 0.0), 1.0)) if is_number and value == value else default  # noqa: PLR0124 NaN


def _values(value: Any) -> list[Mapping[str, Any]]:
    """Return the items of a nested column that are mappings."""
    found = _value(value)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


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
