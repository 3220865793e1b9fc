"""Courses: which way lines lead, whatever the order and direction in which they are drawn."""

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.traffic.courses import courses_of


@settings(max_examples=40)
@given(st.lists(st.floats(-2.2, 2.2), min_size=3, max_size=12), st.data())
def test_lines_of_a_winding_road_lead_from_end_to_end(turns, data):
    """Two carriageways 20 m apart with steps of 500 m, each piece drawn by chance; bends of any shape."""
    headings = np.cumsum(np.array(turns) / len(turns))
    middle = np.concatenate([[[0, 0]], np.cumsum(500 * np.stack([np.sin(headings), np.cos(headings)], 1), 0)])
    right = 10 * np.stack([np.cos(headings), -np.sin(headings)], 1)
    pieces, forward = [], []
    for side in (1, -1):
        for start, end, off in zip(middle[:-1], middle[1:], right, strict=True):
            along = data.draw(st.booleans())
            line = shapely.LineString([start + side * off, end + side * off])
            pieces.append(line if along else shapely.reverse(line))
            forward.append(1 if along else -1)
    order = data.draw(st.permutations(range(len(pieces))))
    lines = np.array(pieces, object)[order]
    found = courses_of(lines, np.zeros(len(lines), np.int64), 60.0)
    same = found.way * np.array(forward)[order]
    assert abs(same.sum()) == len(same)
    assert not found.ring[0]
    assert -22.5 <= found.bearing_deg[0] < 157.5


def test_roads_do_not_touch_each_others_courses():
    """Two roads that cross at a common vertex: each has its bearing."""
    lines = np.array([
        shapely.LineString([(0, 0), (1000, 0)]), shapely.LineString([(1000, 0), (2000, 0)]),
        shapely.LineString([(1000, -900), (1000, 0)]), shapely.LineString([(1000, 900), (1000, 0)]),
    ])  # fmt: skip
    found = courses_of(lines, np.array([0, 0, 1, 1]), 60.0)
    assert found.way.tolist() == [1, 1, 1, -1]
    np.testing.assert_allclose(found.bearing_deg, [90, 0])


def test_nothing_has_no_course():
    found = courses_of(np.empty(0, object), np.empty(0, np.int64), 60.0)
    assert len(found.way) == len(found.bearing_deg) == len(found.ring) == 0
