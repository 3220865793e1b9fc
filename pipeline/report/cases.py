"""Trucks or confusion cases as the columns that a page's map, gallery and table share."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.evaluation.trucks.boxes import centres, column
from pipeline.layers.styles import rgb
from pipeline.models.legend import LegendClass
from pipeline.report.chips import MEDIA_TYPE
from pipeline.report.pictures import WEB_MERCATOR, WGS84
from pipeline.report.template import environment

MICRODEGREE = 1e-6
"""Corners are given so exactly: 0.1 m."""
_SPOKEN_FOR = ("id", "outcome", "cause", "score", "geometry")
_UNITS = {"deg": "°", "kmh": "km/h", "m": "m", "km": "km", "m2": "m²", "ha": "ha", "px": "px"}
_NAMES = {"landcover": "land cover", "ndwi": "NDWI", "speed_kmh_sigma": "standard deviation of speed"}
_FEW = 60


@dataclass(frozen=True)
class Kind:
    """A kind of case, distinguished by colour (Okabe and Ito, 2008) and, without colour, by shape."""

    key: str
    name: str
    colour: str
    shape: str
    """`circle`, `square`, `diamond`, `triangle`, `cross` or `ring`."""


KINDS = {
    kind.key: kind
    for kind in (
        Kind("truck", "truck", "#009e73", "circle"),
        Kind("TP", "found", "#009e73", "circle"),
        Kind("FP", "false alarm", "#d55e00", "diamond"),
        Kind("FN", "missed", "#f0e442", "triangle"),
        Kind("TN", "rightly left out", "#56b4e9", "square"),
        Kind("ignored", "uncertain label, not counted", "#9aa4b2", "cross"),
        Kind("not_seen", "missed outside of the search area", "#cc79a7", "ring"),
    )
}


def kind_of(key: str, kinds: Mapping[str, Kind] = KINDS) -> Kind:
    """Return the kind with this key; an unknown one has its key as name, in grey."""
    return kinds.get(key, Kind(key, key.replace("_", " "), "#9aa4b2", "square"))


def case_columns(
    cases: gpd.GeoDataFrame, chips: Mapping[str, bytes], kinds: Mapping[str, Kind] = KINDS
) -> dict[str, Any]:
    """Return all cases for the page's script, column by column, in their order.

    `cases` have `id`, `outcome` (a key of `kinds`), and `cause` and `score` where they are known; every other
    column is a fact to show. `chips` are pictures by id. Of the result, `outlines` are corners of the convex
    hull as integers of `MICRODEGREE`: longitude and latitude of the first, then of each its distance from
    the first. `bearings` are directions of travel on the map, in degrees clockwise from up, and `has_front`
    is 0 for those of which only the axis is known.
    """
    keys = list(dict.fromkeys(cases["outcome"].astype(str)))
    there = [kind_of(key, kinds) for key in sorted(keys, key=lambda key: [*kinds, key].index(key))]
    number = {kind.key: index for index, kind in enumerate(there)}
    ids = cases["id"].astype(str).tolist()
    causes = _coded(cases["cause"]) if "cause" in cases else {"names": [], "codes": [-1] * len(cases)}
    return {
        "kinds": [vars(kind) for kind in there],
        "kind": [number[key] for key in cases["outcome"].astype(str)],
        "causes": causes["names"],
        "cause": causes["codes"],
        "score": _rounded(cases["score"], 3) if "score" in cases else [None] * len(cases),
        "id": ids,
        "outlines": _outlines(cases),
        **_directions(cases),
        "facts": _facts(cases),
        "chips": {row: data_uri(chips[name]) for row, name in enumerate(ids) if name in chips},
    }


def data_uri(chip: bytes) -> str:
    """Return a chip as a `data:` URI."""
    return f"data:{MEDIA_TYPE};base64,{base64.b64encode(chip).decode('ascii')}"


def label(column: str) -> tuple[str, str]:
    """Return the name of a column for people, and its unit: `speed_kmh` is ("speed", "km/h")."""
    words = column.split("_")
    units = [_UNITS[word] for word in words[1:] if word in _UNITS]
    name = " ".join(word for word in words if word not in _UNITS or word == words[0])
    return _NAMES.get(column, name), units[0] if units else ""


def _facts(cases: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    facts = []
    for name in cases.columns.drop(list(_SPOKEN_FOR), errors="ignore"):
        column = cases[name]
        if not column.notna().any():
            continue
        title, unit = label(str(name))
        fact: dict[str, Any] = {"name": title, "unit": unit}
        if pd.api.types.is_bool_dtype(column) or set(column.dropna().map(type)) <= {bool, np.bool_}:
            said = {True: "yes", False: "no"}
            fact |= _coded(column.map(said))
        elif pd.api.types.is_numeric_dtype(column):
            fact["values"] = _rounded(column, 1 if unit else 3)
        elif column.nunique() <= _FEW:
            fact |= _coded(column)
        else:
            fact["values"] = [None if pd.isna(value) else str(value) for value in column]
        facts.append(fact)
    return facts


def _coded(column: pd.Series) -> dict[str, list[Any]]:
    """Names, and of each value which one it is; -1 for none."""
    codes, names = pd.factorize(column.astype(object), sort=False)
    return {"names": [str(name) for name in names], "codes": codes.tolist()}


def _rounded(column: pd.Series, digits: int) -> list[float | None]:
    values = pd.to_numeric(column, errors="coerce").astype(float).round(digits).tolist()
    return [None if value != value else int(value) if value == int(value) else value for value in values]  # noqa: PLR0124


def _outlines(cases: gpd.GeoDataFrame) -> list[list[int]]:
    located = cases.to_crs(WGS84) if cases.crs is not None else cases
    hulls = shapely.convex_hull(located.geometry.to_numpy())
    at = shapely.get_coordinates(hulls)
    if np.ptp(at[:, 0]) > 180:  # across the antimeridian; the map's pictures go on beyond 180 degrees as well
        at[at[:, 0] < 0, 0] += 360
    corners: NDArray[np.int64] = np.rint(at / MICRODEGREE).astype(np.int64)
    ends = np.cumsum(shapely.get_num_coordinates(hulls))
    outlines: list[list[int]] = []
    for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        ring = corners[begin : max(begin + 1, end - 1)].copy()  # the last corner is the first again
        ring[1:] -= ring[0]
        outlines.append(ring.ravel().tolist())
    return outlines


def _directions(cases: gpd.GeoDataFrame) -> dict[str, Any]:
    """Return the bearings of headings, else of axes, on the map, in whole degrees clockwise from up."""
    heading, axis = column(cases, "heading_deg"), column(cases, "axis_deg")
    bearings = _on_map(cases, np.where(np.isfinite(heading), heading, axis))
    return {
        "bearings": [None if math.isnan(value) else round(value) % 360 for value in bearings.tolist()],
        "has_front": np.isfinite(heading).astype(int).tolist(),
    }


def _on_map(cases: gpd.GeoDataFrame, degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn degrees clockwise from grid north (N,) to those on a web map, which is conformal."""
    if cases.crs is None or cases.crs.is_geographic or not np.isfinite(degrees).any():
        return degrees
    at, turn = centres(cases), np.radians(np.nan_to_num(degrees))
    steps = at + 10 * np.stack([np.sin(turn), np.cos(turn)], axis=1)
    ends = gpd.GeoSeries.from_xy(*np.concatenate([at, steps]).T, crs=cases.crs).to_crs(WEB_MERCATOR)
    moved = np.stack([ends.x, ends.y], axis=1)
    x, y = (moved[len(at) :] - moved[: len(at)]).T
    return np.where(np.isfinite(degrees), np.degrees(np.arctan2(x, y)), np.nan)


