"""Run all benchmarks, one after the other, on an idle machine: `python -m benchmarks`."""

from __future__ import annotations

import time

from benchmarks import (
    batch,
    clouds,
    dask,
    gpu,
    granule,
    landcover_peers,
    landcover_polygons,
    matching,
    megapixel,
    merging,
    probabilities,
    runtimes,
    scenes,
    sizes,
    startup,
    trucks_peers,
)
from benchmarks.products import say


def main() -> None:
    """Run all benchmarks; each writes its section when it is done."""
    start = time.monotonic()
    product = granule.arguments()
    granule.main(product)
    sizes.main(product)
    megapixel.main()
    trucks_peers.main()
    landcover_peers.main()
    runtimes.main()
    gpu.main([])
    scenes.main()
    merging.main()
    matching.main()
    landcover_polygons.main([])
    clouds.main()
    probabilities.main()
    batch.main()
    dask.main([])
    startup.main()
    say(f"all done in {(time.monotonic() - start) / 60:.0f} minutes: benchmarks/RESULTS.md")


if __name__ == "__main__":
    main()
