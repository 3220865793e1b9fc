"""A batch: many scenes run by the ledger, each once, whatever happens to some of them.

An orchestrator gives its own way of running a scene; retries and quarantine are decided here.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.errors import RunsError
from pipeline.inference.network_pool import NetworkPool
from pipeline.layers.stac_catalog import write_catalog
from pipeline.logs import labelled, log_to
from pipeline.operations.attempt import Attempt, RunScene, Say, scene_directly
from pipeline.operations.duplicates import parts_left_out, settle_duplicates
from pipeline.operations.ledger.owners import Owner
from pipeline.operations.ledger.scenes import Entry, Ledger, Registration, open_ledger
from pipeline.operations.ledger.schema import State
from pipeline.operations.queue import Queue
from pipeline.operations.request import BatchRequest, config_hash
from pipeline.operations.takeover import Takeover, heartbeats
from pipeline.operations.worker_pool import Countdown, WorkerPool
from pipeline.redaction import without_secrets
from pipeline.report.place import write_place
from pipeline.report.time_series import write_time_series
from pipeline.stopping import given_back
from pipeline.storage.out_folder import (
    COLLECTION,
    LOG,
    RECORD,
    TIME_SERIES,
    TRAFFIC,
    check_file,
    make_out,
)
from pipeline.storage.publish import publish_beside, unpublish_beside
from pipeline.traffic.place import read_place

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """Work of a batch, and the entries of its scenes in the ledger."""

    entries: tuple[Entry, ...]
    """Those of the request, in its order."""
    done: tuple[str, ...]
    """Names of the scenes that this batch did itself."""
    seconds: float
    working_seconds: float
    """Time within scenes; scenes that run at the same time both count."""
    outputs: dict[str, Path]
    """The catalogue, the picture and the tables, by file name."""
    left_out: tuple[str, ...] = ()
    """Neighbours of the scenes that can't be read, each with the reason."""

    def of(self, state: State) -> list[Entry]:
        """Return the scenes in a state."""
        return [entry for entry in self.entries if entry.state == state]

    @property
    def counts(self) -> dict[str, int]:
        """Number of scenes by result."""
        mine = set(self.done)
        return {
            "done": sum(entry.scene in mine for entry in self.of("done")),
            "done before, or by another batch": sum(e.scene not in mine for e in self.of("done")),
            "quarantined": len(self.of("quarantined")),
            "running in another batch": len(self.of("running")),
            "waiting": len(self.of("waiting")),
            "same acquisition as another": len(self.of("duplicate")),
        }

    @property
    def is_complete(self) -> bool:
        """True if no scene is quarantined, and none waits."""
        return not self.of("quarantined") and not self.of("waiting")


def run_batch(
    request: BatchRequest, run: RunScene = scene_directly, say: Say = log.info, prefetch: int = 0
) -> Summary:
    """Run all scenes that are not done yet, `batch.concurrency` of them at a time.

    `run` runs one of them; its errors go into the ledger. It is called for `prefetch` more scenes than have
    their turn. `say` is called with a line for each that ends.

    Raises
    ------
    LedgerError
        If the ledger can't be used.
    OutputError
        If the output folder can't be written.
    BundleError, RoadsError, MissingExtraError
        If a model, the roads or the extra of a format is missing: every scene would fail.
    """
    begun = time.monotonic()
    request.check()
    make_out(request.out)
    check_file(request.out / LOG)
    ledger = open_ledger(request.out, request.config)
    try:
        work = _Batch(request, ledger, run, say, prefetch)
        work.register()
        with log_to(request.out / LOG), NetworkPool():  # small scenes share networks
            work.run()
        outputs = publish(request.out, ledger, request.config.traffic.count_recurring)
        if request.config.publish.url:
            unpublish_beside(request.out, parts_left_out(ledger, request.out), request.config.publish.url)
            beside = [request.out / COLLECTION, *outputs.values()]
            publish_beside(
                request.out, [path for path in beside if path.exists()], request.config.publish.url
            )
        entries = tuple(entry for scene in request.scenes if (entry := ledger.entry(scene.name)))
    finally:
        ledger.close()
    return Summary(
        entries, tuple(work.done), time.monotonic() - begun, work.seconds, outputs, request.left_out
    )


def publish(out: Path, ledger: Ledger, keep_recurring: bool = False) -> dict[str, Path]:
    """Write what a folder has of all its scenes: catalogue, a picture, and the files of the place.

    Recurring detections do not count by road, unless `keep_recurring` is set.
    """
    outputs = {}
    catalog = write_catalog(out)
    if catalog:
        outputs[catalog.name] = catalog
    picture = write_time_series(ledger.entries("done"), out / TIME_SERIES)
    if picture:
        outputs[picture.name] = picture
    if (out / TRAFFIC).is_dir():
        outputs[TRAFFIC] = out / TRAFFIC
    try:
        place = read_place([out], keep_recurring, log.debug)
    except RunsError as error:  # no scene is done, or none has trucks
        log.info("no layer of all dates: %s", error)
        return outputs
    if place.by_road is None and TRAFFIC in outputs:  # runs of another version, say
        log.warning("no traffic by road: %s", place.without_roads)
    for line in place.by_road.left_out if place.by_road else ():
        log.info("not in the traffic by road: %s", line)
    return outputs | write_place(place, out)


