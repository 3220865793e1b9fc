"""Truck detector: torchvision's Faster R-CNN for objects of 3 to 5 pixels.

Differences from the stock network: the input is upsampled twice and the finest feature map keeps the 10 m
resolution, since a stride of 4 or more loses a truck. Anchors have the size of a truck. At inference
proposals are selected by score, not by rank, so that no limit couples a place to the rest of a tile. All
layers are convolutions with batch norm, so the receptive field is bounded (see `models.receptive_field`).
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import (
    MultiScaleRoIAlign,
    box_iou,
    clip_boxes_to_image,
    remove_small_boxes,
    roi_align,
)

from pipeline.models.backbone import TruckBackbone
from pipeline.models.boxes import centred_in, heavy_only, suppress
from pipeline.models.family import Family

FOREGROUND_IOU = 0.5
POOLED_PX = 5
"""Side of the pooled features of a box."""
_SAMPLES = 2
_POOLED_AT_ONCE = 512
_MARGIN_PX = 1.0
"""Margin around an ignored box within which anchors and proposals belong to it."""


class ScoreProposals(RegionProposalNetwork):
    """Region proposal network that at inference proposes and decodes all anchors above a score.

    torchvision takes the best K of a tile, so a proposal depends on the rest of the tile. It decodes every
    anchor, several for each 10 m pixel, which costs more than the network.
    """

    min_objectness = 0.1

    def propose(self, objectness: Tensor, box_deltas: Tensor) -> list[Tensor]:
        """Return the proposals of each image, (K, 4) boxes in pixels.

        `objectness` is (N, H, W, anchors) in log-odds, `box_deltas` (N, H, W, 4 anchors).
        """
        (cells,) = self.anchor_generator.cell_anchors
        count, height, width, anchors = objectness.shape
        image, row, col, anchor = torch.nonzero(
            objectness > torch.logit(torch.tensor(self.min_objectness)), as_tuple=True
        )
        score = objectness[image, row, col, anchor]
        box_delta = box_deltas.view(count, height, width, anchors, 4)[image, row, col, anchor]
        corners = torch.stack([col, row, col, row], dim=1).to(score.dtype) + cells.to(score.device)[anchor]
        boxes = clip_boxes_to_image(self.box_coder.decode_single(box_delta, corners), (height, width))
        big = remove_small_boxes(boxes, self.min_size)
        image, boxes, score = image[big], boxes[big], score[big]
        found = [(boxes[image == index], score[image == index]) for index in range(count)]
        return [mine[suppress(mine, ranked, self.nms_thresh)] for mine, ranked in found]

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return labels (1 truck, 0 ground, -1 ignored) and boxes of anchors; no ground in ignored boxes."""
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            if "ignored" in target:
                label[(label == 0) & centred_in(anchor, target["ignored"], _MARGIN_PX)] = -1
        return labels, matched


def without_ignored(proposals: Tensor, target: dict[str, Tensor]) -> Tensor:
    """Return the proposals (K, 4) to train on: those on a truck, and those outside ignored boxes."""
    if "ignored" not in target or not len(target["ignored"]):
        return proposals
    taught = ~centred_in(proposals, target["ignored"], _MARGIN_PX)
    if len(target["boxes"]):
        taught |= box_iou(proposals, target["boxes"]).amax(dim=1) >= FOREGROUND_IOU
    return proposals[taught]


