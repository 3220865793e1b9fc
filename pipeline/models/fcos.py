"""Single-stage truck detector: torchvision's FCOS for objects of 3 to 5 pixels.

Tian, Shen, Chen and He, "FCOS: Fully Convolutional One-Stage Object Detection", 2019 (arXiv:1904.01355).
Every 10 m pixel predicts the probability of a truck's centre, the distances to the sides of its box, and its
centre-ness. There are no anchors to choose and no second stage. Differences from the stock network: one
feature map at full resolution, batch norm in place of group norm (which depends on the complete image),
ignored boxes in training, and all detections above a score in place of the best K of a tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

from pipeline.models.backbone import TruckBackbone
from pipeline.models.boxes import centred_in, heavy_only, suppress
from pipeline.models.family import Family

_NEVER_A_TRUCK = -30.0
"""Logit at which the focal loss of ground and its gradient vanish."""


class PixelHead(FCOSHead):
    """Head of FCOS with batch norm: two towers of convolutions."""

    def __init__(self, features: int, convolutions: int) -> None:
        super().__init__(features, num_anchors=1, num_classes=1, num_convs=0)
        self.classification_head = FCOSClassificationHead(
            features, 1, 1, convolutions, norm_layer=nn.BatchNorm2d
        )
        self.regression_head = FCOSRegressionHead(features, 1, convolutions, norm_layer=nn.BatchNorm2d)
        # Sides pass a ReLU: with a start at the half extent of a truck, in pixels, none has a zero gradient.
        nn.init.constant_(self.regression_head.bbox_reg.bias, 2.0)

    def maps(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (N, 1, H, W), sides (N, 4, H, W) and logits of centre-ness (N, 1, H, W) of features.

        Sides are distances to the left, upper, right and lower edge of the box, in pixels.
        """
        place = self.regression_head.conv(features)
        return (
            self.classification_head.cls_logits(self.classification_head.conv(features)),
            functional.relu(self.regression_head.bbox_reg(place)),
            self.regression_head.bbox_ctrness(place),
        )

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the losses of FCOS, without pixels that are in an ignored box and belong to no truck."""
        silent = torch.stack(
            [
                centred_in(pixels, target["ignored"]) & (truck < 0)
                for pixels, target, truck in zip(anchors, targets, matched_idxs, strict=True)
            ]
        )
        logits = head_outputs["cls_logits"].masked_fill(silent[..., None], _NEVER_A_TRUCK)
        losses: dict[str, Tensor] = super().compute_loss(
            targets, {**head_outputs, "cls_logits": logits}, anchors, matched_idxs
        )
        return losses


class SingleStageDetector(FCOS):
    """FCOS on normalised reflectance; boxes in 10 m pixels of the input.

    Training: `detector(images, targets)` returns the losses. A target has `boxes` (N, 4) and `labels` (N,),
    and optionally `ignored` (M, 4), areas excluded from training. There is one class: heavy vehicles. Light
    ones are ground. Inference: `detector(images)` returns for each image `boxes` (K, 4), `scores` (K,) and
    `labels` (K,). Images are (C, H, W), all of one size; H and W are multiples of 4. A score is the square
    root of probability times centre-ness, as in the paper.
    """

    def __init__(self, bands: int, channels: Sequence[int], features: int, convolutions: int) -> None:
        pixels = AnchorGenerator(((1,),), ((1.0,),))
        # The stock generator rounds a box of one pixel to zero size; here each location is one pixel.
        pixels.cell_anchors = [torch.tensor([[0.0, 0.0, 1.0, 1.0]])]
        super().__init__(
            TruckBackbone(bands, list(channels), features),
            num_classes=1,
            anchor_generator=pixels,
            head=PixelHead(features, convolutions),
            center_sampling_radius=1.5,
            score_thresh=0.2,  # as the square root of a product; 0.04 as the product
            nms_thresh=0.35,
            image_mean=[0.0] * bands,
            image_std=[1.0] * bands,
        )
        self.half_precision = False

    def forward(self, images: Tensor | list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Return losses or detections, see the class; `half_precision` applies to the convolutions only.

        They then run in bfloat16, the operations on boxes in float32.
        """
        batch = images if isinstance(images, Tensor) else torch.stack(images)
        with torch.autocast(batch.device.type, torch.bfloat16) if self.half_precision else nullcontext():
            maps = self.dense(batch)
        if not self.training:
            return self.detections(*maps)
        logits, sides, centreness = (part.float().permute(0, 3, 1, 2) for part in maps)
        if targets is None:
            raise ValueError(
                "Training needs targets: one dictionary of boxes and labels for each image. Received: None"
            )
        listed = ImageList(batch, [(int(batch.shape[-2]), int(batch.shape[-1]))] * len(batch))
        places = self.anchor_generator(listed, [logits])
        outputs = {
            name: part.flatten(2).transpose(1, 2)
            for name, part in (
                ("cls_logits", logits),
                ("bbox_regression", sides),
                ("bbox_ctrness", centreness),
            )
        }
        return self.compute_loss(
            [_target(one) for one in heavy_only(targets)], outputs, places, [len(places[0])]
        )

    def dense(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return log-odds (N, H, W, 1), sides (N, H, W, 4) and log-odds of centre-ness (N, H, W, 1)."""
        return tuple(part.permute(0, 2, 3, 1) for part in self.head.maps(self.backbone(images)["0"]))

    def detections(self, *maps: Tensor, where: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Return all boxes above the score of each image from `dense`'s maps, without suppressed ones."""
        logits, sides, centreness = (part.float() for part in maps)
        scores = (logits.sigmoid() * centreness.sigmoid()).sqrt()[..., 0]
        size = (int(scores.shape[1]), int(scores.shape[2]))
        image, row, col = torch.nonzero(scores > self.score_thresh, as_tuple=True)
        left, top, right, bottom = sides[image, row, col].unbind(1)
        x, y = col + 0.5, row + 0.5
        boxes = clip_boxes_to_image(torch.stack([x - left, y - top, x + right, y + bottom], dim=1), size)
        found = [
            (boxes[image == index], scores[image, row, col][image == index]) for index in range(len(scores))
        ]
        kept = [suppress(*one, self.nms_thresh) for one in found]
        return [
            {
                "boxes": mine[best],
                "scores": ranked[best],
                "labels": torch.ones(len(best), dtype=torch.int64, device=mine.device),
            }
            for (mine, ranked), best in zip(found, kept, strict=True)
        ]


def _target(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a target as FCOS expects it: the first class is 0, and `ignored` is always set."""
    return {
        "boxes": given["boxes"],
        "labels": given["labels"] - 1,
        "ignored": given.get("ignored", given["boxes"].new_zeros(0, 4)),
    }


FAMILY = Family(
    "fcos",
    "detection",
    SingleStageDetector,
    {"channels": [24, 48, 96], "features": 40, "convolutions": 2},
    exports_boxes=True,
)
