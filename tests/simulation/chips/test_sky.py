"""Clouds and contrails of chips."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.simulation.chips import sky
from pipeline.simulation.chips.palette import any_world
from tests.simulation.chips.test_lookalikes import grey

SIZE = 64


def test_a_cloud_is_shifted_from_band_to_band_by_its_height():
    rng = np.random.default_rng(0)
    opacity = np.zeros((SIZE, SIZE), np.float32)
    opacity[28:36, 28:36] = 1
    image = grey(0.0)
    sky._cover(image, opacity, np.ones(4, np.float32), 4.0, 0.0)
    rows = [ndimage.center_of_mass(band)[0] for band in image]
    assert rows[2] - rows[0] == pytest.approx(4.0, abs=0.01)
    assert rows[1] - rows[0] == pytest.approx(4.0 * 0.527 / 1.005, abs=0.02)
    shadow = sky.cloud_shadow(rng, SIZE)
    assert 0.2 <= shadow.min() <= shadow.max() <= 1


def test_contrails_cross_the_chip_in_every_band():
    rng = np.random.default_rng(0)
    image = grey(0.0)
    opacity = sky.add_contrail(rng, image, any_world(rng))
    assert opacity.max() > 0.01
    assert (image.max(axis=(1, 2)) > 0.01).all()
