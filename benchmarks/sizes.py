"""Measure the cost of scenes of 1k to 11k pixels a side: `python -m benchmarks.sizes [--granule DIR]`."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.granule import arguments
from benchmarks.jobs import job
from benchmarks.products import GRANULE_PX, Product, product, say
from benchmarks.results import bar, figures, save, table

SIZES = (1024, 2048, 2745, 4096)
TINY_PX = 128
SIXTEENTH_PX = 2745
"""Its area is a sixteenth of a granule's."""
MEMORY_GROWTH, EXPONENT = 1.15, 1.03


def measure(scene: Product) -> dict[str, float]:
    """Return the cost of a scene of one size."""
    done = job(scene.safe)
    return {
        "seconds": done.whole.seconds,
        "engine_seconds": done.engine.seconds,
        "engine_cpu_seconds": done.engine.cpu_seconds,
        "peak_mb": done.whole.peak_mb,
    }


def exponent(cost: dict[int, float]) -> float:
    """Return the exponent of the area that fits the costs: 1 is linear (least squares on logarithms)."""
    areas = np.log(np.array(list(cost), float) ** 2)
    slope, _ = np.polyfit(areas, np.log(list(cost.values())), 1)
    return float(slope)


def main(whole: Product, sizes: tuple[int, ...] = SIZES) -> None:
    """Measure all sizes; figures of the granule are those of its own benchmark, if that has run."""
    by_side: dict[int, dict[str, Any]] = {}
    for size in (TINY_PX, *sizes):
        say(f"cost against size: {size} px")
        by_side[size] = measure(product(size))
    say(f"cost against size: {GRANULE_PX} px")
    by_side[GRANULE_PX] = figures("granule") or measure(whole)
    tiny = by_side.pop(TINY_PX)
    cost = {side: found["engine_cpu_seconds"] - tiny["engine_cpu_seconds"] for side, found in by_side.items()}
    power = exponent(cost)
    rows = [
        {
            "side, px": side,
            "seconds": f"{found['seconds']:.1f}",
            "engine, s": f"{found['engine_seconds']:.1f}",
            "engine, CPU s": f"{found['engine_cpu_seconds']:.1f}",
            "minus start, CPU s per Mpx": f"{cost[side] / side**2 * 1e6:.2f}",
            "peak MB": f"{found['peak_mb']:.0f}",
        }
        for side, found in by_side.items()
    ]
    lines = [
        "Simulated scenes, `truckscape run --no-prefect`, both models, only cloud skipped. The time of the "
        "engine ends with the last tile. The cost of starting (imports, weights) is that of a scene of "
        f"{TINY_PX} px, {tiny['engine_cpu_seconds']:.1f} CPU s, and is subtracted before the fit. Scenes of "
        "few tiles compute less halo, since there is none beyond the border of a scene.",
        "",
        *table(rows),
        "",
        f"CPU seconds are proportional to the area to the power of {power:.3f}.",
    ]
    bars = [bar("exponent of the engine's CPU seconds over area", power, EXPONENT, at_most=True)]
    if SIXTEENTH_PX in by_side:
        growth = by_side[GRANULE_PX]["peak_mb"] / by_side[SIXTEENTH_PX]["peak_mb"]
        what = "peak memory: granule / a sixteenth of its area"
        bars.append(bar(what, growth, MEMORY_GROWTH, at_most=True))
    save("sizes", "Cost and size", lines, {"by_side": by_side, "exponent": power}, bars)


if __name__ == "__main__":
    main(arguments())
