"""Roads cut into segments."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiLineString

from pipeline.roads.segments import split_roads

CRS = "EPSG:32632"
X, Y = 600_000.0, 5_800_000.0


def roads(*lines, oneway=0, road_class="motorway", ids=None):
    size = len(lines)
    text = pd.Series([None] * size, dtype=object)
    return gpd.GeoDataFrame(
        {
            "road_id": pd.Series(ids or [str(number) for number in range(size)], dtype=object),
            "road_class": pd.Series([road_class] * size, dtype=object),
            "name": text,
            "ref": text,
            "oneway": np.broadcast_to(np.array(oneway, np.int8), size),
            "lanes": pd.array([None] * size, dtype="Int64"),
            "maxspeed": text,
            "hidden": text,
        },
        geometry=list(lines),
        crs=CRS,
    )


def line(*places):
    return LineString([(X + x, Y + y) for x, y in places])


def test_roads_are_cut_where_they_share_a_vertex():
    street = line((0, 0), (400, 0), (400, 300), (1000, 300))
    table = split_roads(roads(street, line((400, 300), (400, 900)), line((500, 0), (500, 900))))
    assert table["segment_id"].tolist() == ["0-0", "0-1", "1-0", "2-0"]  # the bridge has no common vertex
    assert table["length_m"].tolist() == [700, 600, 600, 900]
    np.testing.assert_allclose(table["azimuth_deg"], [53.13, 90, 0, 0], atol=0.01)
    assert shapely.equals_exact(table.geometry[0], line((0, 0), (400, 0), (400, 300)))


def test_long_roads_are_cut_into_equal_parts():
    table = split_roads(roads(line((0, 0), (300, 400), (300, 1000))), max_m=500)
    assert table["length_m"].tolist() == pytest.approx([1100 / 3] * 3)
    assert shapely.equals_exact(table.geometry[1], line((220, 880 / 3), (300, 400), (300, 1900 / 3)), 1e-6)


def test_rings_and_parts_and_doubled_places():
    ring = line((0, 0), (100, 0), (100, 100), (0, 0))
    parts = MultiLineString([line((500, 0), (600, 0), (600, 0), (700, 0)), line((800, 0), (900, 0))])
    table = split_roads(roads(ring, parts, line((0, 5), (0, 5)), ids=["r", "p", "p"]))
    assert table["segment_id"].tolist() == ["r-0", "p-0", "p-1"]
    assert np.isnan(table["azimuth_deg"][0])
    assert table["length_m"][1:].tolist() == [200, 100]


def test_a_segment_is_the_same_whatever_else_is_asked_for():
    table = roads(line((0, 0), (400, 0), (900, 0)), line((400, 0), (400, 900)), line((5000, 0), (6000, 0)))
    whole = split_roads(table)
    part = split_roads(table, bounds=(X + 600, Y - 10, X + 700, Y + 10))
    assert part["segment_id"].tolist() == ["0-1"]
    assert part.geometry[0].equals(whole.set_index("segment_id").geometry["0-1"])
    assert split_roads(table, bounds=(0, 0, 1, 1)).empty
    assert split_roads(table.iloc[:0]).empty


coordinates = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=8, unique=True)


@settings(max_examples=60)
@given(st.lists(coordinates, min_size=1, max_size=5), st.sampled_from([70.0, 250.0, 5000.0]))
def test_splitting_conserves_the_network(shapes, max_m):
    """Length, and cuts at exactly the places that two roads share, by counting them one by one."""
    lines = [line(*[(100 * x, 100 * y) for x, y in shape]) for shape in shapes]
    table = split_roads(roads(*lines), max_m)
    assert table.length.max() <= max_m + 1e-6
    of = table["road_id"].astype(int)
    np.testing.assert_allclose(table.length.groupby(of).sum(), [each.length for each in lines])
    assert table["segment_id"].is_unique
    ends = {tuple(place) for each in table.geometry for place in (each.coords[0], each.coords[-1])}
    for number, each in enumerate(lines):
        elsewhere = {place for other, road in enumerate(lines) if other != number for place in road.coords}
        assert elsewhere & set(each.coords) <= ends
    for number, each in enumerate(lines):
        again = shapely.line_merge(MultiLineString(table.geometry[of == number].to_list()))
        assert again.hausdorff_distance(each) < 1e-6
