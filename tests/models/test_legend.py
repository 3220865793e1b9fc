"""Legends of land cover."""

import pytest
import torch

from pipeline.models.legend import DYNAMIC_WORLD


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small convolutions are quicker so, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_legend_has_nine_classes_in_their_official_colours():
    assert [item.value for item in DYNAMIC_WORLD] == list(range(9))
    assert DYNAMIC_WORLD[4].name == "crops"
    assert DYNAMIC_WORLD[4].colour == "#E49635"
