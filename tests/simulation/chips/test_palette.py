"""Colours and noise of chips."""

import numpy as np
import pytest

from pipeline.simulation.chips.palette import ROOFS, colour, fractal

SIZE = 64


@pytest.mark.parametrize("name", ROOFS)
def test_roofs_have_the_reflectance_of_their_colour(name):
    rng = np.random.default_rng(0)
    low, high = ROOFS[name]
    for _ in range(20):
        assert (colour(rng, name) > np.array(low) - 0.15).all()
        assert (colour(rng, name) < np.array(high) + 0.15).all()


def test_fractal_noise_has_unit_deviation():
    assert fractal(np.random.default_rng(0), SIZE, 4.0).std() == pytest.approx(1, abs=1e-4)
