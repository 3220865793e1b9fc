"""Publishing of results to a store: the record is written last, so its presence means completeness."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.storage.object_store import Store, open_store

RECORD = "run.json"
SETTING = "publish.url"
_FAILED = "Results can't be published to"


def publish(folder: Path, url: str, beside: Iterable[Path] = ()) -> str:
    """Copy a scene's folder to `url/<name of the folder>` and return that address.

    A published folder with `run.json` is complete: the old record is removed first, the new one is written
    last, and every write is atomic. If the published record is the same already, nothing is copied. Files
    listed only in the old record are removed. `beside` are files outside the folder, below the same parent;
    they are copied before the record.

    Raises
    ------
    OutputError
        If the store can't be written; then the published folder has no record.
    ConfigError, MissingExtraError
        As `open_store`.
    """
    store = open_store(url, SETTING)
    fs, target = store.fs, f"{store.root}/{folder.name}"
    record, published = folder / RECORD, f"{store.url}/{folder.name}"
    with store.failing(_FAILED):
        old = store.read(f"{folder.name}/{RECORD}")
        if old == record.read_bytes():
            return published
        if old is not None:
            fs.rm_file(f"{target}/{RECORD}")
        names = [path.relative_to(folder).as_posix() for path in _files(folder) if path != record]
        for name in names:
            _put(store, folder / name, f"{target}/{name}")
        for name in _outputs(old) - set(names):
            if fs.exists(f"{target}/{name}"):
                fs.rm_file(f"{target}/{name}")
        _publish_beside(store, folder.parent, beside)
        _put(store, record, f"{target}/{RECORD}")
    return published


def publish_beside(out: Path, paths: Iterable[Path], url: str) -> None:
    """Copy files and folders of `out` that are outside scene folders to `url`. Errors as `publish`."""
    store = open_store(url, SETTING)
    with store.failing(_FAILED):
        _publish_beside(store, out, paths)


def unpublish_beside(out: Path, paths: Iterable[Path], url: str) -> None:
    """Remove files that `publish_beside` copied, if they are there. Errors as `publish`."""
    store = open_store(url, SETTING)
    with store.failing(_FAILED):
        for path in paths:
            target = f"{store.root}/{path.relative_to(out).as_posix()}"
            if store.fs.exists(target):
                store.fs.rm_file(target)


def _publish_beside(store: Store, out: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        for file in _files(path) if path.is_dir() else [path]:
            _put(store, file, f"{store.root}/{file.relative_to(out).as_posix()}")


def _put(store: Store, file: Path, target: str) -> None:
    fs = store.fs
    if "file" in fs.protocol:
        fs.makedirs(target.rpartition("/")[0], exist_ok=True)
    here = file.stat().st_size
    fs.put_file(str(file), target, **store.timeout(here))
    there = fs.info(target)["size"]
    if there != here:
        raise OSError(f"incomplete copy: {target} has {there} bytes, {file.name} has {here}")


def _outputs(record: bytes | None) -> set[str]:
    """Return the files in a record's `outputs`, except paths that leave its folder."""
    try:
        named = json.loads(record or b"{}").get("outputs", [])
    except (ValueError, AttributeError):
        return set()
    return {
        str(name) for name in named if ".." not in Path(str(name)).parts and not str(name).startswith("/")
    }


def _files(folder: Path) -> list[Path]:
    """Return all files below a folder, except hidden files and those in hidden folders."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
