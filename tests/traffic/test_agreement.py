"""Agreement with counters: simulated stations whose true ratio is known."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.errors import CountsError
from pipeline.input_warnings import collected_warnings
from pipeline.layers.flow import flow_interval
from pipeline.traffic.agreement import Correction, agreement, corrected, fit, read_correction

RECALL = 0.7


def station(rng, dates=12, ratio=1.0, spread=0.02):
    """Draw flows and counts of a road of 40 to 900 trucks an hour: those on some km, found with a recall.

    `spread` is the relative variance of the moment within the hour.
    """
    per_hour = np.exp(rng.uniform(*np.log([40, 900]))) * rng.uniform(0.4, 1.3, dates)
    hours = rng.uniform(2, 7, dates) / 80
    counted = rng.poisson(per_hour)
    there = rng.poisson(per_hour * hours * (rng.gamma(1 / spread, spread, dates) if spread else 1))
    return rng.binomial(there, RECALL) / RECALL * ratio / hours, counted, hours


@pytest.mark.parametrize("ratio", [1.0, 0.7])
@pytest.mark.parametrize("dates", [6, 20])
def test_the_ratio_s_interval_holds_the_truth_of_90_percent_of_stations(ratio, dates):
    rng = np.random.default_rng(3)
    held = [
        found.low <= ratio <= found.high
        for found in (agreement(*station(rng, dates, ratio), unit=1 / RECALL).ratio for _ in range(150))
    ]
    assert 0.9 <= np.mean(held) <= 0.99


def test_stations_together_correlate():
    rng = np.random.default_rng(4)
    many = [np.concatenate(parts) for parts in zip(*(station(rng, 20) for _ in range(6)), strict=True)]
    found = agreement(*many, unit=1 / RECALL)
    assert found.r.value >= 0.9
    assert found.r.low < found.r.value < found.r.high
    assert found.rmse.low < found.rmse.value < found.rmse.high
    assert found.bias.low < found.bias.value < found.bias.high


def test_a_correction_leaves_little_more_than_the_error_of_counting():
    """Flows of half the trucks. The recall of 0.7 alone makes the error 1.2 times that of Poisson counts."""
    shares = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        many = [
            np.concatenate(parts) for parts in zip(*(station(rng, 15, 0.5, 0) for _ in range(4)), strict=True)
        ]
        made = fit(*many, unit=1 / RECALL, count="heavy", model="m")
        assert made.low < 2 < made.high
        assert made.rmse_corrected < made.rmse
        shares.append(made.rmse_corrected / agreement(*many).poisson_rmse)
    assert np.median(shares) <= 1.3


def test_figures_are_those_of_their_formulas():
    flow, counted, hours = np.array([100.0, 220, 330, 390]), np.array([110, 200, 300, 400]), np.full(4, 0.05)
    found = agreement(flow, counted, hours)
    assert found.r.value == pytest.approx(np.corrcoef(flow, counted)[0, 1])
    assert found.rmse.value == pytest.approx(np.sqrt((100 + 400 + 900 + 100) / 4))
    assert found.bias.value == pytest.approx(7.5)
    assert found.ratio.value == pytest.approx(1040 / 1010)
    assert found.poisson_rmse == pytest.approx(np.sqrt(1010 / 4 / 0.05))


@given(st.integers(0, 40), st.floats(1, 50))
def test_two_equal_dates_have_the_score_interval_of_a_poisson_mean(number, base):
    found = agreement([number / 0.05] * 2, [base / 0.05] * 2, [0.05] * 2).ratio
    total, mean, z = 2 * number, 2 * base, stats.norm.isf(0.025)
    for end in (found.low, found.high):
        assert (total - end * mean) ** 2 == pytest.approx(end * mean * z**2, abs=1e-6)


def test_nothing_is_made_up_for_few_pairs():
    one = agreement([100.0], [90], [0.05])
    assert one.ratio.value == pytest.approx(100 / 90)
    assert np.isnan([one.r.value, one.ratio.low, one.rmse.low, one.dispersion]).all()
    none = agreement([5.0, 6], [0, 0], [0.05, 0.05])
    assert np.isnan([none.ratio.value, none.r.value]).all()
    with pytest.raises(CountsError, match="2 pairs"):
        fit([1.0, 2], [1, 2], [0.05, 0.05], count="all", model="m")
    with pytest.raises(CountsError, match="0 counted trucks"):
        fit([10.0, 20, 20], [0, 0, 0], [0.05] * 3, count="all", model="m")


MADE = Correction(1.25, 1.0, 1.5, 9, "heavy", "trucks-2", 80.0, 40.0)


def test_a_correction_survives_its_file():
    assert Correction.from_json(json.loads(json.dumps(MADE.as_json()))) == MADE


@pytest.mark.parametrize(
    "change", [{"factor": -1}, {"low": 2}, {"high": None}, {"pairs": "many"}, {"factor": "nan"}]
)
def test_other_files_are_no_correction(change):
    with pytest.raises(CountsError, match="--fit"):
        Correction.from_json(MADE.as_json() | change)
    with pytest.raises(CountsError, match="factor"):
        Correction.from_json({})


def test_a_correction_multiplies_and_widens():
    sure = dataclasses.replace(MADE, low=1.25, high=1.25)
    for found, expected in zip(
        sure.apply([100, 0], [80, 0], [130, 20]), [[125, 0], [100, 0], [162.5, 25]], strict=True
    ):
        np.testing.assert_allclose(found, expected)
    flow, low, high = MADE.apply([100.0, 100], [80, 0], [130, 130])
    np.testing.assert_allclose(flow, 125)
    assert low[0] < 100
    assert low[1] == 0
    assert (high > 162.5).all()


def test_the_widening_is_that_of_flow_intervals():
    """A symmetric error on the logarithmic scale is `flow_interval`'s with that relative error."""
    error = 0.1
    z = stats.norm.isf(0.025)
    even = dataclasses.replace(MADE, low=1.25 * np.exp(-z * error), high=1.25 * np.exp(z * error))
    assert even.error == pytest.approx(error)
    args = np.array([80.0]), np.array([100.0]), np.array([130.0])
    low, high = flow_interval(*args, np.array([1.25]), np.array([error]))
    _, found_low, found_high = even.apply(args[1], args[0], args[2])
    np.testing.assert_allclose([found_low, found_high], [low, high])


def test_a_corrected_table(tmp_path):
    row = {"trucks": 3.0, "expected": 4.0, "expected_low": 2.0, "expected_high": 8.0, "model": "trucks-2"}
    flow = {"flow_per_hour": 100.0, "flow_low": 60.0, "flow_high": 170.0}
    table = pd.DataFrame([row | flow, dict.fromkeys(row | flow)])
    (tmp_path / "correction.json").write_text(json.dumps(MADE.as_json()))
    with collected_warnings() as warnings:
        found = corrected(table, read_correction(tmp_path / "correction.json"))
    assert not warnings
    assert found.loc[0, ["trucks", "expected", "flow_per_hour"]].tolist() == [3, 5, 125]
    assert found["flow_low"][0] < 75
    assert found["flow_high"][0] > 212.5
    assert found.loc[1].isna().all()
    with collected_warnings() as warnings:
        corrected(table, dataclasses.replace(MADE, model="other", count="all"))
    assert "runs of trucks-2" in warnings[0]
    assert "all vehicles" in warnings[1]


def test_a_file_that_is_no_correction(tmp_path):
    for content in (None, "{", "[]", "{}"):
        if content is not None:
            (tmp_path / "c.json").write_text(content)
        with pytest.raises(CountsError, match="--fit"):
            read_correction(tmp_path / "c.json")