class TruckDetector(FasterRCNN):
    """Faster R-CNN on normalised reflectance; boxes in 10 m pixels of the input.

    Training: `detector(images, targets)` returns the losses. A target has `boxes` (N, 4) and `labels` (N,),
    and optionally `ignored` (M, 4), areas excluded from training. There is one class: heavy vehicles. Light
    ones are ground. Inference: `detector(images)` returns for
    each image `boxes` (K, 4) and `scores` (K,). Images are (C, H, W), all of one size; H and W are multiples
    of 4.
    """

    def __init__(
        self,
        bands: int,
        channels: list[int],
        features: int,
        anchor_sizes: list[float],
        anchor_ratios: list[float],
        head: int,
    ) -> None:
        anchors = AnchorGenerator((tuple(anchor_sizes),), (tuple(anchor_ratios),))
        # The stock generator rounds anchors to integers, too coarse for a truck of three pixels.
        anchors.cell_anchors = [_cell_anchors(anchor_sizes, anchor_ratios)]
        rpn_head = RPNHead(features, anchors.num_anchors_per_location()[0])
        super().__init__(
            TruckBackbone(bands, channels, features),
            rpn_anchor_generator=anchors,
            rpn_head=rpn_head,
            box_roi_pool=MultiScaleRoIAlign(["0"], output_size=POOLED_PX, sampling_ratio=_SAMPLES),
            box_head=_BoxHead(features * POOLED_PX**2, head),
            box_predictor=_BoxPredictor(head),
            box_score_thresh=0.05,
            box_nms_thresh=0.35,
            box_detections_per_img=1_000_000,
            box_fg_iou_thresh=FOREGROUND_IOU,
            box_bg_iou_thresh=FOREGROUND_IOU,
            box_batch_size_per_image=64,
            image_mean=[0.0] * bands,
            image_std=[1.0] * bands,
        )
        self.rpn: RegionProposalNetwork = ScoreProposals(
            anchors,
            rpn_head,
            fg_iou_thresh=FOREGROUND_IOU,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 600, "testing": 0},  # at inference `propose` takes them by score
            post_nms_top_n={"training": 300, "testing": 0},
            nms_thresh=0.7,
        )
        self.half_precision = False

    def forward(self, images: Tensor | list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Return losses or detections, see the class; `half_precision` applies to the convolutions only.

        They then run in bfloat16, the operations on boxes in float32.
        """
        batch = images if isinstance(images, Tensor) else torch.stack(images)
        with torch.autocast(batch.device.type, torch.bfloat16) if self.half_precision else nullcontext():
            if not self.training:
                maps = self.dense(batch)
            else:
                features = self.backbone(batch)
        if not self.training:
            return self.detections(*maps)
        targets = None if targets is None else heavy_only(targets)
        sizes = [(int(batch.shape[-2]), int(batch.shape[-1]))] * len(batch)
        features = OrderedDict((name, value.float()) for name, value in features.items())
        proposals, proposal_losses = self.rpn(ImageList(batch, sizes), features, targets)
        if targets is not None:
            proposals = [without_ignored(*pair) for pair in zip(proposals, targets, strict=True)]
        _, detector_losses = self.roi_heads(features, proposals, sizes, targets)
        return {**proposal_losses, **detector_losses}

    def dense(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return features (N, H, W, F), and the proposals' log-odds (N, H, W, A) and box deltas (N, H, W, 4
        A)."""
        features = self.backbone(images)["0"]
        objectness, box_deltas = self.rpn.head([features])
        return tuple(part.permute(0, 2, 3, 1) for part in (features, objectness[0], box_deltas[0]))

    def proposals(self, *maps: Tensor) -> list[Tensor]:
        """Return the proposals (K, 4) of each image from the maps of `dense`."""
        objectness, box_deltas = maps[1:]
        return self.rpn.propose(objectness.float(), box_deltas.float())

    def detections(self, *maps: Tensor, where: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Return the detections of `forward` at inference from the maps of `dense`."""
        features, proposals = maps[0], self.proposals(*maps)
        sizes = [(int(features.shape[1]), int(features.shape[2]))] * len(features)
        outputs = [self._run_roi_head(*pair) for pair in zip(features, proposals, strict=True)]
        logits, regression = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        found = self.roi_heads.postprocess_detections(logits, regression, proposals, sizes)
        return [
            {"boxes": boxes, "scores": scores, "labels": labels}
            for boxes, scores, labels in zip(*found, strict=True)
        ]

    def _run_roi_head(self, features: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-odds (K, 2) and regression (K, 8) of the boxes (K, 4) of one image, features (H, W, F).

        Boxes are processed in small groups, sorted by size, so that pooled features fit the processor's
        cache.
        """
        logits = features.new_empty((len(boxes), 2), dtype=torch.float32)
        regression = features.new_empty((len(boxes), 8), dtype=torch.float32)
        for part in (boxes[:, 2:] - boxes[:, :2]).amax(dim=1).argsort().split(_POOLED_AT_ONCE):
            pooled = pool_boxes(features, boxes[part])
            logits[part], regression[part] = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        return logits, regression


def pool_boxes(features: Tensor, boxes: Tensor, pooled_px: int = POOLED_PX) -> Tensor:
    """Return torchvision's RoIAlign of the boxes (K, 4) of one image: (K, F, P, P) of features (H, W, F).

    Each box has a patch of the features, as large as the largest box needs. `roi_align` itself needs features
    as (F, H, W), and transposing those of a complete tile takes longer than a convolution. Beyond the border
    a patch repeats the last pixel, as `roi_align` does (except for boxes less than a pixel wide that end
    there).
    """
    height, width, channels = features.shape
    if not len(boxes):
        return features.new_empty((0, channels, pooled_px, pooled_px), dtype=torch.float32)
    side = int((boxes[:, 2:] - boxes[:, :2]).amax().clamp(min=1).ceil()) + 2
    steps = torch.arange(side, device=boxes.device)
    corner = boxes[:, :2].floor()
    cols = (corner[:, :1].long() + steps).clamp(max=width - 1)
    rows = (corner[:, 1:].long() + steps).clamp(max=height - 1)
    patches = features[rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2).float()
    own = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)[:, None]
    shifted = torch.cat([own, boxes - corner.repeat(1, 2)], dim=1)
    return roi_align(patches, shifted, pooled_px, sampling_ratio=_SAMPLES)


class _BoxHead(nn.Sequential):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(
            nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )


class _BoxPredictor(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(inputs, 2)
        self.bbox_pred = nn.Linear(inputs, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x)


def _cell_anchors(sizes: list[float], ratios: list[float]) -> Tensor:
    """Return (A, 4) boxes around the centre of the pixel at the origin; ratio is height over width."""
    boxes = []
    for ratio in ratios:
        for size in sizes:
            width, height = size / ratio**0.5, size * ratio**0.5
            boxes.append([0.5 - width / 2, 0.5 - height / 2, 0.5 + width / 2, 0.5 + height / 2])
    return torch.tensor(boxes)


FAMILY = Family(
    "faster_rcnn",
    "detection",
    TruckDetector,
    {
        "channels": [24, 48, 96],
        "features": 40,
        "anchor_sizes": [4.0],
        "anchor_ratios": [0.6, 1.0, 1.67],
        "head": 128,
    },
)
