import geopandas as gpd
import pytest
from shapely.geometry import Point, box

from pipeline.report.cases import case_columns, kind_of, label


def cases(**columns):
    shapes = [box(10, 50, 10.001, 50.001), box(11, 51, 11.002, 51.001)]
    frame = {"id": ["a", "b"], "outcome": ["FN", "FP"], **columns}
    return gpd.GeoDataFrame(frame, geometry=shapes, crs=4326)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("speed_kmh", ("speed", "km/h")),
        ("heading_error_deg", ("heading error", "°")),
        ("landcover", ("land cover", "")),
        ("m", ("m", "")),
    ],
)
def test_columns_are_named_for_people(column, said):
    assert label(column) == said


def test_outlines_are_millionths_of_a_degree_from_their_first_corner():
    first, _ = case_columns(cases(), {})["outlines"]
    assert len(first) == 8
    lon, lat, *rest = first
    corners = {(lon, lat), *((lon + rest[i], lat + rest[i + 1]) for i in range(0, 6, 2))}
    assert corners == {(x, y) for x in (10_000_000, 10_001_000) for y in (50_000_000, 50_001_000)}


def test_a_point_is_an_outline_of_one_corner():
    frame = cases().set_geometry([Point(1, 2), Point(3, 4)], crs=4326)
    assert case_columns(frame, {})["outlines"] == [[1_000_000, 2_000_000], [3_000_000, 4_000_000]]


def test_across_the_antimeridian_longitudes_go_on():
    frame = cases().set_geometry([box(179.9, 0, 179.91, 0.01), box(-179.9, 0, -179.89, 0.01)], crs=4326)
    east, west = (outline[0] for outline in case_columns(frame, {})["outlines"])
    assert 0 < west - east < 300_000


def test_kinds_come_in_a_fixed_order_and_unknown_ones_last():
    data = case_columns(cases(), {})
    assert [kind["key"] for kind in data["kinds"]] == ["FP", "FN"]
    assert data["kind"] == [1, 0]
    assert kind_of("another_kind").name == "another kind"


def test_facts_are_numbers_words_or_nothing():
    data = case_columns(
        cases(
            speed_kmh=[81.234, None], landcover=["grass", None], near_cloud=[True, False], empty=[None, None]
        ),
        {},
    )
    assert data["facts"] == [
        {"name": "speed", "unit": "km/h", "values": [81.2, None]},
        {"name": "land cover", "unit": "", "names": ["grass"], "codes": [0, -1]},
        {"name": "near cloud", "unit": "", "names": ["yes", "no"], "codes": [0, 1]},
    ]


def test_chips_are_given_by_row_causes_and_scores_where_known():
    data = case_columns(cases(cause=[None, "near cloud"], score=[None, 0.87654]), {"b": b"WEBP"})
    assert data["chips"] == {1: "data:image/webp;base64,V0VCUA=="}
    assert (data["causes"], data["cause"]) == (["near cloud"], [-1, 0])
    assert data["score"] == [None, 0.877]


def test_headings_and_axes_are_bearings_on_the_map():
    """Grid north is 2.3 degrees east of north there: 3 degrees of longitude from the zone's middle."""
    shapes = [box(x, 5_700_000, x + 20, 5_700_020) for x in (705_000, 500_000, 705_000)]
    frame = gpd.GeoDataFrame(
        {"id": list("abc"), "outcome": "truck", "heading_deg": [0, 90, None], "axis_deg": [0, 90, 179]},
        geometry=shapes,
        crs=32632,
    )
    data = case_columns(frame, {})
    assert data["bearings"] == [2, 90, 181]
    assert data["has_front"] == [1, 1, 0]
    assert case_columns(cases(), {})["bearings"] == [None, None]
