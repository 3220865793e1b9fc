"""Quality of land cover and trucks together: panoptic, segmentation and recognition quality.

Panoptic quality is not additive over cut segments, and a class of land cover is one segment of the whole
scene. So strips only give the areas in which each predicted segment meets each reference segment. The figures
follow from that sparse table, as from the whole image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.labels import IGNORED_CONFIDENCES
from pipeline.evaluation.landcover.accuracy import blocks, class_index, prediction_grid
from pipeline.evaluation.landcover.labels import LandcoverLabels
from pipeline.evaluation.trucks.scores import TruckEvaluation
from pipeline.layers.panoptic import truck_masks
from pipeline.models.legend import LegendClass

TRUCK = "truck"

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class PanopticEvaluation:
    """Segments matched with those of the reference, by category: the classes, then trucks; (K + 1,) each.

    Kirillov et al., "Panoptic Segmentation", CVPR 2019: two segments of a category match where their
    intersection is more than half of their union.
    """

    names: tuple[str, ...]
    iou: NDArray[np.float64]
    """Sum over the matched segments of intersection over union."""
    true_positives: Counts
    false_positives: Counts
    false_negatives: Counts

    @property
    def segmentation_quality(self) -> NDArray[np.float64]:
        """(K + 1,): mean IoU of the matched segments; 0 without any, NaN where there are no segments."""
        hits = self.true_positives
        quality = np.divide(self.iou, hits, out=np.zeros_like(self.iou), where=hits > 0)
        return np.where(self._segments > 0, quality, np.nan)

    @property
    def recognition_quality(self) -> NDArray[np.float64]:
        """(K + 1,): F1 of the segments; NaN where there are none."""
        quality = np.full(len(self.names), np.nan)
        return np.divide(self.true_positives, self._segments, out=quality, where=self._segments > 0)

    @property
    def panoptic_quality(self) -> NDArray[np.float64]:
        """(K + 1,): segmentation quality times recognition quality; NaN where there are no segments."""
        return self.segmentation_quality * self.recognition_quality

    @property
    def _segments(self) -> NDArray[np.float64]:
        return self.true_positives + (self.false_positives + self.false_negatives) / 2

    def metrics(self) -> dict[str, Any]:
        """Return all metrics as plain numbers for JSON; None where undefined.

        `all`, `stuff` (land cover) and `things` (trucks) are means over the categories with segments.
        """
        last = len(self.names) - 1
        groups = {"all": slice(None), "stuff": slice(last), "things": slice(last, None)}
        columns = {
            "pq": self.panoptic_quality,
            "sq": self.segmentation_quality,
            "rq": self.recognition_quality,
        }
        counts = {"tp": self.true_positives, "fp": self.false_positives, "fn": self.false_negatives}
        return {
            **{
                group: {name: _mean(values[part]) for name, values in columns.items()}
                for group, part in groups.items()
            },
            "classes": {
                name: {metric: _mean(values[[i]]) for metric, values in columns.items()}
                | {metric: int(values[i]) for metric, values in counts.items()}
                for i, name in enumerate(self.names)
            },
        }


def evaluate_panoptic(
    landcover: Path, labels: LandcoverLabels, legend: Sequence[LegendClass], trucks: TruckEvaluation
) -> PanopticEvaluation:
    """Compare land cover with trucks on top of it, to labels with labelled trucks on top of them.

    Masks of trucks are those of `pipeline.layers.panoptic.truck_masks`, of labels as of predictions. Void are
    pixels without a class, and labelled trucks that are ignored or not observed;
    detections off the roads, where those narrow the question, are left out. Reads strips, so memory is
    about 40 bytes a pixel of 512 rows.

    Raises
    ------
    LabelsError
        If the prediction can't be read.
    """
    grid = prediction_grid(landcover)
    crs = None if grid.crs is None else grid.crs.to_wkt()
    predicted, reference = (
        truck_masks(frame.to_crs(crs), grid) for frame in (trucks.predicted, trucks.reference)
    )
    void = len(legend)
    counts = ~trucks.reference["confidence"].isin(IGNORED_CONFIDENCES).to_numpy() & trucks.observed
    thing_of_prediction = void + 1 + np.arange(predicted.count)
    thing_of_reference = np.where(counts, void + 1 + np.arange(reference.count), void)
    index = class_index(legend).astype(np.int32)

    def strips() -> Iterable[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        for window, values, truth in blocks(landcover, labels):
            ours, theirs = index[values], index[truth]
            predicted.burn(ours, int(window.row_off), thing_of_prediction)
            reference.burn(theirs, int(window.row_off), thing_of_reference)
            yield ours, theirs

    return match_segments(strips(), tuple(entry.name for entry in legend))


def match_segments(
    strips: Iterable[tuple[NDArray[np.int32], NDArray[np.int32]]], classes: Sequence[str]
) -> PanopticEvaluation:
    """Panoptic quality of an image given as strips, (H, W), of predicted and of reference segments.

    With K classes, a pixel's number is 0 to K - 1: stuff of that class, K: void, K + 1 and above: a thing,
    all of one category. Void on one side is ignored: it is no part of a union, and a segment
    that is mostly void on the other side is no mistake. This is as in torchmetrics'
    `panoptic_quality`, which takes complete images; COCO's own `pq_compute` knows void in the reference only.
    """
    predicted, reference, area = _table(strips, len(classes))
    void = len(classes)
    area_p, area_r = _sums(predicted, area), _sums(reference, area)
    void_p = _sums(predicted, np.where(reference == void, area, 0))
    void_r = _sums(reference, np.where(predicted == void, area, 0))
    same = (_category(predicted, void) == _category(reference, void)) & (predicted != void)
    p, r, shared = predicted[same], reference[same], area[same]
    iou = shared / (area_p[p] - void_p[p] + area_r[r] - void_r[r] - shared)
    hit = iou > 0.5
    category = _category(p[hit], void) - (p[hit] > void)

    def false_negatives(areas: Counts, hidden: Counts, matched: Counts) -> Counts:
        """Segments by category that are matched with none and not mostly void."""
        wrong = (areas > 0) & (2 * hidden <= areas)
        wrong[matched] = False
        wrong[void : void + 1] = False
        numbers = np.flatnonzero(wrong)
        return np.bincount(_category(numbers, void) - (numbers > void), minlength=void + 1)

    return PanopticEvaluation(
        (*classes, TRUCK),
        np.bincount(category, iou[hit], void + 1).astype(np.float64),
        np.bincount(category, minlength=void + 1),
        false_negatives(area_p, void_p, p[hit]),
        false_negatives(area_r, void_r, r[hit]),
    )


def _table(
    strips: Iterable[tuple[NDArray[np.int32], NDArray[np.int32]]], void: int
) -> tuple[Counts, Counts, Counts]:
    """Predicted segment, reference segment, and their common area in pixels, for all pairs that meet."""
    stuff = np.zeros((void + 1) ** 2, np.int64)
    pairs, areas = [], []
    for ours, theirs in strips:
        thing = (ours > void) | (theirs > void)
        stuff += np.bincount((ours * np.int32(void + 1) + theirs)[~thing], minlength=len(stuff))
        pair, count = np.unique(
            ours[thing].astype(np.int64) << 32 | theirs[thing].astype(np.int64), return_counts=True
        )
        pairs.append(pair)
        areas.append(count)
    p, r = np.divmod(np.arange(len(stuff)), void + 1)
    codes = np.concatenate([p << 32 | r, *pairs])
    pair, inverse = np.unique(codes, return_inverse=True)
    area = _sums(inverse, np.concatenate([stuff, *areas]))
    there = area > 0
    return pair[there] >> 32, pair[there] & 0xFFFFFFFF, area[there]


def _sums(segments: Counts, areas: Counts) -> Counts:
    """Return (N,): total area of each segment; integers are exact as floats up to 2^53."""
    return np.bincount(segments, areas).astype(np.int64)


def _category(segments: Counts, void: int) -> Counts:
    """Return the class of stuff, and one more than void for all things."""
    return np.minimum(segments, void + 1)


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
