"""Claims of other workers: signs of life, and scenes whose worker has gone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pipeline.config import Batch
from pipeline.operations.ledger.owners import Owner
from pipeline.operations.ledger.scenes import Entry, Ledger
from pipeline.redaction import without_secrets

log = logging.getLogger(__name__)

_HEARTBEATS_PER_LEASE = 4
_POLL_S = 0.5
_ENDED = "its process ended in the middle of it"


@contextmanager
def heartbeats(ledger: Ledger, owner: Owner, lease_s: float) -> Iterator[None]:
    """Show other workers, for the time of the block, that an owner of claims is alive."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(lease_s / _HEARTBEATS_PER_LEASE):
            try:
                ledger.heartbeat(owner)
            except Exception as error:  # noqa: BLE001 whatever it is, it may pass before the lease ends
                log.warning("heartbeat: %s", without_secrets(str(error)))

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Takeover:
    """Frees scenes whose worker has gone, as far as known."""

    def __init__(self, ledger: Ledger, settings: Batch) -> None:
        self._ledger, self._settings = ledger, settings
        self._last_seen: dict[str, tuple[str, int, float]] = {}
        """Owner, heartbeat, and since when it is so, by scene."""

    def is_waiting(self, name: str) -> bool:
        """Return whether a scene waits; one whose worker has gone waits from now on."""
        entry = self._ledger.entry(name)
        if entry is None or entry.state != "running" or not entry.owner:
            return entry is not None and entry.state == "waiting"
        owner = Owner.parse(entry.owner)
        gone = owner.is_gone() if owner else True
        if gone is None:
            gone = self._is_silent(entry)
        if not gone:
            return False
        log.warning("%s: %s; attempt %d", name, _ENDED, entry.attempts)
        quarantine = entry.attempts >= self._settings.attempts
        reason = f"{_ENDED}, {entry.attempts} times" if quarantine else _ENDED
        return self._ledger.free(entry, reason, quarantine) and not quarantine

    def abandoned(self, names: Iterable[str]) -> list[str]:
        """Return scenes that others had claimed and that wait now, once each other one has shown life."""
        free = []
        unclear = [name for name in names if name in self._last_seen]
        while unclear:
            for name in list(unclear):
                before = self._last_seen[name]
                if self.is_waiting(name):
                    free.append(name)
                if name in free or self._last_seen[name] != before or not self._is_running(name):
                    unclear.remove(name)
            if unclear:
                time.sleep(min(_POLL_S, self._settings.lease_s / _HEARTBEATS_PER_LEASE))
        self._last_seen.clear()
        return free

    def _is_silent(self, entry: Entry) -> bool:
        """Return whether a worker elsewhere showed no sign of life for a lease, by this process's clock.

        Clocks of machines differ and are set; anyone can see that a number has not grown for so long.
        """
        owner, heartbeat, since = self._last_seen.get(entry.scene, (None, None, 0.0))
        if (owner, heartbeat) != (entry.owner, entry.heartbeat):
            self._last_seen[entry.scene] = (entry.owner or "", entry.heartbeat, time.monotonic())
            return False
        return time.monotonic() - since >= self._settings.lease_s

    def _is_running(self, name: str) -> bool:
        entry = self._ledger.entry(name)
        return entry is not None and entry.state == "running"
