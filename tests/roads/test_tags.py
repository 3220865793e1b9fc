"""Tags of roads in columns of any type."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from pipeline.input_warnings import collected_warnings
from pipeline.roads import tags
from pipeline.roads.read import read_roads

CRS = "EPSG:32632"


def oneway(*values, **columns):
    table = pd.DataFrame({"oneway": pd.Series(list(values), dtype=object), **columns})
    with collected_warnings() as said:
        return tags.oneways(tags.columns(table)), said


YES = [
    *("yes", "Yes", "true", "True", "TRUE", "1", "1.0", "['yes']", [True]),
    *(1, 1.0, True, np.True_, np.float32(1)),
]
NO = [*("no", "No", "false", "FALSE", "0", "0.0", "reversible", "alternating"), 0, 0.0, False, np.False_]
AGAINST = ["-1", "-1.0", -1, -1.0, np.int8(-1), "reverse", "['-1', '-1']"]
NOTHING = [None, np.nan, pd.NA, pd.NaT, "", " ", "nan", "None", "<NA>", []]


@pytest.mark.parametrize(
    ("values", "meaning"), [(YES, 1), (NO, 0), (AGAINST, -1), (NOTHING, 0)], ids=["yes", "no", "-1", "null"]
)
def test_a_direction_of_any_type(values, meaning):
    assert oneway(*values) == ([meaning] * len(values), [])
    assert oneway(*values, highway=["motorway"] * len(values))[0] == [
        1 if values is NOTHING else meaning
    ] * len(values)


@pytest.mark.parametrize("kind", [None, float, "Int64", "boolean", "string", "category"])
def test_a_column_of_any_type(kind):
    """Integers with a null are read as floats."""
    given = [True, False, None] if kind == "boolean" else [1, 0, None]
    series = pd.Series(given, dtype=kind)
    table = pd.DataFrame({"ONEWAY": series, "highway": ["motorway"] * 3})
    assert tags.oneways(tags.columns(table)) == [1, 0, 1]


def test_letters_of_geofabrik_and_of_others():
    assert oneway("F", "T", "B") == ([1, -1, 0], [])
    assert oneway("F", "T", fclass=["trunk", "trunk"]) == ([1, -1], [])
    found, said = oneway("T", "F", "t")
    assert found == [1, 0, 1]
    assert len(said) == 1
    assert "T is taken as true" in said[0]


def test_unknown_directions_are_named_and_taken_as_not_given():
    found, said = oneway("yes", "foo", "foo", "['yes', 'no']", 7, highway=["motorway"] * 5)
    assert found == [1, 1, 1, 1, 1]
    assert said == [
        "Roads: oneway of 4 of 5 roads is not understood and taken as not given: 'foo' (2), 'yes;no' (1), "
        "'7' (1). Expected yes, no, -1, true, false, 1, 0, or F, T and B."
    ]
    assert oneway("foo", highway=["trunk"])[0] == [0]


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1), st.sampled_from([int, float, str, np.int8, "list"]))
def test_directions_survive_any_type(values, kind):
    typed = [f"['{value}']" if kind == "list" else kind(value) for value in values]
    assert oneway(*typed) == (values, [])


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        *((80, "80"), (80.0, "80"), ("80", "80"), ("80.0", "80"), ("30 mph", "30 mph"), ("none", "none")),
        *(
            ("DE:urban", "DE:urban"),
            ("signals", "signals"),
            ("['50', '60']", "50;60"),
            (["50", "60"], "50;60"),
        ),
        *((0, None), ("0", None), (-1.0, None), (np.nan, None), ("nan", None), ("None", None), ("", None)),
    ],
)
def test_a_speed_limit_of_any_type(value, limit):
    with collected_warnings() as said:
        assert tags.speed_limits([tags.text_of(value)]) == [limit]
    assert said == []


@pytest.mark.parametrize("value", [1e300, -5, "1e400", "-inf", "101", 2**70, "9" * 5000])
def test_absurd_numbers_of_lanes_are_named_and_not_used(value):
    with collected_warnings() as said:
        assert tags.lanes([tags.text_of(value), "2"]) == [None, 2]
    assert len(said) == 1 and said[0].startswith("Roads: lanes of 1 of 2 roads is not understood")
    assert len(said[0]) < 250


@pytest.mark.parametrize("value", ["1e400", "inf", 1e300, 5000])
def test_absurd_speeds_are_named_and_not_used(value):
    with collected_warnings() as said:
        assert tags.speed_limits([tags.text_of(value), "50"]) == [None, "50"]
    assert len(said) == 1 and said[0].startswith("Roads: maxspeed of 1 of 2 roads")


def test_texts_of_any_length_and_nested_lists_are_cut():
    assert len(tags.text_of("x" * 2**20)) == 1000
    assert len(tags.text_of(["x" * 600, "y" * 600] * 1000)) == 1000
    nested = []
    for _ in range(5000):
        nested = [nested, "2"]
    assert tags.text_of(nested) == "2"
    table = pd.DataFrame({"highway": ["trunk"], "name": ["n" * 2**20], "oneway": ["yes" * 2**18]})
    read = tags.columns(table)
    with collected_warnings() as said:
        assert tags.oneways(read) == [0]
    assert len(read["name"][0]) == 1000 and len(said) == 1


def test_what_is_no_speed_or_number_of_lanes_is_named():
    with collected_warnings() as said:
        assert tags.speed_limits(["yes", "50", None]) == [None, "50", None]
        assert tags.lanes(["many", "2"]) == [None, 2]
    assert [text.partition(" is not")[0] for text in said] == [
        "Roads: maxspeed of 1 of 3 roads",
        "Roads: lanes of 1 of 2 roads",
    ]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((2, 2), (2.0, 2), ("2", 2), ("2.0", 2), (["3"], 3)),
        *(("2;3", None), ("1.5", None), (0, None), ("0", None)),
    ],
)
def test_lanes_of_any_type(value, number):
    with collected_warnings() as said:
        assert tags.lanes([tags.text_of(value)]) == [number]
    assert said == []


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        (
            "tunnel",
            ["yes", "T", True, 1.0, "building_passage", "['yes', 'no']"],
            "tunnel",
        ),
        ("tunnel", ["no", "F", False, 0.0, None, np.nan, "culvert"], None),
        ("covered", ["yes", True, "arcade"], "covered"),
        ("covered", ["no", False, None], None),
        ("layer", ["-1", -1, "-2"], None),
        ("bridge", ["yes", "T"], None),
    ],
)
def test_what_cannot_be_seen_from_above(column, values, expected):
    table = tags.columns(pd.DataFrame({column: pd.Series(values, dtype=object)}))
    with collected_warnings() as said:
        assert tags.hidden(table) == [expected] * len(values)
    assert said == []


def test_tags_in_one_column():
    """As GDAL writes OpenStreetMap's ways into a GeoPackage, or other tools as JSON."""
    packed = ['"oneway"=>"-1","tunnel"=>"yes","name"=>"A \\"B\\""', '{"oneway": "yes"}', None, {"lanes": 2}]
    found = tags.columns(pd.DataFrame({"highway": ["trunk"] * 4, "other_tags": packed}))
    assert tags.oneways(found) == [-1, 1, 0, 0]
    assert tags.hidden(found) == ["tunnel", None, None, None]
    assert tags.of(found, "name")[0] == 'A "B"'
    assert tags.lanes(tags.of(found, "lanes")) == [None, None, None, 2]


