"""The tile screener: blocks of the scene's own grid are judged, each by its best cell."""

import numpy as np
import pytest
import torch

from pipeline.errors import BundleError
from pipeline.models.bundle import Card
from pipeline.models.halo import with_halo
from pipeline.models.legend import LegendClass
from pipeline.models.registry import build_network
from pipeline.models.screener import BLOCK_PX, CELL_PX, accepted


def screener_card(**changes) -> Card:
    values = {
        "id": "screener",
        "version": "1",
        "task": "screening",
        "architecture": "block_screener",
        "arguments": {"widths": [4, 4, 6]},
        "bands": ("B02", "B03", "B04", "B08"),
        "mean": (0.1,) * 4,
        "std": (0.1,) * 4,
        "classes": (LegendClass(value=1, name="truck", colour="#FF00FF"),),
        "score_threshold": 0.5,
        "halo": 64,
        "stride": 64,
    }
    return Card(**(values | changes))


@pytest.fixture(scope="module")
def screener():
    torch.manual_seed(0)
    return build_network(screener_card()).eval()


def test_a_block_s_score_is_that_of_its_best_cell(screener):
    image = torch.randn(2, 4, 128, 192)
    with torch.inference_mode():
        blocks, cells = screener(image), screener.cells(image)
    assert blocks.shape == (2, 1, 2, 3)
    assert cells.shape == (2, 1, 128 // CELL_PX, 192 // CELL_PX)
    torch.testing.assert_close(blocks[1, 0, 1, 2], cells[1, 0, 8:, 16:].max())


def test_halo_and_stride_are_one_block():
    card = with_halo(screener_card(arguments={}, halo=0, stride=1))
    assert (card.halo, card.stride) == (BLOCK_PX, BLOCK_PX)


def test_a_block_is_the_same_in_any_window_that_holds_its_halo(screener):
    image = torch.randn(1, 4, 320, 320)
    with torch.inference_mode():
        whole, part = screener(image), screener(image[..., 64:256, 128:320])
    torch.testing.assert_close(part[0, 0, 1, 1], whole[0, 0, 2, 3])


def test_accepted_blocks_cover_their_pixels_up_to_the_border():
    mask = accepted(torch.tensor([[2.0, -2.0], [-2.0, 2.0]]), 0.5, (70, 100))
    assert mask.shape == (70, 100)
    assert mask[:64, :64].all()
    assert mask[64:, 64:].all()
    assert mask.sum() == 64 * 64 + 6 * 36


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 2), (0.4, 1), (1.0, 0)])
def test_the_threshold_is_a_probability(threshold, count):
    mask = accepted(torch.tensor([[0.0, -1.0]]), threshold, (64, 128))
    assert np.count_nonzero(mask[0, ::64]) == count


def test_other_cards_are_refused():
    with pytest.raises(BundleError, match="block_screener for detection"):
        build_network(screener_card(task="detection"))
    with pytest.raises(BundleError, match="block_screener can't be built with"):
        build_network(screener_card(arguments={"widths": [4, 4]}))
