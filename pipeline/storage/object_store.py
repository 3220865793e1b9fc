"""Stores of files by address (`s3://bucket/prefix`): opened through fsspec, their faults told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.core import split_protocol
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import ConfigError, MissingExtraError, OutputError
from pipeline.redaction import redacted, without_secrets
from pipeline.storage.atomic import temporary

PATIENCE_S = 120.0
"""Until a store that does not even take what is sent is given up: S3's client itself would wait for ever."""
_SLOWEST_BYTES_PER_S = 50_000
_PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"}
"""Protocols of stores in which a file appears when its last byte has come."""


@dataclass(frozen=True)
class Store:
    """A folder of a store. Credentials are those of the environment, as the store's own tools find them."""

    url: str
    """As it was given, without a slash at its end."""
    fs: Any
    """fsspec's file system."""
    root: str
    """The folder, as the file system names it."""

    def read(self, path: str) -> bytes | None:
        """A whole file, by its path below the folder; None if there is none."""
        try:
            return bytes(self.fs.cat_file(f"{self.root}/{path}"))
        except FileNotFoundError:
            return None

    @property
    def keeps_files_whole(self) -> bool:
        """Whether `write` can see to it that files appear whole: the store does, or it can rename files."""
        return self._puts_whole or type(self.fs).mv is not AbstractFileSystem.mv  # which copies

    @property
    def _puts_whole(self) -> bool:
        protocol = self.fs.protocol
        return not _PUT_WHOLE.isdisjoint((protocol,) if isinstance(protocol, str) else protocol)

    def write(self, path: str, content: bytes) -> None:
        """A file that replaces what is there, and appears when it is whole: see `keeps_files_whole`."""
        target = f"{self.root}/{path}"
        if self._puts_whole:
            self.fs.pipe_file(target, content, **self.timeout(len(content)))
            return
        folder, _, name = target.rpartition("/")
        part = f"{folder}/{temporary(Path(name)).name}"
        self.fs.makedirs(folder, exist_ok=True)
        try:
            self.fs.pipe_file(part, content, **self.timeout(len(content)))
            self.fs.mv(part, target)
        except BaseException:
            with suppress(Exception):  # why it failed says more
                self.fs.rm_file(part)
            raise

    def timeout(self, size: int) -> dict[str, float]:
        """What fsspec is to be told, where it listens, of how long writing so many bytes may take."""
        return {"timeout": PATIENCE_S + size / _SLOWEST_BYTES_PER_S} if self.fs.async_impl else {}

    @contextmanager
    def failing(self, what: str, remedy: str = "") -> Iterator[None]:
        """Raise errors of the store as OutputError: `what` can't be done at its address, why, and a remedy.

        The store's own client has tried transient errors again by then.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 every kind of store has errors of its own
            why = " ".join(str(error).split())[:200] or type(error).__name__
            cause = redacted(OSError(f"{type(error).__name__}: {error}"))
            raise OutputError(f"{what} {self.url}: {why}{remedy}") from cause


def folder_store(folder: Path) -> Store:
    """Return a folder of this machine as a store; its path is never taken for a URL."""
    return Store(str(folder), LocalFileSystem(), folder.absolute().as_posix())


def open_store(url: str, setting: str) -> Store:
    """The folder at an address that stands in a setting; asks no server.

    Raises
    ------
    ConfigError
        If it is no address of a store that fsspec knows, or has credentials in it.
    MissingExtraError
        If the package for that kind of store is not installed.
    """
    protocol, _ = split_protocol(url)
    if not protocol or without_secrets(url) != url:
        raise ConfigError(
            f"{setting} is like s3://bucket/prefix, with credentials in the environment. Received: {url}"
        )
    try:
        # What others did to the store meanwhile, and what the environment says now, counts.
        fs, root = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        raise MissingExtraError(
            f"{setting}={protocol}://... needs a package ({error}): pip install 'truckscape[remote]'."
        ) from error
    except ValueError as error:
        raise ConfigError(f"{setting} is no address of a known kind ({error}). Received: {url}") from error
    return Store(url.rstrip("/"), fs, root.rstrip("/"))
