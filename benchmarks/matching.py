"""Match 100,000 detections with 100,000 references: each measure, and an evaluation with intervals.

Boxes are 30 m wide, detections 8 m off on average in either direction; a fifth of the references are
ignored. They are spread over a granule, or over 20 km x 20 km, where most have neighbours within reach. Each
row is a separate process, whose start is included in the memory.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from benchmarks.measure import run_python
from benchmarks.results import bar, save, table
from pipeline.evaluation.trucks.matching import match, match_iou, match_nwd
from pipeline.evaluation.trucks.metrics import truck_metrics
from pipeline.evaluation.trucks.scores import evaluate_trucks

COUNT = 100_000
SIDES_M = (109_800, 20_000)
RADIUS_M, OFF_M, HALF_M = 20.0, 8.0, 15.0
WHOLE = "evaluation with all figures"


def ways(side_m: float) -> dict[str, Callable[[], int]]:
    """Return the measured functions by name; each returns the number of matched references."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, side_m, (COUNT, 2))
    found = truth + rng.normal(0, OFF_M, truth.shape)
    ignore, score = rng.random(COUNT) < 0.2, rng.uniform(0.3, 1, COUNT)
    ours, theirs = (np.concatenate([xy - HALF_M, xy + HALF_M], axis=1) for xy in (found, truth))
    predicted, reference = (np.asarray(shapely.box(*corners.T)) for corners in (ours, theirs))

    def whole() -> int:
        labels = {"id": np.arange(COUNT).astype(str), "confidence": np.where(ignore, "low", "high")}
        seen = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, side_m, side_m)], crs=32632)
        evaluation = evaluate_trucks(
            gpd.GeoDataFrame({"score": score}, geometry=predicted, crs=32632),
            gpd.GeoDataFrame(labels, geometry=reference, crs=32632),
            seen,
        )
        truck_metrics(evaluation)
        return evaluation.primary.true_positives

    return {
        f"centre within {RADIUS_M:g} m": lambda: len(match(found, truth, ignore, RADIUS_M).true_positives),
        "IoU 0.25": lambda: len(match_iou(predicted, reference, ignore, 0.25).true_positives),
        "NWD 0.5": lambda: len(match_nwd(ours, theirs, ignore, 0.5).true_positives),
        WHOLE: whole,
    }


def main() -> None:
    """Measure, and write the section of RESULTS.md."""
    rows: list[dict[str, Any]] = []
    for side in SIDES_M:
        for what in ways(1000):
            measured = run_python("-m", "benchmarks.matching", str(side), what)
            answer = json.loads(measured.output)
            rows.append({"what": what, "side, km": side / 1000, **answer, "memory_mb": measured.peak_mb})
    matched = [row for row in rows if row["what"] != WHOLE]
    bars = [
        bar(
            "100,000 detections matched with 100,000 references",
            max(row["cpu_s"] for row in matched),
            10,
            True,
            " s",
        ),
        bar("the same: memory", max(row["memory_mb"] for row in matched) / 1024, 2, True, " GB"),
    ]
    shown = [
        {
            "what": row["what"],
            "side, km": f"{row['side, km']:g}",
            "CPU seconds": f"{row['cpu_s']:.2f}",
            "memory, MB": f"{row['memory_mb']:.0f}",
            "found": f"{row['found']:,}",
        }
        for row in rows
    ]
    note = (
        f"{COUNT:,} detections against {COUNT:,} references, assigned optimally. The slowest measure "
        "counts for the limit. Memory is that of the complete process, libraries included."
    )
    save(
        "matching", "Matching of detections with references", [note, "", *table(shown)], {"rows": rows}, bars
    )


def one(side: str, what: str) -> None:
    """Measure one function in this process and print the result as JSON."""
    work = ways(float(side))[what]
    start = time.process_time()
    found = work()
    sys.stdout.write(json.dumps({"cpu_s": time.process_time() - start, "found": found}))


if __name__ == "__main__":
    one(*sys.argv[1:]) if len(sys.argv) == 3 else main()
