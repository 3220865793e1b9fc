"""Publishing of results to a store: the record is written last, so its presence means completeness."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.safe_json import parse_json
from pipeline.storage.object_store import Store, open_store
from pipeline.storage.out_folder import RECORD, is_record_of

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
            fs.rm_file(f"{target}/{RECORD}", **store.timeout(0))
        names = [path.relative_to(folder).as_posix() for path in _files(folder) if path != record]
        for name in names:
            _put(store, folder / name, f"{target}/{name}")
        for name in _outputs(old, folder.name) - set(names):
            _remove(store, f"{target}/{name}")
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
            _remove(store, f"{store.root}/{path.relative_to(out).as_posix()}")


def _publish_beside(store: Store, out: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        for file in _files(path) if path.is_dir() else [path]:
            _put(store, file, f"{store.root}/{file.relative_to(out).as_posix()}")


def _put(store: Store, file: Path, target: str) -> None:
    fs = store.fs
    _check_inside(store, target)
    if "file" in fs.protocol:
        fs.makedirs(target.rpartition("/")[0], exist_ok=True)
    here = file.stat().st_size
    fs.put_file(str(file), target, **store.timeout(here))
    there = fs.info(target, **store.timeout(0))["size"]
    if there != here:
        raise OSError(f"incomplete copy: {target} has {there} bytes, {file.name} has {here}")


def _remove(store: Store, target: str) -> None:
    _check_inside(store, target)
    if store.fs.exists(target, **store.timeout(0)):
        store.fs.rm_file(target, **store.timeout(0))


def _check_inside(store: Store, target: str) -> None:
    """Raise OSError if a link leads elsewhere; only local folders have links."""
    place, root = Path(target), Path(store.root)
    if "file" in store.fs.protocol and (
        place.is_symlink() or not place.parent.resolve().is_relative_to(root.resolve())
    ):
        raise OSError(f"{target} is a link, or in a folder that is one; remove it")


def _outputs(record: bytes | None, scene_id: str) -> set[str]:
    """Return the files in the `outputs` of a scene's record, except paths that leave its folder."""
    try:
        published = parse_json(record or b"{}")
    except ValueError:
        return set()
    named = published.get("outputs") if is_record_of(published, scene_id) else None
    return {
        name
        for name in (named if isinstance(named, list) else [])
        if isinstance(name, str)
        and Path(name).as_posix() == name
        and not Path(name).is_absolute()
        and ".." not in Path(name).parts
    }


def _files(folder: Path) -> list[Path]:
    """Return all files below a folder, except hidden files and those in hidden folders."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
