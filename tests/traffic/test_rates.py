"""Changes and trends: right share of intervals and of false alarms, from few dates."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.errors import CountsError
from pipeline.input_warnings import collected_warnings
from pipeline.traffic.days import Days
from pipeline.traffic.rates import compare, slopes, trends

SIX = np.array([0.0, 0, 0, 1, 1, 1])
ROADS = 5000


def counts(rng, mean, spread, recall=0.7):
    """Draw corrected counts: gamma-Poisson traffic with the variance m + spread m^2, found with a recall."""
    daily = mean * rng.gamma(1 / spread, spread, mean.shape) if spread else mean
    return rng.binomial(rng.poisson(daily), recall) / recall


@pytest.mark.parametrize("ratio", [1.0, 1.5])
@pytest.mark.parametrize("spread", [0.05, 0.5])
@pytest.mark.parametrize("x", [SIX, np.arange(6) / 5], ids=["two periods", "trend"])
def test_intervals_hold_the_known_change_and_false_alarms_are_rare(ratio, spread, x):
    rng = np.random.default_rng(7)
    km = rng.uniform(0.5, 1.5, (ROADS, len(x)))
    found = slopes(counts(rng, 15 * km * ratio**x, spread), km, x, unit=1 / 0.7)
    held = (found.low <= np.log(ratio)) & (np.log(ratio) <= found.high)
    assert 0.935 <= held.mean() <= 0.975
    if ratio == 1:
        assert (found.p < 0.05).mean() <= 0.06


@pytest.mark.parametrize("mean", [0.5, 3])
def test_sparse_counts_raise_no_false_alarms(mean):
    """Counts below some trucks are discrete: then the interval is rather too wide."""
    rng = np.random.default_rng(8)
    km = np.ones((ROADS, 6))
    found = slopes(counts(rng, mean * km, 0.2), km, SIX, unit=1 / 0.7)
    assert np.nanmean(found.p < 0.05) <= 0.05
    held = (found.low <= 0) & (found.high >= 0)
    assert held[np.isfinite(found.p)].mean() >= 0.95


def test_few_roads_are_false_discoveries():
    """200 of 1000 roads have twice the traffic: at most 5 % of those that are named are others."""
    rng = np.random.default_rng(9)
    true = np.arange(1000) < 200
    dates = np.repeat([0.0, 1.0], 10)
    km = np.ones((1000, 20))
    found = slopes(counts(rng, 20 * km * np.where(true, 2.0, 1.0)[:, None] ** dates, 0.1), km, dates, 1 / 0.7)
    named = stats.false_discovery_control(found.p) <= 0.05
    assert named[true].mean() > 0.7
    assert (named & ~true).sum() / named.sum() <= 0.06


def test_value_and_dispersion_are_those_of_a_quasi_poisson_glm():
    rng = np.random.default_rng(1)
    km, x = rng.uniform(1, 5, 12), rng.uniform(-3, 8, 12)
    y = rng.poisson(6 * km * np.exp(0.1 * x) * rng.gamma(2, 1 / 2, 12)).astype(float)
    found = slopes([y], [km], x)
    glm = sm.GLM(y, sm.add_constant(x), family=sm.families.Poisson(), offset=np.log(km)).fit(scale="X2")
    assert found.value[0] == pytest.approx(glm.params[1], abs=1e-9)
    assert found.dispersion[0] == pytest.approx(glm.scale)
    assert glm.scale > 2
    # The interval is of the score; Wald's, which GLM gives with a normal quantile, is near it.
    half = stats.t.isf(0.025, 10) * glm.bse[1]
    np.testing.assert_allclose(
        [found.low[0], found.high[0]], glm.params[1] + np.array([-half, half]), atol=0.1 * half
    )


@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.1, 10), st.floats(0.1, 10), st.floats(1, 3))
@settings(max_examples=12, deadline=None)
def test_two_dates_of_one_set_each_are_wilsons_interval(first, second, km_first, km_second, unit):
    """With equal counts within sets the dates show no spread: the interval is Wilson's of a share."""
    found = slopes(
        [[first, first, second, second]], [[km_first, km_first, km_second, km_second]], [0, 0, 1, 1], unit
    )
    total = 2 * (first + second)
    wilson = stats.binomtest(2 * second, total).proportion_ci(method="wilson") if unit == 1 else None
    z = stats.norm.isf(0.025)
    size = total / unit
    share, centre = 2 * second / total, (2 * second / unit + z**2 / 2) / (size + z**2)
    half = z / (size + z**2) * np.sqrt(size * share * (1 - share) + z**2 / 4)
    if wilson is not None:
        assert (centre - half, centre + half) == pytest.approx((wilson.low, wilson.high))
    ends = np.array([centre - half, centre + half])
    with np.errstate(divide="ignore"):
        expected = np.log(ends / np.maximum(1 - ends, 0) * km_first / km_second)
    expected = np.where(ends >= 1 - 1e-12, np.inf, expected)
    np.testing.assert_allclose([found.low[0], found.high[0]], expected, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 20), st.floats(-1000, 1000))
@settings(max_examples=12, deadline=None)
def test_the_p_value_agrees_with_the_interval_and_units_do_not_matter(seed, scale, shift):
    rng = np.random.default_rng(seed)
    y, km, x = rng.poisson(5, (1, 7)), rng.uniform(0.5, 2, (1, 7)), rng.uniform(0, 3, 7)
    found = slopes(y, km, x)
    assert (found.p[0] < 0.05) == bool(found.low[0] > 0 or found.high[0] < 0)
    other = slopes(y, km * 1000, x * scale + shift)
    np.testing.assert_allclose(other.value * scale, found.value, atol=1e-6)
    np.testing.assert_allclose(other.high * scale, found.high, atol=1e-6)
    np.testing.assert_allclose(other.p, found.p, rtol=1e-6)


