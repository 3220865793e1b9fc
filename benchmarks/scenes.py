"""Whole jobs, timed as a user sees them: `make bench` rewrites RESULTS.md with this machine's figures.

Each job is a process of its own, so its seconds hold the imports and its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
SIMULATED_PX = (1024, 2048)


def truckscape(*arguments: str) -> float:
    """Run a command; its wall-clock seconds."""
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - start


def job(name: str, scene: str, folder: Path, *options: str) -> dict[str, str]:
    """One row: a run without orchestrator, from pixels to layers."""
    out = folder / name.replace(" ", "-")
    seconds = truckscape("run", scene, "--out", str(out), "--no-prefect", *options)
    (record,) = out.glob("*/run.json")
    run = json.loads(record.read_text())
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in run["seconds"].items() if value >= 0.1)
    return {
        "job": name,
        "seconds": f"{seconds:.1f}",
        "peak MB": str(run["peak_rss_mb"]),
        "precision": run["precision"],
        "stages, s": stages,
    }


def machine() -> str:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    packages = ", ".join(f"{name} {version(name)}" for name in ("truckscape", "torch", "rasterio"))
    return f"{os.cpu_count()} cores of {model}; Python {platform.python_version()}, {packages}"


def main() -> None:
    """Run everything and write the table."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if SHARED.is_dir():
            rows.append(job("virginia 1933 x 1947", str(SHARED / "landcover" / "virginia"), folder))
            rows.append(job("walserberg 240 x 360", str(SHARED / "trucks" / "walserberg_a8.tif"), folder))
        for size in SIMULATED_PX:
            place = folder / f"simulated-{size}"
            seconds = truckscape("simulate", "--out", str(place), "--size", str(size), "--seed", "5")
            rows.append({"job": f"simulate {size} px", "seconds": f"{seconds:.1f}"})
            (safe,) = place.glob("*.SAFE")
            roads = str(place / "truth" / "roads.gpkg")
            rows.append(job(f"simulated {size} px", str(safe), folder))
            rows.append(job(f"simulated {size} px near roads", str(safe), folder, "--roads", roads))
    columns = ("job", "seconds", "peak MB", "precision", "stages, s")
    lines = [
        "# Measured",
        "",
        f"`make bench`, {datetime.now(UTC):%Y-%m-%d}, {machine()}.",
        "Seconds are of the whole process, imports included; both models; nothing was cached.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row.get(column, '') for column in columns)} |" for row in rows),
        "",
    ]
    RESULTS.write_text("\n".join(lines), encoding="utf-8")
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
