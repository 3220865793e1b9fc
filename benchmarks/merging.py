"""Measure the reduction of many tiles' boxes to one per truck, and sahi's suppression.

A second tile sees a quarter of the trucks too, as near the borders of small tiles. sahi gets the same boxes.
Its rule differs (overlap, not distance of centres), so the table has the number that each keeps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sahi.postprocess.backends import resolve_backend
from sahi.postprocess.combine import nms

from benchmarks.results import bar, save, table
from pipeline.inference.merge import one_per_truck
from pipeline.inference.predictions import Detections

GRANULE_PX = 10980
SEEN_TWICE = 0.25
REPEATS = 5
MANY, MILLION = 100_000, 1_000_000
SAHI = "sahi's nms"


def boxes_of_tiles(count: int, side_px: float, seed: int = 0) -> Detections:
    """Return `count` boxes of 3 to 6 px in a scene of `side_px`, unordered; a fifth are noisy copies."""
    rng = np.random.default_rng(seed)
    trucks = round(count / (1 + SEEN_TWICE))
    upper_left, sides = rng.uniform(0, side_px, (trucks, 2)), rng.uniform(3, 6, (trucks, 2))
    once = np.concatenate([upper_left, upper_left + sides], axis=1)
    twice = once[: count - trucks]
    scores = rng.uniform(0.05, 1, trucks)
    order = rng.permutation(count)
    boxes = np.concatenate([once, twice + rng.normal(0, 1e-5, twice.shape)])[order]
    all_scores = np.concatenate([scores, scores[: len(twice)] + rng.normal(0, 1e-6, len(twice))])[order]
    motion = rng.normal(0, 1, (count, 2))
    return Detections(boxes, all_scores, motion, np.abs(motion[:, 0]))


def seconds(work: Callable[[], int]) -> tuple[float, int]:
    """Return the median of CPU seconds, and the result."""
    taken, kept = [], 0
    for _ in range(REPEATS):
        start = time.process_time()
        kept = work()
        taken.append(time.process_time() - start)
    return statistics.median(taken), kept


def main() -> None:
    """Measure, and write the section of RESULTS.md."""
    rows: list[dict[str, Any]] = []
    taken: dict[str, float] = {}

    def measure(what: str, count: int, side: int, work: Callable[[], int]) -> None:
        took, kept = seconds(work)
        taken[f"{what}, {count}, {side}"] = took
        row = {"boxes": f"{count:,}", "side, px": f"{side:,}", "what": what}
        rows.append(row | {"CPU seconds": f"{took:.3f}", "kept": f"{kept:,}"})

    for side in (GRANULE_PX, 1000):
        found = boxes_of_tiles(MANY, side)
        predictions = np.column_stack((found.boxes, found.scores, np.zeros(MANY)))
        measure("one_per_truck", MANY, side, lambda found=found: len(one_per_truck(found)))  # type: ignore[misc]
        measure(SAHI, MANY, side, lambda given=predictions: len(nms(given)))  # type: ignore[misc]
    million = boxes_of_tiles(MILLION, GRANULE_PX)
    measure("one_per_truck", MILLION, GRANULE_PX, lambda: len(one_per_truck(million)))
    ours, theirs = (taken[f"{what}, {MANY}, {GRANULE_PX}"] for what in ("one_per_truck", SAHI))
    bars = [
        bar(
            "a million boxes reduced to one per truck",
            taken[f"one_per_truck, {MILLION}, {GRANULE_PX}"],
            3,
            True,
            " s",
        ),
        bar("100,000 boxes: our time / sahi's", ours / theirs, 1, True),
    ]
    note = (
        f"CPU seconds, median of {REPEATS}. {SEEN_TWICE:.0%} of the trucks are seen by two tiles. sahi's "
        f"`{resolve_backend()}` backend, its default here, compares overlaps; ours compares distances of "
        "centres."
    )
    save("merging", "One box per truck from many tiles", [note, "", *table(rows)], taken, bars)


if __name__ == "__main__":
    main()
