import math

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import LineString

from pipeline.report.roads import compass, road_layer, road_rows, segment_facts
from tests.report.test_page import FIGURES

SEGMENT = {
    "road_id": "w1",
    "road_class": "motorway",
    "name": "Ring",
    "ref": "A 2",
    "hidden": None,
    "length_m": 1000.0,
    "azimuth_deg": 80.0,
    "seen_km": 0.5,
    "count": 3.0,
    "count_forward": 2.0,
    "count_backward": 1.0,
    "count_unresolved": 0.0,
    "expected": 3.4,
    "expected_low": 2.0,
    "expected_high": 6.0,
    "flow_per_hour": 540.0,
    "flow_low": 200.0,
    "flow_high": 1100.0,
    "flow_forward": 360.0,
    "flow_backward": 180.0,
    "mean_speed_kmh": 81.6,
    "speed_se_kmh": 5.2,
}


def test_a_segment_says_name_counts_flow_and_intervals():
    assert segment_facts(SEGMENT) == {
        "road": "A 2, Ring",
        "class": "motorway",
        "searched": "0.50 of 1.00 km",
        "trucks": "3 detected",
        "expected trucks": "3.4 (95 %: 2.0 to 6.0)",
        "flow": "540 trucks per hour (95 %: 200 to 1100)",
        "mean speed": "82 ± 5 km/h",
        "towards east": "2 detected, 360 per hour",
        "towards west": "1 detected, 180 per hour",
    }


def test_a_one_way_road_has_one_direction_and_a_tunnel_no_figures():
    oneway = segment_facts(SEGMENT | {"count_backward": np.nan, "flow_backward": np.nan})
    assert "towards east" in oneway and "towards west" not in oneway
    assert segment_facts(SEGMENT | {"hidden": "tunnel"}) == {
        "road": "A 2, Ring",
        "class": "motorway",
        "searched": "no: tunnel",
    }


def test_a_segment_that_was_not_searched_has_no_count():
    unknown = {
        name: np.nan for name in SEGMENT if name.startswith(("count", "expected", "flow", "mean", "speed"))
    }
    assert segment_facts(SEGMENT | unknown | {"seen_km": 0.0, "ref": None, "name": None}) == {
        "road": "w1",
        "class": "motorway",
        "searched": "0.00 of 1.00 km",
    }


@pytest.mark.parametrize(
    ("degrees", "point"), [(0, "north"), (22, "north"), (23, "northeast"), (180, "south"), (359, "north")]
)
def test_points_of_the_compass(degrees, point):
    assert compass(degrees) == point


def test_roads_are_coloured_by_trucks_on_a_kilometre_the_busiest_first():
    line = LineString([(600_000, 5_800_000), (601_000, 5_800_000)])
    frame = gpd.GeoDataFrame(
        {"road_id": ["none", "some", "most"], "trucks_per_km": [0.0, 1.0, 9.0]},
        geometry=[line] * 3,
        crs=32632,
    )
    layer = road_layer(frame)
    roads = [feature["properties"]["facts"]["road"] for feature in layer.geojson["features"]]
    assert roads == ["most", "some", "none"]
    colours = [feature["properties"]["colour"] for feature in layer.geojson["features"]]
    assert len(set(colours)) == 3
    assert dict(layer.legend)["no trucks"] == colours[2]


def test_rows_of_the_table_of_roads_have_the_most_trucks_first_and_unknown_ones_last():
    table = pd.DataFrame(
        {
            "ref": ["A 2", None, None],
            "name": ["Ring", "Lane", None],
            "road_class": ["motorway", None, "track"],
            "direction": ["E", "N", "clockwise"],
            **{name: [1.5, 2.0, None] for name in FIGURES},
            "mean_speed_kmh": [80.0, None, None],
            "seen_km": [3.25, 1.0, 0.0],
        }
    )
    lane, ring, track = road_rows(table)
    assert (ring.road, ring.road_class, ring.direction) == ("A 2, Ring", "motorway", "E")
    assert (ring.trucks, ring.flow_interval, ring.mean_speed_kmh, ring.seen_km) == (1.5, (1.5, 1.5), 80, 3.25)
    assert (lane.road, lane.road_class) == ("Lane", "")
    assert track.road == "without a name" and math.isnan(track.trucks)
    assert road_rows(None) == []
