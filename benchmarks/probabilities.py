"""Measure what land-cover probabilities cost a run: `python -m benchmarks.probabilities`."""

from __future__ import annotations

import os

from benchmarks.jobs import MeasuredJob, job
from benchmarks.products import Product, product, say
from benchmarks.results import save, table

SIDE_PX, TINY_PX = 2048, 128
REPEATS = 2


def main() -> None:
    """Measure both ways in turn, and write the section of RESULTS.md."""
    load = os.getloadavg()[0]
    start = {way: cheapest([run(product(TINY_PX), way)]) for way in ("false", "true")}
    runs: dict[str, list[MeasuredJob]] = {"false": [], "true": []}
    for repeat in range(REPEATS):
        for way, done in runs.items():
            say(f"probabilities={way}: {repeat + 1} of {REPEATS}")
            done.append(run(product(SIDE_PX), way))
    cost = {way: (cheapest(done) - start[way]) / (SIDE_PX**2 / 1e6) for way, done in runs.items()}
    rows = [
        {
            "landcover.probabilities": way,
            "CPU seconds per Mpx": f"{cost[way]:.2f}",
            "ratio": f"{cost[way] / cost['false']:.2f}",
            "peak MB": f"{max(one.whole.peak_mb for one in done):.0f}",
        }
        for way, done in runs.items()
    ]
    note = (
        f"A simulated scene of {SIDE_PX} x {SIDE_PX} px, `truckscape run --no-prefect`, land cover only, "
        f"from start to end. Each is the cheaper of {REPEATS} runs, one after the other in turn, "
        f"minus a run of {TINY_PX} x {TINY_PX} px. The load average before was {load:.1f}."
    )
    figures = {"cpu_seconds_per_mpx": cost, "ratio": cost["true"] / cost["false"], "load": load}
    save("probabilities", "Land-cover probabilities", [note, "", *table(rows)], figures)


def run(scene: Product, way: str) -> MeasuredJob:
    """Run a scene with or without probabilities."""
    settings = ("--set", "trucks.enabled=false", "--set", f"landcover.probabilities={way}")
    return job(scene.safe, *settings)


def cheapest(runs: list[MeasuredJob]) -> float:
    """Return the CPU seconds of the cheapest run."""
    return min(one.whole.cpu_seconds for one in runs)


if __name__ == "__main__":
    main()
