"""A scene as a torchgeo dataset, so that torchgeo's samplers can walk over anything that our openers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import torch
from rasterio.windows import Window
from torchgeo.datasets import GeoDataset
from torchgeo.samplers import GridGeoSampler
from torchgeo.samplers.constants import Units

from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.read import read_pixels, require_bands

PixelRectangle = tuple[int, int, int, int]
"""First column, first row, last column, last row (both exclusive at the end): as boxes are given."""


class SceneImagery(GeoDataset):
    """A SAFE product, GeoTIFF, folder of band files or STAC item: reflectance of any place on its 10 m grid.

    An item is `image` (C, H, W) float32 reflectance, 0 without data, and `valid` (H, W) bool. What lies
    beyond the scene has no data. Pixels are decoded when they are asked for.
    """

    def __init__(self, href: str, bands: Sequence[str], names: Sequence[str] | None = None) -> None:
        """Open `href`; `names` are a GeoTIFF's bands in order, where it does not say them itself.

        Raises
        ------
        TruckscapeError
            Whatever `open_scene` may raise; MissingBandError if one of `bands` is not in the scene.
        """
        self.scene, self.bands, self.paths = open_scene(href, names), tuple(bands), href
        require_bands(self.scene, self.bands)
        grid = self.scene.grid
        self._res = (float(grid.affine.a), float(-grid.affine.e))
        seen = pd.Timestamp(self.scene.acquired or 0).tz_localize(None)
        self.index = gpd.GeoDataFrame(
            {"filepath": [href]},
            index=pd.IntervalIndex.from_tuples([(seen, seen)], closed="both", name="datetime"),
            geometry=[shapely.box(*grid.boundingbox.bbox)],
            crs=grid.crs.to_wkt() if grid.crs else None,
        )

    def __getitem__(self, query: Any) -> dict[str, Any]:
        """The sample at [xmin:xmax, ymin:ymax] in map units."""
        x, y, _ = self._disambiguate_slice(query)
        return self.read(self.rectangle(x, y))

    def rectangle(self, x: slice, y: slice) -> PixelRectangle:
        """Map coordinates as columns and rows of the scene, which they may leave."""
        affine = ~self.scene.grid.affine
        left, top = affine * (x.start, y.stop)
        right, bottom = affine * (x.stop, y.start)
        return round(left), round(top), round(right), round(bottom)

    def read(self, rectangle: PixelRectangle) -> dict[str, Any]:
        """The sample at (first column, first row, end column, end row)."""
        left, top, right, bottom = rectangle
        rows, cols = self.scene.shape
        image = np.zeros((len(self.bands), bottom - top, right - left), np.float32)
        valid = np.zeros(image.shape[1:], np.bool_)
        first_row, end_row = max(0, top), min(rows, bottom)
        first_col, end_col = max(0, left), min(cols, right)
        if first_row < end_row and first_col < end_col:
            window = Window(first_col, first_row, end_col - first_col, end_row - first_row)
            pixels = read_pixels(self.scene, window, self.bands)
            inside = slice(first_row - top, end_row - top), slice(first_col - left, end_col - left)
            image[:, *inside], valid[inside] = pixels.reflectance, pixels.valid
        return {"image": torch.from_numpy(image), "valid": torch.from_numpy(valid)}

    def blocks(self, side: int) -> list[PixelRectangle]:
        """The `side` x `side` px blocks that cover the scene, those at its edge reaching beyond it."""
        # The sampler yields nothing for a scene that is smaller than a block (torchgeo#1630).
        rows, cols = self.scene.shape
        sampler = GridGeoSampler(self, (min(side, rows), min(side, cols)), side, units=Units.PIXELS)
        corners = (self.rectangle(x, y) for x, y, _ in sampler)
        return sorted((left, bottom - side, left + side, bottom) for left, _, _, bottom in corners)
