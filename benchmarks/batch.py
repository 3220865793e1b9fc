"""Measure a batch of many small scenes: orchestration, memory, and that each is done once.

python -m benchmarks.batch [--scenes 200]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.measure import Measured, run_python, truckscape
from benchmarks.products import say
from benchmarks.results import bar, save, table
from pipeline.config import Config
from pipeline.operations.ledger.scenes import Entry, existing_ledger
from pipeline.simulation.simulate import simulate

SIDE, LARGER = 256, 512
FEW = 12
WARM = 10
"""Scenes after which the memory of a process should not grow."""


@dataclass(frozen=True)
class MeasuredBatch:
    """A measured batch command, and its ledger."""

    whole: Measured
    entries: list[Entry]
    scenes_s: float
    """Seconds of the scenes' own stages, by their `run.json`."""
    batch_s: float
    """From the start of the first scene to the end of the last."""
    plain_s: float = 0.0
    """The same scenes, one after the other by `run_directly` in one process."""

    @property
    def once(self) -> int:
        """Scenes that were done at the first attempt."""
        return sum(entry.state == "done" and entry.attempts == 1 for entry in self.entries)

    @property
    def orchestration(self) -> float:
        """Share of the batch's time outside the scenes."""
        return 1 - self.scenes_s / self.batch_s

    @property
    def slower(self) -> float:
        """Share of the batch's time by which it is slower than the plain loop.

        More than `orchestration`: Prefect and its server compete with the scenes for cores and caches.
        """
        return 1 - self.plain_s / self.batch_s

    @property
    def growth(self) -> float:
        """Peak memory after the last scene, divided by that after the first few."""
        peaks = sorted((entry.ended or "", entry.peak_rss_mb or 0) for entry in self.entries)
        return peaks[-1][1] / peaks[min(WARM, len(peaks)) - 1][1]


def write_scenes(folder: Path, side: int, count: int) -> Path:
    """Write one simulated product under many dates, as links."""
    product = simulate(folder / f"product-{side}", size=side, seed=0).safe
    scenes = folder / f"scenes-{side}"
    for number in range(count):
        day = f"{datetime(2023, 1, 1) + timedelta(days=number):%Y%m%d}"
        dated = product.name.replace(product.name[11:19], day)
        shutil.copytree(product, scenes / dated, copy_function=os.link)
    return scenes


def plainly(scenes: Path, out: Path) -> float:
    """Return the seconds of a loop over the scenes of a folder, without ledger and Prefect."""
    return float(run_python("-c", _PLAIN, str(scenes), str(out)).output)


_PLAIN = """
import sys, time
from pathlib import Path
from pipeline.run import Request, run_directly
scenes, out = map(Path, sys.argv[1:])
begun = time.monotonic()
for scene in sorted(scenes.iterdir()):
    run_directly(Request(str(scene), out, catalog=False))
print(time.monotonic() - begun)
"""


def measure(scenes: Path, out: Path, *options: str, plain_s: float = 0.0) -> MeasuredBatch:
    """Run a batch."""
    whole = truckscape("batch", "--folder", str(scenes), "--out", str(out), *options)
    entries = existing_ledger(out, Config()).entries()
    runs = [json.loads(path.read_text()) for path in out.glob("*/run.json")]
    begun = min(datetime.fromisoformat(entry.begun or "") for entry in entries)
    ended = max(datetime.fromisoformat(entry.ended or "") for entry in entries)
    scenes_s = sum(sum(run["seconds"].values()) for run in runs)
    return MeasuredBatch(whole, entries, scenes_s, (ended - begun).total_seconds(), plain_s)


def main(count: int = 200) -> None:
    """Measure, and write the section of RESULTS.md."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ.setdefault("PREFECT_HOME", str(work / "prefect"))
        say(f"{count} scenes of {SIDE} px")
        many = write_scenes(work, SIDE, count)
        flow = measure(many, work / "many", plain_s=plainly(many, work / "many-plain"))
        again = measure_again(many, work / "many")
        say(f"{FEW} scenes of {LARGER} px")
        few = write_scenes(work, LARGER, FEW)
        plain_s = plainly(few, work / "few-plain")
        larger = measure(few, work / "few", plain_s=plain_s)
        direct = measure(few, work / "direct", "--no-prefect", plain_s=plain_s)
    rows = [
        row(f"{count} scenes of {SIDE} px, a sub-flow each", flow),
        row(f"{FEW} scenes of {LARGER} px, a sub-flow each", larger),
        row("the same without Prefect", direct),
    ]
    note = (
        "Simulated scenes, one after the other. Orchestration (flow, its server, ledger) is the share of the "
        "time from the start of the first scene to the end of the last that is outside the stages of scenes. "
        "Slower is the share by which a plain loop over the same scenes is faster; it includes the time that "
        "stages lose to Prefect and its server. MB is the peak memory of the batch's process after the last "
        f"scene; growth is its ratio to that after {WARM} scenes. A second batch over the {count} scenes, "
        f"with all done, took {again.seconds:.1f} s and {again.cpu_seconds:.1f} CPU seconds, mostly for "
        "imports."
    )
    bars = [
        bar("small scenes done, each once", flow.once, count, False),
        bar(f"orchestration of scenes of {SIDE} px", 100 * flow.orchestration, 10, True, " %"),
        bar(f"orchestration of scenes of {LARGER} px", 100 * larger.orchestration, 10, True, " %"),
        bar(f"memory after {count} scenes / after {WARM}", flow.growth, 1.05, True),
    ]
    figures = dict(zip(("many", "larger", "direct"), rows, strict=True))
    save("batch", "A batch of many small scenes", [note, "", *table(rows)], figures, bars)


def measure_again(scenes: Path, out: Path) -> Measured:
    """Run the same batch again, when all scenes are done."""
    return truckscape("batch", "--folder", str(scenes), "--out", str(out), "--no-prefect")


def row(name: str, way: MeasuredBatch) -> dict[str, Any]:
    """Return a row of the table."""
    return {
        "": name,
        "done once": way.once,
        "seconds": f"{way.whole.seconds:.0f}",
        "CPU seconds": f"{way.whole.cpu_seconds:.0f}",
        "seconds per scene": f"{way.batch_s / len(way.entries):.2f}",
        "orchestration": f"{way.orchestration:.1%}",
        "slower": f"{way.slower:.1%}",
        "MB": max(entry.peak_rss_mb or 0 for entry in way.entries),
        "growth": f"{way.growth:.3f}",
    }


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--scenes", type=int, default=200)
    main(arguments.parse_args().scenes)
