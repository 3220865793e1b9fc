import numpy as np
import pytest
from scipy.stats import binom

from pipeline.errors import EvaluationError
from pipeline.evaluation.trucks.cases import truck_cases
from pipeline.evaluation.trucks.compare import (
    COMPARISON_COLUMNS,
    compare_cases,
    counts_by_block,
    mcnemar,
    truck_differences,
)
from pipeline.evaluation.trucks.scores import evaluate_trucks
from tests.evaluation.trucks.test_scores import boxes, labels

PLACES = ((0, 0), (1000, 0), (2000, 0), (3000, 0))


def cases(*found, reference=PLACES, **options):
    return truck_cases(
        evaluate_trucks(boxes(*found, score=[0.9] * len(found)), labels(*reference)), **options
    )


def changes(compared, what):
    return compared[compared["what"] == what].groupby("change").size().to_dict()


def test_trucks_and_false_alarms_are_the_same_ones_by_label_and_by_place():
    before = cases((3, 0), (1000, 0), (5000, 0), (6000, 0))
    after = cases((0, 5), (2000, 0), (6012, 0), (7000, 0))
    compared = compare_cases(before, after)
    assert list(compared.columns) == list(COMPARISON_COLUMNS)
    assert changes(compared, "truck") == {"both right": 1, "fixed": 1, "broken": 1, "still wrong": 1}
    assert changes(compared, "false alarm") == {"fixed": 1, "broken": 1, "still wrong": 1}
    by_reference = compared.set_index("reference_id")["change"]
    assert [by_reference[f"r{n}"] for n in range(4)] == ["both right", "broken", "fixed", "still wrong"]
    same = compared[(compared["what"] == "false alarm") & (compared["change"] == "still wrong")].iloc[0]
    assert (same["before"], same["after"]) == ("FP", "FP")
    assert same.geometry.equals(after.geometry[after["id"] == same["case_after"]].iloc[0])
    assert compared["change"].tolist()[:2] == ["fixed", "fixed"]
    assert compared["id"].is_unique


def test_a_run_against_itself_changes_nothing():
    run = cases((0, 0), (5000, 0))
    compared = compare_cases(run, run.to_crs(4326))
    assert set(compared["change"]) == {"both right", "still wrong"}
    for figure in truck_differences(counts_by_block(compared)).values():
        assert (figure.change, figure.low, figure.high) == (0, 0, 0)
        assert not figure.significant
    assert np.isnan(mcnemar(0, 0))


def test_where_one_did_not_look_a_truck_is_neither_fixed_nor_broken():
    before, after = cases((0, 0)), cases((0, 0))
    before.loc[before["reference_id"] == "r2", "outcome"] = "not_seen"
    compared = compare_cases(before, after).set_index("reference_id")
    assert compared.loc["r2", "change"] == "not observed"
    assert (
        compare_cases(before, cases((0, 0), (2000, 0))).set_index("reference_id").loc["r2", "change"]
        == "fixed"
    )


def test_a_truck_that_one_run_was_not_asked_for_counts_neither_way():
    """The edge of what one saw cuts through it, so it is no case there, though the labels are the same."""
    before, after = cases((0, 0), (3000, 0)), cases((0, 0))
    after = after[after["reference_id"] != "r3"]
    compared = compare_cases(before, after, same_labels=True)
    assert compared.set_index("reference_id").loc["r3", "change"] == "not observed"
    assert counts_by_block(compared).sum(axis=0).tolist() == [[1, 0, 2], [1, 0, 2]]


def test_counts_are_those_of_each_run():
    before, after = cases((0, 0), (1000, 0), (5000, 0)), cases((2000, 0))
    counts = counts_by_block(compare_cases(before, after))
    assert counts.sum(axis=0).tolist() == [[2, 1, 2], [1, 0, 3]]
    assert len(counts) == 5
    differences = truck_differences(counts)
    assert differences["precision"].before == pytest.approx(2 / 3)
    assert differences["precision"].after == 1
    assert differences["recall"].change == pytest.approx(-0.25)


def test_a_clear_gain_is_told_from_chance():
    """100 trucks in 100 blocks: one run finds half, the other all; then two that differ by one truck."""
    everywhere = tuple((1000.0 * n, 0.0) for n in range(100))
    half, whole = cases(*everywhere[::2], reference=everywhere), cases(*everywhere, reference=everywhere)
    recall = truck_differences(counts_by_block(compare_cases(half, whole)))["recall"]
    assert (recall.before, recall.after) == (0.5, 1)
    # a share of 100 independent trucks has a standard deviation of 0.05
    assert (recall.low, recall.high) == (pytest.approx(0.4, abs=0.02), pytest.approx(0.6, abs=0.02))
    assert recall.significant
    assert recall.p_value < 0.01
    nearly = cases(*everywhere[1:], reference=everywhere)
    little = truck_differences(counts_by_block(compare_cases(whole, nearly)))["recall"]
    assert not little.significant
    assert little.as_json()["change"] == pytest.approx(-0.01)


def test_mcnemar_is_the_binomial_test():
    assert mcnemar(2, 8) == pytest.approx(2 * binom.cdf(2, 10, 0.5))
    assert mcnemar(5, 5) == 1


def test_other_labels_are_refused():
    with pytest.raises(EvaluationError, match="1 of 4 labelled trucks are only in the first"):
        compare_cases(cases((0, 0)), cases((0, 0), reference=PLACES[:3]))
    moved = ((0, 0), (1000, 0), (2000, 0), (3400, 0))
    with pytest.raises(EvaluationError, match="r3 lie 400 m apart"):
        compare_cases(cases((0, 0)), cases((0, 0), reference=moved))


def test_ids_that_are_used_twice_are_refused():
    run = cases((0, 0))
    run["reference_id"] = "7"
    with pytest.raises(EvaluationError, match="7 is used twice"):
        compare_cases(run, run)


def test_nothing_compared_with_nothing():
    empty = cases(reference=())
    compared = compare_cases(empty, empty)
    assert len(compared) == 0
    assert list(compared.columns) == list(COMPARISON_COLUMNS)
    assert np.isnan(truck_differences(counts_by_block(compared))["f1"].change)
