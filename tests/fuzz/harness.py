"""Makes damaged inputs, runs the command line on them and judges the outcome."""

from __future__ import annotations

import random
import shlex
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz import oracles
from tests.fuzz.corpus import NAME, Corpus, build
from tests.fuzz.executor import TIME_LIMIT_S, Ending, Executor
from tests.fuzz.oracles import Fingerprint
from tests.fuzz.sandbox import CanaryServer, Sandbox, canary_server, reads_of
from tests.fuzz.trial import ENGINE, Kind, Mutation, Trial

TIF = "in/20230824T102031.tif"


class NotMadeError(Exception):
    """The library that was to write an absurd input refused it."""


@dataclass(frozen=True)
class Result:
    """Outcome of one damaged input."""

    name: str
    """KIND/MUTATION/SEED, by which `python -m tests.fuzz --only` repeats it."""
    note: str
    command: str
    ending: Ending
    faults: tuple[str, ...]
    said: str
    """The end of its standard error."""

    @property
    def outcome(self) -> str:
        known = {0: "done", 1: "refused", 2: "usage"}
        return "fault" if self.faults else known[self.ending.status]


@dataclass
class Harness:
    """A warm process, the seeds, and the right layers of undamaged inputs, each made when first needed."""

    root: Path
    executor: Executor
    server: CanaryServer
    _layers: dict[str, list[Fingerprint]] = field(default_factory=dict)

    @cached_property
    def corpus(self) -> Corpus:
        """Return the seeds, with the folders of a run and of a batch."""
        made = build(self.root / "corpus")
        copied = {"run": ["run", TIF], "batch": ["batch", TIF]}
        for name, argv in copied.items():
            box = Sandbox.create(self.root / "undamaged" / name)
            made.copy("tif/deflate/20230824T102031.tif", box.inputs)
            self._run_well(box, [*argv, "--out", "out", *ENGINE])
            shutil.copytree(box.out, made.root / name)
        self._layers["tif"] = oracles.fingerprints(made.root / "run")
        return made

    def layers(self, baseline: str) -> list[Fingerprint]:
        """Return the layers of an undamaged input."""
        corpus = self.corpus
        if baseline not in self._layers:
            box = Sandbox.create(self.root / "undamaged" / baseline)
            corpus.copy(f"{NAME}.SAFE", box.inputs)
            self._run_well(box, ["run", f"in/{NAME}.SAFE", "--out", "out", *ENGINE])
            self._layers[baseline] = oracles.fingerprints(box.out)
        return self._layers[baseline]

    def _run_well(self, box: Sandbox, argv: list[str]) -> None:
        stdout, stderr = box.fence / "stdout", box.fence / "stderr"
        ending = self.executor.run(argv, box.work, box.environment(), stdout, stderr)
        if ending.status:
            raise RuntimeError(
                f"an undamaged input fails: {shlex.join(argv)}\n{stderr.read_text(errors='replace')}"
            )

    def try_one(self, kind: Kind, mutation: str, seed: int) -> Result:
        """Damage one input, run it and judge it; its folder stays until the next one."""
        name = f"{kind.name}/{mutation}/{seed}"
        rng = random.Random(name)
        return self.try_change(kind, rng.choice(kind.variants), kind.mutations[mutation], name, rng)

    def try_change(self, kind: Kind, variant: str, change: Mutation, name: str, rng: random.Random) -> Result:
        """Prepare a variant, change it with `change`, run it and judge it."""
        trial = Trial(self.corpus, Sandbox.create(self.root / "trials" / "now"), rng, self.server.url)
        kind.prepare(trial, variant)
        try:
            change(trial)
        except Exception as error:
            raise NotMadeError(f"{name}: {type(error).__name__}: {error}") from error
        trial.note = f"{variant}: {trial.note}" if variant else trial.note
        return self._judged(trial, name)

    def _judged(self, trial: Trial, name: str) -> Result:
        box, argv = trial.box, trial.argv
        kept, before = oracles.names_in(box.out), box.snapshot()
        self.server.asked.clear()
        stdout, stderr = box.fence.parent / "stdout", box.fence.parent / "stderr"
        for file in (stdout, stderr):
            file.write_bytes(b"")
        before[".."] = box.snapshot()[".."]
        with reads_of(box.beside) as read:
            ending = self.executor.run(argv, box.work, box.environment(), stdout, stderr)
        said = [file.read_text(encoding="utf-8", errors="replace") for file in (stdout, stderr)]
        faults = [*oracles.noise(*said), *oracles.bad_ending(ending, said[1], trial.stops_at_error)]
        faults += [f"read beside: {file}" for file in sorted(read - trial.may_read)]
        faults += oracles.changes(before, box.snapshot())
        if not trial.may_read:
            faults += oracles.leaks(box.out, said)
        if self.server.asked and not trial.may_ask:
            faults.append(f"asked a server: {self.server.asked[0]}")
        if not ending.killed_for:
            faults += oracles.half_written(box.out, box.tmp, kept)
        if not faults and trial.baseline:
            faults += self._judged_layers(trial, ending)
        return Result(name, trial.note, shlex.join(argv), ending, tuple(faults), said[1][-1500:])

    def _judged_layers(self, trial: Trial, ending: Ending) -> Iterator[str]:
        is_batch = not trial.stops_at_error
        found = oracles.fingerprints(trial.box.out, trial.foreign) if ending.status == 0 or is_batch else []
        if ending.status == 0 and not found:
            yield "exit 0 without a record"
        right = self.layers(trial.baseline or "")
        yield from oracles.wrong_layers(found, right, trial.may_differ)
        if sum(scene in right for scene in found) < trial.must_do:
            yield "the good scene was not done"


@contextmanager
def harness(seconds: float = TIME_LIMIT_S) -> Iterator[Harness]:
    """Start a harness in a temporary folder; `seconds` is the limit of one input."""
    with (
        TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as folder,
        canary_server() as server,
        Executor(seconds=seconds) as executor,
    ):
        yield Harness(Path(folder), executor, server)


def keep(made: Harness, result: Result, folder: Path) -> Path:
    """Copy the folder of a trial that failed, with its command and outcome."""
    target = folder / result.name.replace("/", "-")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    lines = [
        f"repeat:  .venv/bin/python -m tests.fuzz --only {result.name}",
        f"command: truckscape {result.command}",
        f"damage:  {result.note!a}",
        *(f"fault:   {fault}" for fault in result.faults),
        f"status {result.ending.status}, {result.ending.seconds:.1f} s, {result.ending.memory_mb:.0f} MB",
        result.said,
    ]
    (target / "fault.txt").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    try:
        source = made.root / "trials" / "now" / "work"
        shutil.copytree(source, target / "work", symlinks=True, ignore=_no_odd_files)
    except (OSError, shutil.Error):
        traceback.print_exc()
    return target


def _no_odd_files(folder: str, names: list[str]) -> list[str]:
    """Leave out pipes and large files."""
    inside = Path(folder)
    return [
        name
        for name in names
        if not (inside / name).is_dir()
        and (not (inside / name).is_file() or (inside / name).stat().st_size > 64 << 20)
    ]
