"""Compare two land-cover maps with the same labels: areas that are fixed, broken or still wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EvaluationError
from pipeline.evaluation.landcover.accuracy import BLOCK_PX, blocks, prediction_grid
from pipeline.evaluation.landcover.blocks import accuracy_and_iou, confusion_by_block
from pipeline.evaluation.landcover.confusion_matrix import mean_over
from pipeline.evaluation.landcover.disagreement import AGREE, large_areas, smallest_case_ha
from pipeline.evaluation.landcover.labels import UNLABELLED, LandcoverLabels
from pipeline.evaluation.trucks.compare import Difference, paired_differences
from pipeline.models.legend import LegendClass

LANDCOVER_CHANGES = ("fixed", "broken", "still wrong", "both right")
_FIXED, _BROKEN, _WRONG, _RIGHT = 0, 1, 2, 3


@dataclass(frozen=True)
class LandcoverComparison:
    """Two maps of K classes, compared where both and the labels have a class."""

    legend: tuple[LegendClass, ...]
    matrices: NDArray[np.int64]
    """(B, 2, K, K): of every block of ground before and after; rows are the labels' classes."""
    hectares: dict[str, float]
    """Hectares by `LANDCOVER_CHANGES`."""
    areas: gpd.GeoDataFrame
    """Connected areas of one change, from `smallest_case_ha` on, largest first: `change`, `area_ha`."""

    def differences(self) -> dict[str, Difference]:
        """Return differences of `accuracy`, `mean_iou` of the labelled classes, and the IoU of each."""
        labelled = self.matrices[:, 0].sum(axis=(0, 2)) > 0

        def metrics(sums: NDArray[np.float64]) -> NDArray[np.float64]:
            each = accuracy_and_iou(sums)
            mean = mean_over(labelled, each[..., 1:])
            return np.concatenate([each[..., :1], mean[..., None], each[..., 1:][..., labelled]], axis=-1)

        names = [item.name for item, there in zip(self.legend, labelled, strict=True) if there]
        counts = self.matrices.astype(np.float64)
        return paired_differences(counts, metrics, ["accuracy", "mean_iou", *names])


def compare_landcover(
    before: Path, after: Path, labels: LandcoverLabels, legend: Sequence[LegendClass]
) -> LandcoverComparison:
    """Compare two class rasters of one grid with labels on it, strip by strip.

    A pixel counts if both maps and the labels have a class. The blocks are squares of 2.56 km, as
    those of `evaluate_landcover`.

    Raises
    ------
    LabelsError
        If a raster can't be read.
    EvaluationError
        If the grids differ.
    """
    grid = prediction_grid(before)
    if prediction_grid(after) != grid:
        raise EvaluationError(
            f"Maps on different grids can't be compared: {before} and {after}. Run both again."
        )
    values = np.array([item.value for item in legend], dtype=np.uint8)
    found: list[NDArray[np.int64]] = []
    pixels = np.zeros(256, dtype=np.int64)

    def strips() -> Iterator[NDArray[np.uint8]]:
        sides = zip(blocks(before, labels), blocks(after, labels), strict=True)
        for (_, first, truth), (_, second, _) in sides:
            counts = np.logical_and.reduce([np.isin(side, values) for side in (first, second, truth)])
            truth = np.where(counts, truth, np.uint8(UNLABELLED))  # noqa: PLW2901
            pair = [confusion_by_block(truth, side, values, BLOCK_PX) for side in (first, second)]
            found.append(np.stack(pair, axis=1))
            right, now = first == truth, second == truth
            change = np.select([right & now, now, right], [_RIGHT, _FIXED, _BROKEN], _WRONG)
            code = np.where(counts, change, AGREE).astype(np.uint8)
            pixels[:] += np.bincount(code.ravel(), minlength=256)
            code[code == _RIGHT] = AGREE
            yield code

    areas = large_areas(strips(), grid, smallest_case_ha(labels))
    areas.insert(0, "change", np.array(LANDCOVER_CHANGES, dtype=object)[areas.pop("value").to_numpy()])
    pixel_ha = abs(grid.affine.determinant) / 10_000
    size = len(legend)
    return LandcoverComparison(
        tuple(legend),
        np.concatenate(found) if found else np.zeros((0, 2, size, size), np.int64),
        {name: float(pixels[code] * pixel_ha) for code, name in enumerate(LANDCOVER_CHANGES)},
        areas,
    )
