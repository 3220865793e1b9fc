from pathlib import Path

import numpy as np

from pipeline.evaluation.evaluate import evaluate, evaluate_truck_file
from pipeline.input_warnings import collected_warnings
from tests.evaluation.landcover.test_labels import write_points, write_raster
from tests.evaluation.trucks.test_scores import boxes, labels


def test_trucks_and_land_cover_are_one_value_and_nothing_is_written(tmp_path):
    labels((0, 0), (1000, 0)).to_file(tmp_path / "labels.gpkg")
    values = np.ones((4, 6), np.uint8)
    raster = write_raster(tmp_path / "map.tif", values)
    values[:2] = 4
    truth = write_raster(tmp_path / "truth.tif", values)
    files = sorted(tmp_path.iterdir())
    found = evaluate(
        trucks=boxes((0, 0), (5000, 0), score=[0.9, 0.4]),
        truck_labels=tmp_path / "labels.gpkg",
        landcover=raster,
        landcover_labels=truth,
    )
    assert list(found.metrics) == ["trucks", "moving_vehicles", "landcover", "panoptic"]
    assert found.metrics["trucks"]["centres"]["20m"]["f1"] == found.trucks.primary.f1 == 0.5
    assert sorted(found.truck_cases["outcome"]) == ["FN", "FP", "TP"]
    assert found.metrics["trucks"]["causes"]["FN"] == {"unknown": 1}
    assert found.metrics["landcover"]["accuracy"] == found.landcover.accuracy == 0.5
    assert found.landcover_cases.empty  # 0.12 ha: smaller than a case
    assert sorted(tmp_path.iterdir()) == files


def test_each_pixel_with_a_point_is_compared_and_those_that_differ_are_cases(tmp_path):
    labels((0, 0)).to_file(tmp_path / "labels.gpkg")
    raster = write_raster(tmp_path / "map.tif", np.ones((4, 6), np.uint8))
    places = [(0.5, 0.5), (1.5, 0.5), (4.5, 3.5), (5.5, 3.5), (5.6, 3.4)]
    points = write_points(tmp_path / "points.gpkg", places, ["water", "trees", "trees", "built", "built"])
    found = evaluate(
        trucks=boxes((0, 0)),
        truck_labels=tmp_path / "labels.gpkg",
        landcover=raster,
        landcover_labels=points,
    )
    metrics = found.metrics["landcover"]
    assert (metrics["pixels"], metrics["accuracy"]) == (4, 0.5)
    assert metrics["classes"]["trees"]["users_accuracy"] == 0.5
    assert metrics["boundary_f1"] is None and metrics["classes"]["trees"]["boundary_f1"] is None
    cases = found.landcover_cases
    assert cases["reference_class"].tolist() == ["water", "built"]
    assert cases.geometry[1].bounds == (600_050, 5_799_960, 600_060, 5_799_970)
    assert (metrics["disagreement"]["cases"], metrics["disagreement"]["min_case_ha"]) == (2, 0)
    assert list(found.metrics) == [
        "trucks",
        "moving_vehicles",
        "landcover",
    ]  # points are no segments, so nothing is panoptic


def test_a_part_without_labels_is_none(tmp_path):
    labels((0, 0)).to_file(tmp_path / "labels.gpkg")
    found = evaluate(trucks=boxes((0, 0)), truck_labels=tmp_path / "labels.gpkg")
    assert list(found.metrics) == ["trucks", "moving_vehicles"]
    assert found.landcover is None and found.landcover_cases is None
    assert evaluate(trucks=boxes((0, 0))).metrics == {}


def test_figures_are_of_heavy_vehicles_and_of_moving_ones_of_any_kind(tmp_path):
    labels((0, 0), (1000, 0)).assign(vehicle=["heavy", "light"]).to_file(tmp_path / "labels.gpkg")
    found = evaluate(trucks=boxes((0, 0), (1000, 0), score=[0.9, 0.4]), truck_labels=tmp_path / "labels.gpkg")
    heavy, moving = (found.metrics[part]["centres"]["20m"] for part in ("trucks", "moving_vehicles"))
    assert (heavy["tp"], heavy["fp"], heavy["fn"]) == (1, 1, 0)
    assert (moving["tp"], moving["fp"], moving["fn"]) == (2, 0, 0)
    assert found.metrics["trucks"]["causes"]["FP"] == {"light vehicle": 1}


def test_moving_vehicles_are_compared_with_the_layer_of_vehicles_of_any_kind(tmp_path):
    """A light vehicle that is no truck is found, and the layer beside the trucks of a file is it."""
    labels((0, 0), (1000, 0)).assign(vehicle=["heavy", "light"]).to_file(tmp_path / "labels.gpkg")
    found = boxes((0, 0), (1000, 0), score=[0.9, 0.1], vehicle_score=[0.95, 0.9])
    trucks, file = found[:1], tmp_path / "trucks.gpkg"
    metrics = [
        evaluate(trucks=trucks, truck_labels=tmp_path / "labels.gpkg", vehicles=vehicles).metrics
        for vehicles in (None, found)
    ]
    trucks.to_file(file, layer="trucks")
    found.to_file(file, layer="vehicles")
    metrics += [
        evaluate_truck_file(path, tmp_path / "labels.gpkg").metrics
        for path in (file, Path(f"{file}:trucks"), Path(f"{file}:vehicles"))
    ]

    def numbers(part: str) -> list[tuple[int, int, int]]:
        each = (one[part]["centres"]["20m"] for one in metrics)
        return [(one["tp"], one["fp"], one["fn"]) for one in each]

    assert numbers("trucks") == [(1, 0, 0)] * 4 + [(1, 1, 0)]
    assert numbers("moving_vehicles") == [(1, 0, 1)] + [(2, 0, 0)] * 4


def test_a_file_brings_the_area_seen_and_what_could_not_be_used(tmp_path):
    labels((0, 0), (1000, 0)).to_file(tmp_path / "labels.gpkg")
    found = boxes((0, 0), (50, 0), score=[0.9, 0.8])
    found.loc[1, "geometry"] = None
    found.to_file(tmp_path / "trucks.gpkg", layer="trucks")
    boxes((0, 0), size=500.0).to_file(tmp_path / "trucks.gpkg", layer="seen")
    metrics = evaluate_truck_file(tmp_path / "trucks.gpkg", tmp_path / "labels.gpkg").metrics["trucks"]
    assert metrics["left_out"]["predicted"] == {"without_geometry": 1}
    assert metrics["centres"]["20m"]["fn_not_seen"] == 1


def test_labels_elsewhere_than_all_detections_are_reported(tmp_path):
    for x in (15_000, 90_000):
        labels((x, 0)).to_file(tmp_path / f"{x}.gpkg")
        boxes((0, 0)).to_file(tmp_path / "found.gpkg")
        with collected_warnings() as warnings:
            evaluate_truck_file(tmp_path / "found.gpkg", tmp_path / f"{x}.gpkg")
        assert ["km to the east, so no truck is measured" in text for text in warnings] == [True] * (
            x > 20_000
        )


def test_values_that_are_no_class_are_counted_in_a_warning(tmp_path):
    values = np.ones((4, 6), np.uint8)
    raster = write_raster(tmp_path / "map.tif", values)
    values[0, :5] = 77
    truth = write_raster(tmp_path / "truth.tif", values)
    with collected_warnings() as warnings:
        evaluate(landcover=raster, landcover_labels=truth)
    expected = "5 pixels are not used: their values are no class (0, 1, 2, 3, 4, 5, 6, 7, 8; 255: none)."
    assert warnings == [f"Land-cover labels {truth}: {expected}"]
