"""Finished runs, and the segments and detections that they left: what traffic over time is counted from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import RunsError, VectorFileError
from pipeline.layers.columns import DETECTIONS, ROAD_SEGMENTS, Layer
from pipeline.layers.expected import Shares
from pipeline.layers.flow import RoadCounts
from pipeline.layers.snapping import Snapped
from pipeline.safe_json import read_json_object
from pipeline.scenes.acquisition import Acquisition, duplicates
from pipeline.storage.out_folder import DETECTIONS as DETECTIONS_FILE
from pipeline.storage.out_folder import MOST_RECORD_BYTES, RECORD
from pipeline.storage.untrusted_vectors import read_layer

log = logging.getLogger(__name__)

_DEEPEST = 2
"""Folders between a given one and a run: that of a batch, and that of several batches."""


@dataclass(frozen=True)
class FinishedRun:
    """A run of a scene with roads."""

    folder: Path
    scene_id: str
    acquired: datetime | None
    """UTC; None if the source has no time."""
    day: date | None
    """Its date, also where there is no time."""
    model: str
    simulated: bool
    segment_ids: pd.Index
    """(S,) of its layer `road_segments`."""
    in_network: NDArray[np.intp]
    """(S,): row of each segment in `Network.segments`."""
    seen_m: NDArray[np.float64]
    """(S,): searched metres."""
    cloud_m: NDArray[np.float64]
    """(S,): metres under cloud or its shadow; NaN where clouds are unknown."""
    detections: gpd.GeoDataFrame
    """`columns.DETECTIONS`, in the CRS of the scene."""
    recall: Mapping[str, Any]
    """`recall` of the record."""

    def shares(self, left_out: NDArray[np.bool_] | None = None) -> Shares:
        """Return what its N detections contribute; those of the mask `left_out` (N,) contribute nothing."""
        found = self.detections
        keep = np.ones(len(found), np.bool_) if left_out is None else ~left_out
        group = found["recall_group"].to_numpy(np.intp)
        errors = np.zeros(group.max(initial=0) + 1)
        errors[group] = found["recall_error"].to_numpy(np.float64)
        return Shares(
            np.where(keep, found["chance"].to_numpy(np.float64), 0.0),
            found["recall"].to_numpy(np.float64),
            group,
            errors,
            found["counted"].to_numpy(np.bool_) & keep,
            float(self.recall["all"]),
            float(self.recall["dispersion"]),
            bool(self.recall["known"]),
            float(self.recall.get("share_error", 0.0)),
            float(self.recall.get("visible", 1.0)),
            float(self.recall.get("visible_error", 0.0)),
        )

    def counts(
        self,
        unit: NDArray[np.int64],
        way: NDArray[np.int8],
        size: int,
        left_out: NDArray[np.bool_] | None = None,
    ) -> RoadCounts:
        """Count by unit of the network, such as a road, of which there are `size`.

        `unit` and `way` (N,) are by segment of the network: its unit, -1 for none, and 1 if its line leads in
        the first direction of the unit, -1 if against it.
        """
        segment = self.segment_ids.get_indexer(self.detections["segment_id"])
        row = np.where(segment >= 0, self.in_network[segment], -1) if len(self.in_network) else segment
        on_road = row >= 0
        of = np.full(len(row), -1, np.int64)
        of[on_road] = unit[row[on_road]]
        direction = self.detections["direction"].fillna(0).to_numpy(np.int8)
        direction[on_road] *= way[row[on_road]]
        return RoadCounts.of(Snapped(self.detections, of, direction), size, self.shares(left_out))


class Network:
    """Segments of the roads of several runs, each once."""

    def __init__(self) -> None:
        self._parts: list[gpd.GeoDataFrame] = []
        self._rows: dict[tuple[str, bytes], int] = {}

    @property
    def segments(self) -> gpd.GeoDataFrame:
        """Return columns of the layer `road_segments` that all runs share, in the CRS of the first run."""
        if not self._parts:
            return gpd.GeoDataFrame(columns=[*ROAD_SEGMENTS.columns, "geometry"], geometry="geometry")
        crs = self._parts[0].crs
        return gpd.GeoDataFrame(
            pd.concat([part.to_crs(crs) for part in self._parts], ignore_index=True), crs=crs
        )

    def add(self, segments: gpd.GeoDataFrame) -> NDArray[np.intp]:
        """Add the segments that are new; return the row (S,) of each.

        The same id with another line, as of a file that gives an id to several roads, is another segment.
        """
        before = len(self._rows)
        keys = list(zip(segments["segment_id"], segments.geometry.to_wkb(), strict=True))
        rows = np.array([self._rows.setdefault(key, len(self._rows)) for key in keys], np.intp)
        new = np.flatnonzero(rows >= before)
        _, first = np.unique(rows[new], return_index=True)
        if len(first):
            self._parts.append(segments.iloc[new[first]][list(_OF_ROADS)])
        return rows


_OF_ROADS = (
    *("segment_id", "road_id", "road_class", "name", "ref", "oneway", "maxspeed", "hidden", "length_m"),
    "geometry",
)


@dataclass(frozen=True)
class Runs:
    """Runs whose traffic can be combined, ordered by time."""

    runs: tuple[FinishedRun, ...]
    network: gpd.GeoDataFrame
    """Segments of all of them, see `Network`."""
    left_out: tuple[str, ...]
    """A line for each folder that is not used: the folder and the reason."""


def read_runs(places: Sequence[Path] | Records, say: Callable[[str], None] = log.info) -> Runs:
    """Read the finished runs in folders, each that of a run, of a batch or of several of them; or of records.

    Of several runs of one acquisition the newest baseline is used, then the latest run. `say` is called with
    a line for each run. Memory: the segments of all runs once, and their detections.

    Raises
    ------
    RunsError
        If a folder is missing, has no finished run, or no run with roads can be used.
    """
    records = Records.of(places)
    network, runs, left_out = Network(), [], [*records.left_out]
    for number, (folder, record) in enumerate(records.by_folder.items()):
        say(f"{number + 1} of {len(records.by_folder)}: {folder}")
        try:
            runs.append(_read(folder, record, network))
        except (VectorFileError, RunsError) as error:
            left_out.append(str(error))
    if not runs:
        raise RunsError(
            f"No run in {', '.join(map(str, records.places))} can be used for traffic: "
            f"{'; '.join(left_out)}. Traffic needs runs with roads (--roads)."
        )
    moment = datetime.max.replace(tzinfo=UTC)
    runs.sort(key=lambda run: (run.day or date.max, run.acquired or moment, run.scene_id))
    return Runs(tuple(runs), network.segments, tuple(left_out))


def find_records(*places: Path) -> list[Path]:
    """Return the records of finished runs in folders, at most `_DEEPEST` folders below them, by name.

    A record in several of the folders is returned once.

    Raises
    ------
    RunsError
        If there is no such folder, or no finished run in it.
    """
    return list({path.resolve(): path for place in places for path in _records_in(place)}.values())


def _records_in(place: Path) -> list[Path]:
    if not place.is_dir():
        what = "is no folder" if place.exists() else "does not exist"
        raise RunsError(f"{place} {what}. Give the folder of a run, or --out of runs or of a batch.")
    patterns = ("*/" * depth + RECORD for depth in range(_DEEPEST + 1))
    paths = [path.relative_to(place) for pattern in patterns for path in sorted(place.glob(pattern))]
    found = [place / path for path in paths if not any(name.startswith(".") for name in path.parts)]
    if not found:
        raise RunsError(
            f"{place} has no finished run: neither it nor a folder in it has {RECORD}. Give the folder of a "
            "run, or --out of runs or of a batch."
        )
    return found


@dataclass(frozen=True)
class Records:
    """Records of finished runs, one of each acquisition."""

    places: tuple[Path, ...]
    """The folders in which they are."""
    by_folder: Mapping[Path, Mapping[str, Any]]
    left_out: tuple[str, ...]
    """A line about each of the others."""

    @classmethod
    def of(cls, places: Sequence[Path] | Records) -> Records:
        """Read the records in folders; those that are read already are returned.

        Raises
        ------
        RunsError
            If a folder is missing, or has no finished run.
        """
        if isinstance(places, Records):
            return places
        records, left_out = {}, []
        for path in find_records(*places):
            try:
                records[path.parent] = read_json_object(path, MOST_RECORD_BYTES)
            except (OSError, ValueError) as error:
                left_out.append(f"{path}: no record of a run ({error})")
        for folder, other in _same(records).items():
            left_out.append(f"{folder}: the same acquisition as {other}, which counts instead")
            del records[folder]
        return cls(tuple(places), records, tuple(left_out))


def _same(records: Mapping[Path, Mapping[str, Any]]) -> dict[Path, Path]:
    """Return the folders whose acquisition another folder has, too, with that folder."""
    names = {f"{record.get('finished')} {folder}": folder for folder, record in records.items()}
    acquisitions, others = {}, dict[str, list[str]]()
    for name, folder in names.items():
        known = Acquisition.from_json(records[folder].get("acquisition") or {})
        if known:
            acquisitions[name] = known
        else:  # without a time, two runs of one scene are the same
            others.setdefault(str(records[folder].get("scene")), []).append(name)
    worse = duplicates(acquisitions)
    worse |= {name: max(each) for each in others.values() for name in each if name != max(each)}
    return {names[name]: names[other] for name, other in worse.items()}


def _read(folder: Path, record: Mapping[str, Any], network: Network) -> FinishedRun:
    """Read a run, and add its segments to the network; VectorFileError, RunsError if it can't be used."""
    if "road_segments" not in (record.get("counts") or {}):
        raise RunsError(f"{folder}: a run without roads (--roads) or without traffic")
    recall = record.get("recall")
    known = isinstance(recall, dict) and {"all", "dispersion", "known"} <= recall.keys()
    if not known or not (folder / DETECTIONS_FILE).is_file():
        raise RunsError(
            f"{folder}: has no {DETECTIONS_FILE} or no recall; run the scene again with this version"
        )
    segments = layer_of_run(Path(f"{folder / 'trucks.gpkg'}:road_segments"), "lines", ROAD_SEGMENTS)
    detections = layer_of_run(folder / DETECTIONS_FILE, "polygons", DETECTIONS)
    return finished_run(folder, record, segments, detections, network)


