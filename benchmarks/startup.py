"""Measure the response time of commands that compute nothing."""

from __future__ import annotations

import statistics

from benchmarks.measure import truckscape
from benchmarks.results import bar, save, table

COMMANDS = ("--help", "--version", "run --help", "models list")
REPEATS = 7


def main() -> None:
    """Measure, and write the section of RESULTS.md."""
    rows, medians = [], {}
    for command in COMMANDS:
        runs = [truckscape(*command.split()) for _ in range(REPEATS)]
        medians[command] = statistics.median(run.seconds for run in runs)
        cpu = statistics.median(run.cpu_seconds for run in runs)
        shown = {"seconds": f"{medians[command]:.2f}", "CPU seconds": f"{cpu:.2f}"}
        rows.append({"command": f"`truckscape {command}`"} | shown)
    note = f"Median of {REPEATS}. The end of a command is detected up to 0.05 s late."
    bars = [bar("`truckscape --help`", medians["--help"], 0.5, True, " s")]
    save("startup", "Response time of the command line", [note, "", *table(rows)], medians, bars)


if __name__ == "__main__":
    main()
