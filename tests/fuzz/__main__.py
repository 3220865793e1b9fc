"""Try damaged inputs for a given time, or one again.

    python -m tests.fuzz [--seconds 3600] [--seed N] [--kind KIND ...] [--keep FOLDER]
    python -m tests.fuzz --only KIND/MUTATION/SEED

Every input is a line on standard error if it is a fault. The table at the end is Markdown. Exit status 1 if
there was a fault.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import defaultdict
from pathlib import Path

from tests.fuzz.harness import Harness, NotMadeError, Result, harness, keep
from tests.fuzz.kinds import KINDS
from tests.fuzz.trial import Kind


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600, help="time for all inputs")
    parser.add_argument("--inputs", type=int, help="number of inputs, instead of a time")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument(
        "--kind", action="append", choices=[kind.name for kind in KINDS], help="may be repeated"
    )
    parser.add_argument("--only", metavar="KIND/MUTATION/SEED", help="repeat one input")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="folder of failing inputs")
    given = parser.parse_args()
    with harness() as made:
        if given.only:
            result = _repeat(made, given.only)
            print(f"kept: {keep(made, result, given.keep)}\n{result.outcome}: {result.note!a}")
            print(*result.faults, result.command, result.said, sep="\n")
            sys.exit(bool(result.faults))
        print(f"seed {given.seed}", file=sys.stderr)
        kinds = [kind for kind in KINDS if not given.kind or kind.name in given.kind]
        results = _campaign(made, kinds, given.seed, given.inputs, given.seconds, given.keep)
    print(table(results))
    sys.exit(any(result.faults for result in results))


def _repeat(made: Harness, name: str) -> Result:
    kind, mutation, seed = name.split("/")
    return made.try_one(next(found for found in KINDS if found.name == kind), mutation, int(seed))


def _campaign(
    made: Harness, kinds: list[Kind], seed: int, inputs: int | None, seconds: float, folder: Path
) -> list[Result]:
    rng, results = random.Random(seed), []
    deadline = time.monotonic() + seconds
    while len(results) < inputs if inputs else time.monotonic() < deadline:
        kind = rng.choice(kinds)
        try:
            result = made.try_one(kind, rng.choice([*kind.mutations]), rng.randrange(10**9))
        except NotMadeError as error:
            print(f"not made: {ascii(str(error))[:300]}", file=sys.stderr)
            continue
        results.append(result)
        if result.faults:
            place = keep(made, result, folder)
            print(f"FAULT {result.name}: {'; '.join(result.faults)[:300]} ({place})", file=sys.stderr)
        if len(results) % 50 == 0:
            faults = sum(bool(result.faults) for result in results)
            print(f"{len(results)} inputs, {faults} faults", file=sys.stderr)
    return results


def table(results: list[Result]) -> str:
    """Return inputs, outcomes and the largest cost by kind, as a table in Markdown."""
    by_kind: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_kind[result.name.partition("/")[0]].append(result)
    lines = [
        "| kind | inputs | done | refused | usage | faults | longest, s | most memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, members in [*by_kind.items(), ("all", results)]:
        counts = [
            sum(member.outcome == name for member in members)
            for name in ("done", "refused", "usage", "fault")
        ]
        seconds = max((member.ending.seconds for member in members), default=0)
        memory = max((member.ending.memory_mb for member in members), default=0)
        cells = [kind, len(members), *counts, f"{seconds:.1f}", f"{memory:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
