"""Hourly counts of Germany's permanent stations, as the Bundesanstalt fuer Strassenwesen publishes them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pandas as pd

from pipeline.input_warnings import warn
from pipeline.traffic.counters.counter_format import CounterFormat, counts_of, to_utc, whole_numbers

_NEEDED = {"Zst", "Datum", "Stunde", "KFZ_R1"}
_MEASURED = ("", "-")
"""Flags of a measured value; others are of values that were estimated, or are in doubt."""


def _counts(rows: pd.DataFrame, zone: ZoneInfo | None) -> pd.DataFrame:
    """Return counts of both directions R1 and R2.

    `Datum` is YYMMDD; `Stunde` 01 is the hour from 0:00. `KFZ` are all vehicles, `Lkw` lorries with trailers
    and buses. The flag of a count is in the column `K_` before its name.
    """
    day = pd.to_datetime(rows["Datum"].str.strip().str.zfill(6), format="%y%m%d", errors="coerce")
    hour = whole_numbers(rows["Stunde"])
    start = to_utc(day + pd.to_timedelta(hour - 1, unit="h"), zone)
    parts = []
    for direction in ("R1", "R2"):
        if f"KFZ_{direction}" in rows:
            columns = {
                "station": rows["Zst"].str.strip(),
                "road": _road(rows),
                "direction": direction,
                "start": start,
                "minutes": 60.0,
                "vehicles": _measured(rows, f"KFZ_{direction}"),
                "heavy": _measured(rows, f"Lkw_{direction}"),
            }
            parts.append(counts_of(columns, rows.index))
    return pd.concat(parts, ignore_index=True)


def _road(rows: pd.DataFrame) -> pd.Series | None:
    if not {"Strklas", "Strnum"} <= set(rows):
        return None
    return rows["Strklas"].str.strip() + " " + rows["Strnum"].str.strip().str.lstrip("0")


def _measured(rows: pd.DataFrame, name: str) -> pd.Series | None:
    if name not in rows:
        return None
    values = whole_numbers(rows[name])
    if f"K_{name}" in rows:
        other = ~rows[f"K_{name}"].str.strip().isin(_MEASURED) & values.notna()
        if other.any():
            warn(f"{other.sum()} values of {name} are not used: their flag K_{name} is not '-' (measured).")
        values = values.where(~other)
    return values


BAST = CounterFormat(
    "hourly counts of BASt",
    lambda columns: set(columns) >= _NEEDED,
    _counts,
    "lorries above 3.5 t with or without trailer, and buses (Lkw)",
)
