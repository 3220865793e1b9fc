"""The page of a place: `index.html` with its roads over all dates, in one file that works offline."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
from pipeline.report.place_map import flow_classes, flow_legend, points_on_map, roads_on_map
from pipeline.report.recurring import MOST_PLACES, recurring_places
from pipeline.report.template import write_page
from pipeline.storage.out_folder import INDEX
from pipeline.traffic.all_dates import AllDates, write_all_dates
from pipeline.traffic.files import write_traffic_files
from pipeline.traffic.place import Place
from pipeline.traffic.summary import Comparison, PlaceSummary

_SHARE = 0.05
"""False discovery rate of the roads that are named as changed."""
_NAMED = 3
"""Roads in the title."""
_SERIES = {"flow": 0, "flow_low": 0, "flow_high": 0, "trucks": 1, "expected": 1}
"""Columns of `PlaceSummary.series` in the page, with their digits."""


def write_place(place: Place, out: Path) -> dict[str, Path]:
    """Write the layers of all dates, tables of traffic by road, and `index.html` into a folder.

    Returns the files by name. Without roads there are no tables.

    Raises
    ------
    OutputError
        If a file can't be written, or if the folder is that of a run.
    """
    files = write_all_dates(place.every, out)
    if place.by_road is not None:
        files |= write_traffic_files(place.by_road, out)
    return files | {INDEX: write_index(place, out, files)}


def write_index(place: Place, out: Path, files: Mapping[str, Path]) -> Path:
    """Write `index.html` into a folder, with links to the reports of its scenes and to `files`; return it.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    page = out / INDEX
    links = file_links(files.values(), page)
    write_page(page, "place.html.j2", files=links, **_values(place, page))
    return page


def _values(place: Place, page: Path) -> dict[str, Any]:
    """Return what the template is filled with, but for the links to files."""
    summary = place.summary()
    each = summary.acquisitions
    where = _place(place.every.seen)
    busiest = summary.roads.iloc[::-1]["road"].astype(str).tolist()
    more = len(busiest) - _NAMED
    title = f"Trucks on {', '.join(busiest[:_NAMED])}" if busiest else f"Trucks at {where}"
    levels = flow_classes(summary.roads["flow_per_hour"].to_numpy(np.float64, na_value=np.nan))
    years = sorted({date.year for date in each["date"].dropna()})
    return {
        "title": f"{title} and {more} more road{'s' * (more > 1)}" if more > 0 else title,
        "summary": summary,
        "place": where if busiest else "",
        "dates": [f"{date:%Y-%m-%d}" for date in each["date"].dropna().sort_values().unique()],
        "acquisitions": [_acquisition(row, page) for row in each.to_dict("records")],
        "shares": {name: each[name].mean() for name in ("searched", "cloud", "no_data")},
        "rows": _direction_rows(summary),
        "recurring": recurring_places(place.every),
        "most_with_chips": MOST_PLACES,
        "left_out": int(each["recurring"].sum()),
        "simulated": int(each["simulated"].astype(bool).sum()),
        "legend": flow_legend(levels),
        "years": ", ".join(map(str, years)),
        "data": _data(summary, levels, place.every),
    }


def _place(seen: gpd.GeoDataFrame) -> str:
    """Return the middle of the searched areas in words."""
    box = gpd.GeoSeries([shapely.box(*seen.total_bounds)], crs=seen.crs)
    west, south, east, north = box.to_crs("EPSG:4326").total_bounds
    lat, lon = (south + north) / 2, (west + east) / 2
    if not np.isfinite(lat + lon):
        return "an unknown place"
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


def _data(summary: PlaceSummary, levels: NDArray[np.float64], every: AllDates) -> dict[str, Any]:
    """Return what the script shows. Missing numbers are null, infinite ones the text "∞"."""
    dates = pd.DatetimeIndex(
        pd.concat([summary.series["date"], summary.totals["date"]]).unique()
    ).sort_values()
    keys = pd.MultiIndex.from_frame(summary.directions[["road", "direction"]])
    return {
        "dates": [f"{date:%Y-%m-%d}" for date in dates],
        "weekdays": [f"{date:%a}" for date in dates],
        "roads": roads_on_map(summary.roads, levels),
        "points": points_on_map(every, dates) if summary.by_area else None,
        "rows": [{"road": road, "direction": direction} for road, direction in keys],
        "series": _series(summary.series, keys, dates),
        "totals": _totals(summary.totals, dates),
        "comparisons": [_comparison(each, keys) for each in summary.comparisons],
        "share": _SHARE,
    }


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
    return float(f"{value:.3g}") if np.isfinite(value) else "∞"
