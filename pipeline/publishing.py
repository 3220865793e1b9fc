"""Results of a scene at an address where others read them: everything else first, the record last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import split_protocol

from pipeline.addresses import told, without_secrets
from pipeline.errors import ConfigError, MissingExtraError, OutputError

RECORD = "run.json"


def check_address(url: str) -> None:
    """Refuse what can't be published to, before any work is done; asks no server.

    Raises
    ------
    ConfigError
        If it is no address of a store that fsspec knows.
    MissingExtraError
        If the package for that kind of store is not installed.
    """
    _store(url)


def publish(folder: Path, url: str, beside: Iterable[Path] = ()) -> str:
    """Copy a scene's folder to `url/<name of the folder>`; returns that address.

    A folder there that has a `run.json` is complete: the old one goes first, the new one comes last, and
    every file appears whole. Where the record there is the same already, nothing is done. Files that only the
    old record names go. `beside` are files that lie beside the folder, below the same parent; they come
    before the record, too. Credentials are those of the environment, as the store's own tools find them.

    Raises
    ------
    OutputError
        If the store can't be written; then there is no record.
    ConfigError, MissingExtraError
        As `check_address`.
    """
    fs, root = _store(url)
    target = f"{root}/{folder.name}"
    record = folder / RECORD
    with _told_as_output_error(url):
        old = _read(fs, f"{target}/{RECORD}")
        if old == record.read_bytes():
            return f"{url.rstrip('/')}/{folder.name}"
        if old is not None:
            fs.rm_file(f"{target}/{RECORD}")
        names = [path.relative_to(folder).as_posix() for path in _files(folder) if path != record]
        for name in names:
            _put(fs, folder / name, f"{target}/{name}")
        for name in _outputs(old) - set(names):
            if fs.exists(f"{target}/{name}"):
                fs.rm_file(f"{target}/{name}")
        _publish_beside(fs, root, folder.parent, beside)
        _put(fs, record, f"{target}/{RECORD}")
    return f"{url.rstrip('/')}/{folder.name}"


def publish_beside(out: Path, paths: Iterable[Path], url: str) -> None:
    """Copy files and folders that lie in `out`, not in a scene's folder, to `url`. Errors as `publish`."""
    fs, root = _store(url)
    with _told_as_output_error(url):
        _publish_beside(fs, root, out, paths)


def _publish_beside(fs: Any, root: str, out: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        for file in _files(path) if path.is_dir() else [path]:
            _put(fs, file, f"{root}/{file.relative_to(out).as_posix()}")


def _store(url: str) -> tuple[Any, str]:
    protocol, _ = split_protocol(url)
    if not protocol or without_secrets(url) != url:
        raise ConfigError(
            f"publish.url is like s3://bucket/prefix, with credentials in the environment. Received: {url}"
        )
    try:
        # What others did to the store meanwhile, and what the environment says now, counts.
        fs, root = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        raise MissingExtraError(
            f"publish.url={protocol}://... needs a package ({error}): pip install 'truckscape[remote]'."
        ) from error
    except ValueError as error:
        raise ConfigError(f"publish.url is no address of a known kind ({error}). Received: {url}") from error
    return fs, root.rstrip("/")


@contextmanager
def _told_as_output_error(url: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 every kind of store has errors of its own
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise OutputError(f"Results can't be published to {url}: {why}") from _plain(error)


def _plain(error: Exception) -> Exception:
    return told(OSError(f"{type(error).__name__}: {error}"))


def _put(fs: Any, file: Path, target: str) -> None:
    if hasattr(fs, "makedirs") and "file" in fs.protocol:
        fs.makedirs(target.rpartition("/")[0], exist_ok=True)
    fs.put_file(str(file), target)
    there, here = fs.info(target)["size"], file.stat().st_size
    if there != here:
        raise OSError(f"{target} has {there} bytes, {file.name} has {here}")


def _read(fs: Any, path: str) -> bytes | None:
    try:
        return bytes(fs.cat_file(path))
    except FileNotFoundError:
        return None


def _outputs(record: bytes | None) -> set[str]:
    """Files that a record names, below its folder."""
    try:
        named = json.loads(record or b"{}").get("outputs", [])
    except (ValueError, AttributeError):
        return set()
    return {
        str(name) for name in named if ".." not in Path(str(name)).parts and not str(name).startswith("/")
    }


def _files(folder: Path) -> list[Path]:
    """All files below a folder but hidden ones, and those in hidden folders."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
