"""Counter files: the list of formats, asked in order, and one table for all of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd

from pipeline.errors import CountsError
from pipeline.traffic.counters.bast import BAST
from pipeline.traffic.counters.counter_format import COLUMNS, CounterFormat
from pipeline.traffic.counters.plain import PLAIN
from pipeline.traffic.counters.webtris import WEBTRIS

COUNTER_FORMATS: tuple[CounterFormat, ...] = (BAST, WEBTRIS, PLAIN)
"""A new format is one module and one line."""
_HEADER_WITHIN = 30
_MOST_BYTES = 2_000_000_000


def read_counter(
    path: Path, zone: ZoneInfo | None = None, columns: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, CounterFormat]:
    """Read the counts of a file as `COLUMNS`, with its format. Memory: some ten times the file.

    `zone` is that of its clocks, `columns` the file's names of `COLUMNS`. Rows without a time or without a
    count are left out.

    Raises
    ------
    CountsError
        If the file can't be read, has no known format, or its times have no zone.
    """
    rows = _rows(path, columns or {})
    missing = [f"{ours}={theirs}" for ours, theirs in (columns or {}).items() if theirs not in rows]
    unknown = [ours for ours in columns or {} if ours not in COLUMNS]
    if missing or unknown:
        raise CountsError(
            f"--columns {', '.join(missing or unknown)} does not fit {path}. It has "
            f"{', '.join(rows.columns)}; truckscape reads {', '.join(COLUMNS)}."
        )
    rows = rows.rename(columns={theirs: ours for ours, theirs in (columns or {}).items()})
    names = list(rows.columns)
    found = PLAIN if columns else next((each for each in COUNTER_FORMATS if each.accepts(names)), None)
    if found is None or not found.accepts(names):
        known = "; ".join(each.name for each in COUNTER_FORMATS)
        raise CountsError(
            f"{path} is no known counter file ({known}). Its columns are {', '.join(names)}. Name those that "
            "count, e.g. --columns start=time,vehicles=volume,heavy=hgv,direction=dir."
        )
    counts = found.counts(rows, zone)
    counts = counts[counts["start"].notna() & (counts["vehicles"].notna() | counts["heavy"].notna())]
    if counts.empty:
        raise CountsError(f"{path} has no row with a time and a count ({found.name}).")
    return counts.reset_index(drop=True), found


def _rows(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows as text, from the line on that looks like a header."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CountsError(
                f"{path} is larger than {_MOST_BYTES / 1e9:.0f} GB; give the rows of the station."
            )
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise CountsError(f"{path} can't be read ({error.strerror}). Give a CSV of a counter.") from error
    lines = text.splitlines()
    for number, line in enumerate(lines[:_HEADER_WITHIN]):
        for separator in ";,\t":
            names = [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]
            if len(names) > 1 and (
                set(columns.values()) <= set(names)
                if columns
                else any(each.accepts(names) for each in COUNTER_FORMATS)
            ):
                return _parsed("\n".join(lines[number:]), separator, path)
    first = next((separator for separator in ";,\t" if lines and separator in lines[0]), ",")
    return _parsed(text, first, path)


def _parsed(text: str, separator: str, path: Path) -> pd.DataFrame:
    try:
        rows = pd.read_csv(StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, pd.errors.ParserWarning) as error:  # pandas' errors of parsing are of these
        reason = " ".join(str(error).split())
        raise CountsError(f"{path} is no CSV ({reason}). Give a CSV of a counter.") from error
    return rows.rename(columns=str.strip)
