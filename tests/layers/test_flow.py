"""Flow by segment: density, speed, intervals, directions."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from pipeline.layers.expected import Recall
from pipeline.layers.flow import FALLBACK_SPEED_KMH, observe, poisson_interval
from pipeline.layers.traffic import (
    seen_length,
    segment_layer,
)
from pipeline.roads.segments import split_roads
from tests.layers.test_snapping import snap, trucks
from tests.layers.test_traffic import counts, observed
from tests.roads.test_segments import line, roads

X, Y = 600_000.0, 5_800_000.0


def everywhere(xs, ys):
    return np.ones(len(xs), bool)


EASTWARD = line((0, 0), (1000, 0))


def test_seen_length():
    """A cloud over 100 m of a road that bends; steps of 5 m tell its edges to half a step."""
    segments = split_roads(roads(line((0, 0), (300, 0), (300, 400)), EASTWARD))
    cloud = box(X + 250, Y - 50, X + 350, Y + 50)
    seen = seen_length(segments, lambda xs, ys: ~shapely.contains_xy(cloud, xs, ys))
    np.testing.assert_allclose(seen, segments.difference(cloud).length, atol=5)
    assert seen_length(segments, everywhere).tolist() == pytest.approx(segments.length.tolist())
    assert seen_length(segments.iloc[:0], everywhere).shape == (0,)


def test_the_poisson_interval_is_garwoods():
    """Values of his table for 95 %: 0, 1, 5 and 10 counted."""
    low, high = poisson_interval(np.array([0.0, 1, 5, 10]))
    np.testing.assert_allclose(low, [0, 0.0253, 1.6235, 4.7954], atol=1e-4)
    np.testing.assert_allclose(high, [3.6889, 5.5716, 11.6683, 18.3904], atol=1e-4)


def test_flow_is_density_over_recall_times_speed():
    segments = split_roads(roads(line((0, 0), (2000, 0))))
    found = snap(
        trucks([(100, 0), (500, 0), (900, 0), (1300, 0)], heading=[90, 90, 90, 270], axis=90), segments
    )
    rows = observe(counts(found, segments, Recall(0.8, 0.0)), segments, np.array([1500.0]))
    assert rows["direction"].tolist() == [1, -1]
    assert rows["count"].tolist() == [3, 1]
    np.testing.assert_allclose(rows["trucks_per_km"], [2, 2 / 3])
    np.testing.assert_allclose(rows["flow_per_hour"], [2 / 0.8 * 80, 2 / 3 / 0.8 * 80])
    np.testing.assert_allclose(rows["speed_se_kmh"], np.sqrt((5**2 + 8**2) / np.array([3, 1])))
    low, high = (end[0] for end in poisson_interval(np.array([3.0])))
    slow = 1.96 * np.sqrt(89 / 3) / 80
    down, up = np.hypot(np.log(3 / low), slow), np.hypot(np.log(high / 3), slow)
    np.testing.assert_allclose(
        rows.loc[0, ["flow_low", "flow_high"]].tolist(), [200 * np.exp(-down), 200 * np.exp(up)], rtol=1e-4
    )


def test_trucks_that_no_observer_sees_are_part_of_flows_but_not_of_numbers():
    segments = split_roads(roads(line((0, 0), (2000, 0)), oneway=1))
    found = snap(trucks([(100, 0), (500, 0), (900, 0)], heading=90), segments)
    known, seen = Recall(0.8, 0.0), np.array([1500.0])
    plain, more, sure = (
        observe(counts(found, segments, recall), segments, seen).iloc[0]
        for recall in (known, replace(known, visible=0.75, visible_error=0.2), replace(known, visible=0.75))
    )
    assert more["expected"] == plain["expected"]
    assert more["flow_per_hour"] == pytest.approx(plain["flow_per_hour"] / 0.75)
    low, flow = sure["flow_low"], sure["flow_per_hour"]
    assert low == pytest.approx(plain["flow_low"] / 0.75)
    down = np.hypot(np.log(flow / low), 1.96 * 0.2)
    assert more["flow_low"] == pytest.approx(flow * np.exp(-down), rel=1e-4)


def test_unresolved_trucks_belong_half_to_either_direction():
    segments = split_roads(roads(line((0, 0), (2000, 0))))
    found = snap(trucks([(500, 0), (900, 0), (1300, 0)], heading=[90, np.nan, np.nan], axis=90), segments)
    rows = observe(counts(found, segments, None), segments, np.array([2000.0]))
    assert rows["count"].tolist() == [1, 0]
    assert rows["count_unresolved"].tolist() == [2, 2]
    assert rows["trucks_per_km"].tolist() == [1, 0.5]
    assert rows["flow_low"][1] == 0
    assert np.isnan(rows["recall_used"]).all()


def test_no_truck_is_a_figure_too():
    """An empty kilometre: no flow, and at most what Poisson's upper end says, at the speed of its class."""
    segments = split_roads(roads(line((0, 0), (1000, 0)), line((0, 900), (1000, 900)), oneway=1))
    found = snap(trucks([(500, 0)], heading=90, speed=70.0), segments)
    rows = observe(counts(found, segments, None), segments, np.array([1000.0, 1000.0]))
    assert rows["flow_per_hour"].tolist() == [70, 0]
    assert np.isnan(rows["mean_speed_kmh"][1])
    assert rows["flow_speed_kmh"][1] == 70
    assert rows["flow_low"][1] == 0
    assert 3.6889 * 70 < rows["flow_high"][1] < 1.5 * 3.6889 * 70
    lonely = observe(counts(snap(trucks([]), segments), segments), segments, np.array([0.0, 500.0]))
    assert lonely["segment"].tolist() == [1]  # what was not seen has no row
    assert lonely["flow_speed_kmh"].tolist() == [FALLBACK_SPEED_KMH]


