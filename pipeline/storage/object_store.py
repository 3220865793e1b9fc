"""Object stores (`s3://bucket/prefix`) opened through fsspec, with one-line errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipeline.addresses import address_fault
from pipeline.errors import ConfigError, MissingExtraError, OutputError, StoreRefusedError
from pipeline.redaction import redacted, shown, without_secrets
from pipeline.storage.atomic import temporary

PATIENCE_S = 120.0
"""Timeout of an operation with all attempts of the client, beside the time for the bytes; the client of S3
itself would wait forever."""
_SLOWEST_BYTES_PER_S = 50_000
_PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
"""Protocols of stores in which a file appears after its last byte."""
_HERE = ("file", "local")
_KINDS = (*sorted(_PUT_WHOLE), "oci", "oss", "tos", "sftp", "ssh", "smb", "hdfs", "webhdfs", *_HERE)
"""Protocols of folders that can be written. Others of fsspec are archives, caches, or read-only; `memory` is
lost with the process."""
_URL = re.compile(r"(?P<kind>[a-z][a-z0-9+.-]*)://(?P<place>[^/]*)(?P<path>.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9._-]+|arn:[A-Za-z0-9:._/-]+")
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
            size = self.size(path)
            return bytes(self.fs.cat_file(f"{self.root}/{path}", **self.timeout(size or 0)))
        except FileNotFoundError:
            return None

    def size(self, path: str) -> int | None:
        """Return the bytes of a file; None if it doesn't exist."""
        try:
            return int(self.fs.info(f"{self.root}/{path}", **self.timeout(0))["size"])
        except FileNotFoundError:
            return None

    def sizes(self) -> dict[str, int]:
        """Return the bytes of all files of the folder, by name; none if there is no such folder."""
        try:
            found = self.fs.ls(self.root, detail=True, **self.timeout(0))
        except FileNotFoundError:
            return {}
        return {entry["name"].rpartition("/")[2]: entry["size"] for entry in found}

    def remove(self, path: str) -> None:
        """Remove a file. Raises FileNotFoundError, where the store says so."""
        self.fs.rm_file(f"{self.root}/{path}", **self.timeout(0))

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
        """Return the options that limit the time to move `size` bytes, if the file system accepts them."""
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
        If it is no folder that can be written, is malformed, or contains credentials.
    MissingExtraError
        If the package for that kind of store is not installed.
    """
    found = _URL.fullmatch(url)
    if found is None or without_secrets(url) != url:
        raise ConfigError(
            f"{setting} must be like s3://bucket/prefix, with credentials in the environment. "
            f"Received: {shown(url)}"
        )
    fault = _fault(url, *found.groups())
    if fault:
        raise ConfigError(f"{setting} {fault}. Use e.g. s3://bucket/prefix. Received: {shown(url)}")
    try:
        # Caches would hide changes of the store by others, and of the environment.
        fs, root = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        raise MissingExtraError(
            f"{setting}={found['kind']}://... needs a package ({error}). "
            "Run: pip install 'truckscape[remote]'"
        ) from error
    except Exception as error:  # noqa: BLE001 each kind has its own errors
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"{setting} can't be opened ({why}). Received: {shown(url)}") from redacted(
            OSError(f"{type(error).__name__}: {error}")
        )
    return Store(url.rstrip("/"), fs, root.rstrip("/"))


def _fault(url: str, kind: str, place: str, path: str) -> str | None:
    """Return why a URL is no folder that can be written; None if it may be one."""
    if kind not in _KINDS:
        return f"has an unsupported protocol, {kind[:20]}; supported are {', '.join(_KINDS)}"
    fault = address_fault(f"file://host{path}")
    if fault:
        return f"is no address: {fault}"
    if ".." in path.split("/"):
        return "must have no .. in its path"
    if kind in _HERE:
        is_here = not place and path.strip("/")
        return None if is_here else "must have an absolute path after the protocol, e.g. file:///data/layers"
    if kind in _PUT_WHOLE:
        return None if _BUCKET.fullmatch(place) else f"names no bucket; expected is {kind}://bucket/prefix"
    fault = address_fault(url)
    return f"is no address: {fault}" if fault else None
