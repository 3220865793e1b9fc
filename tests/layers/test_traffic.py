"""Segments, trucks on them, and flows: against motorways whose traffic is known."""

import math
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiLineString, box

from pipeline.config import Traffic
from pipeline.inference.predictions import CLOUD, SEEN
from pipeline.layers.flow import FALLBACK_SPEED_KMH, Recall, observe, poisson_interval
from pipeline.layers.snapping import snap_trucks
from pipeline.layers.traffic import (
    SEGMENT_COLUMNS,
    TABLE_FIELDS,
    road_traffic,
    seen_length,
    segment_layer,
    traffic_table,
    write_traffic,
)
from pipeline.roads.read import read_roads
from pipeline.roads.segments import split_roads
from pipeline.scenes.readers.geotiff import open_geotiff

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
        },
        geometry=list(lines),
        crs=CRS,
    )


def line(*places):
    return LineString([(X + x, Y + y) for x, y in places])


def trucks(places, heading=np.nan, axis=np.nan, speed=80.0, sigma=5.0):
    """Boxes of 40 x 20 m around places relative to (X, Y)."""
    size = len(places)
    none = pd.Series([None] * size, dtype=object)
    heading = np.broadcast_to(np.array(heading, float), size)
    return gpd.GeoDataFrame(
        {
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


def everywhere(xs, ys):
    return np.ones(len(xs), bool)


EASTWARD = line((0, 0), (1000, 0))


# --- segments


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


def test_seen_length():
    """A cloud over 100 m of a road that bends; steps of 5 m tell its edges to half a step."""
    segments = split_roads(roads(line((0, 0), (300, 0), (300, 400)), EASTWARD))
    cloud = box(X + 250, Y - 50, X + 350, Y + 50)
    seen = seen_length(segments, lambda xs, ys: ~shapely.contains_xy(cloud, xs, ys))
    np.testing.assert_allclose(seen, segments.difference(cloud).length, atol=5)
    assert seen_length(segments, everywhere).tolist() == pytest.approx(segments.length.tolist())
    assert seen_length(segments.iloc[:0], everywhere).shape == (0,)


# --- trucks on them


def test_a_truck_takes_the_road_that_fits_its_axis():
    segments = split_roads(roads(EASTWARD, line((500, -400), (500, 400))))
    found = snap(trucks([(500, 12), (500, 12), (500, 12), (500, 60)], axis=[88, 3, 45, 90]), segments)
    assert found.segment.tolist() == [0, 1, -1, -1]
    assert found.trucks["segment_id"].tolist() == ["0-0", "1-0", None, None]
    assert found.trucks["road_id"].tolist() == ["0", "1", None, None]
    assert found.trucks["road_class"].tolist() == ["motorway", "motorway", None, None]


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


# --- figures


def test_the_poisson_interval_is_garwoods():
    """Values of his table for 95 %: 0, 1, 5 and 10 counted."""
    low, high = poisson_interval(np.array([0.0, 1, 5, 10]))
    np.testing.assert_allclose(low, [0, 0.0253, 1.6235, 4.7954], atol=1e-4)
    np.testing.assert_allclose(high, [3.6889, 5.5716, 11.6683, 18.3904], atol=1e-4)


def test_flow_is_density_over_recall_times_speed():
    segments = split_roads(roads(line((0, 0), (2000, 0))))
    found = snap(
        trucks([(100, 0), (500, 0), (900, 0), (1300, 0)], heading=[90, 90, 90, 270], axis=90), segments
    )
    rows = observe(found, segments, np.array([1500.0]), Recall(0.8, 0.7, 0.9))
    assert rows["direction"].tolist() == [1, -1]
    assert rows["count"].tolist() == [3, 1]
    np.testing.assert_allclose(rows["trucks_per_km"], [2, 2 / 3])
    np.testing.assert_allclose(rows["flow_per_hour"], [2 / 0.8 * 80, 2 / 3 / 0.8 * 80])
    np.testing.assert_allclose(rows["speed_se_kmh"], np.sqrt((5**2 + 8**2) / np.array([3, 1])))
    low, high = (end[0] for end in poisson_interval(np.array([3.0])))
    slow = 1.96 * np.sqrt(89 / 3) / 80
    down = np.hypot(np.hypot(np.log(3 / low), np.log(0.9 / 0.8)), slow)
    up = np.hypot(np.hypot(np.log(high / 3), np.log(0.8 / 0.7)), slow)
    np.testing.assert_allclose(
        rows.loc[0, ["flow_low", "flow_high"]].tolist(), [200 * np.exp(-down), 200 * np.exp(up)], rtol=1e-4
    )


def test_unresolved_trucks_belong_half_to_either_direction():
    segments = split_roads(roads(line((0, 0), (2000, 0))))
    found = snap(trucks([(500, 0), (900, 0), (1300, 0)], heading=[90, np.nan, np.nan], axis=90), segments)
    rows = observe(found, segments, np.array([2000.0]), None)
    assert rows["count"].tolist() == [1, 0]
    assert rows["count_unresolved"].tolist() == [2, 2]
    assert rows["trucks_per_km"].tolist() == [1, 0.5]
    assert rows["flow_low"][1] == 0
    assert np.isnan(rows["recall_used"]).all()


def test_no_truck_is_a_figure_too():
    """An empty kilometre: no flow, and at most what Poisson's upper end says, at the speed of its class."""
    segments = split_roads(roads(line((0, 0), (1000, 0)), line((0, 900), (1000, 900)), oneway=1))
    found = snap(trucks([(500, 0)], heading=90, speed=70.0), segments)
    rows = observe(found, segments, np.array([1000.0, 1000.0]), None)
    assert rows["flow_per_hour"].tolist() == [70, 0]
    assert np.isnan(rows["mean_speed_kmh"][1])
    assert rows["flow_speed_kmh"][1] == 70
    assert rows["flow_low"][1] == 0
    assert 3.6889 * 70 < rows["flow_high"][1] < 1.5 * 3.6889 * 70
    lonely = observe(snap(trucks([]), segments), segments, np.array([0.0, 500.0]), None)
    assert lonely["segment"].tolist() == [1]  # what was not seen has no row
    assert lonely["flow_speed_kmh"].tolist() == [FALLBACK_SPEED_KMH]


def test_the_interval_holds_the_true_flow_of_a_motorway():
    """400 one-way kilometres at 5 trucks a kilometre and 80 +- 8 km/h, of which a detector finds 80 %."""
    rng = np.random.default_rng(5)
    kilometres = [line((0, 100 * row), (1000, 100 * row)) for row in range(400)]
    segments = split_roads(roads(*kilometres, oneway=1))
    row = np.repeat(np.arange(400), rng.poisson(5.0, 400))
    row = row[rng.random(len(row)) < 0.8]
    places = np.stack([rng.uniform(0, 1000, len(row)), 100 * row + rng.normal(0, 4, len(row))], axis=1)
    speeds = 80 + rng.normal(0, 8, len(row)) + rng.normal(0, 5, len(row))
    found = snap(trucks(places, axis=90, speed=speeds), segments)
    np.testing.assert_array_equal(found.segment, row)
    rows = observe(found, segments, segments.length.to_numpy(), Recall(0.8, 0.78, 0.82))
    true = 5 * 80
    assert rows["flow_per_hour"].mean() == pytest.approx(true, rel=0.05)
    covered = ((rows["flow_low"] <= true) & (true <= rows["flow_high"])).mean()
    assert 0.95 - 2 * np.sqrt(0.05 * 0.95 / 400) < covered


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1000),
            st.integers(-60, 160),
            st.sampled_from([0, 90, 180, 270, None]),
            st.booleans(),
        ),
        max_size=15,
    ),
    st.sampled_from([(0, 0, 0), (1, -1, 0), (0, 1, 1)]),
)
def test_every_truck_is_counted_once(drawn, oneway):
    network = roads(EASTWARD, line((0, 100), (1000, 100)), line((500, -400), (500, 400)), oneway=oneway)
    segments = split_roads(network, max_m=300)
    angle = np.array([np.nan if h is None else h for *_, h, _ in drawn])
    sure = np.array([flag for *_, flag in drawn], bool)
    found = snap(
        trucks([(x, y) for x, y, *_ in drawn], heading=np.where(sure, angle, np.nan), axis=angle % 180),
        segments,
    )
    seen = segments.length.to_numpy()
    rows = observe(found, segments, seen, None)
    layer = segment_layer(rows, segments, seen, None)
    unmatched = int((found.segment < 0).sum())
    each = rows.drop_duplicates("segment")
    assert rows["count"].sum() + each["count_unresolved"].sum() + unmatched == len(drawn)
    assert layer["count"].sum() + unmatched == len(drawn)
    assert (
        layer["count_forward"].fillna(0) + layer["count_backward"].fillna(0) + layer["count_unresolved"]
    ).equals(layer["count"])
    assert ((rows["flow_low"] <= rows["flow_per_hour"]) & (rows["flow_per_hour"] <= rows["flow_high"])).all()
    assert (
        (layer["flow_low"] <= layer["flow_per_hour"]) & (layer["flow_per_hour"] <= layer["flow_high"])
    ).all()
    directions = layer["flow_forward"].fillna(0) + layer["flow_backward"].fillna(0)
    np.testing.assert_allclose(directions, layer["flow_per_hour"], atol=0.11)


