"""R-CNN: a convolutional network on the crop of every proposal, from its pixels.

Girshick, Donahue, Darrell and Malik, "Rich feature hierarchies for accurate object detection and semantic
segmentation", 2014 (arXiv:1311.2524), made small. Nothing is shared between crops: what slides over the image
is only the contrast that proposes. Proposals, losses and boxes are those of `fast_rcnn`.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from pipeline.models.family import Family
from pipeline.models.fast_rcnn import ContextPool, RegionDetector


class Pixels(nn.Module):
    """Features that are the image itself: (N, C, H, W) -> {"0": (N, C, H, W)}."""

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the image."""
        return OrderedDict([("0", images)])


class CropNetwork(nn.Sequential):
    """Network of one crop: (K, C, P, P) pixels -> (K, hidden), half the resolution after each width."""

    def __init__(self, bands: int, widths: list[int], crop_px: int, hidden: int) -> None:
        if crop_px % 2 ** len(widths):
            raise ValueError(f"crop_px must be a multiple of {2 ** len(widths)}. Received: {crop_px}")
        layers: list[nn.Module] = []
        for inputs, outputs in zip([bands, *widths], widths, strict=False):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
        side = crop_px // 2 ** len(widths)
        layers += [nn.Flatten(), nn.Linear(widths[-1] * side**2, hidden), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class CropDetector(RegionDetector):
    """R-CNN: crops of the image with `context` pixels around each proposal."""

    def __init__(
        self, bands: int, widths: list[int], crop_px: int, context: float, head: int, min_contrast: float
    ) -> None:
        super().__init__(
            Pixels(),
            ContextPool(crop_px, context),
            CropNetwork(bands, widths, crop_px, head),
            head,
            min_contrast,
        )


FAMILY = Family(
    "rcnn",
    "detection",
    CropDetector,
    {"widths": [32, 64], "crop_px": 16, "context": 3.0, "head": 128, "min_contrast": 1.0},
    scores_vehicles=True,
)
