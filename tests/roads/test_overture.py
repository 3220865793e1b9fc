"""Segments of Overture Maps."""

import json

import geopandas as gpd
import pandas as pd
import pytest
from shapely.geometry import LineString

from pipeline.input_warnings import collected_warnings
from pipeline.roads.overture import with_osm_columns
from pipeline.roads.read import read_roads

NESTED = ("names", "road_flags", "access_restrictions", "speed_limits", "routes")
CAR = {"access_type": "denied", "when": {"heading": "forward", "mode": ["bus"]}}


def segments():
    rows = [
        {
            **{"id": "a", "subtype": "road", "class": "motorway", "subclass": None},
            "names": {"primary": "Ostring"},
            "routes": [{"ref": "A 7"}],
            "road_flags": [
                {"values": ["is_bridge"], "between": [0.0, 0.1]},
                {"values": ["is_tunnel"], "between": [0.25, 0.75]},
            ],
            "access_restrictions": [{"access_type": "denied", "when": {"heading": "backward"}}],
            "speed_limits": [{"max_speed": {"value": 120, "unit": "km/h"}, "between": None}],
        },
        {
            **{"id": "b", "subtype": "road", "class": "trunk", "subclass": "link"},
            "road_flags": [{"values": ["is_covered"], "between": None}],
            "access_restrictions": [CAR, {"access_type": "denied", "when": {"heading": "forward"}}],
            "speed_limits": [{"max_speed": {"value": 50, "unit": "mph"}}],
        },
        {"id": "c", "subtype": "rail", "class": "standard_gauge"},
        {"id": "d", "subtype": "water", "class": None},
        {"id": "e", "subtype": "road", "class": "primary", "access_restrictions": [CAR]},
    ]
    lines = [LineString([(6e5, 58e5 + 500 * n), (6e5 + 400, 58e5 + 500 * n)]) for n in range(len(rows))]
    return gpd.GeoDataFrame(pd.DataFrame(rows), geometry=lines, crs="EPSG:32632")


@pytest.mark.parametrize("kind", ["parquet", "geojson", "gpkg"])
def test_segments_are_roads_with_their_rules(tmp_path, kind):
    frame, path = segments(), tmp_path / f"segments.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        for name in NESTED:
            frame[name] = [
                json.dumps(value) if isinstance(value, list | dict) else None for value in frame[name]
            ]
        frame.to_file(path)
    with collected_warnings() as said:
        roads = read_roads(path, "EPSG:32632")
    assert said == ["Roads: 2 of 7 lines are no roads in use: 2 another kind of line. Left out."]
    assert roads.drop(columns=["geometry", "lanes"]).fillna("").to_numpy().tolist() == [
        ["a", "motorway", "Ostring", "A 7", 1, "120", ""],
        ["a", "motorway", "Ostring", "A 7", 1, "120", "tunnel"],
        ["a", "motorway", "Ostring", "A 7", 1, "120", ""],
        ["b", "trunk_link", "", "", -1, "50 mph", "covered"],
        ["e", "primary", "", "", 0, "", ""],
    ]
    assert roads.length.round(3).tolist() == [100, 200, 100, 400, 400]


def test_flags_as_geopandas_writes_them_hold_for_the_whole_segment():
    frame = segments()[1:2].assign(road_flags="[{'values': array(['is_tunnel']), 'between': None}]")
    assert with_osm_columns(frame)["tunnel"].tolist() == ["yes"]


def test_other_roads_are_unchanged():
    frame = segments()
    for other in (frame.drop(columns="class"), frame.assign(subtype="highway")):
        assert with_osm_columns(other) is other


@pytest.mark.parametrize(
    "odd", [["a", {}], [1e300, -5], [None], "0.5", [float("nan"), 1], 7, [0.9, 0.1], [10**400, 0]]
)
def test_rules_of_any_value_are_no_error(odd):
    row = {
        **{"id": "a", "subtype": "road", "class": "trunk", "names": odd, "routes": [{"ref": odd}]},
        "road_flags": [{"values": odd, "between": odd}, {"values": ["is_tunnel"], "between": odd}],
        "access_restrictions": [{"access_type": odd, "when": odd}, odd, {"when": {"heading": odd}}],
        "speed_limits": [{"max_speed": odd}, {"max_speed": {"value": odd, "unit": odd}, "when": odd}],
    }
    line = LineString([(0, 0), (100, 0)])
    found = with_osm_columns(gpd.GeoDataFrame([row], geometry=[line], crs="EPSG:32632"))
    assert found.length.sum() == pytest.approx(100)
    assert set(found["highway"]) == {"trunk"}


def test_kinds_that_are_no_text_are_not_of_overture():
    roads = gpd.GeoDataFrame({"subtype": [["road"]], "class": [{}]}, geometry=[LineString([(0, 0), (9, 9)])])
    assert with_osm_columns(roads) is roads
