"""Static look-alikes among traffic of many dates: planted ones are flagged, trucks are not."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson_binom

from pipeline.traffic.recurring import LEAST_DATES, RECURRING, Recurring, Search, at_least, find_recurring

ZONE_33 = "EPSG:32633"
X, Y = 500_000.0, 5_800_000.0
ROAD_KM = 10
LANE_M = 11.4
"""From the axis of a motorway to the middle of its right lanes."""
NOISE_M = 3.0
JAM = (4_000.0, 6_500.0)


def search(number: int, area: shapely.Geometry | None = None, **changes: object) -> Search:
    """Return scene `s<number>`, five days after the one before, which saw everything or `area`."""
    area = area or shapely.box(X - 2e5, Y - 1e6, X + 2e5, Y + 1e6)
    values = {
        "acquired": date(2024, 5, 1) + timedelta(days=5 * number),
        "seen": gpd.GeoSeries([area], crs=ZONE_33),
    }
    return Search(f"s{number}", **(values | changes))


def trucks(places: Iterable[tuple[int, float, float]]) -> gpd.GeoDataFrame:
    """Return detections of 20 m x 20 m from scene number, x and y in metres."""
    scene, x, y = np.array(list(places), dtype=np.float64).reshape(-1, 3).T
    return gpd.GeoDataFrame(
        {
            "id": [f"t{number}" for number in range(len(scene))],
            "scene_id": [f"s{number:.0f}" for number in scene],
        },
        geometry=shapely.box(X + x - 10, Y + y - 10, X + x + 10, Y + y + 10),
        crs=ZONE_33,
    )


def motorway(
    rng: np.random.Generator, spacing_m: float, north_m: float, jammed: Iterable[int] = (), fakes: int = 2
) -> pd.DataFrame:
    """Return detections on a curved motorway of `ROAD_KM` on six dates: date, fake, x and y.

    Both carriageways together have a truck every `spacing_m`, and on the dates in `jammed` one of them has a
    truck every 35 m between `JAM`. `fakes` look-alikes anywhere within 25 m of the axis are detected
    on four of five dates.
    """
    date_, fake, along, across = [], [], [], []

    def add(number: int, which: int, at: np.ndarray, beside: np.ndarray) -> None:
        date_.append(np.full(len(at), number))
        fake.append(np.full(len(at), which))
        along.append(at)
        across.append(beside)

    static = rng.uniform(0, ROAD_KM * 1000, fakes), rng.uniform(-25, 25, fakes)
    for number in range(6):
        for side in (-1, 1):
            at = rng.uniform(0, ROAD_KM * 1000, rng.poisson(ROAD_KM * 500 / spacing_m))
            if side == 1 and number in jammed:
                queue = rng.uniform(*JAM, rng.poisson((JAM[1] - JAM[0]) / 35))
                at = np.r_[at[(at < JAM[0]) | (at > JAM[1])], queue]
            add(number, -1, at, side * LANE_M + rng.normal(0, 1, len(at)))
        for which in np.flatnonzero(rng.random(fakes) < 0.8).tolist():
            add(number, which, static[0][[which]], static[1][[which]])
    bend_m = 2_000
    turn, radius = np.concatenate(along) / bend_m, bend_m + np.concatenate(across)
    noise = rng.normal(0, NOISE_M, (2, len(turn)))
    return pd.DataFrame(
        {
            "date": np.concatenate(date_),
            "fake": np.concatenate(fake),
            "x": radius * np.sin(turn) + noise[0],
            "y": north_m - radius * np.cos(turn) + noise[1],
        }
    )


def rates(roads: list[pd.DataFrame]) -> tuple[float, float]:
    """Return the flagged share of look-alikes that are detected on three dates or more, and of trucks."""
    every = pd.concat([road.assign(road=number) for number, road in enumerate(roads)], ignore_index=True)
    found = find_recurring(
        trucks(every[["date", "x", "y"]].to_numpy()), [search(number) for number in range(6)]
    )
    every["flagged"] = found.columns["recurring"].to_numpy()
    static = every[every["fake"] >= 0]
    often = static.groupby(["road", "fake"])["date"].transform("nunique") >= LEAST_DATES
    return static[often]["flagged"].mean(), every[every["fake"] < 0]["flagged"].mean()


@pytest.mark.parametrize("seed", [1, 2])
def test_of_dense_traffic_nine_of_ten_look_alikes_are_flagged_and_one_truck_in_a_hundred_at_most(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    spacings = [150, 300, 600, 1_000, 2_000, 4_000] * 4
    look_alikes, trucks_ = rates([motorway(rng, spacing, 8e3 * n) for n, spacing in enumerate(spacings)])
    assert look_alikes >= 0.9
    assert trucks_ <= 0.01


def test_the_densest_roads_alone() -> None:
    rng = np.random.default_rng(3)
    look_alikes, trucks_ = rates([motorway(rng, 150, 8e3 * number) for number in range(12)])
    assert look_alikes >= 0.9
    assert trucks_ <= 0.01


def test_what_stands_is_found_among_trucks_every_85_m_if_positions_are_good(monkeypatch) -> None:
    """With one radius of 10 m for all, 67 % were flagged (10 draws); with a smaller one, too, 97 %."""
    monkeypatch.setattr("tests.traffic.test_recurring.NOISE_M", 1.0)
    rng = np.random.default_rng(6)
    look_alikes, trucks_ = rates([motorway(rng, 85, 8e3 * number) for number in range(8)])
    assert look_alikes >= 0.9
    assert trucks_ <= 0.01


@pytest.mark.parametrize("jammed", [(2,), (1, 2, 4), range(6)])
def test_a_jam_is_no_look_alike(jammed: Iterable[int]) -> None:
    rng = np.random.default_rng(4)
    spacings = [150, 300, 600, 1_000] * 2
    _, trucks_ = rates([motorway(rng, spacing, 8e3 * n, jammed) for n, spacing in enumerate(spacings)])
    assert trucks_ <= 0.01


@pytest.mark.parametrize("jammed", [(), (0, 1, 2, 3, 4, 5)])
def test_of_traffic_alone_nothing_is_flagged(jammed: Iterable[int]) -> None:
    rng = np.random.default_rng(5)
    _, trucks_ = rates([motorway(rng, 150, 8e3 * number, jammed, fakes=0) for number in range(8)])
    assert trucks_ <= 0.001


EMPTY_ROAD = [(number, 700.0, 0.0) for number in range(6)]
"""A detection at one place on each of six dates."""


def test_a_place_has_its_dates_and_the_detections_a_flag() -> None:
    passing = [(1, 9_000.0, 0.0), (3, 4_000.0, 0.0)]
    found = find_recurring(trucks([*EMPTY_ROAD[:4], *passing]), [search(number) for number in range(6)])
    assert found.columns["recurring"].tolist() == [True] * 4 + [False] * 2
    assert found.columns["dates_here"].tolist() == [4] * 4 + [1] * 2
    assert found.columns["dates_searched"].tolist() == [6] * 6
    (place,) = found.places.to_dict("records")
    assert found.columns["place_id"].fillna("").tolist() == [place["place_id"]] * 4 + [""] * 2
    assert place["dates"] == "2024-05-01 2024-05-06 2024-05-11 2024-05-16"
    assert (place["dates_here"], place["dates_searched"]) == (4, 6)
    assert place["truck_ids"] == "t0 t1 t2 t3"
    assert 0 < place["q_value"] < 0.01
    circle = found.places.to_crs(ZONE_33).geometry[0]
    assert circle.centroid.distance(shapely.Point(X + 700, Y)) < 0.01
    assert circle.area == pytest.approx(np.pi * 10**2, rel=0.01)


def test_two_dates_are_too_few() -> None:
    assert (
        not find_recurring(trucks(EMPTY_ROAD[:2]), [search(n) for n in range(2)]).columns["recurring"].any()
    )


def test_dates_on_which_the_place_was_not_searched_do_not_count() -> None:
    elsewhere = shapely.box(X + 5_000, Y - 100, X + 6_000, Y + 100)
    searches = [search(number, elsewhere if number > 2 else None) for number in range(60)]
    found = find_recurring(trucks(EMPTY_ROAD[:3]), searches)
    assert found.columns["dates_searched"].tolist() == [3] * 3
    assert found.columns["recurring"].all()


def test_a_detection_beside_the_searched_area_is_no_impossible_one() -> None:
    """The road is dense: that its rim was searched on the date of a detection only proves nothing."""
    road = [(n, 150.0 * at + 30 * n, 0.0) for n in range(3) for at in range(20)]
    rim = [(0, 1_500.0, 0.0), (1, 1_503.0, 0.0), (2, 1_497.0, 0.0)]
    outside = [search(n, shapely.box(X + 4_000, Y - 100, X + 6_000, Y + 100)) for n in range(3)]
    found = find_recurring(trucks([*road, *rim]), outside)
    assert found.columns["dates_searched"].tolist()[-3:] == [3] * 3


def test_one_acquisition_in_several_scenes_is_one_date() -> None:
    """Products of one acquisition, and neighbouring tiles of one overpass."""
    moment = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)
    searches = [search(number, acquired=moment + timedelta(seconds=number)) for number in range(6)]
    found = find_recurring(trucks(EMPTY_ROAD), searches)
    assert not found.columns["recurring"].any()
    assert found.columns["dates_here"].tolist() == [1] * 6


def test_an_overpass_at_midnight_of_utc_is_one_date() -> None:
    kamchatka = {"seen": gpd.GeoSeries([shapely.box(157, 50, 158, 51)], crs="EPSG:4326")}
    times = [
        datetime(2024, 5, 1 + 5 * day, 23, 59, 59, tzinfo=UTC) + timedelta(seconds=2 * late)
        for day in range(2)
        for late in range(2)
    ]
    places = trucks([(number, 0.0, 0.0) for number in range(4)]).set_crs("EPSG:32657", allow_override=True)
    found = find_recurring(places, [search(n, acquired=time, **kamchatka) for n, time in enumerate(times)])
    assert found.columns["dates_here"].tolist() == [2] * 4


def test_scenes_without_a_date_are_left_out() -> None:
    searches = [
        search(number, acquired=None if number == 0 else date(2024, 5, number)) for number in range(6)
    ]
    found = find_recurring(trucks(EMPTY_ROAD), searches)
    assert found.columns["recurring"].tolist() == [False] + [True] * 5
    assert found.columns["dates_here"].isna().tolist() == [True] + [False] * 5


def test_scenes_of_two_zones_show_one_place() -> None:
    seen_32 = gpd.GeoSeries([shapely.box(11, 51, 16, 54)], crs="EPSG:4326").to_crs("EPSG:32632")
    searches = [search(n, **({"seen": seen_32} if n % 2 else {})) for n in range(6)]
    found = find_recurring(trucks(EMPTY_ROAD).to_crs("EPSG:4326"), searches)
    assert found.columns["recurring"].all()
    assert found.columns["dates_searched"].tolist() == [6] * 6


def test_without_detections_or_scenes_nothing_recurs() -> None:
    for searches in ([], [search(0)]):
        found = find_recurring(trucks([]), searches)
        assert found.columns.empty
        assert found.places.columns.tolist() == list(RECURRING.names)


def flags(found: Recurring) -> list[tuple[object, ...]]:
    return [tuple(None if pd.isna(value) else value for value in row) for row in found.columns.to_numpy()]


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_dates_and_files_does_not_matter(random: object) -> None:
    rng = np.random.default_rng(6)
    road = motorway(rng, 300, 0.0, fakes=4)
    detections = trucks(road[["date", "x", "y"]].to_numpy())
    searches = [search(number) for number in range(6)]
    expected = find_recurring(detections, searches)
    assert expected.columns["recurring"].any()
    rows = list(range(len(detections)))
    random.shuffle(rows)  # type: ignore[attr-defined]
    random.shuffle(searches)  # type: ignore[attr-defined]
    found = find_recurring(detections.iloc[rows], searches)
    assert found.columns.index.tolist() == rows
    assert flags(Recurring(found.columns.sort_index(), found.places)) == flags(expected)
    pd.testing.assert_frame_equal(found.places, expected.places)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 8))
def test_the_chance_of_at_least_so_many_is_that_of_scipy(chances: list[float], number: int) -> None:
    rows = np.array([chances, chances[::-1]])
    expected = poisson_binom(np.array(chances)).sf(number - 1)
    assert at_least(rows, np.array([number, 0])) == pytest.approx([expected, 1.0], abs=1e-9)
