"""Trucks snapped to roads, and headings from the driving side."""

import math

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from pipeline.layers.snapping import snap_trucks
from pipeline.roads.segments import split_roads
from tests.roads.test_segments import line, roads

CRS = "EPSG:32632"
X, Y = 600_000.0, 5_800_000.0


def trucks(places, heading=np.nan, axis=np.nan, speed=80.0, sigma=5.0):
    """Boxes of 40 x 20 m around places relative to (X, Y)."""
    size = len(places)
    none = pd.Series([None] * size, dtype=object)
    heading = np.broadcast_to(np.array(heading, float), size)
    return gpd.GeoDataFrame(
        {
            "score": 1.0,
            "heading_deg": heading,
            "heading_source": pd.Series(
                ["band_order" if known else None for known in np.isfinite(heading)], dtype=object
            ),
            "axis_deg": np.where(np.isfinite(heading), heading % 180, axis),
            "speed_kmh": np.broadcast_to(np.array(speed, float), size),
            "speed_kmh_sigma": np.broadcast_to(np.array(sigma, float), size),
            "road_id": none,
            "road_class": none,
            "segment_id": none,
        },
        geometry=[box(X + x - 20, Y + y - 10, X + x + 20, Y + y + 10) for x, y in places],
        crs=CRS,
    )


def snap(found, segments, side="right", sigma=5.0):
    return snap_trucks(found, segments, buffer_m=30.0, position_sigma_m=sigma, driving_side=side)


EASTWARD = line((0, 0), (1000, 0))


def test_a_truck_takes_the_road_that_fits_its_axis():
    segments = split_roads(roads(EASTWARD, line((500, -400), (500, 400))))
    found = snap(trucks([(500, 12), (500, 12), (500, 12), (500, 60)], axis=[88, 3, 45, 90]), segments)
    assert found.segment.tolist() == [0, 1, -1, -1]
    assert found.trucks["segment_id"].tolist() == ["0-0", "1-0", None, None]
    assert found.trucks["road_id"].tolist() == ["0", "1", None, None]
    assert found.trucks["road_class"].tolist() == ["motorway", "motorway", None, None]


def test_a_truck_above_a_tunnel_is_not_on_it():
    network = roads(EASTWARD, line((0, 20), (1000, 20)))
    network["hidden"] = ["tunnel", None]
    found = snap(trucks([(500, 2), (500, -15)], axis=[90, 90]), split_roads(network))
    assert found.segment.tolist() == [1, -1]


def test_a_truck_without_an_axis_takes_the_nearest_road():
    segments = split_roads(roads(EASTWARD, line((500, -400), (500, 400))))
    found = snap(trucks([(507, 12)]), segments)
    assert (found.segment.tolist(), found.direction.tolist()) == ([1], [0])
    assert np.isnan(found.trucks["heading_deg"][0])


def test_a_known_heading_takes_its_own_carriageway():
    """The truck is nearer to the eastbound one, but drives west; none drives against one-way."""
    segments = split_roads(roads(EASTWARD, line((1000, 20), (0, 20)), oneway=1))
    found = snap(trucks([(500, 8), (500, 8)], heading=[271, 89]), segments)
    assert (found.segment.tolist(), found.direction.tolist()) == ([1, 0], [1, 1])
    assert found.trucks["heading_deg"].tolist() == [271, 89]
    assert found.trucks["heading_source"].tolist() == ["band_order", "band_order"]
    assert snap(trucks([(500, 0)], heading=270), segments.iloc[:1]).segment.tolist() == [-1]


def test_a_one_way_road_tells_the_heading_where_no_other_is_near():
    pair = split_roads(roads(EASTWARD, line((1000, 24), (0, 24)), oneway=1))
    found = snap(trucks([(500, -4), (500, 27), (500, 9)], axis=[91, 90, 90]), pair)
    assert found.segment.tolist() == [0, 1, 0]
    assert found.direction.tolist() == [1, 1, 1]
    # the last one is 3 m from the middle of the two carriageways, which is less than 2 sigmas of 5 m
    np.testing.assert_array_equal(found.trucks["heading_deg"], [91, 270, np.nan])
    assert found.trucks["heading_source"].tolist() == ["oneway", "oneway", None]
    against = split_roads(roads(EASTWARD, oneway=-1))
    assert snap(trucks([(500, 0)], axis=90), against).trucks["heading_deg"].tolist() == [270]


@pytest.mark.parametrize(("side", "southern"), [("right", 90), ("left", 270)])
def test_the_driving_side_tells_the_heading_on_a_two_way_road(side, southern):
    """South of a road is on the right of those who drive east. At a joint of two segments it is no other."""
    segments = split_roads(roads(EASTWARD, line((1000, 0), (2000, 0))), max_m=500)
    found = snap(trucks([(250, -11), (250, 11), (1000, -11), (250, -9)], axis=90), segments, side)
    assert found.trucks["heading_deg"].tolist()[:3] == [southern, 360 - southern, southern]
    assert found.trucks["heading_source"].tolist() == ["driving_side"] * 3 + [None]
    assert found.direction.tolist() == ([1, -1, 1, 0] if side == "right" else [-1, 1, -1, 0])
    backwards = snap(trucks([(250, -11)], axis=90), split_roads(roads(EASTWARD.reverse())), side)
    assert backwards.trucks["heading_deg"].tolist() == [southern]


def test_where_the_driving_side_is_unknown_there_is_no_heading():
    found = snap(trucks([(500, -11)], axis=90), split_roads(roads(EASTWARD)), None)
    assert found.segment.tolist() == [0]
    assert found.trucks["heading_source"].tolist() == [None]


@settings(max_examples=60)
@given(
    st.floats(0, 360, exclude_max=True),
    st.floats(11, 25),
    st.sampled_from(["right", "left"]),
    st.booleans(),
)
def test_headings_turn_with_the_road(azimuth, aside, side, reverse):
    """A truck on its own side of a road of any azimuth gets the heading it drives."""
    east, north = math.sin(math.radians(azimuth)), math.cos(math.radians(azimuth))
    road = line((-900 * east, -900 * north), (900 * east, 900 * north))
    offset = aside if side == "right" else -aside
    found = snap(
        trucks([(offset * north, -offset * east)], axis=azimuth % 180),
        split_roads(roads(road.reverse() if reverse else road)),
        side,
    )
    turned = (found.trucks["heading_deg"][0] - azimuth + 180) % 360 - 180
    assert abs(turned) < 0.11
    assert found.direction[0] == (-1 if reverse else 1)
