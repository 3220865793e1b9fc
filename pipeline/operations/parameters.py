"""Parameters of batches and schedules as plain values: the same for commands, flows and deployments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.config import load_config
from pipeline.operations.new_scenes import WatchedSources
from pipeline.operations.request import BatchRequest
from pipeline.operations.search import COLLECTION, StacSearch
from pipeline.operations.sources import Sources, find_scenes
from pipeline.storage.untrusted_vectors import file_of


class _Parameters(BaseModel):
    """Parameters that batches and schedules share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path
    scene_list: Path | None = None
    folder: Path | None = None
    stac: str | None = None
    """URL of an API; `collections`, `area` and `cloud_cover` say what to search there."""
    collections: tuple[str, ...] | None = None
    area: str | None = None
    cloud_cover: float | None = None
    config: Path | None = None
    settings: tuple[str, ...] | None = None
    roads: Path | None = None
    bands: tuple[str, ...] | None = None

    def _sources(self, scenes: tuple[str, ...] = (), **search: Any) -> Sources:
        stac = self.stac and StacSearch(
            self.stac,
            self.collections or (COLLECTION,),
            area=self.area,
            cloud_cover=self.cloud_cover,
            **search,
        )
        return Sources(scenes, self.scene_list, self.folder, stac or None)

    def _request(self) -> BatchRequest:
        config = load_config(self.config, self.settings or ())
        return BatchRequest((), self.out, config, self.bands or None, self.roads)


class BatchParameters(_Parameters):
    """Parameters of `truckscape batch`, and of the flow of that name."""

    scenes: tuple[str, ...] = ()
    time: str | None = None
    most: int | None = None
    retry_quarantined: bool = False

    def request(self) -> BatchRequest:
        """Load the settings and find the scenes. Raises as `load_config` and `find_scenes`."""
        request = self._request()
        sources = self._sources(self.scenes, time=self.time, most=self.most)
        scenes = find_scenes(sources, request.config.batch)
        return replace(request, scenes=scenes, retry_quarantined=self.retry_quarantined)


class ScheduleParameters(_Parameters):
    """Parameters of `truckscape schedule`, and of the flow that it repeats."""

    since: str | None = None
    overlap_days: float = 30.0

    def request(self) -> BatchRequest:
        """Load the settings; scenes are found at each search. Raises ConfigError."""
        return self._request()

    def watched(self) -> WatchedSources:
        """Return the sources of new scenes."""
        return WatchedSources(self._sources(), self.since, self.overlap_days)

    def absolute(self) -> ScheduleParameters:
        """Return the same for a process in another folder: paths are absolute."""
        paths: dict[str, Path | str] = {"out": self.out.resolve()}
        for name in ("scene_list", "folder", "config"):
            if path := getattr(self, name):
                paths[name] = path.expanduser().resolve()
        if self.roads and file_of(self.roads).exists():  # else it is `overpass`, or an error of the first run
            paths["roads"] = self.roads.resolve()
        if self.area and file_of(self.area).exists():
            paths["area"] = str(Path(self.area).resolve())
        return self.model_copy(update=paths)
