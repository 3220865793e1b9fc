"""What is new since the last look: late and reprocessed scenes too, and what was left undone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.errors import NotAProductError
from pipeline.operations.batch import BatchRequest, Summary, config_hash, make_out
from pipeline.operations.ledger.database import database_url
from pipeline.operations.ledger.scenes import Entry, open_ledger
from pipeline.operations.ledger.watermarks import Watermark, Watermarks, earlier
from pipeline.operations.scene_list import ListedScene, digest, unique
from pipeline.operations.search import Search, search_patiently
from pipeline.operations.sources import Sources, find_scenes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watch:
    """What is looked for again and again."""

    sources: Sources
    since: str | None = None
    """A day before which a search never begins; without one the first search takes all there is."""
    overlap_days: float = 30.0
    """How far a search goes back behind the watermark, by acquisition and by change of items."""


def do_news(watch: Watch, request: BatchRequest, run: Callable[[BatchRequest], Summary]) -> Summary | None:
    """Look what is new, do it, and raise the watermark; None if nothing was found.

    `request` says how; its scenes are replaced. `run` does a batch. The watermark is raised once all that was
    found is in the ledger, so that whatever ends a run, the next one knows of it.

    Errors as `find_scenes` and `run_batch`.
    """
    make_out(request.out)
    left, search = _left(request), watch.sources.search
    marks = _watermarks(request)
    try:
        mark = marks.get(_key(search)) if search else Watermark()
        found = find_news(watch, mark, request)
        names = {scene.name for scene in found}
        scenes = unique([*found, *(scene for scene in left if scene.name not in names)])
        if not scenes:
            return None
        summary = run(replace(request, scenes=tuple(scenes)))
        if search:
            for scene in found:
                mark = mark.risen(scene.acquired, scene.updated)
            marks.put(_key(search), mark)
        return summary
    finally:
        marks.close()


def find_news(watch: Watch, mark: Watermark, request: BatchRequest) -> list[ListedScene]:
    """The scenes of all sources, of a search those that may be new.

    A search takes what was acquired from `overlap_days` before the watermark on, and, where the API can be
    asked so, what its catalogue changed since as long before: a scene of any age that was processed again.
    """
    settings = request.config.batch
    sources, search = watch.sources, watch.sources.search
    if search is None:
        return list(find_scenes(sources, settings))
    begin = _begin(watch, mark)
    window = replace(search, time=f"{begin}/.." if begin else None)
    found = {scene.name: scene for scene in find_scenes(replace(sources, search=window), settings)}
    if mark.updated:
        since = earlier(mark.updated, watch.overlap_days)
        changed = replace(
            search, changed_since=since, time=f"{_moment(watch.since)}/.." if watch.since else None
        )
        found |= {scene.name: scene for scene in _changed(changed, settings.attempts, settings.backoff_s)}
    return list(found.values())


def _changed(search: Search, attempts: int, backoff_s: float) -> list[ListedScene]:
    try:
        return search_patiently(search, attempts, backoff_s)
    except NotAProductError as error:  # it says that it can be asked so, and refuses
        log.warning("only scenes within the overlap are searched again: %s", error)
        return []


def _begin(watch: Watch, mark: Watermark) -> str | None:
    since = _moment(watch.since) if watch.since else None
    behind = earlier(mark.acquired, watch.overlap_days) if mark.acquired else None
    return max((moment for moment in (since, behind) if moment), default=None)


def _moment(day: str) -> str:
    return day if "T" in day else f"{day}T00:00:00Z"


def _left(request: BatchRequest) -> list[ListedScene]:
    """What earlier runs of the same settings did not end, and a search may no longer find."""
    ledger = open_ledger(request.out, request.config)
    try:
        same = config_hash(request)
        left = [entry for entry in ledger.entries() if entry.config_hash == same and _is_left(entry)]
    finally:
        ledger.close()
    return [
        ListedScene(entry.scene, entry.href, entry.input_version, entry.acquired, entry.updated)
        for entry in left
    ]


def _is_left(entry: Entry) -> bool:
    return entry.state in ("waiting", "running") or (
        entry.state == "quarantined" and bool(entry.is_transient)
    )


def _key(search: Search) -> str:
    return digest([search.url, search.collections, search.area, search.cloud_cover])


def _watermarks(request: BatchRequest) -> Watermarks:
    return Watermarks(database_url(request.out, request.config), request.config.batch.name)
