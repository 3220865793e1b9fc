"""A batch: many scenes worked off by the ledger, each once, whatever happens to some of them.

An orchestrator gives its own way of running a scene; what is lost, tried again or left out is decided here.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.config import Config
from pipeline.errors import ConfigError, LedgerError, OutputError, RoadsError, TruckscapeError, is_transient
from pipeline.inference.networks import NetworkPool
from pipeline.layers.formats.export import check_formats
from pipeline.layers.stac import write_catalog
from pipeline.logs import labelled, log_to
from pipeline.models.bundle import open_bundle
from pipeline.operations.hooks import on_failure
from pipeline.operations.ledger.owners import Owner
from pipeline.operations.ledger.scenes import Entry, Ledger, Registration, State, open_ledger
from pipeline.operations.queue import Queue
from pipeline.operations.scene_list import ListedScene, digest
from pipeline.operations.worker_pool import Countdown, Hands
from pipeline.redaction import without_secrets
from pipeline.report.time_series import write_time_series
from pipeline.run import OVERPASS, Job, Request, Result, prepare, run_prepared_directly
from pipeline.run.keys import code_versions
from pipeline.storage.publish import publish_beside

log = logging.getLogger(__name__)

Say = Callable[[str], None]
InTurn = Callable[[Callable[[], Result]], Result]
"""Does the work at a scene when it is its turn; what an orchestrator has to write down before and after that
takes no other scene's time."""
RunScene = Callable[[Request, Callable[[Job], None], Say, InTurn], Result]
"""Does one scene: given a request, what is to be called with the job once the scene is open, whom to tell
what is being done, and what is to be called with the work."""

LOG_NAME = "log.jsonl"
_HEARTBEATS_PER_LEASE = 4
_WATCH_S = 0.5
_ENDED = "its process ended in the middle of it"
_NO_RESULT_DEPENDS_ON: dict[str, Any] = {
    "batch": True,
    "tiling": True,
    "runner": True,
    "engine": {"memory_mb", "threads"},
}


@dataclass(frozen=True)
class BatchRequest:
    """What is to be done."""

    scenes: tuple[ListedScene, ...]
    out: Path
    config: Config = field(default_factory=Config)
    bands: tuple[str, ...] | None = None
    roads: Path | None = None
    retry_quarantined: bool = False
    """Whether scenes that are quarantined by a cause that doesn't pass are tried again, too."""


@dataclass(frozen=True)
class Summary:
    """What a batch did, and what the ledger says of its scenes now."""

    entries: tuple[Entry, ...]
    """Those of the request, in its order."""
    done: tuple[str, ...]
    """Names of the scenes that this batch did itself."""
    seconds: float
    working_seconds: float
    """Of them, within scenes; scenes that run at the same time both count."""
    outputs: dict[str, Path]
    """The catalogue and the picture, by file name."""

    def of(self, state: State) -> list[Entry]:
        """The scenes in a state."""
        return [entry for entry in self.entries if entry.state == state]

    @property
    def counts(self) -> dict[str, int]:
        """Scenes by what became of them; of those that were done before, and by others, all count as such."""
        mine = set(self.done)
        return {
            "done": len(mine),
            "done before, or by another batch": sum(e.scene not in mine for e in self.of("done")),
            "quarantined": len(self.of("quarantined")),
            "running in another batch": len(self.of("running")),
            "waiting": len(self.of("waiting")),
        }

    @property
    def is_whole(self) -> bool:
        """Whether no scene failed, and none was left."""
        return not self.of("quarantined") and not self.of("waiting")


def scene_directly(request: Request, opened: Callable[[Job], None], say: Say, in_turn: InTurn) -> Result:
    """One scene in this process, without an orchestrator."""

    def work() -> Result:
        job = prepare(request)
        opened(job)
        return run_prepared_directly(job, say)

    return in_turn(work)


