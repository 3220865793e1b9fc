"""Accuracy of a land-cover map: the confusion matrix, boundaries and figures, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from pipeline.errors import CorruptImageError, LabelsError
from pipeline.evaluation.bootstrap import block_bootstrap
from pipeline.evaluation.landcover import confusion_matrix
from pipeline.evaluation.landcover.boundaries import (
    TOLERANCE_M,
    BoundaryScores,
    boundary_metrics,
    boundary_pixels,
    halo_px,
)
from pipeline.evaluation.landcover.labels import UNLABELLED, LandcoverLabels, PointLabels
from pipeline.models.legend import LegendClass
from pipeline.scenes.raster.datasets import local_raster, open_raster

BLOCK_ROWS = 512
"""Rows compared at a time: what GeoTIFFs keep together, and 6 million pixels of a granule."""
BLOCK_PX = 256
"""Side of the blocks of ground that intervals are drawn from: 2.56 km, wider than fields and villages."""
NOTHING_COMPARED = "The labels cover no pixel that has a class on the map, so nothing could be measured."
KAPPA_NOTE = "for comparison only, see Pontius and Millones 2011, doi:10.1080/01431161.2011.552923"
_OF_ALL = (
    "accuracy",
    "mean_iou",
    "mean_f1",
    "quantity_disagreement",
    "allocation_disagreement",
    "boundary_f1",
    "mean_boundary_f1",
)
_OF_CLASSES = ("users_accuracy", "producers_accuracy", "iou", "f1", "boundary_f1")


@dataclass(frozen=True)
class LandcoverEvaluation:
    """A predicted land-cover map against labels: counts of pixels where both have a class."""

    legend: tuple[LegendClass, ...]
    matrix: NDArray[np.int64]
    """(K, K) pixels: rows are the labels' classes, columns the predicted ones, in the legend's order."""
    pixel_area_m2: float
    blocks: NDArray[np.int64] | None = None
    """(B, K, K): the matrix of every block of ground that has such pixels; None if unknown."""
    boundaries: BoundaryScores | None = None
    """Boundaries of the same blocks."""
    unknown_labelled: int = 0
    """Pixels whose label is no class of the legend, nor 255; they are ignored."""
    unknown_predicted: int = 0
    unknown_classes: tuple[str, ...] = ()
    """Classes of polygons that are none of the legend's; what only they cover is unlabelled."""

    @property
    def pixels(self) -> int:
        """Pixels compared."""
        return int(self.matrix.sum())

    @property
    def accuracy(self) -> float:
        """Share of the pixels compared where both agree; NaN if there are none."""
        return float(confusion_matrix.accuracy(self.matrix))

    @property
    def users_accuracy(self) -> NDArray[np.float64]:
        """(K,): share of the pixels mapped as a class that are it (precision); NaN where never mapped."""
        return confusion_matrix.users_accuracy(self.matrix)

    @property
    def producers_accuracy(self) -> NDArray[np.float64]:
        """(K,): share of the pixels of a class that are mapped as it (recall); NaN where absent."""
        return confusion_matrix.producers_accuracy(self.matrix)

    @property
    def iou(self) -> NDArray[np.float64]:
        """(K,): intersection over union; NaN where a class is in neither."""
        return confusion_matrix.iou(self.matrix)

    @property
    def f1(self) -> NDArray[np.float64]:
        """(K,): harmonic mean of user's and producer's accuracy; NaN where a class is in neither."""
        return confusion_matrix.f1(self.matrix)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(K,): classes that the labels have; means over classes are taken over these."""
        return self.matrix.sum(axis=1) > 0

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that the labels have."""
        return float(confusion_matrix.mean_over(self.labelled, self.iou))

    @property
    def mean_f1(self) -> float:
        """Mean F1 over the classes that the labels have."""
        return float(confusion_matrix.mean_over(self.labelled, self.f1))

    @property
    def hectares(self) -> NDArray[np.float64]:
        """(K, K): the matrix as areas."""
        return self.matrix.astype(np.float64) * (self.pixel_area_m2 / 10_000)

    @cached_property
    def intervals(self) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
        """95 % intervals by the metric's name: (2,) low and high of all, and (2, K) of the classes.

        By a bootstrap of blocks of `BLOCK_PX`; NaN with fewer than two blocks.
        """
        count = len(self.legend)
        if self.blocks is None or self.boundaries is None:
            counts = np.zeros((0, count, count + 4), dtype=np.int64)
        else:
            counts = np.concatenate([self.blocks, self.boundaries.blocks], axis=2)

        def metrics_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
            of_all, of_classes = _metrics(sums[..., :count], sums[..., count:], self.labelled)
            return np.concatenate(
                [np.stack([of_all[name] for name in _OF_ALL], axis=-1)]
                + [of_classes[name] for name in _OF_CLASSES],
                axis=-1,
            )

        bounds = block_bootstrap(counts, metrics_of)
        of_classes = bounds[:, len(_OF_ALL) :].reshape(2, len(_OF_CLASSES), count)
        return (
            {name: bounds[:, i] for i, name in enumerate(_OF_ALL)},
            {name: of_classes[:, i] for i, name in enumerate(_OF_CLASSES)},
        )

    def metrics(self) -> dict[str, Any]:
        """Return all metrics as plain numbers for JSON; None where undefined."""
        labelled, mapped = self.hectares.sum(axis=1), self.hectares.sum(axis=0)
        edges = (
            np.zeros((len(self.legend), 4), np.int64) if self.boundaries is None else self.boundaries.counts
        )
        boundary = boundary_metrics(edges)
        of_all, of_classes = _metrics(self.matrix, edges, self.labelled)
        interval_all, interval_classes = self.intervals
        return {
            **({} if self.pixels else {"note": NOTHING_COMPARED}),
            "pixels": self.pixels,
            "hectares": float(self.hectares.sum()),
            **{name: _plain(value) for name, value in of_all.items()},
            "kappa": _plain(confusion_matrix.kappa(self.matrix)),
            "kappa_note": KAPPA_NOTE,
            "boundary_tolerance_m": None if self.boundaries is None else self.boundaries.tolerance_m,
            "interval_95": {name: _plain(bounds) for name, bounds in interval_all.items()},
            "interval_blocks": {
                "count": 0 if self.blocks is None else len(self.blocks),
                "side_m": BLOCK_PX * self.pixel_area_m2**0.5,
            },
            "unknown_class_pixels": {"labels": self.unknown_labelled, "predicted": self.unknown_predicted},
            "unknown_classes": list(self.unknown_classes),
            "classes": {
                item.name: {
                    "value": item.value,
                    "labelled_ha": float(labelled[i]),
                    "predicted_ha": float(mapped[i]),
                    **{name: _plain(value[i]) for name, value in of_classes.items()},
                    "boundary_precision": _plain(boundary[i, 0]),
                    "boundary_recall": _plain(boundary[i, 1]),
                    "interval_95": {name: _plain(ends[:, i]) for name, ends in interval_classes.items()},
                }
                for i, item in enumerate(self.legend)
            },
            "confusion_matrix": {
                "rows": "labels",
                "columns": "predicted",
                "classes": [item.name for item in self.legend],
                "pixels": self.matrix.tolist(),
                "row_shares": _plain(confusion_matrix.row_shares(self.matrix)),
                "column_shares": _plain(confusion_matrix.column_shares(self.matrix)),
            },
        }