def finished_run(
    folder: Path,
    record: Mapping[str, Any],
    segments: gpd.GeoDataFrame,
    detections: gpd.GeoDataFrame,
    network: Network,
) -> FinishedRun:
    """Return a run of these layers, whose segments are added to the network; `record` is of `run.json`."""
    moment, day = time_of(record.get("acquired"))
    return FinishedRun(
        folder=folder,
        scene_id=str(record.get("scene")),
        acquired=moment,
        day=day,
        model=str((record.get("models") or {}).get("detection")),
        simulated=bool(record.get("simulated")),
        segment_ids=pd.Index(segments["segment_id"]),
        in_network=network.add(segments),
        seen_m=segments["seen_km"].to_numpy(np.float64) * 1000,
        cloud_m=segments["cloud_km"].to_numpy(np.float64) * 1000,
        detections=detections,
        recall=record["recall"],
    )


def layer_of_run(path: Path, kind: Any, *layers: Layer) -> gpd.GeoDataFrame:
    """Read a layer that a run wrote, as the first of `layers` whose columns it has.

    VectorFileError, RunsError if it can't be used.
    """
    frame = read_layer(path, "Runs", kind)
    fits = [layer for layer in layers if all(name in frame for name in layer.columns)]
    if not fits or not isinstance(frame, gpd.GeoDataFrame):
        missing = [name for name in layers[-1].columns if name not in frame]
        raise RunsError(f"{path}: has no {', '.join(missing)}; run the scene again with this version")
    try:
        return fits[0].conform(frame)
    except (TypeError, ValueError) as error:
        raise RunsError(f"{path}: is no layer of a run ({error})") from error


def time_of(text: Any) -> tuple[datetime | None, date | None]:
    """Return time in UTC and date of `acquired` in a record; a date alone is no time."""
    if not isinstance(text, str):
        return None, None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None, None
    if "T" not in text and ":" not in text:
        return None, moment.date()
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment, moment.date()
