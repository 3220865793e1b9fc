"""The table of traffic by road as files: CSV, a workbook for people, GeoParquet for maps and programs."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
from xlsxwriter import Workbook
from xlsxwriter.exceptions import XlsxWriterException

from pipeline.input_warnings import warn
from pipeline.layers.formats import writing
from pipeline.layers.formats.export import write_geoparquet
from pipeline.storage.atomic import replacing
from pipeline.storage.out_folder import TRAFFIC_CSV, TRAFFIC_ROADS, TRAFFIC_XLSX, make_out
from pipeline.traffic.table import SUMMARY_FIELDS, TABLE_FIELDS, TrafficByRoad, by_road

_MOST_ROWS = 1_048_575
"""Rows of a sheet below its header."""
_MADE = datetime(1980, 1, 1, tzinfo=UTC)
"""Time in the properties of the workbook: the same table has the same bytes."""
_DATE, _TIME = "yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss"
_WIDEST = 40
_ABOUT = (
    "Trucks on roads, counted in Sentinel-2 images: a row for each road, direction and acquisition.",
    "Each row is of one moment, about 10:30 local solar time. It is no daily mean.",
    "A road is all carriageways with one number (ref), else one name, else one line. Ramps and service roads "
    "are left out.",
    "An empty cell is unknown. A zero is a result: that length was searched, and no truck was found.",
    "Roads: as given; where they come from OpenStreetMap, (c) OpenStreetMap contributors, ODbL.",
)


def write_traffic_files(found: TrafficByRoad, out: Path) -> dict[str, Path]:
    """Write `traffic.csv`, `traffic.xlsx` and `traffic_roads.parquet` into a folder; return them by name.

    Raises
    ------
    OutputError
        If the folder can't be made, or a file can't be written.
    """
    make_out(out)
    writers = {TRAFFIC_CSV: write_csv, TRAFFIC_XLSX: write_xlsx, TRAFFIC_ROADS: write_parquet}
    for name, write in writers.items():
        write(found, out / name)
    return {name: out / name for name in writers}


def write_csv(found: TrafficByRoad, path: Path) -> None:
    """Write the table as CSV: commas, decimal points, UTF-8 with a mark by which Excel knows it.

    Times are `2023-06-13 10:20:31`, and a text that a spreadsheet would take for a formula begins with an
    apostrophe.
    """
    table = found.table.copy()
    for name in ("acquired", "local_time"):
        table[name] = table[name].dt.strftime("%Y-%m-%d %H:%M:%S")
    for name in ("road", "ref", "name", "scene_id", "road_class"):
        table[name] = table[name].map(_no_formula, na_action="ignore")
    for name in ("congested", "simulated"):
        table[name] = table[name].map({True: "true", False: "false"})
    with replacing(path) as part:
        table.to_csv(part, index=False, encoding="utf-8-sig", lineterminator="\n")


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def write_parquet(found: TrafficByRoad, path: Path) -> None:
    """Write the table as GeoParquet: each row with the lines of its road and direction, in EPSG:4326."""
    lines = found.roads[["road", "direction", "geometry"]]
    layer = gpd.GeoDataFrame(found.table.merge(lines, how="left", on=["road", "direction"]), crs=lines.crs)
    with writing.replacing(path) as part:
        write_geoparquet(layer, part)


def write_xlsx(found: TrafficByRoad, path: Path) -> None:
    """Write the table, its summary by road and an explanation as sheets of a workbook.

    Times in the column `acquired` are UTC. Rows beyond the limit of a sheet are left out with a warning.
    """
    options = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    rows = found.table
    if len(rows) > _MOST_ROWS:
        warn(
            f"{path.name} has the first {_MOST_ROWS:,} of {len(rows):,} rows, as a sheet has no more; "
            f"{TRAFFIC_ROADS} has all."
        )
        rows = rows.iloc[:_MOST_ROWS]
    with replacing(path, XlsxWriterException) as part, Workbook(str(part), options) as book:
        book.set_properties({"title": "Traffic by road", "created": _MADE.replace(tzinfo=None)})
        _write_sheet(book, "by road and date", rows.assign(acquired=rows["acquired"].dt.tz_localize(None)))
        _write_sheet(book, "by road", by_road(found.table))
        _write_about(book, found)


def _write_sheet(book: Workbook, title: str, table: pd.DataFrame) -> None:
    """Write a sheet with a header that stays, and a filter on each column."""
    bold, as_date, as_time = (
        book.add_format(given) for given in ({"bold": True}, {"num_format": _DATE}, {"num_format": _TIME})
    )
    sheet = book.add_worksheet(title)
    sheet.freeze_panes(1, 1)
    sheet.autofilter(0, 0, max(len(table), 1), len(table.columns) - 1)
    for column, name in enumerate(table.columns):
        sheet.set_column(column, column, _width(table[name]))
    for column, name in enumerate(table.columns):
        sheet.write_string(0, column, name, bold)
    columns = [table[name].astype(object).where(table[name].notna(), None) for name in table.columns]
    for row, values in enumerate(zip(*columns, strict=True), start=1):
        for column, value in enumerate(values):
            if isinstance(value, datetime):  # a pandas time, too
                sheet.write_datetime(row, column, value, as_time)
            elif isinstance(value, date):
                sheet.write_datetime(row, column, value, as_date)
            elif value is not None:
                _write_plain(sheet, row, column, value)


def _write_plain(sheet: Any, row: int, column: int, value: Any) -> None:
    """Write a flag, a number or a text as such."""
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, str):
        sheet.write_string(row, column, value)
    else:
        sheet.write_number(row, column, value)


def _write_about(book: Workbook, found: TrafficByRoad) -> None:
    bold, wrapped = book.add_format({"bold": True}), book.add_format({"text_wrap": True})
    sheet = book.add_worksheet("read me")
    sheet.set_column(0, 0, 24)
    sheet.set_column(1, 1, 110, wrapped)
    facts = [
        f"{found.scenes} acquisitions. {found.apart:.0f} trucks on ramps and service roads are not counted.",
        *(f"Not used: {line}" for line in found.left_out),
    ]
    lines: list[tuple[str, str]] = [("", text) for text in (*_ABOUT, *facts)]
    lines += [("", ""), ("by road and date", "")]
    lines += [(name, text) for name, (_, text) in TABLE_FIELDS.items()]
    lines += [("", ""), ("by road", "")]
    lines += list(SUMMARY_FIELDS.items())
    for row, (name, text) in enumerate(lines):
        sheet.write_string(row, 0, name, bold)
        sheet.write_string(row, 1, text, wrapped)


def _width(values: pd.Series) -> float:
    """Return the width of a column in characters: that of its name and first values."""
    shown = [str(values.name), *values.head(200).dropna().astype(str)]
    return min(max(len(text) for text in shown) + 2, _WIDEST)
