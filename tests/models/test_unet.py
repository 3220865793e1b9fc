"""The U-Net: its field of view, and tiles that equal the whole."""

import numpy as np
import pytest
import torch

from pipeline.errors import BundleError
from pipeline.models.bundle import Card
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.models.receptive_field.trace import anatomy
from pipeline.models.registry import build_network
from pipeline.models.unet import UNet
from pipeline.tiling import plan


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small convolutions are quicker so, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_card(**changes) -> Card:
    values = {
        "id": "small",
        "version": "1",
        "task": "segmentation",
        "architecture": "unet",
        "arguments": {"widths": [4, 6, 8]},
        "bands": ("B02", "B03"),
        "mean": (0.1, 0.1),
        "std": (0.05, 0.05),
        "classes": DYNAMIC_WORLD,
        "halo": 24,
        "stride": 4,
    }
    return Card(**(values | changes))


def randomised(card: Card) -> torch.nn.Module:
    """The network with batch norms as after a training, not the identity they start as."""
    torch.manual_seed(0)
    network = build_network(card)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            torch.nn.init.normal_(module.bias)
    network(torch.randn(4, len(card.bands), 32, 32))
    return network.eval()


@torch.inference_mode()
def tiled(network: torch.nn.Module, image: torch.Tensor, side: int, card: Card) -> torch.Tensor:
    _, height, width = image.shape
    logits = torch.full((len(card.classes), height, width), torch.nan)
    for tile in plan((height, width), side, card.halo, card.stride):
        rows, cols = tile.window.toslices()
        out = network(image[None, :, rows, cols])[0]
        logits[:, *tile.core.toslices()] = out[:, *tile.core_in_window]
    return logits


def test_output_has_the_size_of_the_input_and_a_channel_a_class():
    network = build_network(small_card()).eval()
    assert network(torch.zeros(2, 2, 16, 24)).shape == (2, 9, 16, 24)


def test_halo_and_stride_of_the_default_network():
    seen = anatomy(UNet(4, 9), (4, 64, 64))
    assert (seen.halo, seen.stride) == (112, 16)
    assert seen.unbounded == ()


def test_no_pixel_beyond_the_halo_moves_a_logit():
    card = small_card()
    network = randomised(card)
    # Without ReLU and with means for maxima nothing that is connected is ever switched off.
    network.down = torch.nn.AvgPool2d(2)
    for block in (*network.encoder, *network.decoder):
        block[2] = block[5] = torch.nn.Identity()
    image = torch.randn(1, 2, 96, 96, dtype=torch.float64, requires_grad=True)
    reach = 0
    for at in range(48, 52):
        (gradient,) = torch.autograd.grad(network.double()(image)[0, :, at, at].sum(), image)
        seen = np.flatnonzero(gradient[0].abs().sum((0, 1)).numpy())
        reach = max(reach, at - seen[0], seen[-1] - at)
    assert card.halo - card.stride < reach <= card.halo


@pytest.mark.parametrize("side", [20, 36, 200])
def test_tiles_equal_the_whole_scene(side):
    card = small_card()
    network = randomised(card)
    image = torch.randn(2, 60, 76)
    with torch.inference_mode():
        whole = network(image[None])[0]
    torch.testing.assert_close(tiled(network, image, side, card), whole, rtol=1e-4, atol=1e-4)


def test_a_smaller_halo_would_show():
    card = small_card()
    network = randomised(card)
    image = torch.randn(2, 60, 76)
    with torch.inference_mode():
        whole = network(image[None])[0]
    cramped = tiled(network, image, 36, card.model_copy(update={"halo": 8}))
    assert (cramped - whole).abs().max() > 1e-2


def test_unknown_architecture_is_refused_by_name():
    with pytest.raises(BundleError, match=r"architecture transformer .* Known: unet"):
        build_network(small_card(architecture="transformer"))


def test_arguments_the_network_does_not_take_are_refused():
    with pytest.raises(BundleError, match="depth"):
        build_network(small_card(arguments={"depth": 3}))


def test_a_strided_stem_halves_the_resolution_of_all_levels():
    network = UNet(10, 9, (64, 96, 128), 0.0, (2, 2, 2), 1, "sum", True, 2)
    seen = anatomy(network, (10, 64, 64))
    assert (seen.halo, seen.stride, seen.unbounded) == (48, 8, ())
    assert network.eval()(torch.zeros(1, 10, 24, 32)).shape == (1, 9, 24, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convolutions": [1, 2]}, "convolutions needs 5 numbers"),
        ({"convolutions": [0, 1, 1, 1, 1]}, "of at least 1"),
        ({"skip": "product"}, "skip is concat or sum"),
        ({"stem": 3}, "stem is 1 or 2"),
    ],
)
def test_arguments_that_make_no_network_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNet(4, 9, **arguments)
