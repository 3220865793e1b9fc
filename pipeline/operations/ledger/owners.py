"""Owners of claims: a process of a machine, and whether it still runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from pipeline.processes import host_name, start_of

_LARGEST_PROCESS = 2**31
_AT_WORK: set[str] = set()
"""Tokens of the batches of this process that are at work."""


@dataclass(frozen=True)
class Owner:
    """A process that claims scenes; `str` of it goes into the ledger, `parse` reads it there."""

    host: str
    """As `processes.host_name`."""
    process: int
    started: int
    """As `processes.start_of`; 0 where the system does not say."""
    token: str
    """Tells batches of one process apart."""

    @classmethod
    def this_process(cls) -> Owner:
        """Return a new owner: each batch has its own."""
        return cls(host_name(), os.getpid(), start_of(os.getpid()) or 0, uuid4().hex[:8])

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Parse the text of `str`; None for another text, which no truckscape has written."""
        try:
            host, process, started, token = text.rsplit(" ", 3)
            owner = cls(host, int(process), int(started), token)
        except ValueError:
            return None
        return owner if 0 < owner.process < _LARGEST_PROCESS and owner.started >= 0 else None

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
        """Return whether the process, or its batch if it is this one, has ended; None for another machine."""
        if self.host != host_name():
            return None
        started = start_of(self.process)
        if started is None or (self.started and started and self.started != started):
            return True
        return self.process == os.getpid() and self.token not in _AT_WORK
