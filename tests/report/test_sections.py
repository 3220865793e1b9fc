import numpy as np
import pytest

from pipeline.evaluation.landcover.accuracy import LandcoverEvaluation
from pipeline.evaluation.trucks.metrics import truck_metrics
from pipeline.evaluation.trucks.scores import evaluate_trucks
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.report.sections import (
    class_areas,
    landcover_key_metrics,
    matrices,
    matrix_legend,
    truck_key_metrics,
    vehicle_rows,
)
from tests.evaluation.landcover.test_labels import write_raster
from tests.evaluation.trucks.test_scores import boxes, labels


def test_areas_of_land_cover(tmp_path):
    values = np.full((4, 6), 255, np.uint8)
    values[:3], values[3, :3] = 1, 0
    areas = class_areas(write_raster(tmp_path / "l.tif", values), DYNAMIC_WORLD)
    assert [(item.name, round(hectares, 4), round(share, 4)) for item, hectares, share in areas] == [
        ("water", 0.03, 0.1429),
        ("trees", 0.18, 0.8571),
    ]


def test_a_confusion_matrix_as_shares_of_rows_and_columns_and_as_areas():
    """Of 4 pixels of water 3 are mapped so, one is trees; of 6 of trees all are."""
    counts = np.zeros((9, 9), np.int64)
    counts[0, 0], counts[0, 1], counts[1, 1] = 3, 1, 6
    evaluation = LandcoverEvaluation(DYNAMIC_WORLD, counts, 100.0)
    assert [item.name for item in matrix_legend(evaluation)] == ["water", "trees"]
    by_row, by_column, hectares = matrices(evaluation)
    assert by_row.cells == (("75 %", "25 %"), ("·", "100 %"))
    assert by_column.cells == (("100 %", "14 %"), ("·", "86 %"))
    assert by_row.strength[0] == pytest.approx((0.75, 0.25))
    assert hectares.cells == (("0.0", "0.0"), ("·", "0.1"))


def test_cards_of_trucks():
    evaluation = evaluate_trucks(boxes((0, 0), (900, 0), score=[0.9, 0.4]), labels((0, 0), (2000, 0)))
    cards = {card.label: card.value for card in truck_key_metrics(evaluation, truck_metrics(evaluation))}
    assert cards["F1, centres within 20 m"] == "0.50"
    assert cards["precision: 1 false alarm"] == "0.50"
    assert cards["recall: 1 missed"] == "0.50"


def test_heavy_vehicles_and_moving_ones_are_side_by_side():
    reference = labels((0, 0), (900, 0)).assign(vehicle=["heavy", "light"])
    found = boxes((0, 0), (900, 0), score=[0.9, 0.4])
    heavy, moving = (
        truck_metrics(evaluate_trucks(found, reference, counted=kind)) for kind in ("heavy", "moving")
    )
    rows = vehicle_rows({"trucks": heavy, "moving_vehicles": moving})
    shown = [(row["title"], row["precision"], row["recall"], row["ap"]) for row in rows]
    assert [(row["tp"], row["fp"], row["fn"]) for row in rows] == [(1, 1, 0), (2, 0, 0)]
    assert shown == [("heavy vehicles", 0.5, 1.0, 1.0), ("moving vehicles", 1.0, 1.0, 1.0)]
    assert [row["title"] for row in vehicle_rows({"trucks": heavy})] == ["heavy vehicles"]  # an old file


def test_what_was_not_measured_has_no_cards():
    far = evaluate_trucks(boxes((0, 0), score=[0.9]), labels((90_000, 0)))
    assert truck_key_metrics(far, truck_metrics(far)) == []
    nothing = LandcoverEvaluation(DYNAMIC_WORLD, np.zeros((9, 9), np.int64), 100.0)
    assert landcover_key_metrics(nothing, nothing.metrics()) == []
