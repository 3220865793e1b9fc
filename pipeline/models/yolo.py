"""Truck detector in one pass over a grid: YOLO for objects of 3 to 5 pixels.

Redmon and Farhadi, "YOLOv3: An Incremental Improvement", 2018 (arXiv:1804.02767), made small. Each cell of
the grid predicts a box for each anchor: its centre within the cell, its size as a factor of the anchor's, the
log-odds of a vehicle, and of a heavy one if it is a vehicle. A cell holds at most one vehicle an anchor. The
loss of boxes is complete IoU, as in YOLOv4 (arXiv:2004.10934). Every step is local, so tiles are exact.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou, clip_boxes_to_image, complete_box_iou_loss

from pipeline.models.backbone import TruckBackbone
from pipeline.models.boxes import HEAVY, centred_in, suppress
from pipeline.models.family import Family, MapDetector

_VALUES = 6
"""Values of an anchor: place and size (4), log-odds of a vehicle, and of a heavy one among vehicles."""
_MOST_LOG_SCALE = 1.2
_MIN_VEHICLE_SCORE = 0.05
_NMS_IOU = 0.35
_EXCUSED_IOU = 0.5
"""Boxes with this overlap of a vehicle are not taught to be ground, as in the paper."""
_MARGIN_PX = 1.0


class GridDetector(MapDetector):
    """YOLO on normalised reflectance; boxes in 10 m pixels of the input.

    Training: `detector(images, targets)` returns the losses. A target has `boxes` (N, 4), `labels` (N,), 1
    for heavy and 2 for light vehicles, and optionally `ignored` (M, 4), areas excluded from training.
    Inference: `detector(images)` returns for each image `boxes` (K, 4), `scores` (K,) of heavy vehicles and
    `vehicle_scores` (K,) of any. Images are (C, H, W), all of one size; H and W are multiples of 4 and of
    `cell`, the side of a cell in pixels. `anchors` are (width, height) in pixels.
    """

    anchors: Tensor

    def __init__(
        self, bands: int, channels: list[int], features: int, cell: int, anchors: list[list[float]]
    ) -> None:
        super().__init__()
        if cell < 2 or cell % 2:
            raise ValueError(f"cell must be an even number of pixels. Received: {cell}")
        self.cell = cell
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)
        self.backbone = TruckBackbone(bands, channels, features)
        self.grid = nn.Sequential(
            nn.Conv2d(features, features, 2 * cell, stride=cell, padding=cell // 2, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
        )
        self.predictor = nn.Conv2d(features, len(anchors) * _VALUES, 1)
        with torch.no_grad():  # few cells hold a vehicle
            self.predictor.bias.view(-1, _VALUES)[:, 4] = -4.6  # type: ignore[union-attr]

    def dense(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the predictions of the cells, (N, H / cell, W / cell, anchors * 6)."""
        return (self.predictor(self.grid(self.backbone(images)["0"])).permute(0, 2, 3, 1),)

    def detections(self, *maps: Tensor, where: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Return all boxes above the score of each image from `dense`'s map, without suppressed ones."""
        return [self._of_image(grid.float()) for grid in maps[0]]

    def _of_image(self, grid: Tensor) -> dict[str, Tensor]:
        boxes, values = self._decoded(grid)
        vehicle, heavy = values.sigmoid().unbind(1)
        found = vehicle >= _MIN_VEHICLE_SCORE
        size = (int(grid.shape[0]) * self.cell, int(grid.shape[1]) * self.cell)
        boxes, vehicle = clip_boxes_to_image(boxes[found], size), vehicle[found]
        best = suppress(boxes, vehicle, _NMS_IOU)
        return {
            "boxes": boxes[best],
            "scores": (vehicle * heavy[found])[best],
            "vehicle_scores": vehicle[best],
        }

    def _decoded(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (K, 4) and log-odds (K, 2) of all cells and anchors of a grid (R, C, anchors * 6)."""
        rows, cols = (torch.arange(side, device=grid.device) for side in grid.shape[:2])
        values = grid.view(*grid.shape[:2], -1, _VALUES)
        corner = torch.stack(torch.meshgrid(cols, rows, indexing="xy"), dim=-1)[:, :, None]
        centre = (corner + values[..., :2].sigmoid()) * self.cell
        # Bounded smoothly: a clamp has no gradient for a box that has become too large.
        scale = (_MOST_LOG_SCALE * (values[..., 2:4] / _MOST_LOG_SCALE).tanh()).exp()
        half = self.anchors * scale / 2
        boxes = torch.cat([centre - half, centre + half], dim=-1)
        return boxes.view(-1, 4), values[..., 4:].reshape(-1, 2)

    def losses(self, maps: tuple[Tensor, ...], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the losses for each vehicle of a batch of grids (N, R, C, anchors * 6)."""
        grids = maps[0].float()
        vehicles = max(1, sum(len(target["boxes"]) for target in targets))
        sums = [torch.stack(self._loss_sums(*one)) for one in zip(grids, targets, strict=True)]
        vehicle, heavy, boxes = torch.stack(sums).sum(dim=0) / vehicles
        return {"vehicle": vehicle, "heavy": heavy, "boxes": boxes}

    def _loss_sums(self, grid: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        boxes, values = self._decoded(grid)
        truth = target["boxes"]
        own = self._responsible(truth, grid.shape[1], grid.shape[0])
        taught = ~centred_in(boxes.detach(), target.get("ignored", truth[:0]), _MARGIN_PX)
        if len(truth):
            taught &= box_iou(boxes.detach(), truth).amax(dim=1) < _EXCUSED_IOU
        taught[own] = True
        expected = torch.zeros_like(values[:, 0])
        expected[own] = 1.0
        heavy = (target["labels"] == HEAVY).to(values.dtype)
        return (
            functional.binary_cross_entropy_with_logits(values[taught, 0], expected[taught], reduction="sum"),
            functional.binary_cross_entropy_with_logits(values[own, 1], heavy, reduction="sum"),
            complete_box_iou_loss(boxes[own], truth, reduction="sum"),
        )

    def _responsible(self, truth: Tensor, cols: int, rows: int) -> Tensor:
        """Return the index (N,) of the cell and anchor for each box (N, 4): its centre's, the most alike."""
        place = ((truth[:, :2] + truth[:, 2:]) / 2 / self.cell).long()
        col, row = place[:, 0].clamp(0, cols - 1), place[:, 1].clamp(0, rows - 1)
        sides = truth[:, 2:] - truth[:, :2]
        alike = box_iou(functional.pad(sides, (2, 0)), functional.pad(self.anchors, (2, 0)))
        return (row * cols + col) * len(self.anchors) + alike.argmax(dim=1)


FAMILY = Family(
    "yolo",
    "detection",
    GridDetector,
    {
        "channels": [24, 48, 96],
        "features": 40,
        "cell": 2,
        "anchors": [[5.0, 3.2], [4.0, 4.0], [3.2, 5.0]],
    },
    scores_vehicles=True,
    exports_boxes=True,
)
