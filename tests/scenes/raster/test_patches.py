import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import MissingBandError
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.cache import BlockCache
from pipeline.scenes.raster.patches import patches
from tests.conftest import write_geotiff

BANDS = ("B04", "B02")


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(1).integers(1, 9000, (4, 70, 90), dtype=np.uint16)


@pytest.fixture(scope="module")
def scene(tmp_path_factory, numbers):
    return open_scene(str(write_geotiff(tmp_path_factory.mktemp("patches") / "scene.tif", numbers)))


@given(
    places=st.lists(st.tuples(st.floats(-30, 120), st.floats(-30, 100)), max_size=6),
    size=st.integers(1, 25),
)
def test_a_patch_is_what_the_scene_shows_there(scene, numbers, places, size):
    centres = np.array(places, np.float64).reshape(-1, 2)
    found = list(patches(scene, centres, size, BANDS))
    assert sorted(patch.index for patch in found) == list(range(len(places)))
    padded = np.pad(numbers[[2, 0]], ((0, 0), (200, 200), (200, 200)))
    for patch in found:
        x, y = centres[patch.index]
        assert (patch.col, patch.row) == (round(x - size / 2), round(y - size / 2))
        rows, cols = (slice(at + 200, at + 200 + size) for at in (patch.row, patch.col))
        expected = padded[:, rows, cols]
        assert (patch.valid == (expected[0] > 0)).all()
        assert np.allclose(patch.reflectance, expected * 1e-4)
        assert patch.classes is None


def test_blocks_are_decoded_once_whatever_the_order_of_the_places(product):
    scene = open_scene(str(product.safe))
    centres = np.random.default_rng(0).uniform(0, 256, (200, 2))
    with BlockCache(budget=1) as cache:  # which keeps nothing beyond the block in use
        found = list(patches(scene, centres, 24, ("B02", "B03", "B04")))
    assert len(found) == 200
    assert cache.decoded == 3  # bands, of one block each


def test_classes_come_along(product):
    scene = open_scene(str(product.safe))
    (patch,) = patches(scene, np.array([[128.0, 128.0]]), 10, ("B02",), classes=True)
    assert patch.classes.shape == (10, 10)
    assert set(np.unique(patch.classes)) <= set(range(1, 12))


def test_a_band_that_is_not_there_is_named(scene):
    with pytest.raises(MissingBandError, match="B11"):
        list(patches(scene, np.zeros((1, 2)), 5, ("B11",)))
