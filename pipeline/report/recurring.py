"""Recurring places of the page of a place: each with a strip of chips, a chip a date."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from pipeline.errors import TruckscapeError
from pipeline.report.chips import BRIGHTEST
from pipeline.report.pictures import TRUE_COLOUR, data_uri, true_colour
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.patches import patches
from pipeline.scenes.scene import Scene
from pipeline.traffic.all_dates import AllDates

log = logging.getLogger(__name__)

MOST_PLACES = 24
"""Places with chips, those on most dates."""
MOST_SCENES = 8
"""Scenes that are opened for chips. A chip has about 1 kB; its pixels take the time."""
CHIP_PX = 20
ZOOM = 3
"""Pixels of a chip for each of the scene."""


@dataclass(frozen=True)
class DateChip:
    """A place on one date."""

    date: str
    detected: bool
    uri: str


@dataclass(frozen=True)
class RecurringPlace:
    """A place with detections on more dates than traffic explains."""

    place_id: str
    lon: float
    lat: float
    dates: tuple[str, ...]
    searched: int
    """Number of dates on which the place was searched."""
    chips: tuple[DateChip, ...]
    """By date; of scenes that are on this machine."""


def recurring_places(every: AllDates) -> list[RecurringPlace]:
    """Return the recurring places, those on most dates first, the first `MOST_PLACES` with chips.

    Chips are of at most `MOST_SCENES` scenes: those with most of the detections at these places. Scenes at
    URLs are not read. Memory: a block of three bands, and the chips.
    """
    order = every.recurring.sort_values(["dates_here", "place_id"], ascending=[False, True], kind="stable")
    at = order.geometry.centroid.to_crs("EPSG:4326") if len(order) else order.geometry
    shown = at.iloc[:MOST_PLACES]
    chips = _chips(every, order["place_id"].iloc[:MOST_PLACES].tolist(), shown)
    return [
        RecurringPlace(
            str(row["place_id"]),
            point.x,
            point.y,
            tuple(str(row["dates"]).split()),
            int(row["dates_searched"]),
            tuple(sorted(chips.get(str(row["place_id"]), ()), key=lambda chip: chip.date)),
        )
        for row, point in zip(order.to_dict("records"), at, strict=True)
    ]


def _chips(every: AllDates, places: Sequence[str], at: gpd.GeoSeries) -> dict[str, list[DateChip]]:
    """Return chips by place."""
    here = every.trucks[every.trucks["place_id"].isin(places)]
    found: dict[str, list[DateChip]] = {}
    for row in _scenes(every.acquisitions, here):
        try:
            scene = open_scene(str(row["source"]))
            detected = set(here.loc[here["scene_id"] == row["scene_id"], "place_id"])
            for number, uri in _pictures(scene, at):
                chip = DateChip(f"{row['date']:%Y-%m-%d}", places[number] in detected, uri)
                found.setdefault(places[number], []).append(chip)
        except TruckscapeError as error:
            log.info("no chips of %s: %s", row["scene_id"], error)
    return found


def _scenes(acquisitions: pd.DataFrame, here: gpd.GeoDataFrame) -> list[dict[Any, Any]]:
    """Return the acquisitions with most detections that are files of this machine, one a date."""
    number = acquisitions["scene_id"].map(here["scene_id"].value_counts()).fillna(0)
    each = acquisitions.assign(number=number).dropna(subset="date")
    each = each.sort_values("number", ascending=False, kind="stable").drop_duplicates("date")
    local = [row for row in each.to_dict("records") if Path(str(row["source"])).exists()]
    return local[:MOST_SCENES] if len(here) else local[:0]


def _pictures(scene: Scene, at: gpd.GeoSeries) -> Iterator[tuple[int, str]]:
    """Yield number and true colour of each place (N,) of which the scene has pixels."""
    if scene.grid.crs is None or any(band not in scene.bands for band in TRUE_COLOUR):
        return
    points = at.to_crs(scene.grid.crs.to_wkt())
    xy = np.stack(~scene.grid.affine * (points.x.to_numpy(), points.y.to_numpy()), axis=1)
    for patch in patches(scene, xy, CHIP_PX, TRUE_COLOUR):
        if patch.valid.mean() > 0.5:
            picture = true_colour(patch.reflectance, patch.valid, BRIGHTEST)
            yield patch.index, data_uri(picture.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1))
