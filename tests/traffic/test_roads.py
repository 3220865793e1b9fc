"""Segments to roads: carriageways, numbers, names, ramps, rings."""

import numpy as np
import pandas as pd
import pytest
import shapely

from pipeline.roads.read import read_roads
from pipeline.roads.segments import split_roads
from pipeline.traffic.roads import compass, direction_lines, is_apart, roads_of
from tests.roads.test_segments import line, roads
from tests.traffic.finished_runs import named


def carried(segments, found):
    """The name of the direction in which each segment's line leads."""
    return [
        found.table["directions"][road][0 if way > 0 else 1] if road >= 0 else None
        for road, way in zip(found.road, found.way, strict=True)
    ]


def test_two_carriageways_are_one_road_with_two_directions():
    """Drawn as OpenStreetMap does: each in its direction of travel."""
    segments = split_roads(named(roads(line((0, 0), (3000, 0)), line((3000, 20), (0, 20)), oneway=1), "A 2"))
    found = roads_of(segments)
    assert found.table["road"].tolist() == ["A 2"]
    assert found.table["directions"].tolist() == [("E", "W")]
    assert found.table["bearing_deg"].tolist() == pytest.approx([90], abs=1)
    azimuth = segments["azimuth_deg"]
    assert carried(segments, found) == ["E" if bearing == 90 else "W" for bearing in azimuth]


@pytest.mark.parametrize(("oneway", "ways"), [((1, -1), [1, 1]), ((1, 1), [1, -1]), ((-1, 1), [1, 1])])
def test_one_way_lines_that_lead_back_beside_each_other_are_one_road(oneway, ways):
    """Also without ref and name, however they are drawn."""
    back = line((1500, 25), (0, 25)) if oneway == (1, 1) else line((0, 25), (1500, 25))
    found = roads_of(split_roads(roads(line((0, 0), (1500, 0)), back, oneway=oneway)))
    assert len(found.table) == 1
    assert found.way.tolist() == ways


@pytest.mark.parametrize(("oneway", "across"), [((0, 0), 25), ((1, 1), 25), ((1, -1), 100)])
def test_other_lines_beside_each_other_are_two_roads(oneway, across):
    """Of both ways, or of the same way, or far apart."""
    lines = line((0, 0), (1500, 0)), line((0, across), (1500, across))
    assert len(roads_of(split_roads(roads(*lines, oneway=oneway))).table) == 2


def test_a_road_without_ref_and_name_goes_straight_on_at_a_junction():
    network = roads(line((0, 0), (500, 0)), line((500, 0), (1000, 20)), line((500, 0), (500, 600)))
    found = roads_of(split_roads(network))
    assert found.road.tolist() == [0, 0, 1]
    assert found.table["directions"].tolist() == [("E", "W"), ("N", "S")]
    assert found.table["road"].tolist() == ["motorway 0-0", "motorway 2-0"]


def test_a_name_is_a_road_where_it_is_in_one_piece():
    """The Hauptstraße of the next village is another; a number is one road wherever it is."""
    lines = line((0, 0), (500, 0)), line((530, 0), (900, 0)), line((9000, 0), (9500, 0))
    found = roads_of(split_roads(named(roads(*lines), name=["Hauptstraße", "hauptstraße", "Hauptstraße"])))
    assert found.road.tolist() == [0, 0, 1]
    assert found.table["road"].tolist() == ["Hauptstraße 0-0", "Hauptstraße 2-0"]
    numbered = roads_of(split_roads(named(roads(*lines), ref=["L 1", "L 1;B 6", " L  1"])))
    assert numbered.table["road"].tolist() == ["L 1"]


def test_a_numbered_road_has_a_name_if_it_is_that_of_most_of_it():
    lines = line((0, 0), (900, 0)), line((900, 0), (1000, 0))
    assert roads_of(split_roads(named(roads(*lines), "A 7", [None, "Bridge"]))).table["name"].tolist() == [
        None
    ]
    assert roads_of(split_roads(named(roads(*lines), "A 7", ["Long", "B"]))).table["name"].tolist() == [
        "Long"
    ]


