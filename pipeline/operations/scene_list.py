"""The scenes of a batch by name, list and folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import SceneNotFoundError
from pipeline.input_warnings import warn
from pipeline.printable import printable
from pipeline.redaction import is_url, shown, without_secrets
from pipeline.safe_json import read_given
from pipeline.scenes.acquisition import Acquisition
from pipeline.scenes.open import scenes_at
from pipeline.scenes.readers.stac import asset_files, item_id
from pipeline.scenes.scene import scene_name
from pipeline.storage.beside import deciding_files, part_name

_SUFFIXES = (".safe.zip", ".safe", ".zip", ".tiff", ".tif", ".geojson", ".json")
_MOST_LIST_BYTES = 64 * 10**6


@dataclass(frozen=True)
class ListedScene:
    """A scene that was named or found, not opened yet."""

    name: str
    """Its id, as far as known."""
    href: str
    input_version: str
    """Version of the scene's files, or of its item in a catalogue."""
    acquired: str | None = None
    updated: str | None = None
    """Time of the catalogue's last change of the item."""
    acquisition: Acquisition | None = None
    """As far as a catalogue says it."""


def list_scenes(hrefs: Iterable[str]) -> list[ListedScene]:
    """Scenes by path or URL, in order, each once. Nothing is opened; what isn't there is listed, too.

    What can't be read is listed, too: opening it fails with the reason, and the others are run.
    """
    return unique(_listed(href) for href in hrefs)


def read_list(path: Path) -> list[str]:
    """Read the scenes in a text file, one a line; relative paths start at its folder, # begins a comment.

    Raises
    ------
    SceneNotFoundError
        If it can't be read, or names none.
    """
    try:
        content = read_given(path, _MOST_LIST_BYTES)
    except OSError as error:
        why = error.strerror or error
        raise SceneNotFoundError(f"The list of scenes can't be read: {shown(str(path))} ({why})") from error
    except ValueError as error:
        raise SceneNotFoundError(f"The list of scenes can't be read: {path} {error}.") from error
    if b"\0" in content:
        raise SceneNotFoundError(f"The list of scenes is no text file of up to 64 MB: {path}")
    text = content.decode("utf-8-sig", "surrogateescape")  # a name in another encoding is one bad scene
    lines = [_without_comment(line.strip(), path.parent) for line in text.split("\n")]
    hrefs = [line for line in lines if line and not line.startswith("#")]
    if not hrefs:
        raise SceneNotFoundError(f"The list names no scene: {path}; one path or URL a line is expected.")
    return [href if is_url(href) else str(path.parent / href) for href in hrefs]


def _without_comment(line: str, folder: Path) -> str:
    """Return a line without its comment; the name of an existing file may have a #."""
    try:
        is_name = (folder / line).exists()
    except OSError:  # too long
        is_name = False
    return line if is_name else line.partition(" #")[0].strip()


def scenes_in(folder: Path) -> list[str]:
    """Return the scenes in a folder, by name: products, zips, folders of bands, GeoTIFFs, STAC items.

    Products may have further folders around them. A product beside its own zip counts once. Other files and
    folders are ignored; a warning names those that can't be read.

    Raises
    ------
    SceneNotFoundError
        If it can't be read, or holds none.
    """
    try:
        children = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise SceneNotFoundError(
            f"The folder of scenes can't be read: {folder} ({error.strerror})"
        ) from error
    scenes = [scene for path in children for scene in _scenes_at(path)]
    unpacked = {_stem(path.name) for path in (*children, *scenes) if _is_folder(path)}
    found = [
        str(path)
        for path in dict.fromkeys(scenes)
        if not (path.suffix.lower() == ".zip" and _stem(path.name) in unpacked)
    ]
    if not found:
        raise SceneNotFoundError(f"No scene in {folder}, which has {len(children)} other files and folders.")
    return found


def _scenes_at(path: Path) -> list[Path]:
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            warn(f"{path} is left out: it is a pipe, socket or device.")
            return []
        return scenes_at(path)
    except (OSError, RuntimeError, ValueError) as error:
        warn(f"{path} is left out: it can't be read ({getattr(error, 'strerror', None) or error}).")
        return []


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def unique(scenes: Iterable[ListedScene]) -> list[ListedScene]:
    """Return the scenes without duplicates, each with another name.

    Another scene of the same name gets its address's hash added. If both turn out to have the same id, the
    second is quarantined when it is opened: their layers would go to the same folder.
    """
    by_name: dict[str, ListedScene] = {}
    for scene in scenes:
        other = by_name.setdefault(scene.name, scene)
        if other.href != scene.href and not _is_one_file(other.href, scene.href):
            name = f"{scene.name}-{digest([scene.href])[:8]}"
            by_name.setdefault(name, replace(scene, name=name))
    return list(by_name.values())


def _is_one_file(one: str, other: str) -> bool:
    try:
        return not is_url(one) and not is_url(other) and Path(one).samefile(other)
    except (OSError, ValueError):
        return False


def digest(parts: Sequence[object]) -> str:
    """SHA-256 of anything JSON knows."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _listed(href: str) -> ListedScene:
    if is_url(href):
        path_of_url = re.split("[?#]", href)[0].rstrip("/")  # urlparse refuses what is no address
        name_there = scene_name(_stem(path_of_url.rpartition("/")[2]))
        return ListedScene(name_there, printable(href), digest([without_secrets(href)]))
    try:
        path = Path(href).expanduser()
        if path.exists():
            path = (*scenes_at(path), path)[0]
        name = item_id(path) if path.suffix.lower() in (".json", ".geojson") else None
        name, version = name or _stem(path.resolve().name), digest(_versions(path))
    except (OSError, RuntimeError, ValueError):  # opening it says why
        name, version = _stem(Path(href).name), digest(["unreadable"])
    return ListedScene(scene_name(name), printable(href), version)


def file_versions(path: Path) -> list[tuple[str, int, int]]:
    """Return part, size and time of change of every file that decides what is read from `path`."""
    states = ((file, file.stat()) for file in deciding_files(path))
    return [(part_name(file, path), state.st_size, state.st_mtime_ns) for file, state in states]


def _versions(path: Path) -> list[tuple[str, int, int]]:
    """Return the versions of all files in a scene's folder, or of its file and, of an item, its assets."""
    if path.is_dir():
        states = ((file, file.stat()) for file in sorted(path.rglob("*")) if file.is_file())
        return [(part_name(file, path), state.st_size, state.st_mtime_ns) for file, state in states]
    versions = file_versions(path)
    if path.is_file() and path.suffix.lower() in (".json", ".geojson"):
        for asset in asset_files(path):
            versions += [(f"{asset.name}{part}", size, time) for part, size, time in file_versions(asset)]
    return versions


def _stem(name: str) -> str:
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
