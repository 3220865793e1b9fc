"""What a network can see, checked against the true support of its gradient."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.rpn import RPNHead

from pipeline.models.receptive_field.axis import Field
from pipeline.models.receptive_field.trace import Anatomy, anatomy

SIDE = 72


MARGIN = 14


class UNet(nn.Module):
    """Two levels, transposed convolution up, skips by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Conv2d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        skip = self.first(image)
        below = torch.relu(self.second(nn.functional.max_pool2d(skip, 2)))
        return self.head(torch.cat([skip, self.up(below)], dim=1))


def test_layers_of_a_unet_by_hand():
    seen = anatomy(UNet(), (2, 32, 48))
    rows = {(layer.name, layer.kind): layer for layer in seen.layers}

    conv = rows["first.0", "conv"]
    assert (conv.kernel, conv.stride, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    assert conv.output == (4, 32, 48)
    assert conv.parameters == 4 * 2 * 9
    assert conv.macs == 32 * 48 * 4 * 2 * 9
    assert conv.receptive_field == (3, 3)

    pool = rows["", "max pool"]
    assert pool.output == (4, 16, 24)
    assert pool.receptive_field == (4, 4)
    assert pool.jump == (2, 2)
    assert pool.offset == (1.0, 1.0)  # between the first two pixels

    assert rows["second", "conv"].receptive_field == (8, 8)
    up = rows["up", "transposed conv"]
    assert up.output == (4, 32, 48)
    assert up.jump == (1, 1)
    assert up.macs == 16 * 24 * 8 * 4 * 4

    # The head's three positions reach over two positions of the pooled grid: 8 + 2 pixels.
    assert rows["head", "conv"].receptive_field == (10, 10)
    assert seen.receptive_field == (10, 10)
    assert seen.reach == (5, 5, 5, 5)
    assert seen.stride == 2
    assert seen.halo == 6
    assert seen.parameters == sum(p.numel() for p in UNet().parameters())
    assert seen.parameters == sum(layer.parameters for layer in seen.layers)


def test_the_module_is_left_as_it_was():
    network = UNet().train()
    before = copy.deepcopy(network.state_dict())
    anatomy(network, (2, 16, 16))
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not network.head._forward_pre_hooks


def test_halo_is_enough_for_the_core_of_a_tile_and_the_reach_is_no_larger_than_true():
    torch.manual_seed(1)
    network = UNet().double().eval()
    seen = anatomy(network, (2, 64, 64))
    image = torch.rand(1, 2, 64, 64, dtype=torch.float64)
    whole = network(image)
    for core in (24, 26, 30):  # multiples of the stride
        start, stop = core - seen.halo, core + 8 + seen.halo
        tile = network(image[..., start:stop, start:stop])[
            ..., seen.halo : -seen.halo, seen.halo : -seen.halo
        ]
        assert torch.allclose(tile, whole[..., core : core + 8, core : core + 8], rtol=0, atol=1e-12)


class Oracle(nn.Module):
    """A network of positive weights, so that nothing cancels; `soft` averages where it would take maxima.

    Averages have the reach of maxima, but a gradient that shows all of it.
    """

    def __init__(self, steps: list[tuple], soft: bool) -> None:
        super().__init__()
        self.steps, self.soft = steps, soft
        self.padded = False

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = self.run(x, *step)
            assume(x.shape[1] == 1 and min(x.shape[-2:]) >= 8 and max(x.shape[-2:]) <= 300)
        return x

    def run(self, x: Tensor, kind: str, *sizes) -> Tensor:
        if kind == "conv":
            kernel, stride, padding, dilation = sizes
            return nn.functional.conv2d(x, ones(x, kernel), None, stride, padding, dilation)
        if kind == "transposed":
            kernel, stride, padding, dilation = sizes
            return nn.functional.conv_transpose2d(
                x, ones(x, kernel), None, stride, padding, dilation=dilation
            )
        if kind == "pool":
            return self.pool(x, *sizes)
        if kind != "skip":
            corners = None if kind.startswith("nearest") else False
            return nn.functional.interpolate(x, scale_factor=sizes[0], mode=kind, align_corners=corners)
        return self.skip(x, *sizes)

    def pool(self, x: Tensor, kernel, stride=None, padding=0) -> Tensor:
        average = nn.functional.avg_pool2d if self.soft else nn.functional.max_pool2d
        return average(x, kernel, stride, padding)

    def skip(self, x: Tensor, factor: int, up: str, join: str, inside: list[tuple]) -> Tensor:
        below = self.pool(x, factor)
        for step in inside:
            below = self.run(below, *step)
        if up == "transposed":
            above = nn.functional.conv_transpose2d(below, ones(x, (factor, factor)), None, factor)
        else:
            above = nn.functional.interpolate(below, scale_factor=factor, mode=up)
        right, below_it = x.shape[-1] - above.shape[-1], x.shape[-2] - above.shape[-2]
        self.padded |= bool(right or below_it)
        above = nn.functional.pad(above, (0, right, 0, below_it))
        if join == "add":
            return x + above
        return nn.functional.conv2d(torch.cat([above, x], dim=1), ones(x, (1, 1)).expand(1, 2, 1, 1))


def inner(low: float, high: float) -> bool:
    """Whether an interval keeps clear of the image's border, which cuts supports off."""
    return low >= MARGIN and high < SIDE - MARGIN


def sees_anything(field: Field, row: int, col: int) -> bool:
    """Whether this place isn't in a gap of a transposed convolution, which may run along the other axis."""
    (top, bottom), (left, right) = field.y.interval(row), field.x.interval(col)
    return top <= bottom and left <= right


def ones(like: Tensor, kernel: tuple[int, int]) -> Tensor:
    return torch.ones(1, 1, *kernel, dtype=like.dtype, device=like.device)


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


convolutions = st.tuples(st.just("conv"), pairs(1, 4), pairs(1, 3), pairs(0, 2), pairs(1, 2))


transposed = st.tuples(st.just("transposed"), pairs(1, 4), pairs(1, 3), pairs(0, 1), pairs(1, 2))


pools = st.tuples(st.just("pool"), pairs(2, 3), pairs(1, 3), pairs(0, 1))


enlargements = st.tuples(
    st.sampled_from(["nearest", "nearest-exact", "bilinear", "bicubic"]),
    st.sampled_from([2.0, 3.0, 0.5, 1.5]),
)


same_size = st.tuples(st.just("conv"), st.just((3, 3)), st.just((1, 1)), st.just((1, 1)), st.just((1, 1)))


skips = st.tuples(
    st.just("skip"),
    st.integers(2, 3),
    st.sampled_from(["nearest", "bilinear", "transposed"]),
    st.sampled_from(["cat", "add"]),
    st.lists(same_size, max_size=1),
)


networks = st.lists(
    st.one_of(convolutions, transposed, pools, enlargements, skips, skips), min_size=1, max_size=4
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
@given(networks)
def test_intervals_are_the_support_of_the_gradient(steps):
    seen = anatomy(Oracle(steps, soft=False), (1, SIDE, SIDE))
    field = seen.outputs[0]
    image = torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64).add(1).requires_grad_()
    oracle = Oracle(steps, soft=True)
    output = oracle(image)
    assert tuple(output.shape[1:]) == seen.layers[-1].output or not seen.layers
    rows, cols = output.shape[-2:]
    for k in range(-3, 4):  # some neighbours, of different phases
        row, col = rows // 2 + k, cols // 2 + k
        (gradient,) = torch.autograd.grad(output[0, 0, row, col], image, retain_graph=True)
        for axis, position, support in (
            (field.y, row, gradient[0, 0].abs().sum(1).nonzero().flatten().tolist()),
            (field.x, col, gradient[0, 0].abs().sum(0).nonzero().flatten().tolist()),
        ):
            low, high = axis.interval(position)
            assert all(low <= pixel <= high for pixel in support)
            if low > high:
                assert not support
            # Where a padded branch ends along one axis, it is missing along the other as well.
            elif not oracle.padded and inner(low, high) and sees_anything(field, row, col):
                assert (min(support), max(support)) == (low, high)


class SmallDetector(nn.Module):
    """2x input, ResNet truncated after two stages, feature pyramid, region proposal head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = BackboneWithFPN(resnet18(), {"layer1": "0", "layer2": "1"}, [64, 128], 32)
        self.head = RPNHead(32, 3)

    def forward(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        enlarged = nn.functional.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head([self.backbone(enlarged)[level] for level in ("0", "1")])


def test_feature_pyramid_detector():
    network = SmallDetector().eval()
    seen = anatomy(network, (3, 128, 128))
    assert seen.unbounded == ()
    assert seen.stride == 4
    assert [field.x.jump for field in seen.outputs[:2]] == [2, 4]
    assert seen.halo % seen.stride == 0
    assert seen.parameters == sum(layer.parameters for layer in seen.layers)


def test_a_stack_of_images_and_a_mixed_output():
    class Two(nn.Module):
        def forward(self, image: Tensor) -> dict[str, object]:
            return {"fine": image, "rest": (nn.functional.max_pool2d(image, 4), "text")}

    seen = anatomy(Two(), (3, 1, 16, 16))
    assert len(seen.outputs) == 2
    assert (seen.stride, seen.halo) == (4, 0)


def test_sides_that_are_no_multiple_of_the_stride_are_refused():
    class Skip(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image + nn.functional.interpolate(
                nn.functional.max_pool2d(image, 2), size=image.shape[-2:]
            )

    assert anatomy(Skip(), (1, 16, 16)).halo == 0 + 2
    with pytest.raises(ValueError, match=r"meet with different strides .* multiples of the total stride"):
        anatomy(Skip(), (1, 17, 17))


@pytest.mark.parametrize("shape", [(16, 16), (1, 1, 1, 16, 16), (3, 0, 16)])
def test_a_shape_that_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"example_shape must be \(C, H, W\)"):
        anatomy(nn.Conv2d(3, 3, 3), shape)


def test_table_has_one_row_a_layer():
    seen: Anatomy = anatomy(UNet(), (2, 32, 48))
    table = seen.to_table()
    assert len(table) == len(seen.layers)
    assert table[0] == {
        "layer": "first.0",
        "kind": "conv",
        "kernel": "3",
        "stride": "1",
        "padding": "1",
        "dilation": "1",
        "output": "4x32x48",
        "parameters": "72",
        "MMACs": "0.1",
        "receptive field": "3",
        "jump": "1",
        "offset": "0.5",
    }
