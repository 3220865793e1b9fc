"""The backbone of the detectors: one map at the resolution of its input."""

import torch

from pipeline.models.backbone import TruckBackbone


def test_one_map_at_full_resolution():
    maps = TruckBackbone(4, [8, 8, 8], 6).eval()(torch.zeros(2, 4, 16, 24))
    assert {name: tuple(level.shape) for name, level in maps.items()} == {"0": (2, 6, 16, 24)}
