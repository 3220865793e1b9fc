"""Backbone of all truck detectors: from an image to features of every 10 m pixel.

The input is upsampled twice and the finest feature map keeps the 10 m resolution, since a stride of 4 or more
loses an object of 3 to 5 pixels. All layers are convolutions with batch norm, so the receptive field is
bounded.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs))


class TruckBackbone(nn.Module):
    """Truncated ResNet with a feature pyramid folded back to full resolution.

    (N, C, H, W) normalised reflectance -> {"0": (N, F, H, W)}; H and W are multiples of 4.
    """

    def __init__(self, bands: int, channels: list[int], features: int) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.out_channels = features
        self.stem = nn.Sequential(
            nn.Conv2d(bands, fine, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(fine),
            nn.ReLU(inplace=True),
        )
        self.stage1 = _stage(fine, fine, 1)
        self.stage2 = _stage(fine, middle, 2)
        self.stage3 = _stage(middle, coarse, 2)
        self.lateral1 = nn.Conv2d(fine, features, 1)
        self.lateral2 = nn.Conv2d(middle, features, 1)
        self.lateral3 = nn.Conv2d(coarse, features, 1)
        self.smooth2 = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
        )
        self.smooth1 = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Return the features of normalised images, see the class."""
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        fine = self.stage1(self.stem(x))
        middle = self.stage2(fine)
        coarse = self.stage3(middle)
        top = self.lateral2(middle) + functional.interpolate(
            self.lateral3(coarse), scale_factor=2.0, mode="nearest"
        )
        top = self.smooth2(top)
        full = self.lateral1(fine) + functional.interpolate(top, scale_factor=2.0, mode="nearest")
        return OrderedDict([("0", self.smooth1(full))])
