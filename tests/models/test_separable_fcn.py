"""The separable land-cover network: tiles equal the whole, and the shipped one is what its card says."""

import pytest
import torch

from pipeline.models.bundle import SHIPPED, Card, open_bundle
from pipeline.models.receptive_field.trace import anatomy
from pipeline.models.registry import build_network
from pipeline.models.separable_fcn import SeparableFCN
from tests.models.test_unet import randomised, small_card, tiled

MEGABYTE = 1_000_000
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


@pytest.fixture(scope="module")
def shipped() -> tuple[Card, torch.nn.Module]:
    bundle = open_bundle("landcover")
    return bundle.card, bundle.load_into(build_network(bundle.card))


def test_shipped_bundle_is_small_and_runs_on_the_four_10_m_bands():
    files = list((SHIPPED / "landcover").iterdir())
    assert sum(file.stat().st_size for file in files) <= 5 * MEGABYTE
    assert set(open_bundle("landcover").card.required_bands) == {"B02", "B03", "B04", "B08"}


def test_card_of_the_shipped_bundle_has_the_network_s_own_halo_and_stride(shipped):
    card, network = shipped
    seen = anatomy(network, (len(card.bands), 256, 256))
    assert (card.halo, card.stride) == (seen.halo, seen.stride)
    assert card.halo <= 96


def test_shipped_network_gives_the_same_land_cover_tile_by_tile(shipped):
    card, network = shipped
    torch.manual_seed(1)
    coarse = torch.randn(1, len(card.bands), 17, 21)
    image = torch.nn.functional.interpolate(coarse, scale_factor=16, mode="bicubic")[0]
    with torch.inference_mode():
        whole = network(image[None])[0]
    torch.testing.assert_close(tiled(network, image, 128, card), whole, rtol=1e-3, atol=1e-3)
    assert len(whole.argmax(0).unique()) > 1


def test_card_of_the_shipped_bundle_names_data_licences_and_held_out_blocks(shipped):
    card, _ = shipped
    by_name = {entry["name"]: entry for entry in card.training_data}
    assert {"virginia", "brandenburg"} <= set(by_name)
    assert "ODbL" in by_name["brandenburg"]["licence"]
    assert all(len(block) == 4 for block in by_name["virginia"]["held_out_blocks"])


def test_shipped_network_keeps_the_promises_of_its_card(shipped):
    quality = shipped[0].quality
    assert quality["virginia"]["held_out"]["accuracy"] >= 0.86
    for where in ("land_use_held_out", "land_use_everywhere"):
        figures = quality["brandenburg"][where]
        assert figures["accuracy"] >= figures["pseudo_label_accuracy"]


def test_shipped_network_agrees_with_the_pseudo_label_on_brandenburg(shipped):
    assert shipped[0].quality["brandenburg"]["held_out"]["accuracy"] >= 0.75
