"""Damaged inputs of every kind, run by the real command line: a few for each kind, with fixed seeds.

`make fuzz` tries many more. Nothing may fail: an input that does becomes a case in `cases.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.conftest import only_on
from tests.fuzz.cases import CASES
from tests.fuzz.harness import Harness, NotMadeError, Result, harness
from tests.fuzz.kinds import KINDS
from tests.fuzz.sandbox import Sandbox
from tests.fuzz.trial import Kind

pytestmark = only_on("linux", why="processes that fork, and limits of memory")

BY_NAME = {kind.name: kind for kind in KINDS}


@pytest.fixture(scope="module")
def made() -> Iterator[Harness]:
    with harness(seconds=60) as opened:
        yield opened


def described(result: Result) -> str:
    lines = [
        f"python -m tests.fuzz --only {result.name}",
        result.command,
        ascii(result.note),
        *result.faults,
        result.said,
    ]
    return "\n".join(lines)


def try_some(made: Harness, kind: Kind, count: int, seed: int) -> None:
    rng = random.Random(f"{kind.name} {seed}")
    for _ in range(count):
        with suppress(NotMadeError):
            result = made.try_one(kind, rng.choice([*kind.mutations]), rng.randrange(10**9))
            assert not result.faults, described(result)


@pytest.mark.parametrize("name", BY_NAME)
def test_damaged_inputs_are_refused_or_change_nothing(made, name):
    try_some(made, BY_NAME[name], 1, 1)


@pytest.mark.longer
@pytest.mark.parametrize("name", BY_NAME)
def test_more_damaged_inputs(made, name):
    try_some(made, BY_NAME[name], 12, 2)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_inputs_that_failed_once(made, case):
    result = made.try_change(case.kind, case.variant, case.change, case.name, random.Random(case.name))
    assert not result.faults, described(result)


@pytest.mark.parametrize("baseline", ["tif", "safe"])
def test_undamaged_inputs_have_trucks_and_land_cover(made, baseline):
    """Comparing the layers of damaged inputs would mean nothing otherwise."""
    (layers,) = made.layers(baseline)
    assert layers["trucks"] and layers["landcover"]


def test_the_executor_kills_at_its_limit_and_goes_on(made, tmp_path, monkeypatch):
    box = Sandbox.create(tmp_path / "trials" / "now")
    files = {"stdout": tmp_path / "stdout", "stderr": tmp_path / "stderr"}
    with monkeypatch.context() as limits:
        limits.setattr(made.executor, "_memory_mb", 1.0)
        killed = made.executor.run(["doctor"], box.work, box.environment(), **files)
    well = made.executor.run(["--help"], box.work, box.environment(), **files)
    wrong = made.executor.run(["run", "--no-such-option"], box.work, box.environment(), **files)
    assert killed.killed_for == "1 MB"
    assert (well.status, well.killed_for, wrong.status) == (0, None, 2)
