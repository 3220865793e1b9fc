"""Boxes of many tiles made one per truck: how long, and against sahi's suppression.

`python -m benchmarks.merging`, run by hand, prints the rows of RESULTS.md. A quarter of the trucks is seen
by a second tile as well, as near the borders of small tiles. sahi (test-only) gets the very same boxes; its
rule is another one (overlap, not distance of centres), so what it keeps is printed beside.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sahi.postprocess.backends import resolve_backend
from sahi.postprocess.combine import nms

from pipeline.inference.merging import one_per_truck
from pipeline.inference.predictions import Detections

GRANULE_PX = 10980
SEEN_TWICE = 0.25
REPEATS = 5


def boxes_of_tiles(count: int, side_px: float, seed: int = 0) -> Detections:
    """`count` boxes of 3 to 6 px in a scene of `side_px`, in no order; a fifth are copies but for noise."""
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
    """(median CPU seconds, what it returned)."""
    taken, kept = [], 0
    for _ in range(REPEATS):
        start = time.process_time()
        kept = work()
        taken.append(time.process_time() - start)
    return statistics.median(taken), kept


def main() -> None:
    """Print the rows."""
    print("| boxes | side, px | what | CPU seconds | kept |\n|---|---|---|---|---|")
    for count, side in ((100_000, GRANULE_PX), (100_000, 1000), (1_000_000, GRANULE_PX)):
        found = boxes_of_tiles(count, side)
        taken, kept = seconds(lambda found=found: len(one_per_truck(found)))  # type: ignore[misc]
        print(f"| {count:,} | {side:,} | one_per_truck | {taken:.3f} | {kept:,} |")
        if count > 100_000:
            continue
        predictions: NDArray[np.float64] = np.column_stack((found.boxes, found.scores, np.zeros(count)))
        taken, kept = seconds(lambda given=predictions: len(nms(given)))  # type: ignore[misc]
        print(f"| {count:,} | {side:,} | sahi nms ({resolve_backend()}) | {taken:.3f} | {kept:,} |")


if __name__ == "__main__":
    main()
