"""Put patches of one scene together, as one folder of band files with one label raster.

    python configs/mosaic_patches.py OUT LABELS_SUFFIX PATCH...

PATCH is what the files of a patch begin with: `PATCH_10m.tif` and `PATCH_20m.tif` hold bands with their names
as descriptions, and `PATCH_LABELS_SUFFIX.tif` holds class values. OUT gets `B02.tif` and so on, each at its
own resolution, and `labels.tif`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rasterio
from rasterio.merge import merge


def mosaic(out: Path, labels: str, patches: list[str]) -> None:
    """Write the bands and labels of patches to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for suffix in ("10m", "20m", labels):
        files = [f"{patch}_{suffix}.tif" for patch in patches]
        values, transform = merge(files)
        with rasterio.open(files[0]) as first:
            names = first.descriptions if suffix != labels else ("labels",)
            profile = first.profile | {
                "transform": transform,
                "count": 1,
                "height": values.shape[1],
                "width": values.shape[2],
            }
            for name, band in zip(names, values, strict=True):
                with rasterio.open(out / f"{name}.tif", "w", **profile) as target:
                    target.write(band, 1)
                    target.update_tags(**first.tags())


if __name__ == "__main__":
    mosaic(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
