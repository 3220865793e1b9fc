"""Measure a simulated granule, both models, and a lower bound: `python -m benchmarks.granule`.

`--granule DIR` uses the product that `truckscape simulate --size 10980 --out DIR` wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.jobs import job
from benchmarks.measure import run_python
from benchmarks.products import Product, granule, say
from benchmarks.results import bar, save, table

TILES = 24
MEMORY_MB = 2500.0


def floor(product: Product, tiles: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure decoding alone and the networks alone; seconds of the latter are scaled to the scene."""
    decoding = json.loads(run_python("-m", "benchmarks.floor", "decode", str(product.safe)).output)
    networks = json.loads(
        run_python("-m", "benchmarks.floor", "networks", str(product.safe), str(tiles)).output
    )
    for key in ("seconds", "cpu_seconds"):
        networks[key] /= networks["share_of_area"]
    return decoding, networks


def main(product: Product, tiles: int = TILES) -> None:
    """Measure, and write the section of RESULTS.md."""
    say("the floor of the granule")
    decoding, networks = floor(product, tiles)
    say("the granule, end to end")
    done = job(product.safe)
    whole, floor_s = done.whole, decoding["seconds"] + networks["seconds"]
    stages = [
        *((stage.name, stage.seconds, stage.cpu_seconds, f"{stage.peak_mb:.0f}") for stage in done.stages),
        ("**end to end**", whole.seconds, whole.cpu_seconds, f"{whole.peak_mb:.0f}"),
        ("floor: decoding alone", decoding["seconds"], decoding["cpu_seconds"], ""),
        ("floor: networks alone", networks["seconds"], networks["cpu_seconds"], ""),
        ("**floor**", floor_s, decoding["cpu_seconds"] + networks["cpu_seconds"], ""),
    ]
    rows = [
        {"stage": name, "seconds": f"{seconds:.1f}", "CPU s": f"{cpu:.1f}", "peak MB": peak}
        for name, seconds, cpu, peak in stages
    ]
    by_record = ", ".join(f"{stage} {value:.1f}" for stage, value in done.run["seconds"].items())
    counts = ", ".join(f"{count:,} {name}" for name, count in done.run["counts"].items())
    ways = ", ".join(f"{way} {seconds:.1f} s" for way, seconds in networks["seconds_of_ways"].items())
    lines = [
        "A simulated L2A product in SAFE layout, `truckscape run --no-prefect` with its defaults: "
        f"{done.run['precision']}, {done.run['tiles']['total']} tiles, {counts}. The messages of the command "
        "separate the stages; the first includes the start of Python.",
        "",
        *table(rows),
        "",
        "The floor is a lower bound, measured just before on the same files, which are then in the system's "
        f"cache. It is the sum of (1) rasterio alone, which reads all {decoding['blocks']:,} blocks of the "
        f"{decoding['bands']} rasters that the run needs ({decoding['megapixels']:.0f} megapixels) once, in "
        f"one thread per core, and (2) both networks on {networks['tiles']} of the {networks['of']} tiles, "
        f"evenly spread, in memory with the engine's halo, {networks['way']} (the faster way: {ways}), "
        f"scaled by the area of their cores ({networks['share_of_area']:.1%} of the scene). The networks run "
        "as in the engine, so the comparison shows the overhead around them, not their speed.",
        "",
        f"Seconds by `run.json`: {by_record}.",
    ]
    figures = {
        "seconds": whole.seconds,
        "cpu_seconds": whole.cpu_seconds,
        "peak_mb": whole.peak_mb,
        "engine_cpu_seconds": done.engine.cpu_seconds,
        "engine_seconds": done.engine.seconds,
        "floor": {"decoding": decoding, "networks": networks},
        "stages": rows,
    }
    bars = [
        bar("granule: end to end / floor", whole.seconds / floor_s, 1.15, at_most=True),
        bar("granule: peak memory", whole.peak_mb, MEMORY_MB, at_most=True, unit=" MB"),
    ]
    save("granule", "A granule, 10980 x 10980 px", lines, figures, bars)


def arguments() -> Product:
    """Return the granule of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--granule", type=Path, help="folder that truckscape simulate wrote")
    return granule(parser.parse_args().granule)


if __name__ == "__main__":
    main(arguments())
