"""Finished runs as a dataset of TorchGeo: pixels, land cover and trucks of any place and size.

Needs the extra `train`. Nothing else imports this module, since TorchGeo takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from rasterio.windows import Window

from pipeline.errors import MissingExtraError, RunsError
from pipeline.labelling.runs import RunBoxes, read_run_boxes
from pipeline.report.pictures import TRUE_COLOUR
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.raster.read import read_pixels, require_bands
from pipeline.traffic.runs import find_records

try:
    import torch
    from torchgeo.datasets import GeoDataset
except ImportError as error:
    raise MissingExtraError(f"TorchGeo is missing ({error}): pip install 'truckscape[train]'.") from error

UNLABELLED = 255
"""Value of the mask outside of the scene and without a class, for `ignore_index`."""


class RunDataset(GeoDataset):
    """Dataset of the finished runs in folders, whose scenes have one CRS and 10 m grid.

    A sample has `image` (C, H, W), float32 reflectance, 0 without data; `mask` (H, W), int64, the class of
    `landcover.tif` or `UNLABELLED`; `bbox_xyxy` (N, 4), float32, the trucks whose centre is on the image, in
    its pixels and cut at its edge; and `label` (N,), int64, 1. Of several runs at the place and time of a
    query, the first by time is read. A query is widened to whole pixels.

    Raises
    ------
    RunsError
        If there is no finished run, one lacks trucks or land cover, or their CRSs differ.
    TruckscapeError
        As `open_scene`; MissingBandError if a scene lacks one of `bands`.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        bands: Sequence[str] = TRUE_COLOUR,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        places = [paths] if isinstance(paths, str | Path) else list(paths)
        self.paths = [str(place) for place in places]
        self.bands, self.transforms = tuple(bands), transforms
        records = find_records(*map(Path, places))
        self.runs = [read_run_boxes(record, cases=False) for record in records]
        for record, run in zip(records, self.runs, strict=True):
            require_bands(run.scene, self.bands)
            if not (record.parent / "landcover.tif").is_file():
                raise RunsError(f"{record.parent} has no landcover.tif; run it with a land-cover model.")
            if run.scene.grid.crs != self.runs[0].scene.grid.crs:
                raise RunsError(
                    f"{record.parent} is in {run.scene.grid.crs}, other runs in "
                    f"{self.runs[0].scene.grid.crs}. Make a dataset for each CRS, and join them with |."
                )
        grid = self.runs[0].scene.grid
        self._res = abs(grid.resolution.x), abs(grid.resolution.y)
        times = pd.to_datetime([run.scene.acquired or pd.Timestamp(0) for run in self.runs], utc=True)
        naive = times.tz_localize(None)
        self.index = gpd.GeoDataFrame(
            {
                "run": range(len(self.runs)),
                "landcover": [str(one.parent / "landcover.tif") for one in records],
            },
            index=pd.IntervalIndex.from_arrays(naive, naive, closed="both", name="datetime"),
            geometry=[run.scene.grid.extent.geom for run in self.runs],
            crs=None if grid.crs is None else grid.crs.to_wkt(),
        ).sort_index()

    def __getitem__(self, query: Any) -> dict[str, Any]:
        """Return the sample of a slice of x, y and time.

        Raises
        ------
        IndexError
            If no run is there.
        """
        x, y, t = self._disambiguate_slice(query)
        here = self.index.iloc[self.index.index.overlaps(pd.Interval(t.start, t.stop, closed="both"))]
        here = here.cx[x.start : x.stop, y.start : y.stop]
        if here.empty:
            raise IndexError(f"No run at {query}; expected a place and time in {self.bounds}.")
        row = here.iloc[0]
        run = self.runs[int(row["run"])]
        left, top = ~run.scene.grid.affine * (x.start, y.stop)
        right, bottom = ~run.scene.grid.affine * (x.stop, y.start)
        corner = int(np.floor(left + 1e-6)), int(np.floor(top + 1e-6))
        size = int(np.ceil(right - 1e-6)) - corner[0], int(np.ceil(bottom - 1e-6)) - corner[1]
        image, mask = self._pixels(run, str(row["landcover"]), corner, size)
        boxes = _boxes(run, corner, size)
        sample = {
            "crs": self.crs,
            "bounds": query,
            "image": torch.from_numpy(image),
            "mask": torch.from_numpy(mask),
            "bbox_xyxy": torch.from_numpy(boxes),
            "label": torch.ones(len(boxes), dtype=torch.int64),
        }
        return self.transforms(sample) if self.transforms else sample

    def _pixels(
        self, run: RunBoxes, landcover: str, corner: tuple[int, int], size: tuple[int, int]
    ) -> tuple[Any, Any]:
        """Return image and mask of a rectangle that may reach beyond the scene."""
        (col, row), (width, height), (rows, cols) = corner, size, run.scene.shape
        image = np.zeros((len(self.bands), height, width), np.float32)
        mask = np.full((height, width), UNLABELLED, np.int64)
        top, bottom = max(0, row), min(rows, row + height)
        left, right = max(0, col), min(cols, col + width)
        if top < bottom and left < right:
            window = Window.from_slices((top, bottom), (left, right))
            inside = slice(top - row, bottom - row), slice(left - col, right - col)
            image[:, *inside] = read_pixels(run.scene, window, self.bands).reflectance
            with open_raster(landcover, "The land cover") as source:
                mask[inside] = source.read(1, window=window)
        return image, mask


def _boxes(run: RunBoxes, corner: tuple[int, int], size: tuple[int, int]) -> Any:
    boxes = run.boxes - np.array([*corner, *corner])
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centre >= 0) & (centre < size)).all(axis=1)
    return np.clip(boxes[inside], 0, [*size, *size]).astype(np.float32)
