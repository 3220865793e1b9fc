"""Trucks of all dates as one layer with time, and which of them recur."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
from numpy.typing import NDArray

from pipeline.errors import OutputError, RunsError, VectorFileError
from pipeline.layers.columns import (
    BOOLEAN,
    INTEGER,
    NOT_SEEN,
    NUMBER,
    SEEN,
    TEXT,
    TIME,
    TRUCKS,
    TRUCKS_AMONG_VEHICLES,
    Layer,
)
from pipeline.layers.formats import writing
from pipeline.layers.formats.export import write_geoparquet
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.layers.styles import recurring_style, seen_style, truck_style
from pipeline.storage.out_folder import ALL_TRUCKS, ALL_TRUCKS_PARQUET, RECORD
from pipeline.traffic.area import AREA_FIELDS, area_of_run
from pipeline.traffic.recurring import Search, find_recurring, solar_day
from pipeline.traffic.runs import FinishedRun, Records, layer_of_run, time_of

log = logging.getLogger(__name__)

DEGREES = "EPSG:4326"
ALL_DATES = Layer(
    "Polygon",
    {
        **TRUCKS.columns,
        "vehicle_score": NUMBER,
        "recurring": BOOLEAN,
        "dates_here": INTEGER,
        "dates_searched": INTEGER,
        "place_id": TEXT,
    },
)
"""The layer `trucks` of all dates."""
SEEN_BY_DATE = Layer("Polygon", {**SEEN.columns, "scene_id": TEXT, "acquired": TIME, "acquired_date": TEXT})
"""The layer `seen` of all dates."""


@dataclass(frozen=True)
class AllDates:
    """Layers of several runs, each acquisition once; in degrees if the scenes differ in CRS."""

    trucks: gpd.GeoDataFrame
    """`ALL_DATES`, by time, then from north to south."""
    seen: gpd.GeoDataFrame
    """`SEEN_BY_DATE`."""
    recurring: gpd.GeoDataFrame
    """`recurring.RECURRING`."""
    left_out: tuple[str, ...]
    """A line for each folder that is not used."""
    acquisitions: pd.DataFrame
    """`area.AREA_FIELDS`: a row for each acquisition."""

    def is_recurring(self, run: FinishedRun) -> NDArray[np.bool_]:
        """Return which detections (N,) of a run are at a recurring place, also those below the threshold."""
        bounds = run.detections.bounds
        centres = gpd.points_from_xy(
            (bounds["minx"] + bounds["maxx"]) / 2,
            (bounds["miny"] + bounds["maxy"]) / 2,
            crs=run.detections.crs,
        )
        of_run = self.trucks[self.trucks["recurring"] & (self.trucks["scene_id"] == run.scene_id)]
        circles = self.recurring.to_crs(run.detections.crs).geometry
        near = np.zeros(len(centres), np.bool_)
        near[circles.sindex.query(centres, predicate="intersects")[0]] = True
        return np.asarray(near | run.detections["id"].isin(of_run["id"]).to_numpy())


def all_dates(places: Sequence[Path] | Records, say: Callable[[str], None] = log.info) -> AllDates:
    """Read the trucks and searched areas of the finished runs in folders, and flag recurring detections.

    Of several runs of one acquisition one counts, as in `read_runs`. Memory: the layers of all runs.

    Raises
    ------
    RunsError
        If a folder is missing, or if no run has trucks.
    """
    records = Records.of(places)
    trucks, seen, searches, rows, left_out = [], [], [], [], [*records.left_out]
    for number, (folder, record) in enumerate(records.by_folder.items()):
        say(f"trucks of {number + 1} of {len(records.by_folder)}: {folder}")
        try:
            found, area, rest = _layers(folder, record)
        except (VectorFileError, RunsError) as error:
            left_out.append(str(error))
            continue
        moment, day = time_of(record.get("acquired"))
        searches.append(Search(str(record.get("scene")), moment or day, area.geometry))
        rows.append(area_of_run(folder, record, solar_day(searches[-1]), area, rest))
        trucks.append(found)
        seen.append(_dated(area, searches[-1].scene_id, moment, day))
    if not trucks:
        raise RunsError(f"No run has trucks on the map: {'; '.join(left_out)}.")
    crs = seen[0].crs if all(area.crs == seen[0].crs for area in seen) else pyproj.CRS(DEGREES)
    whole, areas = _together(trucks, crs), SEEN_BY_DATE.conform(_together(seen, crs))
    recurring = find_recurring(whole, searches)
    nowhere = {} if "vehicle_score" in whole else {"vehicle_score": np.nan}
    whole = ALL_DATES.conform(whole.join(recurring.columns).assign(**nowhere))
    each = pd.DataFrame(rows, columns=list(AREA_FIELDS))
    return AllDates(whole, areas, recurring.places.to_crs(crs), tuple(left_out), each)


def write_all_dates(found: AllDates, out: Path) -> dict[str, Path]:
    """Write the layers as `trucks.gpkg` with styles, and the trucks as `trucks.parquet`; return both by name.

    Raises
    ------
    OutputError
        If a file can't be written, or if the folder is that of a run, whose layers have these names.
    """
    if (out / RECORD).exists():
        raise OutputError(
            f"{out} is the folder of a run, with a {RECORD}: its {ALL_TRUCKS} would be replaced. Choose "
            "another --out."
        )
    layers = {"trucks": found.trucks, "recurring": found.recurring, "seen": found.seen}
    styles = {
        "trucks": truck_style("acquired"),
        "recurring": recurring_style(),
        "seen": seen_style("acquired"),
    }
    files = {name: out / name for name in (ALL_TRUCKS, ALL_TRUCKS_PARQUET)}
    write_gpkg(files[ALL_TRUCKS], layers, styles)
    with writing.replacing(files[ALL_TRUCKS_PARQUET]) as part:
        write_geoparquet(found.trucks, part)
    return files


def _layers(folder: Path, record: Mapping[str, Any]) -> tuple[gpd.GeoDataFrame, ...]:
    """Read trucks, searched area and the rest of a run; VectorFileError, RunsError if it can't be used."""
    if "trucks" not in (record.get("counts") or {}):
        raise RunsError(f"{folder}: a run without trucks")
    file = folder / "trucks.gpkg"
    trucks = layer_of_run(Path(f"{file}:trucks"), "polygons", TRUCKS_AMONG_VEHICLES, TRUCKS)
    area = layer_of_run(Path(f"{file}:seen"), "polygons", SEEN)
    if area.crs is None:
        raise RunsError(f"{folder}: its scene has no CRS, so its place is unknown")
    return trucks, area, layer_of_run(Path(f"{file}:not_seen"), "polygons", NOT_SEEN)


def _dated(area: gpd.GeoDataFrame, scene_id: str, moment: date | None, day: date | None) -> gpd.GeoDataFrame:
    times = pd.Series([moment or pd.NaT] * len(area), index=area.index, dtype="datetime64[ms, UTC]")
    return area.assign(scene_id=scene_id, acquired=times, acquired_date=day.isoformat() if day else None)


def _together(parts: Sequence[gpd.GeoDataFrame], crs: pyproj.CRS) -> gpd.GeoDataFrame:
    """Return layers of runs as one, by time, scene and place, whatever the order of the runs."""
    whole = gpd.GeoDataFrame(pd.concat([part.to_crs(crs) for part in parts], ignore_index=True), crs=crs)
    bounds = whole.bounds.assign(date=whole["acquired_date"].astype(str), scene=whole["scene_id"])
    order = bounds.sort_values(["date", "scene", "maxy", "minx"], ascending=[True, True, False, True]).index
    return whole.loc[order].reset_index(drop=True)