def make_out(out: Path) -> None:
    """Make the folder of a batch, which holds its ledger. Raises OutputError if it can't be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Can't write to {out} ({error.strerror}); choose another --out.") from error


def run_batch(
    request: BatchRequest, run: RunScene = scene_directly, say: Say = log.info, ahead: int = 0
) -> Summary:
    """Do all scenes that are not done yet, as many at a time as `batch.concurrency` says.

    `run` does one of them; what it raises goes into the ledger, not up. It is called for `ahead` more scenes
    than have their turn. `say` is told how each ended.

    Raises
    ------
    LedgerError
        If the ledger can't be used.
    OutputError
        If the output folder can't be written.
    BundleError, RoadsError, MissingExtraError
        If a model, the roads or the extra of a format is not there: no scene could be done.
    """
    begun = time.monotonic()
    _check(request)
    make_out(request.out)
    ledger = open_ledger(request.out, request.config)
    try:
        work = _Batch(request, ledger, run, say, ahead)
        work.register()
        with log_to(request.out / LOG_NAME), NetworkPool():  # small scenes share networks
            work.run()
        outputs = publish(request.out, ledger)
        if request.config.publish.url:
            beside = [request.out / "collection.json", *outputs.values()]
            publish_beside(
                request.out, [path for path in beside if path.exists()], request.config.publish.url
            )
        entries = tuple(entry for scene in request.scenes if (entry := ledger.entry(scene.name)))
    finally:
        ledger.close()
    return Summary(entries, tuple(work.done), time.monotonic() - begun, work.seconds, outputs)


def _check(request: BatchRequest) -> None:
    """What would fail with every scene alike, fails at once."""
    check_formats(request.config.export.formats)
    roads = request.roads
    if roads and str(roads) != OVERPASS and not roads.exists():
        raise RoadsError(f"Roads not found: {roads}; give a file of lines, or `overpass`.")


def publish(out: Path, ledger: Ledger) -> dict[str, Path]:
    """The catalogue of all scenes of a folder, and their traffic over time as a picture."""
    outputs = {}
    catalog = write_catalog(out)
    if catalog:
        outputs[catalog.name] = catalog
    picture = write_time_series(ledger.entries("done"), out / "time_series.png")
    if picture:
        outputs[picture.name] = picture
    if (out / "traffic.parquet").is_dir():
        outputs["traffic.parquet"] = out / "traffic.parquet"
    return outputs


class _Batch:
    """The threads of a batch, and what they share."""

    def __init__(
        self, request: BatchRequest, ledger: Ledger, run: RunScene, say: Say, ahead: int = 0
    ) -> None:
        self.request, self.ledger, self.run_scene, self.say = request, ledger, run, say
        self.ahead = ahead
        self.settings = request.config.batch
        self.config_hash = config_hash(request)
        self.owner = Owner.this_process()
        self.scenes = {
            scene.name: Registration(
                scene.name,
                without_secrets(scene.href),
                scene.input_version,
                self.config_hash,
                scene.acquired,
                scene.updated,
            )
            for scene in request.scenes
        }
        self.done: list[str] = []
        self.seconds = 0.0
        self._to_do = self._settled = 0
        self._seen: dict[str, tuple[str, int, float]] = {}
        self._lock = threading.Lock()

    def register(self) -> None:
        """Enter the scenes; those whose inputs, settings or layers are not what was done wait again."""
        self.ledger.register(list(self.scenes.values()))
        known = {entry.scene: entry for entry in self.ledger.entries()}
        for name, scene in self.scenes.items():
            if known[name].state != "running" and self._is_due(known[name], scene):
                self.ledger.register_again(known[name], scene)

    def _is_due(self, entry: Entry, scene: Registration) -> bool:
        if (entry.input_version, entry.config_hash) != (scene.input_version, scene.config_hash):
            return True
        if entry.state == "done":
            return not (self.request.out / (entry.folder or "") / "run.json").is_file()
        return entry.state == "quarantined" and (bool(entry.is_transient) or self.request.retry_quarantined)

    def run(self) -> None:
        """Work until every scene is done, quarantined, or in the hands of somebody who lives."""
        left = {
            entry.scene: entry.attempts
            for entry in self.ledger.entries()
            if entry.scene in self.scenes and entry.state in ("waiting", "running")
        }
        self._to_do = len(left)
        self.say(f"{self._to_do} of {len(self.scenes)} scenes to do")
        # What ended a process before comes last, lest it keeps the others from their turn.
        names = sorted((name for name in self.scenes if name in left), key=lambda name: left[name])
        with self.owner.at_work(), self._heartbeats():
            while names:
                self._work_off(Queue(names))
                names = self._abandoned()

    def _work_off(self, queue: Queue) -> None:
        """Threads bring the scenes; this one and others do them, `batch.concurrency` at a time."""
        at_a_time = min(self.settings.concurrency, len(self.scenes))
        hands, bringing = Hands(), at_a_time + self.ahead
        left = Countdown(bringing, hands.rest)
        try:
            with ThreadPoolExecutor(bringing + at_a_time - 1, "scene") as pool:
                others = [pool.submit(hands.work) for _ in range(at_a_time - 1)]
                workers = [
                    pool.submit(copy_context().run, self._worker, queue, hands, left) for _ in range(bringing)
                ]
                try:
                    hands.work()
                finally:
                    queue.stop()
                    hands.rest()
                for future in (*workers, *others):
                    future.result()
        except BaseException:
            self.ledger.release(self.owner)
            raise

    def _worker(self, queue: Queue, hands: Hands, left: Countdown) -> None:
        try:
            while name := queue.take():
                pause_s = self._scene(name, hands)
                if pause_s is None:
                    queue.settle()
                else:
                    queue.put_back(name, pause_s)
        except BaseException:
            queue.stop()
            raise
        finally:
            left.less()

    def _scene(self, name: str, hands: Hands) -> float | None:
        with labelled(scene=name):
            return self._attempt(name, hands)

    def _attempt(self, name: str, hands: Hands) -> float | None:
        """An attempt at a scene; after how many seconds it is to be tried again, None if it isn't."""
        if not self._is_free(name):
            return None
        config, attempt = self.request.config, _Attempt(self, name, hands)
        request = Request(
            self.scenes[name].href,
            self.request.out,
            config,
            self.request.bands,
            self.request.roads,
            catalog=False,
        )
        try:
            result = self.run_scene(request, partial(self._opened, name), log.info, attempt.in_turn)
            reported = figures(result, self.request.out, attempt.seconds)
        except (_TakenError, CancelledError):
            return 0.0 if self._is_free(name) else None
        except Exception as error:  # noqa: BLE001 whatever is wrong with one scene, the others are done
            entry = attempt.entry or self.claim(name)
            return self._failed(entry, error) if entry else None
        finally:
            with self._lock:
                self.seconds += attempt.seconds
        if self.ledger.done(name, self.owner, reported):
            self.done.append(name)
        self._tell(name, f"done, {reported['trucks'] or 0} trucks, {reported['seconds']:.1f} s")
        return None

    def claim(self, name: str) -> Entry | None:
        """Begin an attempt at a scene, where nobody else has meanwhile."""
        return self.ledger.claim(name, self.owner, self.scenes[name])

    def _opened(self, name: str, job: Job) -> None:
        """Note the scene's id. Raises ConfigError if that of another scene is the same."""
        other = self.ledger.identify(name, job.scene.id)
        if other:
            raise ConfigError(
                f"{job.scene.href} has the id {job.scene.id}, as {other} has, and would write to the same "
                "folder; leave one out, or give them different --out."
            )

    def _failed(self, entry: Entry, error: Exception) -> float | None:
        known = isinstance(error, TruckscapeError)
        reason = str(error) if known else f"unexpected {type(error).__name__}: {without_secrets(str(error))}"
        reason = " ".join(reason.split())
        log.error("attempt %d failed: %s", entry.attempts, reason, exc_info=None if known else error)
        passing, last = is_transient(error), entry.attempts >= self.settings.attempts
        again = passing and not last
        self.ledger.failed(entry.scene, self.owner, reason, is_transient=passing, quarantine=not again)
        if again:
            pause_s = self.settings.backoff_s * 2 ** (entry.attempts - 1) * random.uniform(0.8, 1.2)
            self.say(f"{entry.scene}: attempt {entry.attempts} failed, again in {pause_s:.0f} s: {reason}")
            return pause_s
        tries = "1 attempt" if entry.attempts == 1 else f"{entry.attempts} attempts"
        self._tell(entry.scene, f"quarantined after {tries}: {reason}")
        on_failure(self.settings.on_failure, entry.scene, entry.href, reason)
        return None

    def _tell(self, name: str, what: str) -> None:
        with self._lock:
            self._settled += 1
            self.say(f"{self._settled} of {self._to_do}: {name}: {what}")

    # --- other workers ----------------------------------------------------------------------------------

    @contextmanager
    def _heartbeats(self) -> Iterator[None]:
        """Show that this batch lives, as long as it does."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.settings.lease_s / _HEARTBEATS_PER_LEASE):
                try:
                    self.ledger.heartbeat(self.owner)
                except LedgerError as error:  # it may be back before anyone misses the beat
                    log.warning("%s", error)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _is_free(self, name: str) -> bool:
        """Whether a scene waits. One whose worker has gone, as far as can be told, does so from now on."""
        entry = self.ledger.entry(name)
        if entry is None or entry.state != "running" or not entry.owner:
            return entry is not None and entry.state == "waiting"
        gone = Owner.parse(entry.owner).is_gone()
        if gone is None:
            gone = self._is_silent(entry)
        if not gone:
            return False
        log.warning("%s: %s; attempt %d", name, _ENDED, entry.attempts)
        quarantine = entry.attempts >= self.settings.attempts
        reason = f"{_ENDED}, {entry.attempts} times" if quarantine else _ENDED
        freed = self.ledger.free(entry, reason, quarantine)
        return freed and not quarantine

    def _is_silent(self, entry: Entry) -> bool:
        """Whether a worker elsewhere has not shown life for a lease, by the clock of this process alone.

        Clocks of machines differ and are set; that a number has not moved for so long can be seen by anyone.
        """
        owner, heartbeat, since = self._seen.get(entry.scene, (None, None, 0.0))
        if (owner, heartbeat) != (entry.owner, entry.heartbeat):
            self._seen[entry.scene] = (entry.owner or "", entry.heartbeat, time.monotonic())
            return False
        return time.monotonic() - since >= self.settings.lease_s

    def _abandoned(self) -> list[str]:
        """Scenes that others had claimed and that are free now; waits until each other one shows life."""
        free = []
        unclear = [name for name in self.scenes if name in self._seen]
        while unclear:
            for name in list(unclear):
                before = self._seen[name]
                if self._is_free(name):
                    free.append(name)
                if name in free or self._seen[name] != before or not self._is_running(name):
                    unclear.remove(name)
            if unclear:
                time.sleep(min(_WATCH_S, self.settings.lease_s / _HEARTBEATS_PER_LEASE))
        self._seen.clear()
        return free

    def _is_running(self, name: str) -> bool:
        entry = self.ledger.entry(name)
        return entry is not None and entry.state == "running"


class _TakenError(Exception):
    """Somebody else does the scene."""


class _Attempt:
    """A scene on its way through `RunScene`: it is claimed when it is its turn, and not before."""

    def __init__(self, batch: _Batch, name: str, hands: Hands) -> None:
        self.entry: Entry | None = None
        self._batch, self._name, self._hands = batch, name, hands
        self._begun: float | None = None

    @property
    def seconds(self) -> float:
        """Since its turn began."""
        return time.monotonic() - self._begun if self._begun else 0.0

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """See `InTurn`. It may be called again, as after a worker was lost: that is the same attempt."""
        return self._hands.bring(partial(self._claimed, work))

    def _claimed(self, work: Callable[[], Result]) -> Result:
        if self.entry is None:
            self._begun, self.entry = time.monotonic(), self._batch.claim(self._name)
        if self.entry is None:
            raise _TakenError(f"{self._name} is in the hands of another batch")
        return work()


def config_hash(request: BatchRequest) -> str:
    """The hash of all but the scene that its layers depend on: settings, models, roads, code.

    Raises BundleError if a model can't be opened.
    """
    config = request.config
    names: Sequence[str | None] = (
        *((config.trucks.bundle, config.trucks.screener) if config.trucks.enabled else ()),
        *(_landcover_bundles(config) if config.landcover.enabled else ()),
    )
    roads = request.roads
    versions = [roads.stat().st_size, roads.stat().st_mtime_ns] if roads and roads.is_file() else None
    return digest(
        [
            code_versions(),
            config.model_dump(mode="json", exclude=_NO_RESULT_DEPENDS_ON),
            [open_bundle(name).card.model_dump(mode="json") for name in names if name],
            [str(roads), versions] if roads else None,
            request.bands,
        ]
    )


def _landcover_bundles(config: Config) -> tuple[str, ...]:
    """Those that a scene may get."""
    return (config.landcover.bundle,) if config.landcover.bundle else ("landcover", "landcover-10m")


def figures(result: Result, out: Path, seconds: float) -> dict[str, Any]:
    """What the ledger keeps of a run, columns by name."""
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
        "road_km": _road_km(result.outputs.get("traffic.parquet")),
        "megapixels": rows * cols / 1e6,
        "tiles": run["tiles"]["total"],
        "tiles_skipped": run["tiles"]["skipped"],
        "seconds": round(seconds, 2),
        "peak_rss_mb": run["peak_rss_mb"],
    }


def _road_km(traffic: Path | None) -> float | None:
    """Kilometres of road that were looked at; both directions of a segment say the same."""
    if traffic is None:
        return None
    table = pq.read_table(traffic, columns=["segment_id", "seen_km"]).to_pandas()
    return round(float(table.drop_duplicates("segment_id")["seen_km"].sum()), 4)