class _Batch:
    """The threads of a batch, and what they share."""

    def __init__(self, request: BatchRequest, ledger: Ledger, run: RunScene, say: Say, prefetch: int) -> None:
        self.request, self.ledger, self.run_scene, self.say = request, ledger, run, say
        self.prefetch, self.settings = prefetch, request.config.batch
        self.owner, self.takeover = Owner.this_process(), Takeover(ledger, request.config.batch)
        version = config_hash(request)
        self.scenes = {
            scene.name: Registration(
                scene.name,
                without_secrets(scene.href),
                scene.input_version,
                version,
                scene.acquired,
                scene.updated,
                scene.acquisition.as_json() if scene.acquisition else None,
            )
            for scene in request.scenes
        }
        self.done: list[str] = []
        self.seconds = 0.0
        self._to_do = self._finished = 0
        self._lock = threading.Lock()

    def register(self) -> None:
        """Enter the scenes; those whose inputs, settings or layers have changed since wait again."""
        self.ledger.register(list(self.scenes.values()))
        for message in self.ledger.damaged.values():
            self.say(message)
        known = {entry.scene: entry for entry in self.ledger.entries()}
        for name, scene in self.scenes.items():
            if known[name].state != "running" and self._is_due(known[name], scene):
                self.ledger.register_again(known[name], scene)
        settle_duplicates(self.ledger, self.request.out)

    def _is_due(self, entry: Entry, scene: Registration) -> bool:
        if (entry.input_version, entry.config_hash) != (scene.input_version, scene.config_hash):
            return True
        if entry.state == "done":
            return not (self.request.out / (entry.folder or "") / RECORD).is_file()
        return entry.state == "quarantined" and (bool(entry.is_transient) or self.request.retry_quarantined)

    def run(self) -> None:
        """Work until every scene is done, quarantined, or claimed by a batch that is alive."""
        left = {
            entry.scene: entry.attempts
            for entry in self.ledger.entries()
            if entry.scene in self.scenes and entry.state in ("waiting", "running")
        }
        self._to_do = len(left)
        self.say(f"{self._to_do} of {len(self.scenes)} scenes to do")
        # A scene that ended a process before comes last: the others get their turn.
        names = sorted((name for name in self.scenes if name in left), key=lambda name: left[name])
        with self.owner.at_work(), heartbeats(self.ledger, self.owner, self.settings.lease_s):
            while names:
                self._run_queue(Queue(names))
                names = self.takeover.abandoned(self.scenes) + self._released()

    def _released(self) -> list[str]:
        """Return scenes that wait again, since the better product of their acquisition failed."""
        released = settle_duplicates(self.ledger, self.request.out)
        names = [name for name in released if name in self.scenes]
        self._to_do += len(names)
        return names

    def _run_queue(self, queue: Queue) -> None:
        """Threads submit the scenes; this one and others run them, `batch.concurrency` at a time."""
        at_a_time = min(self.settings.concurrency, len(self.scenes))
        pool, submitting = WorkerPool(), at_a_time + self.prefetch
        left = Countdown(submitting, pool.stop)

        def stop() -> None:
            queue.stop()
            pool.stop()

        try:
            with (
                given_back(stop, partial(self.ledger.release, self.owner)),
                ThreadPoolExecutor(submitting + at_a_time - 1, "scene") as threads,
            ):
                workers = [threads.submit(pool.work) for _ in range(at_a_time - 1)]
                workers += [
                    threads.submit(copy_context().run, self._submit, queue, pool, left)
                    for _ in range(submitting)
                ]
                try:
                    pool.work()
                finally:
                    stop()
                for future in workers:
                    future.result()
        except BaseException:
            self.ledger.release(self.owner)
            raise

    def _submit(self, queue: Queue, pool: WorkerPool, left: Countdown) -> None:
        try:
            while name := queue.take():
                with labelled(scene=name):
                    pause_s = self._attempt(name, pool)
                if pause_s is None:
                    queue.finish()
                else:
                    queue.put_back(name, pause_s)
        except BaseException:
            queue.stop()
            raise
        finally:
            left.count_down()

    def _attempt(self, name: str, pool: WorkerPool) -> float | None:
        """Make an attempt at a scene; return the pause before the next one, None if there is none."""
        if not self.takeover.is_waiting(name):
            return None
        attempt = Attempt(self.scenes[name], self.request, self.ledger, self.owner, pool)
        outcome = attempt.run(self.run_scene)
        if outcome is None:
            return 0.0 if self.takeover.is_waiting(name) else None
        with self._lock:
            self.seconds += attempt.seconds
            if outcome.is_done:
                self.done.append(name)
            if outcome.retry_after_s is None:
                self._finished += 1
                self.say(f"{self._finished} of {self._to_do}: {name}: {outcome.message}")
            else:
                self.say(f"{name}: {outcome.message}")
        return outcome.retry_after_s
