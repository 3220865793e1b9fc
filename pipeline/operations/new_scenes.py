"""New scenes since the last search: late and reprocessed ones too, and those left unfinished."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.errors import NotAProductError
from pipeline.input_warnings import collected_warnings
from pipeline.operations.batch import Summary
from pipeline.operations.ledger.database import database_url
from pipeline.operations.ledger.scenes import Entry, open_ledger
from pipeline.operations.ledger.watermarks import Watermark, Watermarks, earlier
from pipeline.operations.request import BatchRequest, config_hash
from pipeline.operations.scene_list import ListedScene, digest, unique
from pipeline.operations.search import StacSearch, search_with_retries
from pipeline.operations.sources import Sources, find_scenes
from pipeline.storage.out_folder import make_out

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WatchedSources:
    """Sources that are searched for new scenes at intervals."""

    sources: Sources
    since: str | None = None
    """First date of acquisition; without it the first search takes all scenes there are."""
    overlap_days: float = 30.0
    """Look-back of a search before the watermark, by acquisition and by change of items."""


def run_new_scenes(
    watched: WatchedSources, request: BatchRequest, run: Callable[[BatchRequest], Summary]
) -> Summary | None:
    """Search for new scenes, run them, and raise the watermark; None if nothing was found.

    `request` says how; its scenes are replaced. `run` runs a batch. The watermark is raised once all scenes
    found are in the ledger: whatever ends a run, the next one knows of them.

    Errors as `find_scenes` and `run_batch`.
    """
    make_out(request.out)
    left, search = _unfinished(request), watched.sources.search
    marks = Watermarks(database_url(request.out, request.config), request.config.batch.name)
    try:
        mark = marks.get(_key(search)) if search else Watermark()
        with collected_warnings() as left_out:
            found = find_new_scenes(watched, mark, request)
        names = {scene.name for scene in found}
        scenes = unique([*found, *(scene for scene in left if scene.name not in names)])
        if not scenes:
            return None
        summary = run(replace(request, scenes=tuple(scenes), left_out=tuple(left_out)))
        if search:
            for scene in found:
                mark = mark.raised(scene.acquired, scene.updated)
            marks.put(_key(search), mark)
        return summary
    finally:
        marks.close()


def find_new_scenes(watched: WatchedSources, mark: Watermark, request: BatchRequest) -> list[ListedScene]:
    """Return the scenes of all sources; of a search only those that may be new.

    A search takes scenes acquired from `overlap_days` before the watermark on. Where the API can be asked so,
    it also takes items changed since as long before: a scene of any age that was processed again.
    """
    settings = request.config.batch
    sources, search = watched.sources, watched.sources.search
    if search is None:
        return list(find_scenes(sources, settings))
    since = _moment(watched.since) if watched.since else None
    behind = earlier(mark.acquired, watched.overlap_days) if mark.acquired else None
    begin = max((moment for moment in (since, behind) if moment), default=None)
    window = replace(search, time=f"{begin}/.." if begin else None)
    found = {scene.name: scene for scene in find_scenes(replace(sources, search=window), settings)}
    if mark.updated:
        changed = replace(
            search,
            changed_since=earlier(mark.updated, watched.overlap_days),
            time=f"{since}/.." if since else None,
        )
        found |= {scene.name: scene for scene in _changed(changed, settings.attempts, settings.backoff_s)}
    return list(found.values())


def _changed(search: StacSearch, attempts: int, backoff_s: float) -> list[ListedScene]:
    try:
        return search_with_retries(search, attempts, backoff_s)
    except NotAProductError as error:  # it claims to support such a search, and refuses
        log.warning("only scenes within the overlap are searched again: %s", error)
        return []


def _moment(day: str) -> str:
    return day if "T" in day else f"{day}T00:00:00Z"


def _unfinished(request: BatchRequest) -> list[ListedScene]:
    """Return scenes that earlier runs of the same settings left, which a search may no longer find."""
    ledger = open_ledger(request.out, request.config)
    try:
        same = config_hash(request)
        left = [entry for entry in ledger.entries() if entry.config_hash == same and _is_unfinished(entry)]
    finally:
        ledger.close()
    return [
        ListedScene(entry.scene, entry.href, entry.input_version, entry.acquired, entry.updated)
        for entry in left
    ]


def _is_unfinished(entry: Entry) -> bool:
    return entry.state in ("waiting", "running") or (
        entry.state == "quarantined" and bool(entry.is_transient)
    )


def _key(search: StacSearch) -> str:
    return digest([search.url, search.collections, search.area, search.cloud_cover])
