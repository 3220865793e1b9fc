"""Parameters of batches and schedules as plain values: for commands, flows and deployments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.fields import CLOUD_COVER, MOST, OVERLAP_DAYS
from pipeline.input_warnings import collected_warnings
from pipeline.operations.new_scenes import WatchedSources
from pipeline.operations.request import BatchRequest
from pipeline.operations.scene_parameters import SharedParameters
from pipeline.operations.search import COLLECTION, StacSearch
from pipeline.operations.sources import Sources, find_scenes
from pipeline.storage.untrusted_vectors import file_of


def _within(bounds: tuple[int, int]) -> Any:
    """Return the constraint of a parameter: deployments are checked by nothing else."""
    least, most = bounds
    return Field(ge=least, le=most)  # NaN is not within any bounds


class _Parameters(SharedParameters):
    """Parameters that batches and schedules share."""

    scene_list: Path | None = None
    """File of paths and URLs of scenes, one a line."""
    folder: Path | None = None
    """Folder of scenes."""
    stac: str | None = None
    """URL of a STAC API, searched for the scenes of an area."""
    collections: tuple[str, ...] | None = None
    """Collections of the STAC API."""
    area: str | None = None
    """Area of the search: west,south,east,north in degrees, or a file of polygons."""
    cloud_cover: Annotated[float, _within(CLOUD_COVER)] | None = None
    """Highest cloud cover of a scene by its metadata, per cent."""

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
        return BatchRequest((), self.out, self.load(), self.bands or None, self.roads)


class BatchParameters(_Parameters):
    """Parameters of `truckscape batch`, and of the flow of that name."""

    scenes: tuple[str, ...] = ()
    """Paths and URLs of scenes."""
    time: str | None = None
    """Dates of the search, e.g. 2023-06-01/2023-06-30."""
    most: Annotated[int, _within(MOST)] | None = None
    """Process only that many scenes of the search, the most recent."""
    retry_quarantined: bool = False
    """Also retry scenes that are quarantined for an error that is not transient."""

    def request(self) -> BatchRequest:
        """Load the settings and find the scenes. Raises as `load_config` and `find_scenes`."""
        request = self._request()
        sources = self._sources(self.scenes, time=self.time, most=self.most)
        with collected_warnings() as left_out:
            scenes = find_scenes(sources, request.config.batch)
        return replace(
            request,
            scenes=scenes,
            retry_quarantined=self.retry_quarantined,
            left_out=tuple(left_out),
        )


class ScheduleParameters(_Parameters):
    """Parameters of `truckscape schedule`, and of the flow that it repeats."""

    since: str | None = None
    """Ignore scenes acquired before this date, e.g. 2023-06-01."""
    overlap_days: Annotated[float, _within(OVERLAP_DAYS)] = 30.0
    """Look-back before the latest acquisition found, in days, for late and reprocessed scenes."""

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
