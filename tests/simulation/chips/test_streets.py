"""Streets of chips."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulation.chips import streets

SIZE = 64


@given(st.floats(0, 360), st.floats(-0.02, 0.02), st.floats(-20, 20), st.floats(-3, 3))
def test_a_place_on_an_arc_has_the_distance_that_it_was_asked_for(heading, curvature, s, d):
    arc = streets.Arc(32, 32, heading, curvature)
    x, y, _ = arc.place(s, d)
    col, row = int(np.floor(x)), int(np.floor(y))
    if 0 <= col < SIZE and 0 <= row < SIZE:
        _, across = arc.coordinates(SIZE)
        assert across[row, col] == pytest.approx(d, abs=0.75)  # within a pixel's half diagonal
