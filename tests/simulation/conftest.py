"""Fixtures that the tests of the simulation share."""

import pytest

from pipeline.simulation.simulate import simulate_scene

SIZE, SEED = 250, 4


@pytest.fixture(scope="module")
def scene():
    return simulate_scene(SIZE, SEED)
