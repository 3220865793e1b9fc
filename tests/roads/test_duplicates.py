"""Lines that lie on each other are one road."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiLineString

from pipeline.input_warnings import collected_warnings
from pipeline.roads.duplicates import merge_duplicates
from pipeline.roads.read import read_roads
from tests.roads.test_segments import line, roads

BEND = line((0, 0), (400, 0), (700, 300))


def merged(*lines, **columns):
    found = merge_duplicates(roads(*lines, **columns))
    return found["road_id"].tolist(), found["oneway"].tolist(), found.length.round().tolist()


def test_opposite_one_way_lines_are_named():
    with collected_warnings() as said:
        merged(BEND, BEND.reverse(), line((0, 900), (500, 900)), line((500, 901), (0, 901)), oneway=1)
        merged(BEND, BEND.reverse(), BEND, oneway=0)
        merged(BEND, BEND, oneway=1)
    assert len(said) == 1
    assert said[0].startswith("Roads: 2 lines lie on lines of another direction")


@pytest.mark.parametrize(
    ("first", "second", "reverse", "expected"),
    [
        *((0, 0, True, 0), (0, 0, False, 0)),  # one line for each direction, or the same line twice
        *((1, 1, True, 0), (-1, -1, True, 0), (1, -1, False, 0)),  # each one-way, along or against its line
        *((1, 1, False, 1), (1, -1, True, 1), (-1, 1, True, -1)),  # the same direction twice
        *((1, 0, True, 0), (0, 1, False, 0)),
    ],
)
def test_two_drawings_are_one_road(first, second, reverse, expected):
    other = BEND.reverse() if reverse else BEND
    assert merged(BEND, other, oneway=[first, second]) == (["0"], [expected], [824.0])
    shifted = shapely.transform(other.segmentize(70), lambda xy: xy + 0.7)
    assert merged(BEND, shifted, oneway=[first, second]) == (["0"], [expected], [824.0])


@pytest.mark.parametrize(("apart", "words"), [(3, 1), (4, 1), (6, 0), (25, 0)])
def test_lanes_drawn_as_lines_are_a_warning(apart, words):
    with collected_warnings() as said:
        merged(line((0, 0), (900, 0)), line((900, apart), (0, apart)), line((900, 0), (1800, 0)), oneway=1)
    assert len(said) == words
    assert all("2 of 3 lines are less than 4.5 m beside another of their class" in each for each in said)


def test_other_splits():
    """The way back is drawn as two or three lines, or the way there is."""
    whole, halves = line((0, 0), (900, 0)), [line((900, 1), (350, 1)), line((350, 1), (0, 1))]
    assert merged(whole, *halves, oneway=1) == (["0"], [0], [900.0])
    assert merged(*halves, whole, oneway=1) == (["0", "1"], [0, 0], [550.0, 350.0])
    thirds = [line((0, 0), (300, 0)), line((300, 0), (600, 0)), line((600, 0), (900, 0))]
    assert merged(*thirds, *halves, oneway=1) == (["0", "1", "2"], [0, 0, 0], [300.0] * 3)


def test_lines_that_lie_on_each_other_partially():
    """The common part is counted once; only there the road has both directions."""
    there, back = line((0, 0), (600, 0)), line((1000, 0), (400, 0))
    assert merged(there, back, oneway=1) == (["0", "0", "1"], [1, 0, 1], [400.0, 200.0, 400.0])
    assert merged(there, back, oneway=0) == (["0", "1"], [0, 0], [600.0, 400.0])
    inner = line((200, 0), (500, 0))
    assert merged(there, inner, oneway=1) == (["0"], [1], [600.0])
    assert merged(inner, there, oneway=1) == (["0", "1", "1"], [1, 1, 1], [300.0, 200.0, 100.0])


@pytest.mark.parametrize(
    "other",
    [
        line((900, 5), (0, 5)),  # a second carriageway, near
        line((900, 12), (0, 12)),
        line((900, 25), (0, 25)),
        line((450, -400), (450, 400)),  # a crossing
        line((450, -2), (450, 3)),
        line((0, 0), (700, 40)),  # a fork, of 3 degrees
        line((0, 0), (24, 1.2), (700, 80)),
        line((20, 1.9), (0, 0)),  # the start of a second carriageway
        line((900, 0), (1800, 0)),  # the next part
    ],
)
def test_roads_beside_each_other_stay_two(other):
    road = line((0, 0), (900, 0))
    table = roads(road, other, oneway=1)
    pd.testing.assert_frame_equal(pd.DataFrame(merge_duplicates(table)), pd.DataFrame(table))


def test_rings():
    ring = LineString([(x + 6e5, y + 58e5) for x, y in zip(*_circle(40), strict=True)])
    other = LineString([*np.roll(np.array(ring.coords)[:-1], 7, axis=0).tolist(), ring.coords[-8]])
    assert merged(ring, ring.reverse(), oneway=1)[:2] == (["0"], [0])
    assert merged(ring, other, oneway=1)[:2] == (["0"], [1])


def _circle(radius):
    angle = np.linspace(0, 2 * np.pi, 33)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    x[-1], y[-1] = x[0], y[0]
    return x, y


def test_parts_of_a_road_in_any_order():
    parts = [line((0, 0), (500, 0)), line((600, 0), (900, 0))]
    both = [MultiLineString(parts), MultiLineString([parts[1].reverse(), parts[0].reverse()])]
    ids, oneway, length = merged(*both, oneway=1)
    assert (set(ids), set(oneway), sum(length)) == ({"0"}, {0}, 800.0)


def test_roads_of_another_class_or_under_another_stay():
    table = roads(BEND, BEND, BEND)
    table["road_class"], table["hidden"] = ["motorway", "motorway", "primary"], [None, "tunnel", None]
    with collected_warnings() as said:
        pd.testing.assert_frame_equal(pd.DataFrame(merge_duplicates(table)), pd.DataFrame(table))
        merge_duplicates(table[:2])
    assert [text.partition(";")[0] for text in said] == [
        "Roads: 1 lines have the vertices of a line of another class"
    ]


coordinates = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=6, unique=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(coordinates, min_size=1, max_size=5), st.integers(0, 2**32), st.floats(0, 0.3))
def test_a_network_drawn_by_direction_is_the_network(shapes, seed, noise):
    """Rows of a grid of 100 m: a line may cross and touch itself and others, but not lie on them."""
    rng = np.random.default_rng(seed)
    lines = [
        line(*[(100 * x + 37 * row, 100 * y + 11 * row) for x, y in shape])
        for row, shape in enumerate(shapes)
    ]
    assume(all(each.is_simple for each in lines))
    once = merge_duplicates(roads(*lines))
    back = [
        shapely.transform(each.reverse().segmentize(40), lambda xy: xy + rng.uniform(-noise, noise, xy.shape))
        for each in lines
    ]
    twice = merge_duplicates(roads(*lines, *back, oneway=[0] * len(lines) + [1] * len(back)))
    assert twice.length.sum() == pytest.approx(once.length.sum(), abs=8 * len(lines))
    assert set(twice["oneway"]) == {0}


def test_a_file_of_both_directions_is_read_as_the_plain_one(tmp_path, shared_data):
    plain = gpd.read_file(shared_data / "trucks" / "walserberg_a8_roads.gpkg")
    both = pd.concat([plain, plain.assign(geometry=plain.geometry.reverse())])
    both.to_file(tmp_path / "both.gpkg")
    plain.to_file(tmp_path / "plain.gpkg")
    one, two = (pd.DataFrame(read_roads(tmp_path / f"{name}.gpkg", plain.crs)) for name in ("plain", "both"))
    pd.testing.assert_frame_equal(one, two)