def test_the_interval_holds_the_true_flow_of_a_motorway():
    """400 one-way kilometres at 5 trucks a kilometre and 80 +- 8 km/h, of which a detector finds 80 %."""
    rng = np.random.default_rng(5)
    kilometres = [line((0, 100 * row), (1000, 100 * row)) for row in range(400)]
    segments = split_roads(roads(*kilometres, oneway=1))
    row = np.repeat(np.arange(400), rng.poisson(5.0, 400))
    row = row[rng.random(len(row)) < 0.8]
    places = np.stack([rng.uniform(0, 1000, len(row)), 100 * row + rng.normal(0, 4, len(row))], axis=1)
    speeds = 80 + rng.normal(0, 8, len(row)) + rng.normal(0, 5, len(row))
    found = snap(trucks(places, axis=90, speed=speeds), segments)
    np.testing.assert_array_equal(found.segment, row)
    rows = observe(counts(found, segments, Recall(0.8, 0.01)), segments, segments.length.to_numpy())
    true = 5 * 80
    assert rows["flow_per_hour"].mean() == pytest.approx(true, rel=0.05)
    covered = ((rows["flow_low"] <= true) & (true <= rows["flow_high"])).mean()
    assert 0.95 - 2 * np.sqrt(0.05 * 0.95 / 400) < covered


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1000),
            st.integers(-60, 160),
            st.sampled_from([0, 90, 180, 270, None]),
            st.booleans(),
        ),
        max_size=15,
    ),
    st.sampled_from([(0, 0, 0), (1, -1, 0), (0, 1, 1)]),
)
def test_every_truck_is_counted_once(drawn, oneway):
    network = roads(EASTWARD, line((0, 100), (1000, 100)), line((500, -400), (500, 400)), oneway=oneway)
    segments = split_roads(network, max_m=300)
    angle = np.array([np.nan if h is None else h for *_, h, _ in drawn])
    sure = np.array([flag for *_, flag in drawn], bool)
    found = snap(
        trucks([(x, y) for x, y, *_ in drawn], heading=np.where(sure, angle, np.nan), axis=angle % 180),
        segments,
    )
    seen = segments.length.to_numpy()
    rows = observe(counts(found, segments), segments, seen)
    layer = segment_layer(rows, segments, seen, counts(found, segments))
    unmatched = int((found.segment < 0).sum())
    each = rows.drop_duplicates("segment")
    assert rows["count"].sum() + each["count_unresolved"].sum() + unmatched == len(drawn)
    assert layer["count"].sum() + unmatched == len(drawn)
    assert (
        layer["count_forward"].fillna(0) + layer["count_backward"].fillna(0) + layer["count_unresolved"]
    ).equals(layer["count"])
    assert ((rows["flow_low"] <= rows["flow_per_hour"]) & (rows["flow_per_hour"] <= rows["flow_high"])).all()
    assert (
        (layer["flow_low"] <= layer["flow_per_hour"]) & (layer["flow_per_hour"] <= layer["flow_high"])
    ).all()
    directions = layer["flow_forward"].fillna(0) + layer["flow_backward"].fillna(0)
    np.testing.assert_allclose(directions, layer["flow_per_hour"], atol=0.11)


def test_what_was_not_seen_has_no_figures():
    _, segments, *_ = observed()
    nothing, found = np.zeros(1), counts(snap(trucks([]), segments), segments)
    layer = segment_layer(observe(found, segments, nothing), segments, nothing, found)
    assert (
        layer[["count", "trucks_per_km", "mean_speed_kmh", "flow_per_hour", "flow_high"]]
        .isna()
        .all(axis=None)
    )
