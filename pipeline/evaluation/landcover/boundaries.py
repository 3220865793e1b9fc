"""Agreement of class boundaries of map and labels: boundary F1, to a tolerance.

Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013:
precision is the share of a class's mapped boundary near its labelled boundary, recall the share of the
labelled one near the mapped one. A boundary is the pixels of a class with a 4-neighbour of another class.
Pixels without a class on either side make no boundary, since nothing is known there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.bootstrap import ratio

TOLERANCE_M = 20.0
"""Two pixels of Sentinel-2: mixed pixels, and the geolocation of two sources against each other."""
MAX_CLASSES = 64


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary pixels of K classes, counted by block of ground."""

    blocks: NDArray[np.int64]
    """(B, K, 4): mapped boundary, those of it near the labelled one, labelled boundary, near the mapped."""
    tolerance_m: float

    @property
    def counts(self) -> NDArray[np.int64]:
        """(K, 4): of all blocks together."""
        return self.blocks.sum(axis=0)

    @property
    def precision(self) -> NDArray[np.float64]:
        """(K,): share of the mapped boundary near the labelled; NaN where a class has no mapped boundary."""
        return boundary_metrics(self.counts)[..., 0]

    @property
    def recall(self) -> NDArray[np.float64]:
        """(K,): share of the labelled boundary near the mapped; NaN where a class has no labelled one."""
        return boundary_metrics(self.counts)[..., 1]

    @property
    def f1(self) -> NDArray[np.float64]:
        """(K,): harmonic mean of both; 0 where only one side has a boundary, NaN where neither has."""
        return boundary_metrics(self.counts)[..., 2]

    @property
    def overall_f1(self) -> float:
        """F1 of the boundary pixels of all classes together; NaN if there are none."""
        return float(boundary_metrics(self.counts.sum(axis=0))[2])


def boundary_metrics(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return (..., 3) precision, recall and F1 of (..., 4) counts as in `BoundaryScores.blocks`."""
    mapped, mapped_near, labelled, labelled_near = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    precision, recall = ratio(mapped_near, mapped), ratio(labelled_near, labelled)
    found = np.nan_to_num(precision) + np.nan_to_num(recall)
    f1 = ratio(2 * np.nan_to_num(precision) * np.nan_to_num(recall), found)
    # Boundaries that are nowhere near each other, or on one side only, are as wrong as can be.
    f1 = np.where((found == 0) & (mapped + labelled > 0), 0.0, f1)
    return np.stack([precision, recall, f1], axis=-1)


def halo_px(tolerance_px: float) -> int:
    """Pixels around a window that decide about the boundaries in it."""
    return math.floor(tolerance_px) + 1


def boundary_pixels(
    labelled: NDArray[np.uint8], mapped: NDArray[np.uint8], classes: int, tolerance_px: float
) -> NDArray[np.uint8]:
    """Return (H, W) bits: 1 mapped boundary, 2 near a labelled one of its class, 4 labelled, 8 near a mapped.

    `labelled` and `mapped` are (H, W) positions in a legend of `classes`, up to `MAX_CLASSES`; higher values
    are none. Right for pixels with `halo_px` around them, or the scene's edge. Near is a distance between
    centres of at most `tolerance_px`. Memory: 20 bytes a pixel with up to 16 classes.
    """
    if classes > MAX_CLASSES:
        raise ValueError(f"At most {MAX_CLASSES} classes can have boundaries. Received: {classes}")
    both = (labelled < classes) & (mapped < classes)
    bits: type[np.unsignedinteger] = np.uint16 if classes <= 16 else np.uint64
    of_class = np.append(
        np.left_shift(bits(1), np.arange(classes, dtype=bits)), np.zeros(256 - classes, bits)
    )
    kinds = [np.where(_is_boundary(kind, both), of_class[kind], bits(0)) for kind in (mapped, labelled)]
    found = np.zeros(labelled.shape, dtype=np.uint8)
    for own, other, shift in ((kinds[0], kinds[1], 0), (kinds[1], kinds[0], 2)):
        found |= (own > 0).astype(np.uint8) << np.uint8(shift)
        found |= ((own & _spread(other, tolerance_px)) > 0).astype(np.uint8) << np.uint8(shift + 1)
    return found


def _is_boundary(kind: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    boundary = np.zeros(kind.shape, dtype=bool)
    for here, there in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
    ):
        differ = (kind[here] != kind[there]) & known[here] & known[there]
        boundary[here] |= differ
        boundary[there] |= differ
    return boundary


def _spread(bits: NDArray[np.unsignedinteger], radius: float) -> NDArray[np.unsignedinteger]:
    """Set every bit in a disc around its pixels, row by row of the disc, the widest last."""
    reach = math.floor(radius)
    widths = [math.floor(math.sqrt(radius**2 - dy**2)) for dy in range(reach + 1)]
    result = np.zeros_like(bits)
    row = bits.copy()
    for width in range(reach + 1):
        if 0 < width < bits.shape[1]:
            row[:, width:] |= bits[:, :-width]
            row[:, :-width] |= bits[:, width:]
        for dy in (dy for dy, wide in enumerate(widths) if wide == width and dy < len(bits)):
            result[dy:] |= row[: len(bits) - dy]
            result[: len(bits) - dy] |= row[dy:]
    return result
