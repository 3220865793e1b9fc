import geopandas as gpd
import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from pipeline.errors import LabelsError, VectorFileError
from pipeline.evaluation.features import LeftOut
from pipeline.evaluation.labels import checked_predicted_trucks, checked_truck_labels, read_truck_labels
from pipeline.evaluation.landcover.labels import (
    read_landcover_labels,
)

UTM = "EPSG:32632"


GRID = GeoBox((4, 6), from_origin(600_000, 5_800_000, 10, 10), UTM)


def pixels(col, row, cols=1, rows=1):
    """The polygon that covers pixels of GRID exactly."""
    left, top = 600_000 + 10 * col, 5_800_000 - 10 * row
    return box(left, top - 10 * rows, left + 10 * cols, top)


def test_the_real_boxes_of_the_a2(shared_data):
    trucks = read_truck_labels(shared_data / "trucks" / "a2_braunschweig_trucks.gpkg")
    assert trucks["confidence"].value_counts().to_dict() == {"high": 12, "medium": 5, "low": 2}
    assert trucks["id"][0] == "a2-01"
    assert trucks["travel_deg"][0] == 109
    assert trucks["speed_kmh"].isna().all()


def test_labels_in_another_crs_are_brought_to_the_scene_s(tmp_path):
    gpd.GeoDataFrame(geometry=[pixels(2, 1)], crs=UTM).to_crs(4326).to_file(tmp_path / "l.geojson")
    trucks = read_truck_labels(tmp_path / "l.geojson", UTM)
    assert trucks.crs == UTM
    assert trucks.geometry[0].centroid.distance(Point(600_025, 5_799_985)) < 0.1
    assert trucks["confidence"].tolist() == ["high"]


def test_the_truth_of_a_simulated_scene_calls_it_heading(tmp_path):
    gpd.GeoDataFrame({"heading_deg": [45.0]}, geometry=[pixels(0, 0)], crs=UTM).to_file(tmp_path / "l.gpkg")
    assert read_truck_labels(tmp_path / "l.gpkg")["travel_deg"].tolist() == [45.0]


def test_the_trucks_layer_is_taken_from_a_file_with_several(tmp_path):
    path = tmp_path / "l.gpkg"
    gpd.GeoDataFrame(geometry=[Point(0, 0)], crs=UTM).to_file(path, layer="gantries")
    gpd.GeoDataFrame(geometry=[pixels(0, 0)], crs=UTM).to_file(path, layer="trucks")
    assert len(read_truck_labels(path)) == 1


def test_of_two_layers_of_polygons_the_one_called_trucks_or_labels_or_chosen(tmp_path):
    """An area of interest is no truck."""
    path = tmp_path / "l.gpkg"
    gpd.GeoDataFrame(geometry=[pixels(0, 0, 6, 4)], crs=UTM).to_file(path, layer="aoi")
    gpd.GeoDataFrame(geometry=[pixels(1, 1), pixels(3, 2)], crs=UTM).to_file(path, layer="boxes")
    with pytest.raises(VectorFileError, match=r"2 layers of polygons\. It has: aoi \(Polygon\), boxes"):
        read_truck_labels(path)
    assert len(read_truck_labels(f"{path}:boxes")) == 2
    gpd.GeoDataFrame(geometry=[pixels(2, 1)] * 3, crs=UTM).to_file(path, layer="labels")
    assert len(checked_truck_labels(path)[0]) == 1
    assert len(read_truck_labels(f"{path}:boxes")) == 2


def test_a_file_without_boxes_says_there_are_no_trucks(tmp_path):
    (tmp_path / "l.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    assert len(read_truck_labels(tmp_path / "l.geojson", UTM)) == 0


@pytest.mark.parametrize(
    ("geometry", "crs", "confidence", "message"),
    [
        (pixels(0, 0), None, "high", "no CRS"),
        (
            Point(600_000, 5_800_000),
            UTM,
            "high",
            "must be polygons; .* holds 1 Point. Draw a box around each",
        ),
        (
            LineString([(600_000, 5_800_000), (600_009, 5_800_009)]),
            UTM,
            "high",
            "must be polygons; .* holds 1 LineString",
        ),
        (pixels(0, 0), UTM, "sure", "one of high, medium, low, ignore. Received: sure"),
    ],
)
def test_unusable_boxes_are_refused_in_one_line(tmp_path, geometry, crs, confidence, message):
    path = tmp_path / "l.gpkg"
    gpd.GeoDataFrame({"confidence": [confidence]}, geometry=[geometry], crs=crs).to_file(path)
    with pytest.raises(LabelsError, match=message) as caught:
        read_truck_labels(path, UTM)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_truck_labels, lambda path: read_landcover_labels(path, GRID)])
def test_missing_and_unreadable_files_are_refused(tmp_path, read):
    with pytest.raises(VectorFileError, match="not found"):
        read(tmp_path / "none.gpkg")
    (tmp_path / "text.gpkg").write_text("no vector file")
    with pytest.raises(VectorFileError, match="can't be read"):
        read(tmp_path / "text.gpkg")


