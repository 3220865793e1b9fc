"""The scenes of a batch from names, a list, a folder and a search, in any combination."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Batch
from pipeline.errors import ConfigError
from pipeline.operations.scene_list import ListedScene, list_scenes, read_list, scenes_in, unique
from pipeline.operations.search import StacSearch, search_with_retries


@dataclass(frozen=True)
class Sources:
    """Sources of scenes."""

    scenes: tuple[str, ...] = ()
    """Each as for `truckscape run`."""
    scene_list: Path | None = None
    folder: Path | None = None
    search: StacSearch | None = None


def find_scenes(sources: Sources, settings: Batch) -> tuple[ListedScene, ...]:
    """Return the scenes of all sources together, each once. Warns of what can't be read.

    Raises
    ------
    ConfigError
        If no source is given.
    SceneNotFoundError
        If list or folder can't be read, or have no scene. A search may find none.
    UnreachableError, NotAProductError, AreaError
        From the search.
    """
    if sources == Sources():
        raise ConfigError("No scene was named; give scenes, --list, --folder or --stac.")
    hrefs = [
        *sources.scenes,
        *(read_list(sources.scene_list) if sources.scene_list else ()),
        *(scenes_in(sources.folder) if sources.folder else ()),
    ]
    listed = list_scenes(hrefs)
    found = (
        search_with_retries(sources.search, settings.attempts, settings.backoff_s) if sources.search else ()
    )
    return tuple(unique([*listed, *found]))