def test_recall_is_read_off_the_card():
    quality = {
        "labelled_places_together": {
            "near_roads": {"recall": 0.88, "interval_95": {"recall": [0.727, 1.0]}},
        }
    }
    assert Recall.of_card(quality) == Recall(0.88, 0.727, 1.0)
    assert Recall.of_card({"simulated_held_out": quality["labelled_places_together"]}) is not None
    for other in (
        {},
        {"labelled_places_together": "good"},
        {"simulated_held_out": {"near_roads": {"recall": None}}},
    ):
        assert Recall.of_card(other) is None


# --- files


def observed(recall=None):
    segments = split_roads(roads(line((0, 0), (2000, 0))))
    found = snap(trucks([(500, 0), (900, 0)], heading=[90, 270]), segments)
    seen = np.array([1999.9999])
    return observe(found, segments, seen, recall), segments, seen


def test_the_table_and_its_fields(tmp_path):
    rows, segments, _ = observed()
    moment = datetime(2023, 8, 24, 10, 20, 31, tzinfo=UTC)
    table = traffic_table(
        rows, segments, scene_id="S2A", acquired=moment, model="trucks-2", attribution="(c) OSM"
    )
    file = write_traffic(table, tmp_path / "traffic.parquet", "S2A", "trucks-2")
    assert file.name == "S2A.trucks-2.parquet"
    back = pq.read_table(tmp_path / "traffic.parquet")
    assert {field.name: field.type for field in back.schema} == {
        name: kind for name, (kind, _) in TABLE_FIELDS.items()
    }
    assert b"km/h" in back.schema.field("mean_speed_kmh").metadata[b"description"]
    assert back.schema.metadata[b"attribution"] == b"(c) OSM"
    first = back.to_pylist()[0]
    assert first["acquired"] == moment
    assert (first["segment_id"], first["direction"], first["azimuth_deg"]) == ("0-0", "forward", 90)
    assert back.to_pylist()[1]["azimuth_deg"] == 270
    assert first["recall_used"] is None
    assert back["acquired"].type.tz == "UTC"