def test_unusable_boxes_are_left_out_and_counted(tmp_path):
    """A bow tie and a box with heights are repaired; points, lines of no width and copies are not boxes."""
    left, top = 600_000, 5_800_000
    bow_tie = Polygon([(left, top), (left + 20, top + 20), (left + 20, top), (left, top + 20)])
    flat = Polygon([(left, top), (left + 20, top), (left + 40, top)])
    high = Polygon([(x, y, 300) for x, y in pixels(4, 0).exterior.coords])
    turned = Polygon(np.roll(pixels(0, 0).exterior.coords[:-1], 1, axis=0))
    shapes = [pixels(0, 0), turned, bow_tie, flat, high, Point(left, top), Polygon(), None]
    gpd.GeoDataFrame(geometry=shapes, crs=UTM).to_file(tmp_path / "l.gpkg")
    boxes, left_out = checked_truck_labels(tmp_path / "l.gpkg", "EPSG:32632")
    assert len(boxes) == 3
    assert boxes.geometry.is_valid.all() and not boxes.geometry.has_z.any()
    assert left_out == LeftOut(
        {"without geometry": 2, "not polygons": 1, "without area": 1, "duplicates": 1}, 1, 1
    )
    assert left_out.lines("Truck labels") == [
        "Truck labels: 2 left out, without geometry.",
        "Truck labels: 1 left out, not polygons.",
        "Truck labels: 1 left out, without area.",
        "Truck labels: 1 left out, duplicates.",
        "Truck labels: 1 repaired, their outlines crossed themselves.",
    ]


def test_each_part_of_a_feature_is_a_box(tmp_path):
    """A MultiPolygon of three, a collection of one, a nested one of two and a point, and a single box."""
    three = MultiPolygon([pixels(0, 0), pixels(2, 0), pixels(4, 0)])
    nested = GeometryCollection([MultiPolygon([pixels(0, 2), pixels(2, 2)]), Point(600_000, 5_800_000)])
    shapes = [three, GeometryCollection([pixels(4, 2)]), nested, MultiPolygon([pixels(5, 3)])]
    columns = {"id": [7, 8, 9, 10], "confidence": ["low", "high", "medium", "high"]}
    gpd.GeoDataFrame(columns, geometry=shapes, crs=UTM).to_file(tmp_path / "l.gpkg")
    boxes, left_out = checked_truck_labels(tmp_path / "l.gpkg", UTM)
    assert boxes["id"].tolist() == ["7-1", "7-2", "7-3", "8", "9-1", "9-2", "10"]
    assert boxes["confidence"].tolist() == ["low"] * 3 + ["high", "medium", "medium", "high"]
    assert boxes.geometry.area.tolist() == [100.0] * 7
    assert left_out == LeftOut({"not polygons": 1}, split=2)
    assert (
        left_out.lines("Labels")[1]
        == "Labels: 2 features of several polygons were split: each polygon counts."
    )
    gpd.GeoDataFrame(geometry=shapes, crs=UTM).to_file(tmp_path / "p.gpkg")
    assert checked_truck_labels(tmp_path / "p.gpkg")[0]["id"].tolist() == list("1234567")
    assert len(checked_predicted_trucks(tmp_path / "p.gpkg")[0]) == 7


def test_a_collection_of_other_geometries_is_refused(tmp_path):
    lines = GeometryCollection(
        [Point(600_000, 5_800_000), LineString([(600_000, 5_800_000), (600_009, 5_800_000)])]
    )
    gpd.GeoDataFrame(geometry=[lines], crs=UTM).to_file(tmp_path / "l.gpkg")
    with pytest.raises(LabelsError, match=r"must be polygons; .* holds 1 Point, 1 LineString"):
        read_truck_labels(tmp_path / "l.gpkg")


def test_a_file_of_boxes_none_of_which_can_be_used_is_not_one_of_no_trucks(tmp_path):
    flat = Polygon([(600_000, 5_800_000), (600_020, 5_800_000), (600_040, 5_800_000)])
    gpd.GeoDataFrame(geometry=[None, flat, Polygon()], crs=UTM).to_file(tmp_path / "l.gpkg")
    with pytest.raises(LabelsError, match="can be used: 2 without geometry, 1 without area"):
        read_truck_labels(tmp_path / "l.gpkg")


def test_a_box_with_coordinates_outside_of_the_crs_is_counted(tmp_path):
    here = gpd.GeoSeries([pixels(0, 0)], crs=UTM).to_crs(4326)[0]
    gpd.GeoDataFrame(geometry=[here, pixels(1, 1)], crs=4326).to_file(tmp_path / "l.gpkg")
    boxes, left_out = checked_truck_labels(tmp_path / "l.gpkg", UTM)
    assert len(boxes) == 1 and left_out.as_dict() == {"outside_of_the_CRS": 1}


def test_the_same_box_in_two_scenes_is_two_boxes(tmp_path):
    frame = gpd.GeoDataFrame({"scene_id": ["a", "b", "b"]}, geometry=[pixels(0, 0)] * 3, crs=UTM)
    frame.to_file(tmp_path / "l.gpkg")
    boxes, left_out = checked_truck_labels(tmp_path / "l.gpkg")
    assert boxes["scene_id"].tolist() == ["a", "b"]
    assert left_out.as_dict() == {"duplicates": 1}


def test_a_box_found_twice_is_told_twice_and_a_score_is_a_number(tmp_path):
    frame = gpd.GeoDataFrame({"score": [0.9, 0.8]}, geometry=[pixels(0, 0)] * 2, crs=UTM)
    frame.to_file(tmp_path / "p.gpkg")
    assert len(checked_predicted_trucks(tmp_path / "p.gpkg")[0]) == 2
    frame.assign(score=[0.9, None]).to_file(tmp_path / "q.gpkg")
    with pytest.raises(LabelsError, match="1 of 2 that are none"):
        checked_predicted_trucks(tmp_path / "q.gpkg")
