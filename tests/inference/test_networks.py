"""Inputs of networks from tiles."""

import numpy as np
import pytest
import torch

from pipeline.inference.networks import Image, read_tile
from pipeline.inference.run_models import Models
from pipeline.models.bundle import open_bundle
from pipeline.scenes.open import open_scene
from pipeline.tiling import Tile
from tests.conftest import write_geotiff

CARD = open_bundle("trucks").card


def image_of(height: int, width: int) -> tuple[Image, Tile]:
    tile = Tile(0, 0, height, width, CARD.halo, height, width)
    image = Image.empty(tile, CARD, half=False)
    image.bands.fill_(1)
    return image, tile


def test_an_image_of_full_strides_is_not_copied():
    image, tile = image_of(40, 36)
    assert image.around(tile).data_ptr() == image.bands.data_ptr()


@pytest.mark.parametrize(("height", "width"), [(39, 36), (40, 35), (39, 35)])
def test_an_image_is_padded_with_zeros_up_to_the_stride(height, width):
    image, tile = image_of(height, width)
    expected = np.zeros((4, 40, 36), np.float32)
    expected[:, :height, :width] = 1
    np.testing.assert_array_equal(image.around(tile).numpy(), expected)


def test_a_tile_is_read_once_for_all_networks(tmp_path):
    numbers = np.random.default_rng(0).integers(1, 4000, (4, 32, 48)).astype(np.uint16)
    numbers[:, 3, 5] = 0
    scene = open_scene(str(write_geotiff(tmp_path / "scene.tif", numbers)))
    models = Models(open_bundle("trucks"), open_bundle("landcover"))
    seen = read_tile(models, scene, Tile(0, 0, 32, 48, models.halo, 32, 48), half=False)
    assert set(seen.images) == {"detection", "segmentation"}
    assert np.argwhere(~seen.valid).tolist() == [[3, 5]]
    for image in seen.images.values():
        assert torch.isfinite(image.bands).all()
        assert (image.bands[:, 3, 5] == 0).all()
