"""Object stores (`s3://bucket/prefix`) opened through fsspec, with one-line errors."""

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

from pipeline.errors import ConfigError, MissingExtraError, OutputError, StoreRefusedError
from pipeline.redaction import redacted, without_secrets
from pipeline.storage.atomic import temporary

PATIENCE_S = 120.0
"""Timeout of a write, beside the time for its bytes; the client of S3 itself would wait forever."""
_SLOWEST_BYTES_PER_S = 50_000
_PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"}
"""Protocols of stores in which a file appears after its last byte."""
_NO_KEYS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}
"""Errors of the client of S3, which is no dependency of ours."""


@dataclass(frozen=True)
class Store:
    """Folder of a store, with the credentials of the environment."""

    url: str
    """Address as given, without a trailing slash."""
    fs: Any
    """File system of fsspec."""
    root: str
    """Folder, as named by the file system."""

    def read(self, path: str) -> bytes | None:
        """Read a file by its path below the folder; None if it doesn't exist."""
        try:
            return bytes(self.fs.cat_file(f"{self.root}/{path}"))
        except FileNotFoundError:
            return None

    @property
    def keeps_files_whole(self) -> bool:
        """Return True if `write` is atomic: the store writes complete files, or it can rename files."""
        return self._puts_whole or type(self.fs).mv is not AbstractFileSystem.mv  # its default copies

    @property
    def _puts_whole(self) -> bool:
        protocol = self.fs.protocol
        return not _PUT_WHOLE.isdisjoint((protocol,) if isinstance(protocol, str) else protocol)

    def write(self, path: str, content: bytes) -> None:
        """Write a file, replacing an old one; atomic if `keeps_files_whole`."""
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
            with suppress(Exception):  # the first error is more useful
                self.fs.rm_file(part)
            raise

    def timeout(self, size: int) -> dict[str, float]:
        """Return the options that limit the time to write `size` bytes, if the file system accepts them."""
        return {"timeout": PATIENCE_S + size / _SLOWEST_BYTES_PER_S} if self.fs.async_impl else {}

    @contextmanager
    def failing(self, what: str, remedy: str = "") -> Iterator[None]:
        """Raise errors of the store as OutputError with `what` failed, its address, the cause and a remedy.

        The client of the store has retried transient errors before. A refusal is a StoreRefusedError.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 errors differ between stores
            why = " ".join(str(error).split())[:200] or type(error).__name__
            cause = redacted(OSError(f"{type(error).__name__}: {error}"))
            if self._refuses(error):
                advice = "check bucket, endpoint (AWS_ENDPOINT_URL for S3) and credentials"
                raise StoreRefusedError(f"{what} {self.url}: {why}; {advice}{remedy}") from cause
            raise OutputError(f"{what} {self.url}: {why}{remedy}") from cause

    def _refuses(self, error: Exception) -> bool:
        """Return True for an answer that a retry won't change; disks are given time."""
        no_bucket = isinstance(error, FileNotFoundError) and "bucket" in str(error).lower()
        no_keys = isinstance(error, PermissionError) or type(error).__name__ in _NO_KEYS
        return self._puts_whole and (no_bucket or no_keys)


def folder_store(folder: Path) -> Store:
    """Return a local folder as a store; its path is never read as a URL."""
    return Store(str(folder), LocalFileSystem(), folder.absolute().as_posix())


def open_store(url: str, setting: str) -> Store:
    """Return the folder at the address in a setting, without a request to its server.

    Raises
    ------
    ConfigError
        If fsspec knows no such store, or the address contains credentials.
    MissingExtraError
        If the package for that kind of store is not installed.
    """
    protocol, _ = split_protocol(url)
    if not protocol or without_secrets(url) != url:
        raise ConfigError(
            f"{setting} must be like s3://bucket/prefix, with credentials in the environment. Received: {url}"
        )
    try:
        # Caches would hide changes of the store by others, and of the environment.
        fs, root = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        raise MissingExtraError(
            f"{setting}={protocol}://... needs a package ({error}). Run: pip install 'truckscape[remote]'"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{setting} has an unsupported protocol ({error}). Use e.g. s3://bucket/prefix. Received: {url}"
        ) from error
    return Store(url.rstrip("/"), fs, root.rstrip("/"))
