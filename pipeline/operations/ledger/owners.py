"""Who works at a scene: a process of a machine, and whether it still lives."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

_AT_WORK: set[str] = set()
"""Tokens of the batches of this process that are at work."""


@dataclass(frozen=True)
class Owner:
    """A process that claims scenes; `str` of it goes into the ledger, `parse` reads it there."""

    host: str
    """The machine and, since containers count their processes anew, the namespace of its processes."""
    process: int
    started: int
    """When the process started, in clock ticks since the machine did: a number that is used again differs.
    0 where the system doesn't tell."""
    token: str
    """Tells batches of one process apart."""

    @classmethod
    def this_process(cls) -> Owner:
        """A new owner: each batch has its own."""
        stat = _stat(os.getpid())
        return cls(_host(), os.getpid(), stat[1] if stat else 0, uuid4().hex[:8])

    @classmethod
    def parse(cls, text: str) -> Owner:
        """What `str` made."""
        host, process, started, token = text.rsplit(" ", 3)
        return cls(host, int(process), int(started), token)

    def __str__(self) -> str:
        return f"{self.host} {self.process} {self.started} {self.token}"

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within it the owner is at work. Afterwards it is gone, though its process may live on.

        What it could not give back, since the ledger's disk was full, say, is then free.
        """
        _AT_WORK.add(self.token)
        try:
            yield
        finally:
            _AT_WORK.discard(self.token)

    def is_gone(self) -> bool | None:
        """Whether the process, or the batch in it if it is this one, has ended; None of another machine."""
        if self.host != _host():
            return None
        stat = _stat(self.process)
        if stat and self.process == os.getpid() and self.started == stat[1]:
            return self.token not in _AT_WORK
        if stat is None:
            return not _exists(self.process)
        state, started = stat
        return state in "ZX" or bool(self.started and started != self.started)


def _host() -> str:
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = ""
    return f"{platform.node()} {namespace}".strip()


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process, alive
        return True
    return True


def _stat(process: int) -> tuple[str, int] | None:
    """State and start of a process, which does not move with the clock (proc(5)); None where unknown."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
