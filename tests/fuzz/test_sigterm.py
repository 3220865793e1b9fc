"""A batch that gets SIGTERM, as from `docker stop`: nothing is lost, and no attempt is counted."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import only_on
from tests.fuzz.corpus import NAME
from tests.fuzz.executor import Ending
from tests.fuzz.harness import Harness, harness
from tests.fuzz.sandbox import Sandbox
from tests.fuzz.trial import ENGINE

pytestmark = [pytest.mark.longer, pytest.mark.timeout(1200), only_on("linux", why="processes that fork")]

FILES = ("trucks.geojson", "landcover.tif")
SETTINGS = [*ENGINE[1:], "--set=tiling.tile_px=32", "--set=tiling.shards=2"]
STOPPED = (0, 130, 143)
"""Exit status where the signal comes after the work, or during it."""


@pytest.fixture(scope="module")
def made() -> Iterator[Harness]:
    with harness(seconds=240) as opened:
        yield opened


def batch(made: Harness, box: Sandbox, *further: str, stop_after_s: float = float("inf")) -> Ending:
    argv = ["batch", f"in/{NAME}.SAFE", "--out", "out", *SETTINGS, *further]
    files = box.fence.parent / "stdout", box.fence.parent / "stderr"
    return made.executor.run(argv, box.work, box.environment(), *files, stop_after_s=stop_after_s)


def fresh(made: Harness, name: str) -> Sandbox:
    box = Sandbox.create(made.root / name / "now")
    made.corpus.copy(f"{NAME}.SAFE", box.inputs)
    return box


def layers(box: Sandbox) -> dict[str, bytes]:
    return {name: (box.out / NAME / name).read_bytes() for name in FILES}


def row(out: Path) -> tuple[int, str]:
    """Return the attempts and the state of the scene."""
    file = out / "ledger.sqlite"
    if not file.exists():
        return 0, "waiting"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as base:
        tables = base.execute(
            "SELECT count(*) FROM sqlite_master WHERE name = 'truckscape_scenes'"
        ).fetchone()
        found = (
            base.execute("SELECT attempts, state FROM truckscape_scenes").fetchone() if tables[0] else None
        )
    return found or (0, "waiting")


def undisturbed(made: Harness, *further: str) -> tuple[dict[str, bytes], float]:
    box = fresh(made, "undisturbed")
    ending = batch(made, box, *further)
    assert ending.status == 0
    return layers(box), ending.seconds


def check_stopped(made: Harness, moments: list[float], right: dict[str, bytes], *further: str) -> int:
    """Stop a batch at each of these moments, run it again, and return how often it was stopped in time."""
    stopped = 0
    for number, moment in enumerate(moments):
        box = fresh(made, f"stopped{number}")
        ending = batch(made, box, *further, stop_after_s=moment)
        said = (box.fence.parent / "stderr").read_text(encoding="utf-8", errors="replace")
        assert ending.status in STOPPED and not ending.killed_for, f"{moment:.2f} s: {ending} {said}"
        assert not ending.left_behind, f"{moment:.2f} s"
        assert "Traceback" not in said and "unexpected" not in said, said
        assert row(box.out) in ((0, "waiting"), (1, "done")), f"{moment:.2f} s"
        again = batch(made, box, *further)
        assert (again.status, row(box.out)) == (0, (1, "done")), f"{moment:.2f} s"
        assert layers(box) == right, f"{moment:.2f} s"
        stopped += ending.status != 0
    return stopped


def test_at_fifteen_random_moments(made):
    """One in each fifteenth of the time that a batch takes; the last ones may come too late."""
    right, seconds = undisturbed(made, "--no-prefect")
    chance = random.Random()
    moments = [seconds * (part + chance.random()) / 15 for part in range(15)]
    assert check_stopped(made, moments, right, "--no-prefect") >= 8


def test_under_prefect(made):
    """With a server of Prefect that the batch started, and that must end with it."""
    right, seconds = undisturbed(made)
    chance = random.Random()
    assert check_stopped(made, [seconds * chance.uniform(0.3, 0.9) for _ in range(3)], right) >= 1