def _metrics(
    matrices: NDArray[Any], edges: NDArray[Any], labelled: NDArray[np.bool_]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Return metrics (...) of all and (..., K) of classes, of matrices (..., K, K) and edges (..., K, 4)."""
    boundary_f1 = boundary_metrics(edges)[..., 2]
    of_classes = {
        "users_accuracy": confusion_matrix.users_accuracy(matrices),
        "producers_accuracy": confusion_matrix.producers_accuracy(matrices),
        "iou": confusion_matrix.iou(matrices),
        "f1": confusion_matrix.f1(matrices),
        "boundary_f1": boundary_f1,
    }
    of_all = {
        "accuracy": confusion_matrix.accuracy(matrices),
        "mean_iou": confusion_matrix.mean_over(labelled, of_classes["iou"]),
        "mean_f1": confusion_matrix.mean_over(labelled, of_classes["f1"]),
        "quantity_disagreement": confusion_matrix.quantity_disagreement(matrices),
        "allocation_disagreement": confusion_matrix.allocation_disagreement(matrices),
        "boundary_f1": boundary_metrics(edges.sum(axis=-2))[..., 2],
        "mean_boundary_f1": confusion_matrix.mean_over(labelled, boundary_f1),
    }
    return of_all, of_classes


def prediction_grid(path: Path | str) -> GeoBox:
    """Return the grid of a predicted land-cover raster.

    Raises
    ------
    LabelsError
        If there is no readable raster at `path`, it is not uint8, or it has no CRS.
    """
    try:
        with open_raster(
            local_raster(path, "The predicted land cover"), "The predicted land cover"
        ) as source:
            if source.crs is None:
                raise LabelsError(f"The predicted land cover has no CRS: {path}")
            if source.dtypes[0] != "uint8":
                raise LabelsError(
                    f"A land-cover raster holds uint8 class values. {path} is {source.dtypes[0]}."
                )
            return GeoBox.from_rio(source)
    except CorruptImageError as error:
        raise LabelsError(f"The predicted land cover can't be read as a raster: {path}") from error


def blocks(
    predicted: Path | str, labels: LandcoverLabels, halo: int = 0
) -> Iterator[tuple[Window, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Windows of whole rows from top to bottom, with the predicted and the labels' values, (H, W) each.

    The values have up to `halo` rows more, above and below, where the raster has them.
    """
    with open_raster(
        local_raster(predicted, "The predicted land cover"), "The predicted land cover"
    ) as source:
        for row in range(0, source.height, BLOCK_ROWS):
            window = Window(0, row, source.width, min(BLOCK_ROWS, source.height - row))
            top, stop = max(0, row - halo), min(source.height, row + window.height + halo)
            wider = Window(0, top, source.width, stop - top)
            values = source.read(1, window=wider)
            if source.nodata is not None:
                values[values == source.nodata] = UNLABELLED
            yield window, values, labels.read(wider)


def evaluate_landcover(
    predicted: Path | str,
    labels: LandcoverLabels,
    legend: Sequence[LegendClass],
    tolerance_m: float = TOLERANCE_M,
) -> LandcoverEvaluation:
    """Compare a raster of class values with labels on its grid; pixels of 255 in either are ignored.

    Boundaries may be `tolerance_m` apart; points have none. Reads `BLOCK_ROWS` rows at a time, so memory
    doesn't grow with the height of the scene: it takes 25 bytes for each of their pixels. The result doesn't
    depend on them. Values that are not in the legend count as no value, and are counted. Where no pixel has
    a value in both, every metric is NaN.

    Raises
    ------
    LabelsError
        If the prediction can't be read.
    """
    area = abs(prediction_grid(predicted).affine.determinant)
    index, count = class_index(legend), len(legend)
    tolerance_px = tolerance_m / float(area) ** 0.5
    halo = halo_px(tolerance_px)
    matrices: dict[tuple[int, int], NDArray[np.int64]] = {}
    edges: dict[tuple[int, int], NDArray[np.int64]] = {}
    unknown = np.zeros(2, dtype=np.int64)
    for window, values, truth in blocks(predicted, labels, halo):
        labelled, mapped = index[truth], index[values]
        if isinstance(labels, PointLabels):
            near = np.zeros_like(labelled)
        else:
            near = boundary_pixels(labelled, mapped, count, tolerance_px)
        above = min(halo, window.row_off)
        core = np.s_[above : above + window.height]
        for i, (classes, numbers) in enumerate(((labelled, truth), (mapped, values))):
            unknown[i] += ((classes[core] == count) & (numbers[core] != UNLABELLED)).sum()
        for block, part in _parts(window, above):
            pairs = labelled[part] * np.uint16(count + 1) + mapped[part]
            found = np.bincount(pairs.ravel(), minlength=(count + 1) ** 2).reshape(count + 1, count + 1)
            matrices[block] = matrices.get(block, 0) + found[:count, :count]
            edges[block] = edges.get(block, 0) + _boundary_counts(
                labelled[part], mapped[part], near[part], count
            )
    there = [block for block, matrix in matrices.items() if matrix.any()]
    by_block = np.array([matrices[block] for block in there], dtype=np.int64).reshape(-1, count, count)
    edges_by_block = np.array([edges[block] for block in there], dtype=np.int64).reshape(-1, count, 4)
    return LandcoverEvaluation(
        tuple(legend),
        by_block.sum(axis=0),
        float(area),
        by_block,
        BoundaryScores(edges_by_block, tolerance_m),
        unknown_labelled=int(unknown[0]),
        unknown_predicted=int(unknown[1]),
        unknown_classes=labels.unknown_classes,
    )


def _parts(window: Window, above: int) -> Iterator[tuple[tuple[int, int], tuple[slice, slice]]]:
    """Yield the blocks of ground in a window of rows, and their places below its first `above` rows."""
    first, stop = window.row_off, window.row_off + window.height
    for row in range(first // BLOCK_PX, -(-stop // BLOCK_PX)):
        rows = slice(
            max(first, row * BLOCK_PX) - first + above, min(stop, (row + 1) * BLOCK_PX) - first + above
        )
        for col in range(-(-window.width // BLOCK_PX)):
            yield (row, col), (rows, slice(col * BLOCK_PX, (col + 1) * BLOCK_PX))


def _boundary_counts(
    labelled: NDArray[np.uint8], mapped: NDArray[np.uint8], near: NDArray[np.uint8], count: int
) -> NDArray[np.int64]:
    """Return (K, 4) of `pipeline.evaluation.landcover.boundaries.BoundaryScores` from `boundary_pixels`."""
    at = np.nonzero(near)
    bits = near[at]
    columns = []
    for classes, boundary, close in ((mapped[at], 1, 2), (labelled[at], 4, 8)):
        columns += [np.bincount(classes[bits & bit > 0], minlength=count) for bit in (boundary, close)]
    return np.stack(columns, axis=1)


def class_index(legend: Sequence[LegendClass]) -> NDArray[np.uint8]:
    """Return (256,): position of each value in the legend, `len(legend)` for values that are not in it."""
    index = np.full(256, len(legend), dtype=np.uint8)
    for i, item in enumerate(legend):
        index[item.value] = i
    return index


def _plain(numbers: ArrayLike) -> Any:
    """Numbers, nested as they are, for JSON: None for what is not finite."""
    values = np.asarray(numbers, dtype=np.float64)
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()
