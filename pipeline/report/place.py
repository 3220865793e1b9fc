"""The page of a place: `index.html` with its roads over all dates, in one file that works offline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from pipeline.report.files import file_links
from pipeline.report.page import REPORT
from pipeline.report.template import write_page
from pipeline.storage.out_folder import INDEX
from pipeline.traffic.summary import Comparison, PlaceSummary

_COLOURS = ("#b9d7d2", "#76b3ab", "#2f8a80", "#0b5f57", "#062f2b")
"""From little to much flow: each is darker than the one before."""
_WIDTHS = (2, 3, 4.5, 6, 8)
_UNKNOWN = "#94a3b8"
_DEGREES = 1e-5
"""Unit of coordinates in the page: about a metre."""
_MOST_VERTICES = 120_000
_SHARE = 0.05
"""False discovery rate of the roads that are named as changed."""
_NAMED = 3
"""Roads in the title."""
_SERIES = {"flow": 0, "flow_low": 0, "flow_high": 0, "trucks": 1, "expected": 1}
"""Columns of `PlaceSummary.series` in the page, with their digits."""


def write_place(summary: PlaceSummary, out: Path, files: Mapping[str, Path]) -> Path:
    """Write `index.html` into a folder, with links to the reports of its scenes and to `files`; return it.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    page = out / INDEX
    links = file_links(files.values(), page)
    write_page(page, "place.html.j2", files=links, **_values(summary, page))
    return page


def _values(summary: PlaceSummary, page: Path) -> dict[str, Any]:
    """Return what the template is filled with, but for the links to files."""
    each = summary.acquisitions
    busiest = summary.roads.iloc[::-1]["road"].astype(str).tolist()
    more = len(busiest) - _NAMED
    title = f"Trucks on {', '.join(busiest[:_NAMED])}" if busiest else "Trucks"
    levels = _levels(summary.roads["flow_per_hour"].to_numpy(np.float64, na_value=np.nan))
    years = sorted({date.year for date in each["date"].dropna()})
    return {
        "title": f"{title} and {more} more road{'s' * (more > 1)}" if more > 0 else title,
        "summary": summary,
        "place": _place(summary.roads),
        "dates": [f"{date:%Y-%m-%d}" for date in each["date"].dropna().sort_values().unique()],
        "acquisitions": [_acquisition(row, page) for row in each.to_dict("records")],
        "shares": {name: each[name].mean() for name in ("searched", "cloud", "no_data")},
        "rows": _direction_rows(summary),
        "recurring": int(each["recurring"].sum()),
        "simulated": int(each["simulated"].astype(bool).sum()),
        "legend": _legend(levels),
        "years": ", ".join(map(str, years)),
        "data": _data(summary, levels),
    }


def _place(roads: gpd.GeoDataFrame) -> str:
    """Return the middle of the roads in words."""
    if roads.empty or not np.isfinite(roads.total_bounds).all():
        return ""
    west, south, east, north = roads.total_bounds
    lat, lon = (south + north) / 2, (west + east) / 2
    return f"{abs(lat):.2f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.2f}° {'E' if lon >= 0 else 'W'}"


def _acquisition(row: Mapping[Any, Any], page: Path) -> dict[str, Any]:
    """Return a row of the acquisitions, with the address of its report if there is one."""
    report = Path(row["folder"]) / REPORT
    href = quote(Path(os.path.relpath(report, page.parent)).as_posix()) if report.is_file() else ""
    date = "unknown" if pd.isna(row["date"]) else f"{row['date']:%Y-%m-%d}"
    return {**row, "date": date, "weekday": row["weekday"] if date != "unknown" else "", "href": href}


def _direction_rows(summary: PlaceSummary) -> list[dict[Any, Any]]:
    """Return the roads and directions for the table, the greatest flow first."""
    rows = summary.directions.sort_values("flow_per_hour", ascending=False, kind="stable")
    return rows.astype(object).where(rows.notna(), None).to_dict("records")


