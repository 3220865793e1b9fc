"""Where the shards of a scene are kept: in a folder of the run, or in a store that workers share."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from pipeline.errors import ConfigError, OutputError
from pipeline.inference.shards import (
    Shard,
    content_key,
    is_whole,
    read_shard,
    save_shard,
    shard_name,
    write_shard,
)
from pipeline.storage.object_store import Store, open_store

log = logging.getLogger(__name__)

SETTING = "runner.store"
NEEDED_S = 7 * 24 * 3600.0
"""How long after a run began its shards stay in a shared store, whether it still lives, died, or is done."""
_MADE = re.compile(r"\.?(?P<name>[0-9a-f]{32})(\..+\.part)?\.npz")
"""Shards, and what writers that were killed left under temporary names."""
_NOTE = ".needed.json"


class ShardStore(Protocol):
    """The shards of one scene, by their keys. It travels to workers with the job; errors are OutputError."""

    def claim(self, keys: Collection[str]) -> None:
        """Tell other runs that one begins which needs these shards, and see that they can be written."""

    def whole(self, keys: Collection[str]) -> set[str]:
        """Those of the keys whose shards are there, as far as that is told without reading them."""

    def read(self, key: str) -> Shard | None:
        """A shard; None if there is none, or it is damaged."""

    def write(self, key: str, shard: Shard) -> None:
        """Keep a shard; nobody ever sees half of it."""

    def drop(self, key: str) -> None:
        """Remove a shard that turned out to be damaged."""

    def tidy(self, keys: Collection[str]) -> None:
        """At the end of a run that needed `keys`: remove what no run needs any more."""

    def address(self, key: str) -> str:
        """Where a shard lies, or will."""


@dataclass(frozen=True)
class LocalShards:
    """Shards in a folder, of which only one run makes use at a time."""

    folder: Path
    begun: float
    """When that run began, in seconds since 1970, as files have it."""

    def claim(self, keys: Collection[str]) -> None:
        """Nothing is noted: from the age of files a run tells which are left of earlier ones."""

    def whole(self, keys: Collection[str]) -> set[str]:
        """Takes a look at the table of contents of each file."""
        return {key for key in keys if is_whole(self._file(key))}

    def read(self, key: str) -> Shard | None:
        """See `ShardStore`."""
        return read_shard(self._file(key))

    def write(self, key: str, shard: Shard) -> None:
        """See `ShardStore`."""
        write_shard(self._file(key), shard)

    def drop(self, key: str) -> None:
        """See `ShardStore`."""
        self._file(key).unlink(missing_ok=True)

    def tidy(self, keys: Collection[str]) -> None:
        """Leave what another run that began meanwhile has written, by the time of its files."""
        mine = {self._file(key) for key in keys}
        for file in self.folder.glob("*.npz"):
            if file not in mine and file.stat().st_mtime < self.begun:
                file.unlink(missing_ok=True)

    def address(self, key: str) -> str:
        """A path."""
        return str(self._file(key))

    def _file(self, key: str) -> Path:
        return self.folder / shard_name(key)


@dataclass(frozen=True)
class SharedShards:
    """Shards below `url/<scene id>/`, where any number of runs and workers reads and writes them by address.

    Which shards a run needs it notes there when it begins, for all runs of the same settings in one small
    file. What no note of the last seven days (`NEEDED_S`) names goes with the next run of the scene that
    ends, so no live run loses a shard. Memory: a shard's file, beside the shard.
    """

    url: str
    scene_id: str

    def __reduce__(self) -> tuple[type[SharedShards], tuple[str, str]]:
        """Each process opens the store with its own credentials."""
        return SharedShards, (self.url, self.scene_id)

    def claim(self, keys: Collection[str]) -> None:
        """See `ShardStore`."""
        names = sorted(map(shard_name, keys))
        note = json.dumps({"noted": time.time(), "shards": names}, indent=1)
        self._put(f"{content_key({'shards': names})[:32]}{_NOTE}", note.encode())

    def whole(self, keys: Collection[str]) -> set[str]:
        """One listing for all: files appear whole there. One that is damaged shows when it is read."""
        sizes = self._sizes()
        return {key for key in keys if sizes.get(shard_name(key))}

    def read(self, key: str) -> Shard | None:
        """See `ShardStore`."""
        content = self._get(shard_name(key))
        return read_shard(io.BytesIO(content)) if content else None

    def write(self, key: str, shard: Shard) -> None:
        """See `ShardStore`."""
        file = io.BytesIO()
        save_shard(file, shard)
        self._put(shard_name(key), file.getvalue())

    def drop(self, key: str) -> None:
        """See `ShardStore`."""
        self._remove(shard_name(key))

    def tidy(self, keys: Collection[str]) -> None:
        """A store that fails meanwhile costs room, not the run: the next one tidies."""
        try:
            # In this order: a shard that is written meanwhile has a note by then, or is not among these.
            names = self._sizes()
            needed = set(map(shard_name, keys))
            for name in names:
                if name.endswith(_NOTE):
                    needed |= self._needed(name)
            for name in names:
                made = _MADE.fullmatch(name)
                if made and shard_name(made["name"]) not in needed:
                    self._remove(name)
        except OutputError as error:
            log.warning("old shards stay: %s", error)

    def address(self, key: str) -> str:
        """A URL."""
        return f"{self.url.rstrip('/')}/{self.scene_id}/{shard_name(key)}"

    @cached_property
    def _store(self) -> Store:
        return open_shared(self.url)

    def _sizes(self) -> dict[str, int]:
        """Bytes of all files of the scene, by name."""
        with self._failing():
            try:
                found = self._store.fs.ls(f"{self._store.root}/{self.scene_id}", detail=True)
            except FileNotFoundError:
                return {}
            return {entry["name"].rpartition("/")[2]: entry["size"] for entry in found}

    def _needed(self, note: str) -> set[str]:
        """Names in a note; none where it is old: then it goes."""
        try:
            reported = json.loads(self._get(note) or b"{}")
            age_s, names = time.time() - float(reported["noted"]), set(map(str, reported["shards"]))
        except (ValueError, KeyError, TypeError):  # somebody else's
            return set()
        if age_s < NEEDED_S:
            return names
        self._remove(note)
        return set()

    def _get(self, name: str) -> bytes | None:
        with self._failing():
            return self._store.read(f"{self.scene_id}/{name}")

    def _put(self, name: str, content: bytes) -> None:
        with self._failing():
            self._store.write(f"{self.scene_id}/{name}", content)

    def _remove(self, name: str) -> None:
        with self._failing(), suppress(FileNotFoundError):
            self._store.fs.rm_file(f"{self._store.root}/{self.scene_id}/{name}")

    def _failing(self) -> AbstractContextManager[None]:
        return self._store.failing("Shards can't be kept in")


def open_shared(url: str) -> Store:
    """The store at `runner.store`; asks no server.

    Raises
    ------
    ConfigError, MissingExtraError
        As `open_store`; ConfigError, too, where files would not appear whole.
    """
    store = open_store(url, SETTING)
    if not store.keeps_files_whole:
        raise ConfigError(
            f"{SETTING} needs an object store, or a file system that can rename files. Received: {url}"
        )
    return store
