"""Truck detector with proposals from image features, and a network for each proposal.

Girshick, "Fast R-CNN", 2015 (arXiv:1504.08083), made small: features of the image are computed once, and
pooled for each proposal. The same class is R-CNN if the "features" are the image itself. Proposals are the
pairs of spots of `band_contrast`. Every step is local, so tiles are exact.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import clip_boxes_to_image, roi_align

from pipeline.models.backbone import TruckBackbone
from pipeline.models.band_contrast import BandContrast, spot_pairs
from pipeline.models.boxes import HEAVY, suppress
from pipeline.models.family import Family, MapDetector
from pipeline.models.faster_rcnn import FOREGROUND_IOU, POOLED_PX, pool_boxes, without_ignored

_CLASSES = 3
"""Ground, heavy and light vehicles."""
_MIN_VEHICLE_SCORE = 0.05
_NMS_IOU = 0.35
_POOLED_AT_ONCE = 512


class ContextPool(nn.Module):
    """Pooling of boxes that are larger by `margin` pixels on each side, for torchvision's RoI heads."""

    def __init__(self, pooled_px: int, margin: float) -> None:
        super().__init__()
        self.pooled_px, self.margin = pooled_px, margin

    def forward(
        self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Return (K, F, P, P) of the features (N, F, H, W) and the boxes of each image."""
        wider = [self.widened(one, shape) for one, shape in zip(boxes, image_shapes, strict=True)]
        return roi_align(features["0"], wider, self.pooled_px, sampling_ratio=2)

    def widened(self, boxes: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return boxes (K, 4) with the margin, clipped to an image of this shape."""
        grown = boxes + boxes.new_tensor([-1.0, -1.0, 1.0, 1.0]) * self.margin
        return clip_boxes_to_image(grown, shape)


class RegionDetector(MapDetector):
    """Proposals from image features, classified and moved by a head on pooled features of each.

    Training: `detector(images, targets)` returns the losses. A target has `boxes` (N, 4), `labels` (N,), 1
    for heavy and 2 for light vehicles, and optionally `ignored` (M, 4), areas excluded from training.
    Inference: `detector(images)` returns for each image `boxes` (K, 4), `scores` (K,) of heavy vehicles and
    `vehicle_scores` (K,) of any. Images are (C, H, W), normalised, all of one size; the first bands are blue,
    green and red.
    """

    def __init__(
        self, backbone: nn.Module, pool: ContextPool, head: nn.Module, hidden: int, min_contrast: float
    ) -> None:
        super().__init__()
        self.contrast = BandContrast()
        self.backbone = backbone
        self.min_contrast = min_contrast
        self.roi_heads = RoIHeads(
            pool,
            head,
            FastRCNNPredictor(hidden, _CLASSES),
            fg_iou_thresh=FOREGROUND_IOU,
            bg_iou_thresh=FOREGROUND_IOU,
            batch_size_per_image=64,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=_MIN_VEHICLE_SCORE,
            nms_thresh=_NMS_IOU,
            detections_per_img=1_000_000,
        )

    def dense(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return features (N, H, W, F), and contrasts of blue and red (N, H, W, 2)."""
        features = self.backbone(images)["0"]
        return tuple(part.permute(0, 2, 3, 1) for part in (features, self.contrast(images)))

    def proposals(self, *maps: Tensor) -> list[Tensor]:
        """Return the proposals (K, 4) of each image from the maps of `dense`."""
        return [spot_pairs(contrast, self.min_contrast) for contrast in maps[1]]

    def detections(self, *maps: Tensor, where: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Return the detections of each image from `dense`'s maps, without suppressed ones."""
        return [self._of_image(*one) for one in zip(maps[0], self.proposals(*maps), strict=True)]

    def losses(self, maps: tuple[Tensor, ...], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the losses of the second stage on the proposals that are not ignored."""
        proposals = [without_ignored(*one) for one in zip(self.proposals(*maps), targets, strict=True)]
        features = OrderedDict([("0", maps[0].permute(0, 3, 1, 2).float())])
        sizes = [(int(maps[0].shape[1]), int(maps[0].shape[2]))] * len(maps[0])
        _, losses = self.roi_heads(features, proposals, sizes, targets)
        return dict(losses)

    def _of_image(self, features: Tensor, proposals: Tensor) -> dict[str, Tensor]:
        """Return the detections of an image: features (H, W, F), proposals (K, 4)."""
        pool: ContextPool = self.roi_heads.box_roi_pool
        shape = (int(features.shape[0]), int(features.shape[1]))
        probabilities, places = proposals.new_zeros((len(proposals), _CLASSES)), proposals.clone()
        for part in torch.arange(len(proposals), device=proposals.device).split(_POOLED_AT_ONCE):
            pooled = pool_boxes(features, pool.widened(proposals[part], shape), pool.pooled_px)
            logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
            chances = logits.softmax(dim=1)
            likeliest = chances[:, HEAVY:].argmax(dim=1) + HEAVY
            decoded = self.roi_heads.box_coder.decode(deltas, [proposals[part]]).view(-1, _CLASSES, 4)
            probabilities[part] = chances
            places[part] = decoded[torch.arange(len(part), device=part.device), likeliest]
        vehicle = probabilities[:, HEAVY:].sum(dim=1)
        found = vehicle >= _MIN_VEHICLE_SCORE
        boxes = clip_boxes_to_image(places[found], shape)
        best = suppress(boxes, vehicle[found], _NMS_IOU)
        return {
            "boxes": boxes[best],
            "scores": probabilities[found, HEAVY][best],
            "vehicle_scores": vehicle[found][best],
        }


class FastDetector(RegionDetector):
    """Fast R-CNN: the backbone of all detectors once for the image, and two linear layers a proposal."""

    def __init__(
        self, bands: int, channels: list[int], features: int, head: int, min_contrast: float
    ) -> None:
        super().__init__(
            TruckBackbone(bands, channels, features),
            ContextPool(POOLED_PX, 0.0),
            TwoMLPHead(features * POOLED_PX**2, head),
            head,
            min_contrast,
        )


FAMILY = Family(
    "fast_rcnn",
    "detection",
    FastDetector,
    {"channels": [24, 48, 96], "features": 40, "head": 128, "min_contrast": 1.0},
    scores_vehicles=True,
)
