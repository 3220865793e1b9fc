"""Columns of label files: any type, names as files have them, and what of them is not used."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from pipeline.errors import LabelsError

LABELS = ("id", "confidence", "vehicle", "travel_deg", "heading_deg", "speed_kmh", "scene_id")
"""Columns of truck labels that are read."""
VEHICLES = HEAVY, LIGHT = ("heavy", "light")
"""Values of `vehicle`: 8 m or longer (lorries, trailers, buses, coaches), and all else that moves."""
_CLASSES = (
    *("class", "label", "category", "type", "vehicle", "object"),
    *("class_name", "vehicle_type", "vehicle_class", "object_type"),
)
"""Columns that may say what is in a box; of them only `vehicle` is read, where it has `VEHICLES`."""
_TRUCKS = ("truck", "trucks", "lorry", "lorries", "hgv")
_SAME = {"heading_deg": "travel_deg"}
"""Columns that mean another one."""
DEGREES, SPEEDS_KMH = (-360.0, 360.0), (0.0, 500.0)
"""Directions and speeds of trucks that are read."""
_FOUND_KMH = (0.0, 5000.0)
"""A displacement of noise, or an aircraft, may give a detection any speed."""
_TEXTS, _FLAGS = ("scene_id", "road_id", "road_class", "landcover"), ("near_cloud", "touches_edge")
_NUMBERS = (
    *(("heading_deg", DEGREES, "degrees"), ("axis_deg", DEGREES, "degrees")),
    *(("speed_kmh", _FOUND_KMH, "km/h"), ("speed_kmh_sigma", _FOUND_KMH, "km/h")),
    ("vehicle_score", (0.0, 1.0), "as a probability"),
)
_TRUTH = {**dict.fromkeys(("true", "1", "yes"), True), **dict.fromkeys(("false", "0", "no"), False)}
_SHORTEST, _SHAPEFILE_NAME = 4, 10
_SHOWN = 5


def renamed(frame: gpd.GeoDataFrame, names: Sequence[str]) -> gpd.GeoDataFrame:
    """Rename columns that differ from `names` by case only, or that a Shapefile has cut to 10 letters."""
    found: dict[str, str] = {}
    for name in names:
        if name not in frame:
            same = [
                column
                for column in map(str, frame.columns)
                if column.lower() in {name, name[:_SHAPEFILE_NAME]} and column != frame.geometry.name
            ]
            found |= {same[0]: name} if len(same) == 1 else {}
    return frame.rename(columns=found)


def text(frame: gpd.GeoDataFrame, name: str, default: str) -> pd.Series:
    """Return a column of any type as text, `default` where it is null, blank or missing."""
    values = frame[name] if name in frame else pd.Series(None, index=frame.index, dtype=object)
    values = values.astype(object)
    there = values.notna() & (values.astype(str).str.strip() != "")
    return values.where(there, default).map(_plain)


def numbers(frame: gpd.GeoDataFrame, name: str, least: float = -np.inf, most: float = np.inf) -> pd.Series:
    """Return a column of any type as numbers, NaN where it is none, missing, or not from least to most."""
    values = frame[name] if name in frame else pd.Series(np.nan, index=frame.index)
    found = pd.to_numeric(values, errors="coerce").astype(float)
    return found.where(np.isfinite(found) & (found >= least) & (found <= most))


def absurd(frame: gpd.GeoDataFrame, name: str, least: float, most: float, unit: str) -> list[str]:
    """Return a line if numbers of a column are not from least to most."""
    outside = numbers(frame, name).notna() & numbers(frame, name, least, most).isna()
    if not outside.any():
        return []
    limits = f"{least:g} to {most:g} {unit}"
    return [
        f"{outside.sum()} values of {name} are not used, expected {limits}: {counted(frame[name][outside])}."
    ]


def plain(frame: gpd.GeoDataFrame) -> tuple[gpd.GeoDataFrame, list[str]]:
    """Return detections with numbers, texts and truth values in the columns that an evaluation reads.

    Returns also a line for each column with numbers out of range.
    """
    given: dict[str, pd.Series] = {name: text_or_none(frame[name]) for name in _TEXTS if name in frame}
    for name in _FLAGS:
        if name in frame:
            given[name] = text(frame, name, "").str.lower().map(_TRUTH).astype("boolean")
    given |= {name: numbers(frame, name, *limits) for name, limits, _ in _NUMBERS if name in frame}
    notes = [note for name, limits, unit in _NUMBERS for note in absurd(frame, name, *limits, unit)]
    return frame.assign(**given), notes


def text_or_none(values: pd.Series) -> pd.Series:
    """Return a column of any type as text, None where it is null."""
    values = values.astype(object)
    return values.where(values.notna(), None).map(lambda each: each if each is None else _plain(each))


def ids(frame: gpd.GeoDataFrame) -> pd.Series:
    """Return the column `id` as text; the number of the feature where there is none."""
    count = pd.Series([str(number + 1) for number in range(len(frame))], index=frame.index, dtype=object)
    return text(frame, "id", "").where(lambda given: given != "", count)


def vehicles(frame: gpd.GeoDataFrame, path: Path | str) -> pd.Series | None:
    """Return the column `vehicle` as text, heavy where it is blank; None without it.

    A column without any of `VEHICLES`, but with other values, is not read either: None.

    Raises
    ------
    LabelsError
        If it has some of `VEHICLES`, and other values.
    """
    values = text(frame, "vehicle", "").str.lower()
    if "vehicle" not in frame or ((values != "").any() and not values.isin(VEHICLES).any()):
        return None
    values = values.where(values != "", HEAVY)
    check(values, VEHICLES, path)
    return values


def check(values: pd.Series, known: Sequence[str], path: Path | str) -> None:
    """Check that a column of text has known values only.

    Raises
    ------
    LabelsError
        Otherwise, with the values and their counts.
    """
    unknown = values[~values.isin(known)]
    if len(unknown):
        raise LabelsError(
            f"Column {values.name} of {path} is one of {', '.join(known)}. Received: {counted(unknown)}"
        )


def notes(frame: gpd.GeoDataFrame, certain: pd.Series, confidences: Sequence[str]) -> list[str]:
    """Return a line for each column or value of truck labels that is not used but may be meant to be.

    `certain` marks the boxes that count, `confidences` are the known values.
    """
    lines = misspelt([str(name) for name in frame.columns], LABELS)
    if "confidence" not in frame:
        for name in map(str, frame.columns):
            values = set() if name == frame.geometry.name else set(text(frame, name, "").str.lower())
            if (
                values - {""}
                and values <= {"", *confidences}
                and not any(f" {name} " in each for each in lines)
            ):
                lines.append(f"column {name} is not read; if it is meant to be confidence, rename it.")
    for name in ("travel_deg", "heading_deg", "speed_kmh"):
        if name in frame:
            given = text(frame, name, "")
            strange = given[(given != "") & numbers(frame, name).isna()]
            if len(strange):
                lines.append(f"{len(strange)} values of {name} are no numbers: {counted(strange)}.")
    for name in frame.columns:
        if str(name).lower() in _CLASSES:
            classes = text(frame, name, "")[certain]
            known = (*_TRUCKS, *VEHICLES) if name == "vehicle" else _TRUCKS
            others = classes[(classes != "") & ~classes.str.lower().isin(known)]
            if len(others) and not (classes.nunique() == 1 and classes.str.isnumeric().all()):
                lines.append(
                    f"column {name} is not read, so {counted(others)} count as heavy vehicles. "
                    "Say heavy or light in a column vehicle, or give those boxes the confidence ignore."
                )
    return lines


def misspelt(found: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return a line for each column whose name is near to a known one that the file does not have."""
    there = {_SAME.get(name, name) for name in found}
    absent = [name for name in known if _SAME.get(name, name) not in there and len(name) > _SHORTEST]
    lines = []
    for name in found:
        lower = name.lower()
        near = get_close_matches(lower, absent, 1, 0.7) or [
            each for each in absent if len(lower) >= _SHORTEST and each.startswith(lower)
        ]
        if near and name not in known and lower not in _CLASSES:
            lines.append(f"column {name} is not read; if it is meant to be {near[0]}, rename it.")
    return lines


def counted(values: pd.Series) -> str:
    """Return values with their counts, the most frequent first."""
    counts = values.astype(str).value_counts()
    shown = [f"{' '.join(str(value).split())[:40]} ({count})" for value, count in counts[:_SHOWN].items()]
    return ", ".join(shown) + (", ..." if len(counts) > _SHOWN else "")


def _plain(value: object) -> str:
    """Return a value as text; integers without a fraction, however they are stored."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
