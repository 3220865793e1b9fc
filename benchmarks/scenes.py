"""Measure complete runs on real and simulated scenes: `python -m benchmarks.scenes`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.jobs import job
from benchmarks.measure import ROOT
from benchmarks.products import product, say
from benchmarks.results import save, table

SHARED = ROOT.parent / "shared" / "data"
SIMULATED_PX = (1024, 2048)


def row(name: str, scene: Path, *options: str) -> dict[str, str]:
    """Measure one run."""
    say(f"whole job: {name}")
    done = job(scene, *options)
    shown = (f"{stage} {value:.1f}" for stage, value in done.run["seconds"].items() if value >= 0.1)
    return {
        "job": name,
        "seconds": f"{done.whole.seconds:.1f}",
        "CPU s": f"{done.whole.cpu_seconds:.1f}",
        "peak MB": f"{done.whole.peak_mb:.0f}",
        "precision": done.run["precision"],
        "stages by run.json, s": ", ".join(shown),
    }


def main(sizes: tuple[int, ...] = SIMULATED_PX) -> None:
    """Measure, and write the section of RESULTS.md."""
    rows = []
    if SHARED.is_dir():
        rows.append(row("virginia, 1933 x 1947 px", SHARED / "landcover" / "virginia"))
        rows.append(row("walserberg, 240 x 360 px", SHARED / "trucks" / "walserberg_a8.tif"))
    for size in sizes:
        made = product(size)
        rows.append(row(f"simulated, {size} px", made.safe))
        rows.append(row(f"simulated, {size} px, near roads", made.safe, "--roads", str(made.roads)))
    text = "Seconds are those of the complete process, imports included; both models, no existing shards."
    save("scenes", "Complete runs", [text, "", *table(rows)], {"rows": rows})


if __name__ == "__main__":
    main()
