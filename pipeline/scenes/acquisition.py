"""Acquisitions: whether two scenes show one view of a place, and which of them to prefer.

Catalogues have an acquisition several times: processed again with a newer baseline, received by two ground
stations, as L1C and L2A, or under a sequence number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from pipeline.scenes.scene import Scene

_OVERPASS = timedelta(minutes=50)
"""Half an orbit. Catalogues give the time of the datatake's start or of the tile, up to 30 minutes later."""
_MOMENT = timedelta(seconds=1)
_SAME_GROUND = 0.9
"""Share of the smaller area that both show. Versions of one granule have 0.99; the halves of a tile that two
datastrips share overlap by some kilometres."""
_BY_TOOLBOX = 90.0
_TEXTS = ("tile", "platform", "level", "baseline", "datastrip")


@dataclass(frozen=True)
class Acquisition:
    """A scene as one of the products of an acquisition."""

    acquired: datetime
    tile: str | None = None
    platform: str | None = None
    level: str | None = None
    baseline: str | None = None
    processed: datetime | None = None
    datastrip: str | None = None
    """Start of its datastrip."""
    footprint: BaseGeometry | None = None
    """Area with data in degrees, if the metadata say it."""
    extent: BaseGeometry | None = None
    """Area of the grid in degrees, if the scene was opened."""

    @property
    def rank(self) -> tuple[float, datetime, bool]:
        """Sort key: the newest baseline, then the latest processing, then L2A, which has a cloud mask."""
        try:
            baseline = float(self.baseline or 0)
        except ValueError:
            baseline = 0.0
        made = self.processed or datetime.min.replace(tzinfo=UTC)
        return (0.0 if baseline >= _BY_TOOLBOX else baseline), made, self.level == "L2A"

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Acquisition | None:
        """Return what `as_json` gave; None if it is something else."""
        try:
            given: dict[str, Any] = {field.name: values.get(field.name) for field in fields(cls)}
            for name in ("acquired", "processed"):
                given[name] = _time(given[name]) if given[name] else None
            for name in ("footprint", "extent"):
                given[name] = shapely.make_valid(shapely.from_wkt(given[name])) if given[name] else None
            if not all(isinstance(given[name], str | None) for name in _TEXTS):
                return None
        except (AttributeError, TypeError, ValueError, shapely.errors.ShapelyError):
            return None
        return cls(**given) if given["acquired"] else None


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    # A time without a zone can't be compared with others.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def acquisition_of(scene: Scene) -> Acquisition | None:
    """Return the acquisition of an opened scene; None without a time, of which a date alone is none."""
    if not isinstance(scene.acquired, datetime):
        return None
    extent = scene.grid.geographic_extent.geom
    return Acquisition(
        scene.acquired,
        scene.tile,
        scene.platform,
        scene.level,
        scene.baseline,
        scene.processed,
        scene.datastrip,
        scene.footprint,
        extent,
    )


def is_same(one: Acquisition, other: Acquisition) -> bool:
    """Return whether two scenes are products of one acquisition, and show the same ground.

    A satellite sees a tile once within half an orbit. Where satellite or tile are unknown, times must be the
    same to the second. Neighbouring tiles, parts of a tile, and halves of a tile that come from two
    datastrips are not the same; False also where nothing says what ground they show.
    """
    if _differ(one.tile, other.tile) or _differ(one.platform, other.platform):
        return False
    is_known = one.tile and other.tile and one.platform and other.platform
    if abs(one.acquired - other.acquired) >= (_OVERPASS if is_known else _MOMENT):
        return False
    grounds = list(_grounds(one, other))
    if not grounds or any(_overlap(*areas) < _SAME_GROUND for areas in grounds):
        return False
    if one.footprint is not None and other.footprint is not None:
        return True
    return not _differ(one.datastrip, other.datastrip)


def preferred(one: Acquisition, other: Acquisition) -> bool:
    """Return whether the first of two scenes of one acquisition is the better: it shows more, or is newer."""
    for here, there in _comparable(one, other):
        smaller, larger = sorted((here.area, there.area))
        if smaller < _SAME_GROUND * larger:
            return here.area > there.area
    return one.rank > other.rank


def duplicates(scenes: Mapping[str, Acquisition]) -> dict[str, str]:
    """Return the scenes that are the same acquisition as a better one, with its name; ties go by name."""
    kept: dict[str, Acquisition] = {}
    worse: dict[str, str] = {}
    ordered = sorted(scenes, reverse=True)  # of the same rank the last name, as of sequence numbers
    for name in sorted(ordered, key=lambda name: scenes[name].rank, reverse=True):
        same = [other for other in kept if is_same(scenes[name], kept[other])]
        if same and not all(preferred(scenes[name], kept[other]) for other in same):
            worse[name] = same[0]
            continue
        for other in same:
            del kept[other]
            worse |= {dropped: name for dropped, by in worse.items() if by == other} | {other: name}
        kept[name] = scenes[name]
    return worse


def is_near(one: datetime, other: datetime) -> bool:
    """Return whether two times are so near that a satellite may pass once in between."""
    return abs(one - other) < _OVERPASS


def near_in_time(scenes: Mapping[str, Acquisition]) -> Iterator[dict[str, Acquisition]]:
    """Yield the scenes in groups between which no two can be the same, in order of time."""
    ordered = sorted(scenes, key=lambda name: scenes[name].acquired)
    group = dict.fromkeys(ordered[:1])
    for before, name in pairwise(ordered):
        if scenes[name].acquired - scenes[before].acquired >= _OVERPASS:
            yield {member: scenes[member] for member in group}
            group = {}
        group[name] = None
    if group:
        yield {member: scenes[member] for member in group}


def _grounds(one: Acquisition, other: Acquisition) -> Iterable[tuple[BaseGeometry, BaseGeometry]]:
    comparable = list(_comparable(one, other))
    if comparable:
        return comparable
    here, there = one.footprint or one.extent, other.footprint or other.extent
    return [(here, there)] if here is not None and there is not None else []


def _comparable(one: Acquisition, other: Acquisition) -> Iterator[tuple[BaseGeometry, BaseGeometry]]:
    for here, there in ((one.footprint, other.footprint), (one.extent, other.extent)):
        if here is not None and there is not None:
            yield here, there


def _overlap(one: BaseGeometry, other: BaseGeometry) -> float:
    smaller = min(one.area, other.area)
    return float(one.intersection(other).area / smaller) if smaller > 0 else 0.0


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return shapely.to_wkt(value, rounding_precision=6) if isinstance(value, BaseGeometry) else value
