"""Operations on boxes: suppression of overlaps, centres inside ignored areas, and their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

if TYPE_CHECKING:  # torch takes seconds, and merging shards does not need it
    from torch import Tensor

HEAVY, LIGHT = 1, 2
"""Labels of boxes in training targets: vehicles of 8 m and more, and all other vehicles that move."""


def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices that `torchvision.ops.nms` keeps of boxes (N, 4) with scores (N,), best first.

    torchvision compares all pairs, which takes a second for the 40,000 proposals of a tile full of roads.
    Here only pairs that can overlap enough are compared: their sides differ by less than a factor of 1 /
    iou_threshold, and their centres are less than (1 - t) / (1 + t) of the longer side apart in x and in y.
    The result is the same, since the overlap of the widths is at least that of the areas. In a graph for
    export it is torchvision's operation, which ONNX has.
    """
    import torch

    if torch.onnx.is_in_onnx_export():
        from torchvision.ops import nms

        return torch.as_tensor(nms(boxes, scores, iou_threshold))
    corners = boxes.detach().cpu().numpy()
    order = np.argsort(-scores.detach().cpu().numpy(), kind="stable")
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    pairs = _overlapping(corners, iou_threshold)
    return torch.from_numpy(order[~suppressed(rank, pairs)[order]]).to(boxes.device)


def _overlapping(boxes: NDArray[np.float32], threshold: float) -> NDArray[np.intp]:
    """Return the (P, 2) pairs of boxes whose intersection over union is above the threshold."""
    low, high = boxes[:, :2], boxes[:, 2:]
    centres, sides = (low + high) / 2, (high - low).max(axis=1, initial=0)
    areas = (high - low).prod(axis=1)
    size = np.floor(np.log(np.maximum(sides, 1e-3)) / np.log(1 / threshold)).astype(np.intp)
    found = [np.zeros((0, 2), dtype=np.intp)]
    for step in np.unique(size):
        group = np.flatnonzero((size == step) | (size == step + 1))
        reach = float(sides[group].max()) * (1 - threshold) / (1 + threshold)
        near = KDTree(centres[group], balanced_tree=False).query_pairs(reach, p=np.inf, output_type="ndarray")
        first, second = group[near].T
        common = np.clip(np.minimum(high[first], high[second]) - np.maximum(low[first], low[second]), 0, None)
        shared = common.prod(axis=1)
        above = shared > threshold * (areas[first] + areas[second] - shared)
        found.append(np.column_stack((first, second))[above])
    return np.concatenate(found)


def suppressed(rank: NDArray[np.intp], pairs: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return a mask (N,) of the boxes to suppress, from (P, 2) pairs of which only one box can stay.

    A suppressed box suppresses no other. `rank` is 0 for the best. Each round keeps the boxes without a
    better neighbour and suppresses the neighbours of these.
    """
    gone = np.zeros(len(rank), dtype=bool)
    first, second = pairs.T
    ahead = rank[first] < rank[second]
    better, worse = np.where(ahead, first, second), np.where(ahead, second, first)
    contested = np.zeros(len(rank), dtype=bool)
    while len(better):
        contested[worse] = True
        gone[worse[~contested[better]]] = True
        contested[worse] = False
        undecided = ~(gone[better] | gone[worse])
        better, worse = better[undecided], worse[undecided]
    return gone


def heavy_only(targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return the targets of a detector of one class: heavy vehicles (label 1); light ones are ground."""
    return [
        {**target, "boxes": target["boxes"][heavy], "labels": target["labels"][heavy]}
        for target, heavy in ((one, one["labels"] == HEAVY) for one in targets)
    ]


def centred_in(boxes: Tensor, areas: Tensor, margin: float = 0.0) -> Tensor:
    """Return a mask (N,) of the boxes (N, 4) with a centre in an area (M, 4) or within `margin` pixels of
    one."""
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    return ((centre > areas[:, :2] - margin) & (centre < areas[:, 2:] + margin)).all(dim=2).any(dim=1)
