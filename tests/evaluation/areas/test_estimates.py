import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import LabelsError
from pipeline.evaluation.areas.estimates import Z_95, estimate_areas
from pipeline.models.legend import LegendClass

NAMES = ("deforestation", "forest gain", "stable forest", "stable non-forest")
LEGEND = tuple(LegendClass(value=i, name=name, colour="#000000") for i, name in enumerate(NAMES))
PIXEL_HA = 0.09
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])


@pytest.fixture(scope="module")
def example():
    """The worked example of Olofsson et al. (2014), section 5."""
    return estimate_areas(LEGEND, COUNTS, PIXELS * PIXEL_HA)


def half(estimate):
    return Z_95 * estimate.standard_error


def test_olofssons_error_matrix_in_shares_of_the_area(example):
    assert example.weights == pytest.approx([0.020, 0.015, 0.320, 0.645])
    assert np.round(example.proportions, 4).tolist() == [
        [0.0176, 0, 0.0013, 0.0011],
        [0, 0.0110, 0.0016, 0.0024],
        [0.0019, 0, 0.2967, 0.0213],
        [0.0040, 0.0020, 0.0179, 0.6212],
    ]
    assert np.round(example.proportions.sum(axis=0), 4).tolist() == [0.0235, 0.0130, 0.3175, 0.6460]


def test_olofssons_areas(example):
    assert np.round(example.area_ha.value).tolist() == [21_158, 11_686, 285_770, 581_386]
    assert np.round(half(example.area_ha)).tolist() == [6_158, 3_756, 15_510, 16_282]
    deforested_px = example.area_ha.value[0] / PIXEL_HA, half(example.area_ha)[0] / PIXEL_HA
    assert np.round(deforested_px).tolist() == [235_086, 68_418]


def test_olofssons_accuracies(example):
    assert [round(float(x), 3) for x in (example.accuracy.value, half(example.accuracy))] == [0.947, 0.018]
    assert np.round(example.users_accuracy.value, 2).tolist() == [0.88, 0.73, 0.93, 0.96]
    assert np.round(half(example.users_accuracy), 2).tolist() == [0.07, 0.10, 0.04, 0.02]
    assert np.round(example.producers_accuracy.value, 2).tolist() == [0.75, 0.85, 0.93, 0.96]
    assert round(float(half(example.producers_accuracy)[0]), 2) == 0.21


def test_a_case_by_hand():
    """Half of the area is mapped as a, 8 of 10 points right; the rest as b, 9 of 10 right."""
    two = estimate_areas(LEGEND[:2], [[8, 2], [1, 9]], [50.0, 50.0])
    assert two.proportions.tolist() == [[0.4, 0.1], [0.05, 0.45]]
    assert two.accuracy.value == pytest.approx(0.85)
    assert two.accuracy.standard_error == pytest.approx((0.25 * (0.16 + 0.09) / 9) ** 0.5)
    assert two.area_ha.value.tolist() == pytest.approx([45, 55])
    assert two.area_ha.standard_error == pytest.approx([100 * (0.25 * (0.16 + 0.09) / 9) ** 0.5] * 2)
    assert two.producers_accuracy.value.tolist() == pytest.approx([8 / 9, 9 / 11])


@given(
    arrays(np.int64, (3, 3), elements=st.integers(0, 40)),
    arrays(np.float64, 3, elements=st.floats(1, 1e6)),
)
def test_equals_the_general_ratio_estimator(counts, mapped_ha):
    """Stehman (2014, eq. 25 to 28): ratios of indicator means over strata, computed point by point."""
    counts = counts + 2 * np.eye(3, dtype=np.int64)
    ours = estimate_areas(LEGEND[:3], counts, mapped_ha)
    weights = mapped_ha / mapped_ha.sum()
    for k in range(3):
        top, bottom, variance = 0.0, 0.0, 0.0
        strata = []
        for h in range(3):
            reference = np.repeat(np.arange(3), counts[h])
            x = (reference == k).astype(float)
            y = x * (h == k)
            strata.append((weights[h], x, y))
            top, bottom = top + weights[h] * y.mean(), bottom + weights[h] * x.mean()
        ratio = top / bottom
        for weight, x, y in strata:
            variance += weight**2 * np.var(y - ratio * x, ddof=1) / len(x)
        assert ours.producers_accuracy.value[k] == pytest.approx(ratio)
        assert ours.producers_accuracy.standard_error[k] == pytest.approx(variance**0.5 / bottom, abs=1e-9)


@given(arrays(np.int64, (3, 3), elements=st.integers(0, 40)))
def test_areas_add_up_and_intervals_stay_within_what_is_possible(counts):
    ours = estimate_areas(LEGEND[:3], counts + 2 * np.eye(3, dtype=np.int64), [10.0, 200.0, 3.0])
    assert ours.area_ha.value.sum() == pytest.approx(213)
    for estimate, most in ((ours.area_ha, 213), (ours.users_accuracy, 1), (ours.producers_accuracy, 1)):
        low, high = estimate.interval
        assert (low >= 0).all()
        assert (high <= most * (1 + 1e-9)).all()
        assert (low <= estimate.value + 1e-9).all()
        assert (estimate.value <= high + 1e-9).all()


def test_a_class_that_is_not_mapped_but_seen_has_an_area_and_no_users_accuracy():
    found = estimate_areas(LEGEND[:3], [[8, 0, 2], [0, 10, 0], [0, 0, 0]], [80.0, 20.0, 0.0])
    assert found.area_ha.value.tolist() == pytest.approx([64, 20, 16])
    assert found.producers_accuracy.value.tolist() == [1, 1, 0]
    metrics = found.metrics()
    assert metrics["classes"]["stable forest"]["users_accuracy"] is None
    assert metrics["classes"]["stable forest"]["interval_95"]["users_accuracy"] == [None, None]
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_metrics_have_the_areas_and_their_intervals(example):
    metrics = example.metrics()
    forest = metrics["classes"]["deforestation"]
    assert forest["points"] == 75
    assert forest["mapped_ha"] == pytest.approx(18_000)
    low, high = forest["interval_95"]["area_ha"]
    assert (low, high) == pytest.approx((21_158 - 6_158, 21_158 + 6_158), abs=1)
    assert metrics["points"] == 640
    assert metrics["interval_95"]["accuracy"] == pytest.approx([0.928, 0.965], abs=5e-4)


def test_strata_of_one_point_are_refused():
    with pytest.raises(LabelsError, match=r"too few in: deforestation \(1\)"):
        estimate_areas(LEGEND[:2], [[1, 0], [0, 5]], [3.0, 4.0])
    with pytest.raises(LabelsError, match="no area"):
        estimate_areas(LEGEND[:2], [[2, 0], [0, 5]], [0.0, 0.0])