def test_ramps_and_service_roads_are_no_part_of_a_road():
    network = named(
        roads(line((0, 0), (1000, 0)), line((500, 0), (800, 40)), line((0, 50), (900, 50))), "A 2"
    )
    network["road_class"] = ["motorway", "motorway_link", "service"]
    segments = split_roads(network)
    found = roads_of(segments)
    assert found.road.tolist() == [0, -1, -1]
    assert is_apart(pd.Series(["trunk_link", "service", "trunk", None])).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_directions_follow_bends():
    """A road that leads east, then north, then west again: its ends are south and north."""
    course = line((0, 0), (2000, 0), (2000, 4000), (500, 4000))
    west_first = shapely.reverse(shapely.offset_curve(course, 20))
    network = named(roads(course, west_first, oneway=1), "B 4")
    segments = split_roads(network, max_m=400)
    found = roads_of(segments)
    assert found.table["directions"].tolist() == [("N", "S")]
    assert carried(segments, found) == ["N" if road == "0" else "S" for road in segments["road_id"]]


def test_pieces_of_a_road_have_the_same_directions():
    """Another road has the number in between; the pieces are drawn against each other."""
    network = named(roads(line((0, 0), (3000, 0)), line((9000, 100), (5000, 100))), "B 65")
    segments = split_roads(network)
    assert set(zip(segments["road_id"], carried(segments, roads_of(segments)), strict=True)) == {
        ("0", "E"), ("1", "W"),
    }  # fmt: skip


@pytest.mark.parametrize("share", [1.0, 0.9])
def test_a_ring_leads_clockwise_and_anticlockwise(share):
    angle = np.linspace(0, 2 * np.pi * share, 61)
    outer = [line(*zip(r * np.sin(angle), r * np.cos(angle), strict=True)) for r in (4000, 4030)]
    network = named(roads(outer[0], shapely.reverse(outer[1]), oneway=1), "A 10")
    segments = split_roads(network, max_m=1000)
    found = roads_of(segments)
    assert found.table["directions"].tolist() == [("clockwise", "anticlockwise")]
    assert found.table["bearing_deg"].isna().all()
    assert set(zip(segments["road_id"], carried(segments, found), strict=True)) == {
        ("0", "clockwise"), ("1", "anticlockwise"),
    }  # fmt: skip


def test_lines_of_a_direction_are_drawn_that_way():
    network = named(roads(line((3000, 0), (0, 0)), line((3000, 20), (6000, 20)), oneway=[-1, 0]), "A 2")
    segments = split_roads(network)
    found = roads_of(segments)
    first, second = (direction_lines(segments, found, first=first) for first in (True, False))
    assert first.length.tolist() == [6000]
    assert second.length.tolist() == [3000]
    xs = [shapely.get_coordinates(part)[:, 0] for part in shapely.get_parts(first[0])]
    assert all((np.diff(x) > 0).all() for x in xs)
    assert all(shapely.get_coordinates(part)[0, 0] > shapely.get_coordinates(part)[-1, 0]
               for part in shapely.get_parts(second[0]))  # fmt: skip


def test_no_segment_is_no_road():
    segments = split_roads(roads(line((0, 0), (10, 0)))).iloc[:0]
    found = roads_of(segments)
    assert not len(found.table)
    assert not len(direction_lines(segments, found, first=True))


@pytest.mark.parametrize(
    ("bearing", "name"),
    [(0, "N"), (22.4, "N"), (22.6, "NE"), (-10, "N"), (180, "S"), (359, "N"), (292.6, "NW")],
)
def test_compass(bearing, name):
    assert compass(bearing) == name


def test_the_a2_at_braunschweig(shared_data):
    """OpenStreetMap's lines of a motorway, and of a road across it whose roadways part at the bridge."""
    segments = split_roads(read_roads(shared_data / "trucks" / "a2_braunschweig_roads.gpkg", "EPSG:32632"))
    found = roads_of(segments)
    assert dict(zip(found.table["road"], found.table["directions"], strict=True)) == {
        "A 2": ("E", "W"), "K 26": ("SE", "NW"),
    }  # fmt: skip
    assert found.table["name"].fillna("").to_list() == ["", "Hansestraße"]
    travel = np.radians(segments["azimuth_deg"] + np.where(segments["oneway"] < 0, 180, 0))
    motorway = (segments["ref"] == "A 2").to_numpy()
    east = np.where(np.sin(travel) > 0, "E", "W")
    assert np.array(carried(segments, found))[motorway].tolist() == east[motorway].tolist()
    assert set(segments["road_class"][found.road < 0]) == {"secondary_link"}