def _levels(flow: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lower ends of the classes of flow: 0 and quantiles of the flows, rounded to two digits."""
    known = flow[np.isfinite(flow) & (flow > 0)]
    if not len(known):
        return np.zeros(1)
    ends = np.quantile(known, np.arange(1, len(_COLOURS)) / len(_COLOURS))
    return np.unique([0.0, *(float(f"{end:.2g}") for end in ends)])


def _style(level: int, levels: int) -> dict[str, Any]:
    """Return colour and width of a class: the first and the last always differ most."""
    step = round(level * (len(_COLOURS) - 1) / max(levels - 1, 1))
    return {"colour": _COLOURS[step], "width": _WIDTHS[step]}


def _legend(levels: NDArray[np.float64]) -> list[dict[str, Any]]:
    ends = [f"{low:g} to {high:g}" for low, high in pairwise(levels)]
    texts = [*ends, f"{levels[-1]:g} and more"]
    shown = [{"text": text, **_style(level, len(levels))} for level, text in enumerate(texts)]
    return [*shown, {"text": "not searched", "colour": _UNKNOWN, "width": 2}]


def _data(summary: PlaceSummary, levels: NDArray[np.float64]) -> dict[str, Any]:
    """Return what the script shows. Missing numbers are null, those without an end the text "any"."""
    dates = pd.DatetimeIndex(
        pd.concat([summary.series["date"], summary.totals["date"]]).unique()
    ).sort_values()
    keys = pd.MultiIndex.from_frame(summary.directions[["road", "direction"]])
    return {
        "dates": [f"{date:%Y-%m-%d}" for date in dates],
        "weekdays": [f"{date:%a}" for date in dates],
        "roads": _roads(summary.roads, levels),
        "rows": [{"road": road, "direction": direction} for road, direction in keys],
        "series": _series(summary.series, keys, dates),
        "totals": _totals(summary.totals, dates),
        "comparisons": [_comparison(each, keys) for each in summary.comparisons],
        "share": _SHARE,
    }


def _roads(roads: gpd.GeoDataFrame, levels: NDArray[np.float64]) -> list[dict[str, Any]]:
    shown = []
    for row, lines in zip(roads.to_dict("records"), _lines(roads), strict=True):
        flow = row["flow_per_hour"]
        known = not pd.isna(flow)
        level = int(np.searchsorted(levels, flow, side="right")) - 1 if known else 0
        style = _style(level, len(levels)) if known else {"colour": _UNKNOWN, "width": 2}
        named = {name: None if pd.isna(row[name]) else str(row[name]) for name in ("name", "road_class")}
        of = {"road": str(row["road"]), **named, "flow": round(float(flow)) if known else None}
        shown.append({**of, **style, "lines": lines})
    return shown


def _lines(roads: gpd.GeoDataFrame) -> list[list[list[int]]]:
    """Return the lines of each road: longitude and latitude in `_DEGREES`, then differences.

    They are simplified by 5 m, or by more until all have at most `_MOST_VERTICES` vertices.
    """
    shapes, tolerance = roads.geometry.to_numpy(), 5 * _DEGREES
    simple = shapely.simplify(shapes, tolerance, preserve_topology=False)
    while shapely.get_num_coordinates(simple).sum() > _MOST_VERTICES and tolerance < 1:
        tolerance *= 2
        simple = shapely.simplify(shapes, tolerance, preserve_topology=False)
    return [[_delta(part) for part in shapely.get_parts(shape)] for shape in simple]


def _delta(line: shapely.Geometry) -> list[int]:
    at = np.rint(shapely.get_coordinates(line) / _DEGREES).astype(np.int64)
    steps = np.diff(at, axis=0)
    return [*at[0].tolist(), *steps[steps.any(axis=1)].ravel().tolist()]


def _series(
    series: pd.DataFrame, keys: pd.MultiIndex, dates: pd.DatetimeIndex
) -> dict[str, list[list[float | None]]]:
    """Return numbers by row of `keys` and date."""
    row = keys.get_indexer(pd.MultiIndex.from_frame(series[["road", "direction"]]))
    col = dates.get_indexer(pd.DatetimeIndex(series["date"]))
    result = {}
    for name, digits in _SERIES.items():
        grid = np.full((len(keys), len(dates)), np.nan)
        grid[row, col] = series[name].to_numpy(np.float64)
        result[name] = [_numbers(values, digits) for values in grid]
    return result


def _totals(totals: pd.DataFrame, dates: pd.DatetimeIndex) -> dict[str, list[float | None]]:
    """Return expected trucks per 100 searched kilometres of all roads, with their interval, by date."""
    by_date = totals.set_index("date").reindex(dates)
    names = {"value": "expected", "low": "expected_low", "high": "expected_high"}
    per_km = {name: _numbers((100 * by_date[of] / by_date["km"]).to_numpy(), 2) for name, of in names.items()}
    return {**per_km, "trucks": _numbers(by_date["trucks"].to_numpy(), 0)}


def _numbers(values: NDArray[np.float64], digits: int) -> list[float | None]:
    rounded = np.round(values.astype(np.float64), digits)
    return [(int(v) if v == int(v) else float(v)) if np.isfinite(v) else None for v in rounded]


def _comparison(each: Comparison, keys: pd.MultiIndex) -> dict[str, Any]:
    """Return the rows that can be tested, least p-values first, three digits a number."""
    rates = each.rates[each.rates["p"].notna()]
    names = ("per_km_first", "per_km_second", "ratio", "ratio_low", "ratio_high", "p", "p_adjusted")
    columns = [[_digits(value) for value in rates[name]] for name in names]
    row = keys.get_indexer(pd.MultiIndex.from_frame(rates[["road", "direction"]]))
    return {
        "first": each.first,
        "second": each.second,
        "changed": int((rates["p_adjusted"] <= _SHARE).sum()),
        "rows": [list(values) for values in zip(row.tolist(), *columns, strict=True)],
        "untested": len(each.rates) - len(rates),
    }


def _digits(value: float) -> float | str | None:
    if np.isnan(value):
        return None
    return float(f"{value:.3g}") if np.isfinite(value) else "any"
