"""Receptive fields of single operations."""

from fractions import Fraction

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.models.receptive_field.trace import anatomy
from tests.models.receptive_field.test_trace import Oracle, pairs

SIDE = 72
convolutions = st.tuples(st.just("conv"), pairs(1, 4), pairs(1, 3), pairs(0, 2), pairs(1, 2))
transposed = st.tuples(st.just("transposed"), pairs(1, 4), pairs(1, 3), pairs(0, 1), pairs(1, 2))
pools = st.tuples(st.just("pool"), pairs(2, 3), pairs(1, 3), pairs(0, 1))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.lists(st.one_of(convolutions, pools, transposed), min_size=1, max_size=4))
def test_output_sizes_follow_the_formula(steps):
    seen = anatomy(Oracle(steps, soft=False), (1, SIDE, SIDE))
    size = (SIDE, SIDE)
    for layer in seen.layers:
        reach = [d * (k - 1) + 1 for k, d in zip(layer.kernel, layer.dilation, strict=True)]
        sizes = zip(size, reach, layer.stride, layer.padding, strict=True)
        if layer.kind == "transposed conv":
            size = tuple((i - 1) * s - 2 * p + k for i, k, s, p in sizes)
        else:
            size = tuple((i - k + 2 * p) // s + 1 for i, k, s, p in sizes)
        assert layer.output == (1, *size)


class Excited(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Conv2d(2, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv(image)
        return x * torch.sigmoid(self.gate(self.squeeze(x)))


class Aligned(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.interpolate(image, scale_factor=2, mode="bilinear", align_corners=True)


class Pyramid(nn.Module):
    """Pooling to a fixed size and back, beside the image itself: of no use to tiles, but no error."""

    def forward(self, image: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(image, 3)
        return torch.cat([image, nn.functional.interpolate(pooled, size=image.shape[-2:])], dim=1)


class Buffered(nn.Module):
    """Writes into a tensor of its own making."""

    def forward(self, image: Tensor) -> Tensor:
        frame = torch.zeros(*image.shape[:2], image.shape[2] + 2, image.shape[3], device=image.device)
        frame[:, :, 1:-1] = image
        return frame[:, :, 2:] + image


@pytest.mark.parametrize(
    ("network", "culprit"),
    [
        (Excited(), "squeeze"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)), "1"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4)), "1"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.LayerNorm([4, 30, 30])), "1"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(5)), "1"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.Softmax(dim=-1)), "1"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), Aligned()), "1"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), Pyramid()), "1"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(3600, 2)), "1"),
        (Buffered(), ""),
    ],
)
def test_layers_that_see_everything_are_named(network, culprit):
    seen = anatomy(network, (2, 32, 32))
    assert seen.unbounded[0] == culprit
    assert seen.halo is None
    assert seen.reach is None
    assert seen.receptive_field is None
    if culprit:
        row = next(row for row in seen.to_table() if row["layer"] == culprit)
        assert row["receptive field"] == "all"


class ChannelNorm(nn.Module):
    """ConvNeXt's: layer norm over channels alone, moved to the end for it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "local", [nn.BatchNorm2d(2), nn.Softmax(dim=1), ChannelNorm(), nn.Dropout(), nn.SiLU()]
)
def test_layers_that_see_only_their_own_pixel(local):
    seen = anatomy(nn.Sequential(local, nn.Conv2d(2, 2, 3, padding=1)), (2, 16, 24))
    assert seen.halo == 1
    assert seen.receptive_field == (3, 3)


def test_transposed_convolution_by_phase():
    axis = anatomy(nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1), (1, 16, 16)).outputs[0].x
    assert [axis.interval(o) for o in (4, 5, 6)] == [(2, 2), (2, 3), (3, 3)]
    assert axis.jump == Fraction(1, 2)
    assert axis.receptive_field == 2


def test_transposed_convolution_with_gaps_sees_nothing_between():
    axis = anatomy(nn.ConvTranspose2d(1, 1, 1, stride=2), (1, 16, 16)).outputs[0].x
    assert axis.interval(4) == (2, 2)
    assert axis.interval(5) == (float("inf"), float("-inf"))
