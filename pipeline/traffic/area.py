"""Trucks of a place by searched area and date: the summary of runs without roads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from pipeline.traffic.summary import PlaceSummary, comparisons, totals
from pipeline.traffic.table import SUMMARY_FIELDS

PLACE = "all detections"
"""Name of the one row that stands for all ground, where roads have a row each."""
AREA_FIELDS: Mapping[str, str] = {
    "scene_id": "id of the scene",
    "folder": "folder of its run",
    "source": "address of the scene",
    "date": "date in mean solar time; null if the source has none",
    "simulated": "true if the scene is simulated",
    "model": "the detector, id and version",
    "seen_km2": "searched area",
    "cloud_km2": "area under cloud or its shadow; null if clouds are unknown",
    "no_data_km2": "area of the scene without data",
    "expected": "expected number of trucks as the run counted, with its 95 % interval",
    "expected_low": "lower end",
    "expected_high": "upper end",
}
"""Columns of `AllDates.acquisitions`, and their meaning."""
_M2 = 1e-6


def area_of_run(
    folder: Path, record: Mapping[str, Any], day: date | None, seen: pd.DataFrame, not_seen: pd.DataFrame
) -> dict[str, Any]:
    """Return `AREA_FIELDS` of a run with its record and its layers `seen` and `not_seen`."""
    by_reason = not_seen.groupby("reason")["area_m2"].sum()
    cloud = by_reason.reindex(["cloud", "shadow"]).sum()
    expected = record.get("expected") or {}
    return {
        "scene_id": str(record.get("scene")),
        "folder": folder,
        "source": str(record.get("source")),
        "date": day,
        "simulated": bool(record.get("simulated")),
        "model": str((record.get("models") or {}).get("detection")),
        "seen_km2": seen["area_m2"].sum() * _M2,
        "cloud_km2": cloud * _M2 if record.get("clouds") in ("scl", "s2cloudless") else np.nan,
        "no_data_km2": by_reason.get("nodata", 0.0) * _M2,
        **{
            name: float(expected.get(key, np.nan))
            for name, key in (("expected", "trucks"), ("expected_low", "low"), ("expected_high", "high"))
        },
    }


def area_summary(
    acquisitions: pd.DataFrame, trucks: pd.DataFrame, left_out: tuple[str, ...], keep_recurring: bool = False
) -> PlaceSummary:
    """Summarize `AllDates.acquisitions` and trucks (`ALL_DATES`) of runs, of which roads are not known.

    Recurring trucks do not count, unless `keep_recurring` is set: expected numbers are those of the run times
    the share of trucks that count.
    """
    each = _counted(acquisitions, trucks, keep_recurring)
    models = tuple(sorted(each["model"].unique()))
    by_date = totals(each.rename(columns={"seen_km2": "seen_km"}))
    series = by_date.assign(road=PLACE, direction="")[
        ["road", "direction", "date", "trucks", "expected", "km"]
    ]
    is_known = len(models) == 1 and each["expected"].notna().all()
    row: dict[str, Any] = dict.fromkeys(SUMMARY_FIELDS) | {"road": PLACE, "direction": ""}
    return PlaceSummary(
        each,
        gpd.GeoDataFrame({"road": [], "flow_per_hour": []}, geometry=[], crs="EPSG:4326"),
        pd.DataFrame([row]),
        series.assign(**dict.fromkeys(("flow", "flow_low", "flow_high"), np.nan)),
        by_date,
        tuple(comparisons(series)) if is_known else (),
        left_out,
        models,
        by_area=True,
    )


def _counted(acquisitions: pd.DataFrame, trucks: pd.DataFrame, keep_recurring: bool) -> pd.DataFrame:
    """Return the acquisitions by date, with trucks that count, and shares of the ground to be searched."""
    dates = pd.to_datetime(acquisitions["date"])
    found = acquisitions["scene_id"].map(trucks["scene_id"].value_counts()).fillna(0).astype(float)
    again = trucks[trucks["recurring"].astype(bool)]["scene_id"].value_counts()
    recurring = acquisitions["scene_id"].map(again).fillna(0).astype(float) * (not keep_recurring)
    counted = 1 - (recurring / found.where(found > 0)).fillna(0)
    ground = acquisitions[["seen_km2", "cloud_km2", "no_data_km2"]].sum(axis=1)
    ground = ground.where(ground > 0)
    ends = {name: acquisitions[name] * counted for name in ("expected", "expected_low", "expected_high")}
    result = acquisitions.assign(
        date=dates,
        weekday=dates.dt.day_name(),
        trucks=found - recurring,
        recurring=recurring,
        searched=acquisitions["seen_km2"] / ground,
        cloud=acquisitions["cloud_km2"] / ground,
        no_data=acquisitions["no_data_km2"] / ground,
        **ends,
    )
    return result.sort_values(["date", "scene_id"], ignore_index=True)
