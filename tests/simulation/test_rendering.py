"""Vehicles are drawn exactly: energy, place and motion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scenes.msi import BAND_DELAYS_S
from pipeline.simulation.rendering import (
    Vehicle,
    add_rectangle,
    add_vehicle,
    band_times,
    car_reflectance,
    rectangle_coverage,
    strip_coverage,
)

BANDS = tuple(BAND_DELAYS_S)


SIDE = 40


def vehicle(x=20.0, y=20.0, heading=90.0, speed=80.0, length=16.5, width=2.5):
    return Vehicle(x, y, heading, speed, length, width, dict.fromkeys(BANDS, 0.7))


def drawn(of, order, sigma=0.5):
    image = np.zeros((len(BANDS), SIDE, SIDE), np.float32)
    add_vehicle(image, BANDS, of, order, dict.fromkeys(BANDS, sigma))
    return dict(zip(BANDS, image.astype(np.float64), strict=True))


def centroid(band):
    rows, cols = np.mgrid[: band.shape[0], : band.shape[1]] + 0.5
    return np.array([(cols * band).sum(), (rows * band).sum()]) / band.sum()


places = st.floats(15, 25)


headings = st.floats(0, 360, exclude_max=True)


@settings(max_examples=25, deadline=None)
@given(places, places, headings, st.floats(0.2, 4), st.floats(0.2, 4), st.floats(0.4, 1.5))
def test_blur_keeps_energy(x, y, heading, length, width, sigma):
    _, share = rectangle_coverage((SIDE, SIDE), x, y, heading, length, width, sigma)
    # sampling a Gaussian of 0.49 px at whole pixels is off by 3.3 % at most (Poisson summation)
    assert share.sum() == pytest.approx(length * width, rel=0.034)
    assert share.min() >= 0
    assert share.max() <= 1


@settings(max_examples=25, deadline=None)
@given(places, places, headings)
def test_rectangle_lies_where_it_was_asked(x, y, heading):
    image = np.zeros((SIDE, SIDE), np.float32)
    add_rectangle(image, x, y, heading, 2.0, 0.5, 1.0, 0.5)
    assert centroid(image) == pytest.approx([x, y], abs=0.02)


def test_rectangle_agrees_with_supersampling():
    fine = 20
    at = (np.arange(SIDE * fine) + 0.5) / fine
    angle = np.deg2rad(30)
    dx, dy = at[None, :] - 20.3, at[:, None] - 19.6
    along, across = dx * np.sin(angle) - dy * np.cos(angle), dx * np.cos(angle) + dy * np.sin(angle)
    inside = ((np.abs(along) < 3) & (np.abs(across) < 1)).astype(float)
    expected = inside.reshape(SIDE, fine, SIDE, fine).mean(axis=(1, 3))
    (rows, cols), share = rectangle_coverage((SIDE, SIDE), 20.3, 19.6, 30, 6, 2, 0.05)
    drawn_share = np.zeros((SIDE, SIDE))
    drawn_share[rows, cols] = share
    # the pixel's box is replaced by a Gaussian of its variance, which differs by a few percent at edges
    assert np.abs(drawn_share - expected).max() < 0.12
    assert np.abs(drawn_share - expected).mean() < 1e-3


def test_rectangle_out_of_sight_has_no_pixels():
    _, share = rectangle_coverage((10, 10), 100, 5, 0, 2, 1, 0.5)
    assert share.size == 0


@settings(max_examples=25, deadline=None)
@given(headings, st.floats(0, 140), st.sampled_from([1, -1]))
def test_bands_are_apart_by_speed_times_delay(heading, speed, order):
    truck = vehicle(heading=heading, speed=speed)
    seen = drawn(truck, order)
    for band, delay in BAND_DELAYS_S.items():
        moved = centroid(seen[band]) - centroid(seen["B02"])
        expected = np.array(truck.direction) * speed / 3.6 * delay * order / 10
        assert moved == pytest.approx(expected, abs=0.02)


@settings(max_examples=10, deadline=None)
@given(headings, st.sampled_from([1, -1]))
def test_parked_truck_is_seen_in_one_place(heading, order):
    seen = drawn(vehicle(heading=heading, speed=0), order)
    for band in seen.values():
        np.testing.assert_array_equal(band, seen["B02"])


def test_eastbound_truck_at_80_kmh_is_seen_22_m_further_on_in_red():
    seen = drawn(vehicle(heading=90, speed=80), order=1)
    moved = centroid(seen["B04"]) - centroid(seen["B02"])
    assert moved == pytest.approx([2.233, 0], abs=0.01)


def test_middle_of_blue_and_red_is_the_vehicles_place():
    times = band_times(1)
    assert times["B02"] == pytest.approx(-times["B04"])
    assert band_times(-1) == {band: pytest.approx(-time) for band, time in times.items()}


@settings(max_examples=25, deadline=None)
@given(headings, st.floats(0, 110), st.floats(8, 19), st.floats(2.4, 3.2), st.sampled_from([1, -1]))
def test_box_holds_the_truck_in_every_band(heading, speed, length, width, order):
    truck = vehicle(heading=heading, speed=speed, length=length, width=width)
    x0, y0, x1, y1 = truck.box(order)
    assert min(x1 - x0, y1 - y0) >= 3 - 1e-9
    forward = np.array(truck.direction)
    sideways = np.array([-forward[1], forward[0]])
    for seconds in band_times(order).values():
        for along, across in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            corner = truck.position(seconds) + along * length / 20 * forward + across * width / 20 * sideways
            assert x0 <= corner[0] <= x1
            assert y0 <= corner[1] <= y1
    rows, cols = slice(int(y0), int(np.ceil(y1))), slice(int(x0), int(np.ceil(x1)))
    for band in drawn(truck, order).values():
        assert band[rows, cols].sum() > 0.8 * band.sum()


def test_band_without_delay_is_left_alone():
    image = np.zeros((1, SIDE, SIDE), np.float32)
    add_vehicle(image, ["B11"], vehicle(), 1, {"B11": 0.5})
    assert not image.any()


def test_strip_has_its_width():
    across = np.arange(-30, 30, 0.1, dtype=np.float32)
    assert strip_coverage(across, 2.4, 0.5).sum() * 0.1 == pytest.approx(2.4, rel=1e-3)
    assert strip_coverage(np.float32([0.0]), 20, 0.5)[0] == pytest.approx(1)


def test_a_car_shows_less_of_its_paint_than_a_truck():
    assert car_reflectance({"B02": 0.54})["B02"] == pytest.approx(0.4 * 0.54 + 0.6 * 0.04)
