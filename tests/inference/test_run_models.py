"""Tiles and shards fit into the memory of a run."""

import pytest

from pipeline.inference.run_models import Models, max_shard_px, max_tile_px
from pipeline.models.bundle import open_bundle


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(open_bundle("trucks"), open_bundle("landcover"))


def test_tiles_shrink_with_memory(models):
    sides = [max_tile_px(memory, models, half=False) for memory in (600, 1000, 2500, 8000)]
    assert sides == sorted(sides)
    assert sides[0] == 64
    assert sides[2] > 1024  # the default tiling.tile_px


def test_probabilities_need_smaller_tiles_and_shards(models):
    assert max_tile_px(2500, models, True, probabilities=True) < max_tile_px(2500, models, True)
    assert max_shard_px(2500, models) == 125_000_000
    assert max_shard_px(2500, models, probabilities=True) == 12_500_000
    assert max_shard_px(2500, Models(models.detector, None), probabilities=True) == 125_000_000
