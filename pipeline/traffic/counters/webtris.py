"""Daily reports of WebTRIS, the traffic counts of National Highways in England: quarters of an hour."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pandas as pd

from pipeline.traffic.counters.counter_format import CounterFormat, counts_of, to_utc, whole_numbers

_DATES, _TIMES = ("Report Date", "Local Date"), ("Time Period Ending", "Local Time")
_TOTAL, _LONG = "Total Volume", ("661 - 1160 cm", "1160+ cm")


def _counts(rows: pd.DataFrame, zone: ZoneInfo | None) -> pd.DataFrame:
    """Return counts of the one direction of a site; a quarter of an hour ends at its minute 14, 29, 44, 59.

    Heavy are vehicles longer than 6.6 m, the class limit nearest to the 8 m of a heavy vehicle here.
    """
    date = rows[_first(_DATES, rows)].str.strip().str[:10]
    days = pd.to_datetime(date, format="%Y-%m-%d", errors="coerce")
    days = days.fillna(pd.to_datetime(date, format="%d/%m/%Y", errors="coerce"))
    clock = pd.to_timedelta(rows[_first(_TIMES, rows)].str.strip(), errors="coerce")
    long = [whole_numbers(rows[name]) for name in _LONG if name in rows]
    columns = {
        "station": rows["Site Name"].str.strip() if "Site Name" in rows else None,
        "start": to_utc(days + clock.dt.floor("15min"), zone),
        "minutes": 15.0,
        "vehicles": whole_numbers(rows[_TOTAL]),
        "heavy": long[0] + long[1] if len(long) == len(_LONG) else None,
    }
    return counts_of(columns, rows.index)


def _first(names: tuple[str, ...], rows: pd.DataFrame) -> str:
    return next(name for name in names if name in rows)


WEBTRIS = CounterFormat(
    "daily report of WebTRIS",
    lambda columns: (
        _TOTAL in columns and bool(set(_DATES) & set(columns)) and bool(set(_TIMES) & set(columns))
    ),
    _counts,
    "vehicles longer than 6.6 m",
)
