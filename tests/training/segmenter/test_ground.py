"""Scenery: crops of places at other scales and in other light, always with physical values."""

import numpy as np
import pytest

from pipeline.scenes.scene import BANDS_10M, BANDS_20M
from pipeline.training.segmenter.ground import Ground, Place
from pipeline.training.segmenter.settings import TileSettings

BANDS = (*BANDS_10M, *BANDS_20M)
SETTINGS = TileSettings(px=48, painted=0)


def place(
    side: int = 64, hazy: bool = False, absent: tuple[str, ...] = (), lacks: tuple[str, ...] = ()
) -> Place:
    """Bright in the north, dark in the south; the last 8 rows do not count."""
    reflectance = np.full((len(BANDS), side, side), 0.05, np.float32)
    reflectance[:, : side // 2] = 0.4
    reflectance[[BANDS.index(band) for band in lacks]] = np.nan
    counts = np.ones((side, side), bool)
    counts[-8:] = False
    classes = np.repeat((np.arange(side) >= side // 2).astype(np.uint8)[:, None], side, axis=1)
    return Place("place", reflectance, counts, classes, hazy, absent=absent)


def test_centres_are_pixels_that_count_of_each_class():
    given = place()
    for value, pixels in given.centres.items():
        rows = pixels // 64
        assert (given.classes[rows, pixels % 64] == value).all()
        assert rows.max() < 56


@pytest.mark.parametrize("side", [20, 64, 200])
@pytest.mark.parametrize("hazy", [False, True])
def test_scenery_is_physical_and_repeats(side, hazy):
    ground = Ground([place(side, hazy), place(side)], BANDS, SETTINGS)
    for seed in range(20):
        scenery, again = (ground.draw(np.random.default_rng(seed), None) for _ in range(2))
        assert scenery.reflectance.shape == (10, 48, 48)
        assert scenery.counts.shape == (48, 48)
        assert 0 < scenery.reflectance.min() <= scenery.reflectance.max() < 3
        assert 0.5 <= scenery.haze <= 1.5
        np.testing.assert_array_equal(scenery.reflectance, again.reflectance)


def test_a_band_that_a_place_lacks_has_no_data_in_its_scenery():
    ground = Ground([place(lacks=("B8A",))], BANDS, SETTINGS)
    for seed in range(10):
        missing = ~ground.draw(np.random.default_rng(seed), None).has_data
        assert missing[BANDS.index("B8A")].all()
        assert missing.sum() == 48 * 48


def test_what_does_not_count_at_a_place_does_not_count_in_its_scenery():
    given = place()
    given.counts[:, :32] = False
    settings = SETTINGS.model_copy(update={"mixed": 0.0, "transferred": 0.0, "scales": (1.0, 1.0)})
    ground = Ground([given], BANDS, settings)
    shares = [ground.draw(np.random.default_rng(seed), None).counts.mean() for seed in range(10)]
    assert all(0 < share < 0.9 for share in shares)


def test_a_class_is_absent_from_a_mixture_if_it_is_from_both():
    ground = Ground([place()], BANDS, SETTINGS)
    rng = np.random.default_rng(0)
    here, there = (
        Ground([place(absent=names)], BANDS, SETTINGS)._crop(rng) for names in (("snow", "crops"), ("snow",))
    )
    assert ground._mixed(here, there, rng).absent == ("snow",)


def test_light_of_another_place_moves_means_towards_it():
    ground = Ground([place()], BANDS, SETTINGS)
    dark = ground._crop(np.random.default_rng(3))
    bright = ground._crop(np.random.default_rng(3))
    bright.reflectance[:] = 0.6
    moved = ground._in_the_light_of(dark, bright, np.random.default_rng(0))
    assert dark.reflectance.mean() < moved.reflectance.mean() <= 0.7