def test_scenes_are_appended_and_repeated_runs_replace_their_own(tmp_path):
    rows, segments, _ = observed()
    folder = tmp_path / "traffic.parquet"
    for scene in ("S2A", "S2B", "S2A"):
        table = traffic_table(rows, segments, scene_id=scene, acquired=None, model="trucks-2")
        write_traffic(table, folder, scene, "trucks-2")
    write_traffic(table.slice(0, 0), folder, "S2C", "trucks-2")
    write_traffic(table, folder, "S2A", "../odd name")
    whole = pd.read_parquet(folder)
    assert whole.groupby("scene_id").size().to_dict() == {"S2A": 4, "S2B": 2}
    assert whole["acquired"].isna().all()
    assert sorted(file.name for file in folder.iterdir())[0] == "S2A..._odd_name.parquet"
    assert list(tmp_path.iterdir()) == [folder]


def test_the_layer(tmp_path):
    layer = segment_layer(*observed(), None)
    assert tuple(layer.columns) == SEGMENT_COLUMNS
    assert layer["seen_km"].tolist() == [2.0]
    assert layer.loc[0, ["count", "count_forward", "count_backward"]].tolist() == [2, 1, 1]
    assert (layer["flow_per_hour"][0], layer["mean_speed_kmh"][0]) == (80, 80)
    layer.to_file(tmp_path / "r.gpkg", layer="road_segments")
    assert tuple(gpd.read_file(tmp_path / "r.gpkg").columns) == SEGMENT_COLUMNS


def test_what_was_not_seen_has_no_figures():
    _, segments, _ = observed()
    nothing = np.zeros(1)
    layer = segment_layer(
        observe(snap(trucks([]), segments), segments, nothing, None), segments, nothing, None
    )
    assert (
        layer[["count", "trucks_per_km", "mean_speed_kmh", "flow_per_hour", "flow_high"]]
        .isna()
        .all(axis=None)
    )


# --- real roads and trucks


