"""Noise of the world: independent of windows, spread evenly."""

import numpy as np
import pytest

from pipeline.simulation.world.noise import fractal_field, hashed, uniform


def test_window_does_not_depend_on_what_was_rendered_around_it():
    xs, ys = np.arange(0.5, 60), np.arange(10.5, 50)
    whole = fractal_field(xs, ys, 9.0, 1)
    np.testing.assert_allclose(fractal_field(xs[20:30], ys[5:9], 9.0, 1), whole[5:9, 20:30], atol=1e-5)
    assert abs(float(fractal_field(np.arange(900.0), np.arange(900.0), 9.0, 1).std()) - 1) < 0.1


def test_hashed_numbers_are_spread_evenly():
    values = uniform(5, np.arange(300)[:, None], np.arange(300)[None, :])
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    assert values.std() == pytest.approx(12**-0.5, abs=0.01)
    assert len(np.unique(hashed(5, np.arange(1000)))) == 1000
