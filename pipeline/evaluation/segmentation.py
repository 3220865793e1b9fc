"""How good a land-cover map is: the confusion matrix and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from pipeline.errors import LabelsError
from pipeline.evaluation.labels import UNLABELLED, LandcoverLabels
from pipeline.models.bundle import LegendClass

BLOCK_ROWS = 512
"""Rows compared at a time: what GeoTIFFs keep together, and 6 million pixels of a granule."""


@dataclass(frozen=True)
class LandcoverEvaluation:
    """A predicted land-cover map against labels: counts of pixels where both have a class."""

    legend: tuple[LegendClass, ...]
    matrix: NDArray[np.int64]
    """(K, K) pixels: rows are the labels' classes, columns the predicted ones, in the legend's order."""
    pixel_area_m2: float

    @property
    def pixels(self) -> int:
        """Pixels compared."""
        return int(self.matrix.sum())

    @property
    def accuracy(self) -> float:
        """Share of the pixels compared where both agree; NaN if there are none."""
        return float(np.trace(self.matrix) / self.pixels) if self.pixels else float("nan")

    @property
    def users_accuracy(self) -> NDArray[np.float64]:
        """(K,): share of the pixels mapped as a class that are it (precision); NaN where never mapped."""
        return _divide(np.diag(self.matrix), self.matrix.sum(axis=0))

    @property
    def producers_accuracy(self) -> NDArray[np.float64]:
        """(K,): share of the pixels of a class that are mapped as it (recall); NaN where absent."""
        return _divide(np.diag(self.matrix), self.matrix.sum(axis=1))

    @property
    def iou(self) -> NDArray[np.float64]:
        """(K,): intersection over union; NaN where a class is in neither."""
        hits = np.diag(self.matrix)
        return _divide(hits, self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hits)

    @property
    def f1(self) -> NDArray[np.float64]:
        """(K,): harmonic mean of user's and producer's accuracy; NaN where a class is in neither."""
        return _divide(2 * np.diag(self.matrix), self.matrix.sum(axis=0) + self.matrix.sum(axis=1))

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(K,): classes that the labels have; means over classes are taken over these."""
        return self.matrix.sum(axis=1) > 0

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that the labels have."""
        return float(self.iou[self.labelled].mean()) if self.pixels else float("nan")

    @property
    def mean_f1(self) -> float:
        """Mean F1 over the classes that the labels have."""
        return float(self.f1[self.labelled].mean()) if self.pixels else float("nan")

    @property
    def hectares(self) -> NDArray[np.float64]:
        """(K, K): the matrix as areas."""
        return self.matrix.astype(np.float64) * (self.pixel_area_m2 / 10_000)

    def metrics(self) -> dict[str, Any]:
        """All figures as plain numbers for JSON; None where a figure is not defined."""
        labelled, mapped = self.hectares.sum(axis=1), self.hectares.sum(axis=0)
        return {
            "pixels": self.pixels,
            "hectares": float(self.hectares.sum()),
            "accuracy": _number(self.accuracy),
            "mean_iou": _number(self.mean_iou),
            "mean_f1": _number(self.mean_f1),
            "classes": {
                item.name: {
                    "value": item.value,
                    "labelled_ha": float(labelled[i]),
                    "predicted_ha": float(mapped[i]),
                    "users_accuracy": _number(self.users_accuracy[i]),
                    "producers_accuracy": _number(self.producers_accuracy[i]),
                    "iou": _number(self.iou[i]),
                    "f1": _number(self.f1[i]),
                }
                for i, item in enumerate(self.legend)
            },
            "confusion_matrix": {
                "rows": "labels",
                "columns": "predicted",
                "classes": [item.name for item in self.legend],
                "pixels": self.matrix.tolist(),
            },
        }


def prediction_grid(path: Path | str) -> GeoBox:
    """The grid of a predicted land-cover raster.

    Raises
    ------
    LabelsError
        If there is no readable raster at `path`, it is not uint8, or it has no CRS.
    """
    try:
        with rasterio.open(path) as source:
            if source.crs is None:
                raise LabelsError(f"The predicted land cover has no CRS: {path}")
            if source.dtypes[0] != "uint8":
                raise LabelsError(
                    f"A land-cover raster holds uint8 class values. {path} is {source.dtypes[0]}."
                )
            return GeoBox.from_rio(source)
    except RasterioError as error:
        raise LabelsError(f"The predicted land cover can't be read as a raster: {path}") from error


def blocks(
    predicted: Path | str, labels: LandcoverLabels
) -> Iterator[tuple[Window, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Windows of whole rows from top to bottom, with the predicted and the labels' values, (H, W) each."""
    with rasterio.open(predicted) as source:
        for row in range(0, source.height, BLOCK_ROWS):
            window = Window(0, row, source.width, min(BLOCK_ROWS, source.height - row))
            values = source.read(1, window=window)
            if source.nodata is not None:
                values[values == source.nodata] = UNLABELLED
            yield window, values, labels.read(window)


def evaluate_landcover(
    predicted: Path | str, labels: LandcoverLabels, legend: Sequence[LegendClass]
) -> LandcoverEvaluation:
    """Compare a raster of class values with labels on its grid; 255 in either counts neither way.

    Reads `BLOCK_ROWS` rows at a time, so memory doesn't grow with the height of the scene: it takes 13 bytes
    for each of their pixels. Values that are not in the legend count as no value.

    Raises
    ------
    LabelsError
        If the prediction can't be read, or no pixel has a value in both.
    """
    area = abs(prediction_grid(predicted).affine.determinant)
    index = class_index(legend)
    count = len(legend)
    whole = np.zeros((count + 1, count + 1), dtype=np.int64)
    for _, values, truth in blocks(predicted, labels):
        pairs = index[truth] * np.uint16(count + 1) + index[values]
        whole += np.bincount(pairs.ravel(), minlength=whole.size).reshape(whole.shape)
    matrix = whole[:count, :count]
    if not matrix.any():
        raise LabelsError(
            f"Nothing to compare: the labels cover no pixel of {predicted} that has a class. "
            "Are they of the same place?"
        )
    return LandcoverEvaluation(tuple(legend), matrix, float(area))


def class_index(legend: Sequence[LegendClass]) -> NDArray[np.uint8]:
    """(256,): position of each value in the legend, `len(legend)` for values that are not in it."""
    index = np.full(256, len(legend), dtype=np.uint8)
    for i, item in enumerate(legend):
        index[item.value] = i
    return index


def _divide(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    result = np.full(len(part), np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
