"""One attempt at a scene of a batch: claimed in its turn, then done, retried later or quarantined."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.errors import ConfigError, TruckscapeError, is_transient
from pipeline.operations.duplicates import better_product
from pipeline.operations.hooks import on_failure
from pipeline.operations.ledger.owners import Owner
from pipeline.operations.ledger.scenes import Entry, Ledger, Registration
from pipeline.operations.request import BatchRequest
from pipeline.operations.worker_pool import RunInPool, WorkerPool
from pipeline.printable import printable
from pipeline.redaction import without_secrets
from pipeline.run import Job, Request, Result, prepare, run_prepared_directly
from pipeline.scenes.acquisition import acquisition_of
from pipeline.stopping import stopped_by
from pipeline.storage.out_folder import TRAFFIC

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 86_400
"""Longest pause before another attempt: a day."""

Say = Callable[[str], None]
RunScene = Callable[[Request, Callable[[Job], None], Say, RunInPool], Result]
"""Runs one scene: given a request, what to call with the job once the scene is open, what to call with each
step, and what to call with the work."""


def scene_directly(
    request: Request, opened: Callable[[Job], None], say: Say, run_in_pool: RunInPool
) -> Result:
    """Run one scene in this process, without an orchestrator."""

    def work() -> Result:
        job = prepare(request)
        opened(job)
        return run_prepared_directly(job, say)

    return run_in_pool(work)


@dataclass(frozen=True)
class Outcome:
    """Result of an attempt."""

    message: str
    is_done: bool = False
    retry_after_s: float | None = None
    """Pause before the next attempt; None if there is none."""


class Attempt:
    """An attempt at a scene. It is claimed when its turn begins, and not before."""

    def __init__(
        self, scene: Registration, request: BatchRequest, ledger: Ledger, owner: Owner, pool: WorkerPool
    ) -> None:
        self._scene, self._request, self._ledger, self._owner = scene, request, ledger, owner
        self._pool, self._settings = pool, request.config.batch
        self._entry: Entry | None = None
        self._begun: float | None = None

    @property
    def seconds(self) -> float:
        """Time since its turn began."""
        return time.monotonic() - self._begun if self._begun else 0.0

    def run(self, run_scene: RunScene) -> Outcome | None:
        """Run the scene and enter the result into the ledger; None if another batch has claimed it.

        Errors of the scene go into the ledger; LedgerError is raised.
        """
        given = self._request
        request = Request(self._scene.href, given.out, given.config, given.bands, given.roads, catalog=False)
        try:
            result = run_scene(request, self._opened, log.info, self._run_in_pool)
            columns = columns_of(result, given.out, self.seconds)
        except (_ClaimedElsewhereError, CancelledError):
            return None
        except DuplicateSceneError as error:
            return self._skipped(str(error))
        except Exception as error:  # noqa: BLE001 any error of one scene leaves the others alone
            if stopped_by():  # its worker or a command of it has had the same signal
                return None
            entry = self._entry or self._claim()
            return self._failed(entry, error) if entry else None
        is_done = self._ledger.done(self._scene.scene, self._owner, columns)
        return Outcome(f"done, {columns['trucks'] or 0} trucks, {columns['seconds']:.1f} s", is_done)

    def _run_in_pool(self, work: Callable[[], Result]) -> Result:
        """See `RunInPool`. A second call, as after a lost worker, is the same attempt."""
        return self._pool.run(partial(self._claimed, work))

    def _claimed(self, work: Callable[[], Result]) -> Result:
        if self._entry is None:
            self._begun, self._entry = time.monotonic(), self._claim()
        if self._entry is None:
            raise _ClaimedElsewhereError(f"{self._scene.scene} is claimed by another batch")
        return work()

    def _claim(self) -> Entry | None:
        return self._ledger.claim(self._scene.scene, self._owner, self._scene)

    def _opened(self, job: Job) -> None:
        """Enter the scene's id and acquisition.

        Raises ConfigError if another scene has the same id, DuplicateSceneError if one is a better product
        of the same acquisition.
        """
        acquisition = acquisition_of(job.scene)
        known = acquisition.as_json() if acquisition else None
        other = self._ledger.identify(self._scene.scene, job.scene.id, known)
        if other:
            raise ConfigError(
                f"{job.scene.href} has the id {job.scene.id}, as {other} has, and would write to the same "
                "folder; leave one out, or give them different --out."
            )
        reason = better_product(self._ledger, self._scene.scene)
        if reason:
            raise DuplicateSceneError(reason)

    def _skipped(self, reason: str) -> Outcome | None:
        entry = self._entry or self._claim()
        if entry is None or not self._ledger.set_state(entry, "duplicate", reason):
            return None
        return Outcome(f"not run: {reason}")

    def _failed(self, entry: Entry, error: Exception) -> Outcome:
        known = isinstance(error, TruckscapeError)
        reason = str(error) if known else f"unexpected {type(error).__name__}: {without_secrets(str(error))}"
        reason = printable(" ".join(reason.split()))
        log.error("attempt %d failed: %s", entry.attempts, reason, exc_info=None if known else error)
        transient = is_transient(error)
        retry = transient and entry.attempts < self._settings.attempts
        self._ledger.failed(entry.scene, self._owner, reason, is_transient=transient, quarantine=not retry)
        if retry:
            doubled_s = self._settings.backoff_s * 2.0 ** (entry.attempts - 1)
            pause_s = min(doubled_s, _LONGEST_PAUSE_S) * random.uniform(0.8, 1.2)
            message = f"attempt {entry.attempts} failed, retry in {pause_s:.0f} s: {reason}"
            return Outcome(message, retry_after_s=pause_s)
        on_failure(self._settings.on_failure, entry.scene, entry.href, reason)
        attempts = "1 attempt" if entry.attempts == 1 else f"{entry.attempts} attempts"
        return Outcome(f"quarantined after {attempts}: {reason}")


class DuplicateSceneError(Exception):
    """A better product of the same acquisition is in the ledger."""


class _ClaimedElsewhereError(Exception):
    """Another batch has claimed the scene."""


def columns_of(result: Result, out: Path, seconds: float) -> dict[str, Any]:
    """Return what the ledger keeps of a run, columns by name."""
    run = result.run
    rows, cols = run["shape"]
    return {
        "acquired": run["acquired"] and run["acquired"].replace("+00:00", "Z"),
        "folder": str(result.folder.relative_to(out)),
        "outputs": {name: str(path.relative_to(out)) for name, path in sorted(result.outputs.items())},
        "inputs": run["inputs"],
        "models": run["models"],
        "simulated": run["simulated"],
        "trucks": run["counts"].get("trucks"),
        "seen_km2": round(run["area_km2"] * run["seen_fraction"], 4),
        "road_km": _road_km(result.outputs.get(TRAFFIC)),
        "megapixels": rows * cols / 1e6,
        "tiles": run["tiles"]["total"],
        "tiles_skipped": run["tiles"]["skipped"],
        "seconds": round(seconds, 2),
        "peak_rss_mb": run["peak_rss_mb"],
    }


def _road_km(traffic: Path | None) -> float | None:
    """Return the length of road that was searched; both directions of a segment have the same."""
    if traffic is None:
        return None
    table = pq.read_table(traffic, columns=["segment_id", "seen_km"]).to_pandas()
    return round(float(table.drop_duplicates("segment_id")["seen_km"].sum()), 4)
