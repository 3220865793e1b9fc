import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.evaluation.landcover import accuracy
from pipeline.evaluation.landcover.accuracy import evaluate_landcover, prediction_grid
from pipeline.evaluation.landcover.disagreement import disagreement_metrics, landcover_cases
from pipeline.evaluation.landcover.labels import read_landcover_labels
from pipeline.models.legend import DYNAMIC_WORLD
from tests.evaluation.landcover.test_labels import write_raster
from tests.evaluation.test_labels import UTM


def files(folder, predicted, labelled):
    path = write_raster(folder / "p.tif", np.asarray(predicted, np.uint8))
    truth = write_raster(folder / "t.tif", np.asarray(labelled, np.uint8))
    return path, read_landcover_labels(truth, prediction_grid(path))


def cases_of(folder, predicted, labelled, min_area_ha):
    return landcover_cases(*files(folder, predicted, labelled), DYNAMIC_WORLD, min_area_ha)


@pytest.fixture
def maps():
    """120 px of trees and 10 px of water, all mapped as crops, and 4 px of crops mapped as trees."""
    predicted = np.full((20, 30), 4, np.uint8)
    labelled = predicted.copy()
    labelled[2:14, 3:13] = 1
    labelled[16:18, 20:25] = 0
    labelled[0, 29] = 255
    predicted[19, :4] = 1
    return predicted, labelled


def test_connected_disagreement_above_a_minimum_area(tmp_path, maps):
    cases = cases_of(tmp_path, *maps, min_area_ha=1)
    assert cases[["predicted_class", "reference_class", "area_ha"]].values.tolist() == [
        ["crops", "trees", 1.2]
    ]
    assert cases.geometry[0].bounds == (600_030, 5_799_860, 600_130, 5_799_980)
    everything = cases_of(tmp_path, *maps, min_area_ha=0)
    assert everything["area_ha"].tolist() == pytest.approx([1.2, 0.1, 0.04])
    assert everything["reference_class"].tolist() == ["trees", "water", "crops"]


def test_a_perfect_map_has_no_cases(tmp_path):
    cases = cases_of(tmp_path, np.zeros((4, 6)), np.zeros((4, 6)), min_area_ha=0)
    assert len(cases) == 0
    assert cases.crs == UTM


def test_metrics_say_what_differs_and_how_much_of_it_are_cases(tmp_path, maps):
    path, labels = files(tmp_path, *maps)
    cases = landcover_cases(path, labels, DYNAMIC_WORLD)
    metrics = disagreement_metrics(evaluate_landcover(path, labels, DYNAMIC_WORLD), cases)
    assert (metrics["hectares"], metrics["cases"], metrics["cases_ha"]) == pytest.approx((1.34, 1, 1.2))
    first, *_, last = metrics["pairs"]
    assert first == {
        "labels": "trees",
        "predicted": "crops",
        "hectares": pytest.approx(1.2),
        "share": pytest.approx(1.2 / 1.34),
        "cases": 1,
        "cases_ha": pytest.approx(1.2),
    }
    assert (last["labels"], last["predicted"], last["cases"]) == ("crops", "trees", 0)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_nothing_compared_is_no_disagreement_of_zero(tmp_path):
    path, labels = files(tmp_path, [[0, 1]], [[255, 255]])
    cases = landcover_cases(path, labels, DYNAMIC_WORLD)
    assert disagreement_metrics(evaluate_landcover(path, labels, DYNAMIC_WORLD), cases)["hectares"] is None


@settings(max_examples=12)
@given(
    arrays(np.uint8, (2, 17, 11), elements=st.sampled_from([0, 0, 1, 255])),
    st.integers(1, 18),
    st.sampled_from([0.0, 0.02, 0.05]),
)
def test_small_ones_go_early_but_never_what_goes_on_in_the_next_strip(tmp_path_factory, maps, rows, least):
    path, labels = files(tmp_path_factory.mktemp("maps"), *maps)
    everything = landcover_cases(path, labels, DYNAMIC_WORLD, 0.0)
    large = everything[everything["area_ha"] > least - 1e-9].reset_index(drop=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "BLOCK_ROWS", rows)
        found = landcover_cases(path, labels, DYNAMIC_WORLD, least)
    assert found.drop(columns="geometry").values.tolist() == large.drop(columns="geometry").values.tolist()
    # A dropped neighbour leaves no node on a straight side.
    assert found.geometry.geom_equals(large.geometry, align=False).all()
