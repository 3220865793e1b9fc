"""The separable land-cover network: small field of view, tiles equal the whole, cost."""

import pytest
import torch

from pipeline.models.receptive_field.trace import anatomy
from pipeline.models.separable_fcn import SeparableFCN
from tests.models.test_unet import randomised, small_card, tiled

ARGUMENTS = {"stem": 6, "widths": [6, 8], "detail": 4, "depth": 2}


def test_it_sees_twenty_pixels_to_each_side_and_tiles_begin_at_any_even_pixel():
    seen = anatomy(SeparableFCN(10, 9), (10, 64, 64))
    assert (seen.halo, seen.stride, seen.unbounded) == (20, 2, ())


def test_output_has_the_size_of_the_input_and_a_channel_a_class():
    network = SeparableFCN(3, 5, **ARGUMENTS).eval()
    assert network(torch.zeros(2, 3, 18, 22)).shape == (2, 5, 18, 22)


@pytest.mark.parametrize("side", [14, 34, 200])
def test_tiles_equal_the_whole_scene(side):
    card = small_card(architecture="separable_fcn", arguments=ARGUMENTS, halo=10, stride=2)
    assert anatomy(SeparableFCN(2, 9, **ARGUMENTS), (2, 64, 64)).halo == card.halo
    network = randomised(card)
    image = torch.rand(2, 60, 76)
    with torch.inference_mode():
        whole = network(image[None])[0]
    torch.testing.assert_close(tiled(network, image, side, card), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arguments", [{"widths": [8]}, {"depth": 0}])
def test_arguments_that_make_no_network_are_refused(arguments):
    with pytest.raises(ValueError, match="two widths and a depth of 1"):
        SeparableFCN(4, 9, **arguments)