def test_the_a2_chip(shared_data):
    """17 trucks labelled by eye with their direction of travel, on two carriageways 22 m apart."""
    scene = open_geotiff(shared_data / "trucks" / "a2_braunschweig.tif")
    network = read_roads(shared_data / "trucks" / "a2_braunschweig_roads.gpkg", scene.grid.crs.to_wkt())
    segments = split_roads(network, bounds=tuple(scene.grid.extent.boundingbox))
    labels = gpd.read_file(shared_data / "trucks" / "a2_braunschweig_trucks.gpkg").to_crs(segments.crs)
    labels = labels[labels["confidence"] != "low"].reset_index(drop=True)
    centres = labels.geometry.centroid
    found = snap(
        trucks(np.stack([centres.x - X, centres.y - Y], axis=1), axis=labels["travel_deg"] % 180.0), segments
    )
    assert (found.trucks["road_class"] == "motorway").all()
    azimuth = segments["azimuth_deg"].to_numpy()[found.segment]
    driven = np.where(found.direction > 0, azimuth, azimuth + 180)
    assert (np.cos(np.radians(driven - labels["travel_deg"])) > 0.99).all()
    reported = found.trucks["heading_deg"].dropna()
    assert len(reported) >= 8
    np.testing.assert_array_equal(reported, labels["travel_deg"][reported.index])
    east = found.trucks["segment_id"].notna() & (labels["travel_deg"] < 180)
    assert east.sum() == 8


def test_walserberg(shared_data):
    """11 vehicles labelled by eye, on roads drawn as one line each: what the side tells is right."""
    labels = gpd.read_file(shared_data / "trucks" / "walserberg_a8_trucks.gpkg")
    segments = split_roads(read_roads(shared_data / "trucks" / "walserberg_a8_roads.gpkg", labels.crs))
    centres = labels.geometry.centroid
    found = snap(
        trucks(np.stack([centres.x - X, centres.y - Y], axis=1), axis=labels["travel_deg"] % 180.0), segments
    )
    assert (found.segment >= 0).all()
    reported = found.trucks["heading_deg"].dropna()
    assert len(reported) >= 3
    np.testing.assert_array_equal(reported, labels["travel_deg"][reported.index])
    assert set(found.trucks["heading_source"].dropna()) == {"driving_side"}


def test_a_scene_and_its_status(tmp_path, shared_data):
    """Half of the A2 chip is under cloud: the trucks are the labels', the lengths those of the other half."""
    scene = open_geotiff(shared_data / "trucks" / "a2_braunschweig.tif")
    network = read_roads(shared_data / "trucks" / "a2_braunschweig_roads.gpkg", scene.grid.crs.to_wkt())
    status = np.full(scene.shape, SEEN, np.uint8)
    status[:, :60] = CLOUD
    profile = {
        "driver": "GTiff",
        "height": scene.shape[0],
        "width": scene.shape[1],
        "count": 1,
        "dtype": "uint8",
    }
    with rasterio.open(
        tmp_path / "status.tif", "w", **profile, crs=str(scene.grid.crs), transform=scene.grid.affine
    ) as raster:
        raster.write(status, 1)
    extent = scene.grid.extent.boundingbox
    clear = box(extent.left + 60 * scene.grid.resolution.x, extent.bottom, extent.right, extent.top)
    found = trucks([(601_940 - X, 5_797_620 - Y)], axis=110.0)
    traffic = road_traffic(
        found,
        network,
        scene,
        tmp_path / "status.tif",
        Traffic(recall=0.5, driving_side="right"),
        buffer_m=30.0,
        model="m",
        quality={},
    )
    layer = traffic.segments
    np.testing.assert_allclose(layer["seen_km"], layer.intersection(clear).length / 1000, atol=0.005)
    assert layer["count"].sum() == 1
    assert layer.loc[layer["seen_km"] == 0, "flow_per_hour"].isna().all()
    assert set(traffic.table["recall_used"].to_pylist()) == {0.5}
    assert set(traffic.table["segment_id"].to_pylist()) == set(layer.loc[layer["seen_km"] > 0, "segment_id"])


def test_every_field_is_documented():
    text = (Path(__file__).resolve().parents[2] / "docs" / "layers.md").read_text()
    for name, (_, what) in TABLE_FIELDS.items():
        assert f"| `{name}` | {what} |" in text
    segments = text.partition("## Road segments")[2].partition("\n## ")[0]
    assert all(f"`{name}`" in segments for name in SEGMENT_COLUMNS if name != "geometry")
