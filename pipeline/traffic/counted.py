"""Tables of counted trucks, read for statistics: one row for each road, direction and date."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd

from pipeline.errors import CountsError
from pipeline.storage.out_folder import TRAFFIC, TRAFFIC_CSV

_OF_RUNS = {"road_id": "road", "acquired_date": "date", "count": "trucks", "seen_km": "km"}
"""Columns of `traffic.parquet`, and their names in `pipeline.traffic.rates.NEEDED`."""


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone of the IANA database.

    Raises
    ------
    CountsError
        If there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CountsError(
            f"Time zone {name!r} is unknown. Give a name such as Europe/Berlin, America/Chicago or UTC."
        ) from None


def read_counted(path: Path, zone: ZoneInfo | None = None) -> pd.DataFrame:
    """Read a table of `truckscape traffic`, or one with the columns of `rates.NEEDED`, as CSV or Parquet.

    Of a folder its `traffic.csv`, by road, is read, or else its `traffic.parquet`, by OpenStreetMap's ways. A
    column `date` is taken as it is; otherwise dates are those of the acquisition in `zone`, UTC by default.
    Of a segment that two scenes of one date show, the row with the greater searched length counts. Rows
    without a searched length are left out.

    Raises
    ------
    CountsError
        If there is no such file, it can't be read, or it has the results of several detectors.
    """
    inside = (path / name for name in (TRAFFIC_CSV, TRAFFIC))
    table = _read(next((file for file in inside if file.exists()), path))
    if "model" in table and table["model"].nunique() > 1:
        models = ", ".join(sorted(map(str, table["model"].unique())))
        raise CountsError(f"{path} has the results of several detectors ({models}). Give those of one.")
    if "acquired" in table:
        local = pd.to_datetime(table["acquired"], utc=True, errors="coerce").dt.tz_convert(zone or "UTC")
        dates = local.dt.tz_localize(None).dt.normalize()
        known = table.get("acquired_date", pd.Series(pd.NaT, index=table.index))
        table["acquired_date"] = dates.fillna(pd.to_datetime(known, errors="coerce"))
    if "count_unresolved" in table:
        table["count"] = table["count"] + table["count_unresolved"] / 2
    table = table.rename(columns={old: new for old, new in _OF_RUNS.items() if new not in table})
    if "date" not in table:
        raise CountsError(f"{path} has no column date or acquired. Give traffic.parquet of a batch.")
    table["date"] = pd.to_datetime(table["date"], errors="coerce")
    if "segment_id" in table:
        table = table.sort_values("km", ascending=False, kind="stable")
        table = table.drop_duplicates(["segment_id", "direction", "date"])
    if "km" in table:
        table = table[table["km"].notna()]  # not searched
    if table["date"].isna().any():
        raise CountsError(f"{path}: {table['date'].isna().sum()} rows have no date of acquisition.")
    return table.reset_index(drop=True)


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise CountsError(f"{path} does not exist. Give a table, or the folder of a batch with {TRAFFIC}.")
    try:
        if path.suffix.lower() == ".csv":
            return pd.read_csv(path)
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # PyArrow's and pandas' errors are of these
        reason = " ".join(str(error).split())
        raise CountsError(f"{path} can't be read as a table ({reason}). Give {TRAFFIC} or a CSV.") from error
