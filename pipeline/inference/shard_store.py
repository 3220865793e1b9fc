"""The store of a scene's shards: a folder of the run, or an object store that workers share."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.errors import ConfigError, OutputError
from pipeline.inference.shards import Shard, content_key, read_shard, save_shard, shard_name
from pipeline.storage.object_store import Store, folder_store, open_store

log = logging.getLogger(__name__)

SETTING = "runner.store"
NEEDED_S = 7 * 24 * 3600.0
"""Time in which no other run removes the shards of a run, unless it ended in its own folder."""
_MADE = re.compile(r"\.?(?P<name>[0-9a-f]{32})(\..+\.part)?\.npz")
"""Shards, and what writers that were killed left under temporary names."""
_NOTE = ".needed.json"


@dataclass(frozen=True)
class ShardStore:
    """The shards of one scene, by their keys. It travels to workers with the job; errors are OutputError.

    A run notes there which shards it needs when it begins, in one small file for all runs of the same
    settings. At its end it removes what no note of the last seven days (`NEEDED_S`) names, so no live run
    loses a shard. Memory: a shard's file, beside the shard.
    """

    place: Path | str
    """The folder of a run, which keeps the shards of its latest run; or the address of a folder that runs
    share, which keeps those of all runs for seven days."""

    def __reduce__(self) -> tuple[type[ShardStore], tuple[Path | str]]:
        """Each process opens the store with its own credentials."""
        return ShardStore, (self.place,)

    def claim(self, keys: Collection[str]) -> None:
        """Note that a run begins that needs these shards, which shows, too, that they can be written."""
        names = sorted(map(shard_name, keys))
        note = json.dumps({"noted": time.time(), "shards": names}, indent=1)
        self._put(_note(names), note.encode())

    def release(self, keys: Collection[str]) -> None:
        """Take that note back where the run has a folder of its own; in a shared one it stays."""
        if isinstance(self.place, Path):
            self._remove(_note(sorted(map(shard_name, keys))))

    def whole(self, keys: Collection[str]) -> set[str]:
        """Return the keys whose shards exist. Files appear complete; reading finds a damaged one.

        Takes one listing.
        """
        sizes = self._sizes()
        return {key for key in keys if sizes.get(shard_name(key))}

    def read(self, key: str) -> Shard | None:
        """Return a shard; None if there is none, or it is damaged."""
        content = self._get(shard_name(key))
        return read_shard(io.BytesIO(content)) if content else None

    def write(self, key: str, shard: Shard) -> None:
        """Keep a shard; it appears when it is whole."""
        file = io.BytesIO()
        save_shard(file, shard)
        self._put(shard_name(key), file.getvalue())

    def drop(self, key: str) -> None:
        """Remove a damaged shard."""
        self._remove(shard_name(key))

    def tidy(self, keys: Collection[str]) -> None:
        """Remove what no run needs, at the end of one that needed `keys`.

        A store that fails meanwhile costs room, not the run: the next one tidies.
        """
        needed = set(map(shard_name, keys))
        try:
            self.release(keys)
            # In this order: a shard that is written meanwhile has a note by then, or is not among these.
            names = self._sizes()
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
        """Return the path or URL of a shard."""
        return f"{self.place}/{shard_name(key)}"

    @cached_property
    def _store(self) -> Store:
        return folder_store(self.place) if isinstance(self.place, Path) else open_shared(self.place)

    def _sizes(self) -> dict[str, int]:
        """Return the bytes of all files, by name."""
        with self._failing():
            return self._store.sizes()

    def _needed(self, note: str) -> set[str]:
        """Return the names in a note; an old note has none, and goes."""
        try:
            reported = json.loads(self._get(note) or b"{}")
            age_s, names = time.time() - float(reported["noted"]), set(map(str, reported["shards"]))
        except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError):  # somebody else's
            return set()
        if age_s < NEEDED_S:
            return names
        self._remove(note)
        return set()

    def _get(self, name: str) -> bytes | None:
        with self._failing():
            return self._store.read(name)

    def _put(self, name: str, content: bytes) -> None:
        with self._failing():
            self._store.write(name, content)

    def _remove(self, name: str) -> None:
        with self._failing(), suppress(FileNotFoundError):
            self._store.remove(name)

    def _failing(self) -> AbstractContextManager[None]:
        remedy = "; choose another --out" if isinstance(self.place, Path) else ""
        return self._store.failing("Shards can't be kept in", remedy)


def _note(names: Sequence[str]) -> str:
    """Return the name of the note of a run that needs these shards."""
    return f"{content_key({'shards': names})[:32]}{_NOTE}"


def open_shared(url: str) -> Store:
    """Open the store at `runner.store`, or a folder in it; asks no server.

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