def test_no_trucks_in_a_period_have_an_open_interval():
    found = slopes([[9, 8, 7, 0, 0, 0], [0] * 6, [0, 0, 0, 5, 5, 5]], np.ones((3, 6)), SIX)
    assert found.value.tolist()[::2] == [-np.inf, np.inf]
    assert found.low[0] == -np.inf
    assert np.isfinite(found.high[0])
    assert found.p[0] < 0.01
    assert np.isnan([found.value[1], found.low[1], found.p[1]]).all()


def test_equal_counts_of_few_dates_are_no_proof():
    """1, 1, 1 and 3, 3, 3 trucks show no spread at all; independent trucks do so by chance."""
    found = slopes([[1, 1, 1, 3, 3, 3]], np.ones((1, 6)), SIX)
    assert found.dispersion[0] == pytest.approx(0, abs=1e-12)
    assert found.p[0] == pytest.approx(2 * stats.norm.sf((9 - 6) / np.sqrt(12 / 4)))


def test_dates_without_a_search_do_not_count():
    y, km = [[4, 6, 99, 9, 12]], [[1, 2, 0, 1.0, 2]]
    fewer = slopes([[4, 6, 9, 12]], [[1, 2, 1, 2]], [0, 0, 1, 1])
    found = slopes(y, km, [0, 0, 1, 1, 1])
    assert found.dates.tolist() == [4]
    assert (found.value, found.high, found.p) == (fewer.value, fewer.high, fewer.p)


def table(**dates):
    rows = [
        {"road": road, "direction": "forward", "date": date, "expected": n, "trucks": n / 2, "km": 2.0}
        for date, both in dates.items()
        for road, n in zip("AB", both, strict=True)
    ]
    return pd.DataFrame(rows).assign(date=lambda frame: pd.to_datetime(frame["date"]))


TABLE = table(**{"2023-06-01": (4, 0), "2023-06-11": (6, 0), "2023-07-01": (9, 0), "2023-07-11": (11, 0)})


def test_compare_gives_rates_and_their_ratio():
    found = compare(TABLE, Days.parse("2023-06"), Days.parse("2023-07"))
    assert found["road"].tolist() == ["A", "B"]
    row = found.iloc[0]
    assert (row["dates_first"], row["km_first"], row["expected_first"], row["per_km_first"]) == (
        2,
        4,
        10,
        2.5,
    )
    assert (row["per_km_second"], row["ratio"]) == (5.0, pytest.approx(2))
    assert row["ratio_low"] < 1 and row["ratio_high"] > 2
    assert row["p_adjusted"] == row["p"]  # B has no truck, so it is no test
    assert np.isnan(found.iloc[1][["ratio", "p", "p_adjusted"]].astype(float)).all()


def test_a_counted_truck_that_stands_for_two_has_twice_the_variance():
    sure = compare(TABLE.assign(trucks=TABLE["expected"]), Days.parse("2023-06"), Days.parse("2023-07"))
    found = compare(TABLE, Days.parse("2023-06"), Days.parse("2023-07"))
    assert found["p"][0] > sure["p"][0]


def test_a_trend_is_a_factor_a_year():
    dates = ["2020-01-01", "2020-12-31", "2021-12-31", "2022-12-31"]
    found = trends(table(**{date: (100 * 1.1**year, 1) for year, date in enumerate(dates)}))
    steady = found.set_index("road")
    assert steady["per_year"]["A"] == pytest.approx(1.1, abs=1e-3)  # dates are days
    assert steady["per_year"]["B"] == pytest.approx(1)
    assert steady["dates"].tolist() == [4, 4]


def test_scenes_of_one_date_are_one():
    twice = pd.concat([TABLE, TABLE])
    found = compare(twice, Days.parse("2023-06"), Days.parse("2023-07"))
    assert found["dates_first"].tolist() == [2, 2]
    assert found["km_first"].tolist() == [8, 8]


def test_sets_of_dates_that_can_not_be_compared():
    with pytest.raises(CountsError, match=r"2023-06-01 is of 2023-06 and of Mon-Fri"):
        compare(TABLE, Days.parse("2023-06"), Days.parse("Mon-Fri"))
    with pytest.raises(CountsError, match=r"No acquisition is of 2022.*4 dates from 2023-06-01 to"):
        compare(TABLE, Days.parse("2022"), Days.parse("2023"))


def test_two_dates_are_too_few_and_a_warning_says_so():
    with collected_warnings() as warnings:
        found = compare(TABLE, Days.parse("2023-06-01"), Days.parse("2023-07-01"))
    assert found["ratio"][0] == pytest.approx(9 / 4)
    assert found["p"].isna().all()
    assert "three dates" in warnings[0]


@pytest.mark.parametrize("change", [{"km": -1.0}, {"expected": np.nan}])
def test_impossible_numbers_are_refused(change):
    with pytest.raises(CountsError, match="negative or missing"):
        trends(TABLE.assign(**change))


def test_columns_that_are_missing_are_named():
    with pytest.raises(CountsError, match="lacks km; expected road, direction"):
        trends(TABLE.drop(columns="km"))
    with pytest.raises(CountsError, match="no row with a searched length"):
        trends(TABLE.assign(km=0.0))
