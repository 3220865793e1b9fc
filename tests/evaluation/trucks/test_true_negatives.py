import geopandas as gpd
import pytest
from shapely.geometry import LineString, box

from pipeline.evaluation.trucks.scores import evaluate_trucks
from pipeline.evaluation.trucks.true_negatives import (
    CLEAR_M,
    MAX_PLACES,
    find_true_negatives,
    read_true_negatives,
)
from tests.evaluation.trucks.test_scores import UTM, X, Y, boxes, labels


def road(length):
    return gpd.GeoDataFrame(geometry=[LineString([(X, Y), (X + length, Y)])], crs=UTM)


def test_places_that_were_marked_and_hold_no_detection():
    marked = boxes((0, 500), (0, 900), id=["plaza", "roof"])
    evaluation = evaluate_trucks(boxes((0, 905), score=[0.9]), labels((0, 0)))
    found = find_true_negatives(evaluation, marked=marked.to_crs(4326))
    assert found["reference_id"].tolist() == ["plaza"]
    assert found["outcome"].tolist() == ["TN"]
    assert found.crs == UTM


def test_road_cells_lie_far_from_every_truck_and_where_we_looked():
    evaluation = evaluate_trucks(boxes((350, 0), score=[0.9]), labels((1250, 0)))
    seen = gpd.GeoDataFrame(geometry=[box(X, Y - 100, X + 5000, Y + 100)], crs=UTM)
    found = find_true_negatives(evaluation, seen=seen, roads=road(8000))
    x = (found.geometry.centroid.x - X).round().tolist()
    # every 200 m from 100 m on, less 300 (50 m from a detection) and 1300 (50 m from a truck)
    assert x == [at for at in range(100, 5000, 200) if at not in (300, 1300)]
    assert min(abs(at - 350) for at in x) > CLEAR_M


def test_no_more_than_there_is_room_for_and_always_the_same():
    evaluation = evaluate_trucks(boxes(score=[]), labels())
    first, again = (find_true_negatives(evaluation, roads=road(200_000)) for _ in range(2))
    assert len(first) == MAX_PLACES
    assert first.geometry.equals(again.geometry)


def test_of_boxes_that_were_not_good_enough_the_best():
    evaluation = evaluate_trucks(boxes(score=[]), labels((0, 0)))
    weak = boxes((40, 0), (500, 0), (900, 0), score=[0.39, 0.2, 0.3])
    found = find_true_negatives(evaluation, below_threshold=weak)
    assert found["score"].tolist() == [0.3, 0.2]
    assert set(found["reference_id"]) == {"below threshold"}


def test_where_nothing_is_known_there_are_none():
    assert len(find_true_negatives(evaluate_trucks(boxes(score=[]), labels((0, 0))))) == 0


@pytest.mark.parametrize("layer", [True, False])
def test_look_alikes_come_with_the_labels_or_beside_them(tmp_path, layer):
    path = tmp_path / "a8_trucks.gpkg"
    labels((0, 0)).to_file(path, layer="trucks")
    assert read_true_negatives(path) is None
    places = boxes((5, 5), id=["plaza"])
    if layer:
        places.to_file(path, layer="look_alikes")
    else:
        places.to_file(tmp_path / "a8_lookalikes.gpkg")
    assert read_true_negatives(path)["id"].tolist() == ["plaza"]


def test_those_of_the_a8(shared_data):
    found = read_true_negatives(shared_data / "trucks" / "walserberg_a8_trucks.gpkg")
    assert len(found) > 0
