"""Measure the response time of commands: those that compute nothing, and a run of a small scene."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.measure import ROOT, Measured, run_python, truckscape
from benchmarks.results import bar, save, table

COMMANDS = ("--help", "--version", "run --help", "models list")
REPEATS = 7
TRUCKS = ROOT.parent / "shared" / "data" / "trucks"
_SERVER = """
import prefect
from prefect.client.orchestration import get_client
assert get_client(sync_client=True).api_healthcheck() is None
"""
_EXPECT_FAILURE = """
import subprocess, sys
assert subprocess.run([sys.executable, "-m", "pipeline.cli", *sys.argv[1:]]).returncode == 1
"""


def main(repeats: int = REPEATS) -> None:
    """Measure in turns, and write the section of RESULTS.md."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        measures = _measures(Path(folder))
        seconds: dict[str, list[Measured]] = {name: [] for name in measures}
        for _ in range(repeats):
            for name, measure in measures.items():
                seconds[name].append(measure())
    medians = {name: statistics.median(run.seconds for run in runs) for name, runs in seconds.items()}
    rows = []
    for name, runs in seconds.items():
        cpu = statistics.median(run.cpu_seconds for run in runs)
        rows.append({"what": name, "seconds": f"{medians[name]:.2f}", "CPU seconds": f"{cpu:.2f}"})
    note = (
        f"Median of {repeats} in turns. The end of a command is detected up to 0.05 s late. The load average "
        f"before was {load:.1f}: beside other work, seconds are those of the wait, and no limit is judged."
    )
    bars = [bar("`truckscape --help`", medians["`truckscape --help`"], 0.5, True, " s")]
    if "a chip" in medians:
        server, torch = medians["Prefect and its server"], medians["`import torch`"]
        bars += [
            bar("a path with nothing there", medians["a path with nothing there"], 0.5, True, " s"),
            bar("first line of a chip's run", _first_line(seconds["a chip"]), 1, True, " s"),
            bar(
                "a chip with Prefect, less 1.25 x Prefect and its server",
                medians["a chip with Prefect"] - 1.25 * server,
                2,
                True,
                " s",
            ),
            bar("a chip again, less `import torch`", medians["a chip again"] - torch, 2, True, " s"),
        ]
    judged = bars if load < (os.cpu_count() or 1) else []
    save("startup", "Response time of the command line", [note, "", *table(rows)], medians, judged)


def _measures(folder: Path) -> dict[str, Callable[[], Measured]]:
    """Return what is measured by its name; the runs only where the real chips are."""
    measures: dict[str, Callable[[], Measured]] = {
        f"`truckscape {command}`": partial(truckscape, *command.split()) for command in COMMANDS
    }
    chip = TRUCKS / "a2_braunschweig.tif"
    if not chip.exists():
        return measures
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "300")  # it is what is measured
    roads = ("--roads", str(TRUCKS / "a2_braunschweig_roads.gpkg"))
    kept = str(folder / "kept")

    def run(out: str, *options: str) -> Measured:
        return truckscape("run", str(chip), *roads, "--out", out, *options)

    def fresh(*options: str) -> Measured:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            return run(out, *options)

    run(kept, "--no-prefect")
    _answer()  # the first server makes the database
    return measures | {
        "a path with nothing there": lambda: _failing("run", "/nowhere.tif", "--out", kept),
        "`import torch`": lambda: run_python("-c", "import torch"),
        "Prefect and its server": _answer,
        "a chip": lambda: fresh("--no-prefect"),
        "a chip with Prefect": fresh,
        "a chip again": lambda: run(kept, "--no-prefect"),
    }


def _answer() -> Measured:
    return run_python("-c", _SERVER)


def _failing(*arguments: str) -> Measured:
    """Measure a command that ends with exit status 1, in a Python that does nothing else."""
    return run_python("-c", _EXPECT_FAILURE, *arguments)


def _first_line(runs: list[Measured]) -> float:
    return statistics.median(run.lines[0].seconds for run in runs)


if __name__ == "__main__":
    main()