def spoken(value: Any, column: str) -> str:
    """Format a value with its unit, for a caption."""
    _, unit = label(column)
    text = f"{value:.0f}" if isinstance(value, float) else str(value)
    return text + (unit if unit == "°" else f" {unit}" if unit else "")


def known_facts(case: pd.Series, columns: Sequence[str]) -> list[str]:
    """Format those of the given columns whose value is known, for a caption."""
    return [
        re.sub(r"\s+", " ", f"{label(name)[0]} {spoken(case[name], name)}")
        for name in columns
        if name in case and case[name] is not None and not pd.isna(case[name])
    ]


def case_styles(legend: Sequence[LegendClass]) -> dict[str, str]:
    """Return QGIS styles (QML) of the confusion cases: trucks by outcome, land cover by the class mapped."""
    trucks = [(kind.key, kind.name, kind.colour) for kind in KINDS.values() if kind.key != "truck"]
    landcover = [(item.name, f"mapped as {item.name}", item.colour) for item in legend]
    return {
        "trucks": category_style("outcome", trucks),
        "landcover": category_style("predicted_class", landcover),
    }


def category_style(attribute: str, categories: Iterable[tuple[str, str, str]]) -> str:
    """Return a QGIS style (QML) of areas by an attribute; a category is a value, its label and its colour."""
    rows = [(value, label, ",".join(map(str, rgb(colour)))) for value, label, colour in categories]
    return environment().get_template("cases.qml.j2").render(attribute=attribute, categories=rows)
