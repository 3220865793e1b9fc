"""Interface of the formats of counter files, and functions that several of them need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from pipeline.errors import CountsError
from pipeline.input_warnings import warn

COLUMNS = ("station", "lon", "lat", "road", "direction", "start", "minutes", "vehicles", "heavy")
"""Columns of counts. `direction` is that of travel as the file names it, null if it has none; `start` is UTC;
`vehicles` and `heavy` are NaN where nothing was counted."""


_THOUSANDS = r"\d{1,3}(,\d{3})+"


@dataclass(frozen=True)
class CounterFormat:
    """One format of counter files."""

    name: str
    """Its name in messages."""
    accepts: Callable[[list[str]], bool]
    """True if a file with these columns has the format."""
    counts: Callable[[pd.DataFrame, ZoneInfo | None], pd.DataFrame]
    """Function from the file's rows, all text, and the zone of its clocks to `COLUMNS`."""
    heavy: str
    """Meaning of heavy vehicles in it."""


def counts_of(columns: Mapping[str, object], index: pd.Index) -> pd.DataFrame:
    """Return `COLUMNS`, null where a format has none."""
    return pd.DataFrame({name: columns.get(name) for name in COLUMNS}, index=index)


def whole_numbers(values: pd.Series) -> pd.Series:
    """Return counts as numbers; NaN for blanks, texts and negative numbers, which mean missing.

    Commas between thousands are removed.

    Raises
    ------
    CountsError
        If a number has a fraction: 1.500 may be 1500 in the file's language.
    """
    texts = values.astype(str).str.strip()
    texts = texts.where(~texts.str.fullmatch(_THOUSANDS), texts.str.replace(",", ""))
    found = pd.to_numeric(texts, errors="coerce").astype(float)
    found = found.where(np.isfinite(found) & (found >= 0))
    broken = found.notna() & texts.str.contains(".", regex=False) & ~texts.str.fullmatch(r"\d+\.0{0,2}")
    if broken.any():
        raise CountsError(
            f"{texts[broken].iloc[0]!r} is no whole number of vehicles or minutes. Write it without a point."
        )
    return found


def to_utc(local: pd.Series, zone: ZoneInfo | None) -> pd.Series:
    """Return times of clocks in a zone as UTC; null in the hour that occurs twice or never.

    Raises
    ------
    CountsError
        If no zone is given.
    """
    if zone is None:
        raise CountsError(
            "Times of the counter have no offset from UTC, such as +02:00. Give the time zone of its clocks, "
            "e.g. --timezone Europe/Berlin; UTC if they are not set to summer time and show UTC."
        )
    found = local.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
    lost = int((found.isna() & local.notna()).sum())
    if lost:
        warn(f"{lost} rows of the counter are of an hour that clocks in {zone.key} show twice or never.")
    return found
