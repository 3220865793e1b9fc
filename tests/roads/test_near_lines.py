import numpy as np
import pytest
import shapely

from pipeline.roads import near_lines
from pipeline.roads.near_lines import TooManyError


def parallels(count, apart):
    return np.array([shapely.LineString([(0, apart * y), (100, apart * y)]) for y in range(count)])


def test_pairs_of_a_kind_within_some_metres():
    first, second = near_lines.near_lines(parallels(3, 1), 1.5, np.array(["a", "a", "b"]))
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 2)}


def test_a_crowd_is_refused_by_a_sample(monkeypatch):
    lines = parallels(2000, 0.0)
    assert near_lines._estimated_pairs(shapely.STRtree(lines), lines[:1000], lines, 10.0) == 2000 * 1000
    monkeypatch.setattr(near_lines, "_MOST_PAIRS", 100_000)
    with pytest.raises(TooManyError):
        near_lines.near_lines(lines, 10.0)
