"""Measure the cost of the clouds and rims that land cover leaves out."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

from rasterio.windows import Window

from benchmarks.products import product
from benchmarks.results import save, table
from pipeline.scenes.clouds import cloud_mask, rim_mask
from pipeline.scenes.open import open_scene
from pipeline.scenes.scene import Scene

SIZE, TILE_PX = 2048, 1024
REPEATS = 5


def cpu_seconds(scene: Scene, window: Window) -> float:
    """Return the median of CPU seconds for the mask of a window whose blocks are decoded."""
    rim_mask(scene, window)
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        rim_mask(scene, window)
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def main() -> None:
    """Measure, and write the section of RESULTS.md."""
    scene = open_scene(str(product(SIZE).safe))
    sources = {"scl": scene, "threshold": replace(scene, scl=None)}
    rows: list[dict[str, Any]] = []
    for row in range(0, SIZE, TILE_PX):
        for col in range(0, SIZE, TILE_PX):
            window = Window(col, row, TILE_PX, TILE_PX)
            clouds = cloud_mask(scene, window)
            shown = {"tile": f"{row}, {col}", "cloud": f"{0 if clouds is None else clouds.mean():.1%}"}
            for name, source in sources.items():
                shown[f"`{name}`"] = f"{cpu_seconds(source, window) / (TILE_PX**2 / 1e6):.3f}"
            rows.append(shown)
    note = (
        f"CPU seconds a megapixel, median of {REPEATS}, for tiles of {TILE_PX} px of a simulated product, "
        "without decoding: the mask by the scene classification, and by brightness and parallax."
    )
    save("clouds", "Clouds and their rims", [note, "", *table(rows)], {"rows": rows})


if __name__ == "__main__":
    main()
