"""Counts as a plain table: one row for each start, as `truckscape simulate --dates` writes."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pandas as pd

from pipeline.errors import CountsError
from pipeline.traffic.counters.counter_format import CounterFormat, counts_of, to_utc, whole_numbers

_OFFSET = r"(?:Z|[+-]\d{2}:?\d{2})$"


def _counts(rows: pd.DataFrame, zone: ZoneInfo | None) -> pd.DataFrame:
    """Return counts; without a column `minutes` an interval lasts to the next start."""
    start = _starts(rows["start"].str.strip(), zone)
    columns: dict[str, object] = {
        name: rows[name].str.strip() for name in ("station", "road", "direction") if name in rows
    }
    for name in ("lon", "lat"):
        if name in rows:
            columns[name] = pd.to_numeric(rows[name], errors="coerce")
    for name in ("vehicles", "heavy"):
        if name in rows:
            columns[name] = whole_numbers(rows[name])
    if "minutes" in rows:
        columns["minutes"] = whole_numbers(rows["minutes"])
    else:
        steps = pd.Series(start.dropna().unique()).sort_values().diff().dropna()
        if steps.empty:
            raise CountsError("The counter has one time only. Give a column minutes, or more rows.")
        columns["minutes"] = float(steps.min() / pd.Timedelta(minutes=1))
    return counts_of(columns | {"start": start}, rows.index)


def _starts(texts: pd.Series, zone: ZoneInfo | None) -> pd.Series:
    offset = texts.str.contains(_OFFSET)
    if offset.all():
        return pd.to_datetime(texts, utc=True, errors="coerce", format="ISO8601")
    if offset.any():
        raise CountsError(
            f"{offset.sum()} of {len(texts)} times of the counter have an offset from UTC. Expected all or "
            "none."
        )
    return to_utc(pd.to_datetime(texts, errors="coerce", format="ISO8601"), zone)


PLAIN = CounterFormat(
    "table with start and vehicles or heavy",
    lambda columns: "start" in columns and bool({"vehicles", "heavy"} & set(columns)),
    _counts,
    "as the file counts them",
)
