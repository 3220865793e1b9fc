"""Segments, trucks on them, and flows: against motorways whose traffic is known."""

from datetime import UTC, date, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import rasterio
from shapely.geometry import box

from pipeline.config import TrafficSettings
from pipeline.inference.predictions import CLOUD, SEEN
from pipeline.layers.columns import DETECTIONS, ROAD_SEGMENTS, TRUCKS
from pipeline.layers.expected import Recall
from pipeline.layers.flow import RoadCounts, observe
from pipeline.layers.traffic import (
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
from tests.layers.test_snapping import snap, trucks
from tests.roads.test_segments import line, roads

X, Y = 600_000.0, 5_800_000.0


def counts(found, segments, recall=None, threshold=0.0):
    """Counts of trucks on segments, with an exact recall."""
    known = Recall.unknown() if recall is None else recall
    return RoadCounts.of(found, len(segments), known.shares(found.trucks, threshold))


def observed(recall=None):
    segments = split_roads(roads(line((0, 0), (2000, 0))))
    found = counts(snap(trucks([(500, 0), (900, 0)], heading=[90, 270]), segments), segments, recall)
    seen = np.array([1999.9999])
    return observe(found, segments, seen), segments, seen, found


def test_a_hidden_road_was_not_searched():
    """Its figures are null, not zero, and it has no row in the table."""
    network = roads(line((0, 0), (1000, 0)), line((1000, 0), (3000, 0)))
    network["hidden"] = [None, "covered"]
    segments = split_roads(network)
    metres = seen_length(segments, lambda xs, ys: np.ones(len(xs), bool))
    assert metres.tolist() == [1000, 0]
    found = counts(snap(trucks([(500, 0), (2000, 0)]), segments), segments)
    rows = observe(found, segments, metres)
    assert rows["segment"].tolist() == [0, 0]
    layer = segment_layer(rows, segments, metres, found)
    assert layer["hidden"].fillna("").tolist() == ["", "covered"]
    assert layer["seen_km"].tolist() == [1.0, 0.0]
    figures = layer.drop(columns=["geometry", "length_m", "azimuth_deg", "seen_km"]).iloc[1, 9:]
    assert figures.isna().all()
    assert layer["count"][0] == 1


def test_the_table_and_its_fields(tmp_path):
    rows, segments, *_ = observed()
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


def test_a_date_without_a_time_stays_one():
    rows, segments, *_ = observed()
    table = traffic_table(rows, segments, scene_id="S2A", acquired=date(2023, 8, 24), model="trucks-2")
    assert table["acquired"].null_count == len(table)
    assert set(table["acquired_date"].to_pylist()) == {"2023-08-24"}


def test_scenes_are_appended_and_repeated_runs_replace_their_own(tmp_path):
    rows, segments, *_ = observed()
    folder = tmp_path / "traffic.parquet"
    for scene in ("S2A", "S2B", "S2A"):
        table = traffic_table(rows, segments, scene_id=scene, acquired=None, model="trucks-2")
        write_traffic(table, folder, scene, "trucks-2")
    write_traffic(table.slice(0, 0), folder, "S2C", "trucks-2")
    write_traffic(table, folder, "S2A", "../odd name")
    whole = pd.read_parquet(folder)
    assert whole.groupby("scene_id").size().to_dict() == {"S2A": 4, "S2B": 2}
    assert whole["acquired"].isna().all()
    assert sorted(file.name for file in folder.iterdir())[0].startswith("S2A..._odd_name-")
    assert list(tmp_path.iterdir()) == [folder]


def test_scenes_whose_names_differ_in_odd_characters_have_a_file_each(tmp_path):
    table = traffic_table(*observed()[:2], scene_id="a", acquired=None, model="m")
    files = {write_traffic(table, tmp_path, scene, "m") for scene in ("a 1", "a#1", "a_1", "a 1")}
    assert len(files) == len(list(tmp_path.iterdir())) == 3
    assert tmp_path / "a_1.m.parquet" in files


def test_the_layer(tmp_path):
    layer = segment_layer(*observed())
    assert tuple(layer.columns) == ROAD_SEGMENTS.names
    assert layer["seen_km"].tolist() == [2.0]
    assert layer.loc[0, ["count", "count_forward", "count_backward"]].tolist() == [2, 1, 1]
    assert (layer["flow_per_hour"][0], layer["mean_speed_kmh"][0]) == (80, 80)
    layer.to_file(tmp_path / "r.gpkg", layer="road_segments")
    assert tuple(gpd.read_file(tmp_path / "r.gpkg").columns) == ROAD_SEGMENTS.names


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
    found = found.assign(**{name: None for name in TRUCKS.columns if name not in found})
    traffic = road_traffic(
        found,
        Recall(0.5, 0.0).shares(found, 0.5),
        network,
        scene,
        tmp_path / "status.tif",
        TrafficSettings(driving_side="right"),
        buffer_m=30.0,
        model="m",
    )
    layer = traffic.segments
    np.testing.assert_allclose(layer["seen_km"], layer.intersection(clear).length / 1000, atol=0.005)
    assert layer["count"].sum() == 1
    assert layer.loc[layer["seen_km"] == 0, "flow_per_hour"].isna().all()
    hidden = layer.length / 1000 - layer["seen_km"]
    assert layer["cloud_km"].isna().all()  # the scene says nothing of clouds
    assert hidden.max() > 0.1
    detections = traffic.detections
    assert tuple(detections.columns) == DETECTIONS.names
    assert detections[["chance", "recall", "recall_error"]].iloc[0].tolist() == [1.0, 0.5, 0.0]
    assert set(traffic.table["recall_used"].to_pylist()) == {0.5}
    assert set(traffic.table["segment_id"].to_pylist()) == set(layer.loc[layer["seen_km"] > 0, "segment_id"])


def test_every_field_is_documented():
    text = (Path(__file__).resolve().parents[2] / "docs" / "layers.md").read_text()
    for name, (_, what) in TABLE_FIELDS.items():
        assert f"| `{name}` | {what} |" in text
