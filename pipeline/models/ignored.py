"""Which anchors, proposals and pixels lie where a detector learns nothing."""

from __future__ import annotations

from torch import Tensor


def centred_in(boxes: Tensor, areas: Tensor, margin: float = 0.0) -> Tensor:
    """(N,) whether the centre of each box (N, 4) lies in any of the areas (M, 4) or `margin` pixels off."""
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    return ((centre > areas[:, :2] - margin) & (centre < areas[:, 2:] + margin)).all(dim=2).any(dim=1)
