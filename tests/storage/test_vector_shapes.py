"""Tangled shapes, and pieces of lines."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiLineString, Point, Polygon

from pipeline.storage.vector_shapes import pieces, tangled


def zigzag(vertices, step=1.0):
    return LineString(np.c_[np.arange(vertices) * step, np.arange(vertices) % 2])


@given(st.lists(st.integers(2, 70), min_size=1, max_size=8))
def test_pieces_have_the_vertices_of_their_lines(sizes):
    lines = np.array([zigzag(size) for size in sizes], dtype=object)
    found, line = pieces(lines)
    assert shapely.get_num_coordinates(found).max() <= 17
    for number, each in enumerate(lines):
        own = found[line == number]
        joined = [own[0].coords[0], *(xy for piece in own for xy in piece.coords[1:])]
        assert joined == list(each.coords)


def test_pieces_of_parts_are_of_their_line():
    lines = np.array([MultiLineString([zigzag(40), zigzag(3)]), zigzag(18), LineString()], dtype=object)
    found, line = pieces(lines)
    assert line.tolist() == [0, 0, 0, 0, 1, 1]
    assert shapely.length(found).sum() == pytest.approx(shapely.length(lines).sum())
    none, of = pieces(np.zeros(0, dtype=object))
    assert len(none) == len(of) == 0


def test_what_crosses_itself_hundreds_of_times_is_tangled():
    random = np.random.default_rng(1).random((400, 2)) * 1000
    angle = np.linspace(0, 60 * np.pi, 3000)
    spiral = LineString(np.c_[angle * np.cos(angle), angle * np.sin(angle)])
    shapes = [LineString(random), Polygon(random), spiral, zigzag(5000), spiral.buffer(0.5), Point(0, 0)]
    shapes += [LineString(random[:40]), None, MultiLineString([zigzag(200), zigzag(200)])]
    assert tangled(np.array(shapes, dtype=object)).tolist() == [True, True] + [False] * 7
