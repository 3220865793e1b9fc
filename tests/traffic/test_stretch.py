"""Stretch of a carriageway at a counter: never a ramp, up to the junctions."""

import geopandas as gpd
import pytest

from pipeline.errors import CountsError
from pipeline.roads.segments import split_roads
from pipeline.traffic.stretch import find_stretch
from tests.roads.test_segments import line, roads
from tests.traffic.finished_runs import named


def network(*lines, classes=None, refs=None, oneway=0):
    found = named(roads(*lines, oneway=oneway), refs or "A 2")
    if classes:
        found["road_class"] = classes
    found["hidden"] = None
    return split_roads(found, max_m=1000)


def place(x, y, segments):
    point = gpd.points_from_xy([600_000 + x], [5_800_000 + y], crs=segments.crs).to_crs(4326)[0]
    return point.x, point.y


def found(segments, x, y, bearing, ref=None):
    stretch = find_stretch(segments, *place(x, y, segments), bearing, ref)
    return {
        segments["segment_id"][row]: int(way) for row, way in zip(stretch.segments, stretch.way, strict=True)
    }, stretch


DUAL = network(line((0, 0), (3000, 0)), line((3000, 25), (0, 25)), oneway=1)


def test_the_carriageway_in_the_direction_is_taken():
    east, stretch = found(DUAL, 1500, 40, 90)
    assert set(DUAL["road_id"].iloc[stretch.segments]) == {DUAL["road_id"][0]}
    assert set(east.values()) == {1}
    assert len(east) == 3
    assert stretch.distance_m == pytest.approx(40, abs=1)
    west, _ = found(DUAL, 1500, 40, 250)
    assert not set(west) & set(east)


def test_a_two_way_road_is_driven_against_its_line():
    segments = network(line((0, 0), (2000, 0)))
    assert set(found(segments, 800, 5, 270)[0].values()) == {-1}
    assert set(found(segments, 800, 5, 90)[0].values()) == {1}


def test_lines_drawn_the_other_way_continue():
    segments = network(line((0, 0), (900, 0)), line((1800, 0), (900, 0)))
    assert list(found(segments, 100, 0, 90)[0].values()) == [1, -1]


def test_ramps_and_service_roads_are_nearer_but_never_taken():
    segments = network(
        line((0, 0), (900, 0)),
        line((0, 20), (900, 20)),
        line((0, 30), (900, 30)),
        classes=["motorway", "motorway_link", "service"],
    )
    assert set(found(segments, 400, 25, 90)[0]) == {segments["segment_id"][0]}


def test_the_stretch_ends_at_a_junction_and_where_the_name_changes():
    segments = network(
        line((0, 0), (800, 0)),
        line((800, 0), (1600, 0)),
        line((800, 0), (800, 500)),
        line((0, 0), (-800, 0)),
        classes=["motorway", "motorway", "motorway_link", "motorway"],
        refs=["A 2", "A 2", None, "A 7"],
    )
    assert len(found(segments, 400, 0, 90)[0]) == 1


def test_the_stretch_is_some_kilometres_long():
    segments = network(line((0, 0), (20_000, 0)))
    near, stretch = found(segments, 10_500, 0, 90)
    assert len(near) == 7  # its own of 1 km, and three on either side
    assert stretch.segments[0] == 10


def test_a_ring_does_not_repeat():
    segments = network(line((0, 0), (500, 0), (500, 500), (0, 500), (0, 0)))
    assert len(set(found(segments, 250, 0, 90)[0])) == len(segments)


def test_the_number_of_the_road_decides_between_parallel_roads():
    segments = network(line((0, 0), (900, 0)), line((0, 60), (900, 60)), refs=["A 2", "B 65;B 6"])
    assert found(segments, 400, 5, 90, "b65")[1].segments.tolist() == [1]
    assert found(segments, 400, 5, 90, "A 99")[1].segments.tolist() == [0]


def test_no_road_in_this_direction_or_at_this_place():
    with pytest.raises(CountsError, match=r"leads to 0 degrees \(2 roads lead elsewhere"):
        found(DUAL, 1500, 10, 0)
    with pytest.raises(CountsError, match="within 150 m"):
        found(DUAL, 1500, 500, 90)
    assert found(DUAL, 2500, 0, 45)[0]
    hidden = network(line((0, 0), (900, 0))).assign(hidden="tunnel")
    with pytest.raises(CountsError):
        found(hidden, 400, 0, 90)