def test_lines_that_are_no_roads_in_use():
    table = pd.DataFrame(
        {
            "highway": ["trunk", "construction", "proposed", "trunk", None, None, None],
            "area": [None, None, None, "yes", None, None, None],
            "route": [None, None, None, None, "ferry", None, None],
            "waterway": [None, None, None, None, None, "river", None],
        }
    )
    with collected_warnings() as said:
        assert tags.in_use(tags.columns(table)).tolist() == [True, *[False] * 5, True]
    assert said[0].startswith("Roads: 5 of 7 lines are no roads in use: 1 construction, 1 proposed, 1 area")


def test_other_columns_of_the_same_names_are_no_reason_to_leave_a_line_out():
    table = pd.DataFrame({"area": [1.0, 0.0], "railway": ["F", 0], "waterway": ["no", None]})
    with collected_warnings() as said:
        assert tags.in_use(tags.columns(table)).tolist() == [True, True]
    assert said == []


def lines(size):
    return [shapely.LineString([(6e5, 58e5 + 50 * row), (601e3, 58e5 + 50 * row)]) for row in range(size)]


def test_a_graph_of_osmnx(tmp_path):
    """Its values are lists, booleans, and text of both."""
    table = gpd.GeoDataFrame(
        {
            "osmid": ["[17, 18]", "19", "20"],
            "highway": ["['trunk_link', 'trunk']", "residential", "motorway"],
            "oneway": ["True", "False", "True"],
            "reversed": ["False", "[True, False]", "False"],
            "lanes": ["['2', '3']", "2", None],
            "maxspeed": ["['50', '60']", "30 mph", None],
            "tunnel": [None, "building_passage", None],
            "name": ["['Am Wall', \"D'Arcy's\"]", None, "nan"],
        },
        geometry=lines(3),
        crs=CRS,
    )
    table.to_file(tmp_path / "g.gpkg")
    with collected_warnings() as said:
        found = read_roads(tmp_path / "g.gpkg", CRS)
    assert said == []
    assert found["road_id"].tolist() == ["17;18", "19", "20"]
    assert found["road_class"].tolist() == ["trunk", "residential", "motorway"]
    assert found["oneway"].tolist() == [1, 0, 1]
    assert found["lanes"].fillna(0).tolist() == [0, 2, 0]
    assert found["maxspeed"].tolist() == ["50;60", "30 mph", None]
    assert found["hidden"].tolist() == [None, "tunnel", None]
    assert found["name"].tolist() == ["Am Wall;D'Arcy's", None, None]


def test_ids_of_any_type(tmp_path):
    """Whole numbers have no point; a line without an id is named by its geometry."""
    gpd.GeoDataFrame({"osm_id": [17.0, np.nan, 19.0]}, geometry=lines(3), crs=CRS).to_file(
        tmp_path / "f.gpkg"
    )
    found = read_roads(tmp_path / "f.gpkg", CRS)["road_id"]
    assert found[[0, 2]].tolist() == ["17", "19"]
    assert len(found[1]) == 12
    table = gpd.GeoDataFrame({"osm_id": ["nan"] * 2, "id": [1, 2]}, geometry=lines(2), crs=CRS)
    table.to_file(tmp_path / "n.gpkg")
    assert read_roads(tmp_path / "n.gpkg", CRS)["road_id"].tolist() == ["1", "2"]


@pytest.mark.parametrize("name", ["class", "Type", "ROAD_TYPE"])
def test_a_column_with_values_of_highway_is_the_class(name):
    table = tags.columns(pd.DataFrame({name: ["motorway", "residential"]}))
    assert (tags.classes(table), tags.oneways(table)) == (["motorway", "residential"], [1, 0])
    assert tags.classes(tags.columns(pd.DataFrame({name: ["A", "B"]}))) == [None, None]
    assert tags.classes(tags.columns(pd.DataFrame({name: ["motorway"], "fclass": ["trunk"]}))) == ["trunk"]
