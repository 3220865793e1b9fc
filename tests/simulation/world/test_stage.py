"""What moves is seen apart by speed times delay, what stands is not, and optics keep energy."""

import dataclasses
import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from pipeline.simulation.rendering import Vehicle
from pipeline.simulation.world.atmosphere import parallax
from pipeline.simulation.world.buildings import Roof
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.network import Road
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.stage import SimulatedVehicle, Stage, blurred, misregistration
from pipeline.simulation.world.traffic import Aircraft, Vehicles

VISIBLE = ("B02", "B03", "B04")
WINDOW = Window(0, 0, 66, 66)
headings = st.floats(0, 360, exclude_max=True)
orders = st.sampled_from([1, -1])


def white(x=33.0, y=33.0, heading=90.0, speed=80.0, length=16.5, width=2.5):
    return Vehicle(x, y, heading, speed, length, width, dict.fromkeys(BANDS, 1.0))


def added(order, **what):
    """What things add to the visible bands of an empty world, (3, 66, 66)."""
    stage, before = empty(order)
    after = dataclasses.replace(stage, **what).render_window(WINDOW, VISIBLE).reflectance
    return (after - before).astype(float)


@cache
def empty(order):
    """A world under one MSI detector, in which nothing moves or is built, and its picture."""
    plan = plan_world(66, 1)
    world = dataclasses.replace(
        plan,
        cloud_cover=1e-9,
        first_detector=5 if order == 1 else 6,
        detector_start=0.0,
        detector_width=1e6,
    )
    stage = Stage(world, Vehicles(), (), np.empty((0, 2)))
    return stage, stage.render_window(WINDOW, VISIBLE).reflectance


def centroid(band):
    band = np.where(band > 0.004, band, 0)
    rows, cols = np.mgrid[: band.shape[0], : band.shape[1]] + 0.5
    return np.array([(cols * band).sum(), (rows * band).sum()]) / band.sum()


@settings(max_examples=6, deadline=None)
@given(headings, st.floats(0, 100), orders)
def test_bands_see_a_vehicle_apart_by_speed_times_delay(heading, speed, order):
    vehicle = white(heading=heading, speed=speed)
    blue, _, red = added(order, traffic=Vehicles(light=(vehicle,)))
    expected = np.array(vehicle.direction) * speed / 3.6 * 1.005 * order / 10
    # the bands are misregistered by up to 0.3 px; the ground below is not the same everywhere
    assert np.hypot(*(centroid(red) - centroid(blue) - expected)) < 0.4


@settings(max_examples=4, deadline=None)
@given(headings, orders)
def test_bands_see_what_stands_in_one_place(heading, order):
    lorry = Roof(33.0, 33.0, heading, 1.65, 0.25, (1.0,) * len(BANDS))
    blue, _, red = added(order, roofs=(lorry,), centres=np.array([[33.0, 33.0]]))
    assert np.hypot(*(centroid(red) - centroid(blue))) < 0.4


@pytest.mark.parametrize("order", [1, -1])
def test_aircraft_is_seen_apart_by_its_speed_and_its_height(order):
    plane = white(heading=60, speed=850, length=40, width=6)
    blue, _, red = added(order, traffic=Vehicles(aircraft=(Aircraft((plane,), 10000.0),)))
    flown = np.array(plane.direction) * 850 / 3.6 * 1.005 * order / 10
    expected = flown + parallax("B04", order, 10000.0)
    assert centroid(red) - centroid(blue) == pytest.approx(expected, abs=0.5)
    assert np.hypot(*parallax("B04", order, 10000.0)) > 9


@settings(max_examples=6, deadline=None)
@given(headings, st.floats(0, 100), st.floats(8, 19), st.floats(2.4, 3.2), orders)
def test_box_holds_the_truck_in_every_band(heading, speed, length, width, order):
    truck = white(heading=heading, speed=speed, length=length, width=width)
    x0, y0, x1, y1 = truck.box(order)
    # blur spreads a seventh beyond the box; a truck's shadow is left out
    for band in added(order, traffic=Vehicles(light=(truck,))):
        inside = band[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
        assert inside.sum() > 0.8 * band.sum()


@settings(max_examples=30)
@given(st.floats(0.05, 0.3), st.floats(-0.15, 0.15), st.floats(-0.15, 0.15))
def test_blur_keeps_energy_and_has_its_variance(variance, down, right):
    point = np.zeros((9, 9), np.float32)
    point[4, 4] = 1
    spread = blurred(point, variance, (down, right)).astype(float)
    rows, cols = np.mgrid[:9, :9] - 4
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert [(rows * spread).sum(), (cols * spread).sum()] == pytest.approx([down, right], abs=1e-5)
    for axis, mean in ((rows, down), (cols, right)):
        assert ((axis - mean) ** 2 * spread).sum() == pytest.approx(variance, abs=1e-4)


@settings(max_examples=30)
@given(st.integers(0, 10**9))
def test_no_two_bands_are_misregistered_by_more_than_three_tenths(seed):
    shifts = [misregistration(np.random.default_rng([seed, band])) for band in range(len(BANDS))]
    assert all(np.hypot(*np.subtract(*pair)) <= 0.3 + 1e-9 for pair in itertools.combinations(shifts, 2))


@pytest.mark.parametrize(
    ("contrast", "shaded", "clear", "speed", "cut", "confidence"),
    [
        (0.20, 1.0, 1.0, 80, False, "high"),
        (0.06, 0.95, 0.95, 36, False, "high"),
        (0.20, 0.5, 1.0, 80, False, "high"),  # in cloud shadow, and yet bright
        (0.04, 1.0, 1.0, 80, False, "low"),  # hardly differs from its road
        (0.06, 0.82, 0.82, 80, False, "low"),  # nor this one, under haze
        (0.20, 1.0, 1.0, 20, False, "low"),  # creeps in a jam
        (0.20, 1.0, 1.0, 5, False, "ignore"),  # stands
        (0.20, 0.4, 0.4, 80, False, "ignore"),  # under the edge of a cloud
        (0.20, 1.0, 1.0, 80, True, "ignore"),
    ],
)
@pytest.mark.parametrize(
    ("length", "weight"), [(16.5, "heavy"), (8.0, "heavy"), (7.9, "light"), (4.4, "light")]
)
def test_confidence_is_visibility_alone(length, weight, contrast, shaded, clear, speed, cut, confidence):
    one = SimulatedVehicle(white(speed=speed, length=length), 5, 1, contrast, shaded, clear, cut)
    assert one.confidence == confidence
    assert one.weight == weight


def test_what_the_border_cuts_is_in_the_truth_and_ignored():
    stage = empty(1)[0]
    road = Road(np.array([[0.0, 33.0], [66.0, 33.0]]), "motorway", "", 2)
    world = dataclasses.replace(stage.world, roads=(road,))
    cut, complete = white(x=1.0), white(x=33.0)
    truth = dataclasses.replace(stage, world=world, traffic=Vehicles(heavy=(cut, complete))).vehicles()
    assert [one.confidence for one in truth] == ["ignore", "high"]
    gone = dataclasses.replace(stage, world=world, traffic=Vehicles(heavy=(white(x=-1.0),)))
    assert gone.vehicles() == ()
    assert stage.vehicles() == ()


def test_light_vehicles_that_nobody_can_see_are_not_in_the_truth():
    stage = empty(1)[0]
    road = Road(np.array([[0.0, 33.0], [66.0, 33.0]]), "motorway", "", 2)
    grey = dict.fromkeys(BANDS, 0.09)
    dull = [dataclasses.replace(white(length=length), reflectance=grey) for length in (16.5, 4.4)]
    world = dataclasses.replace(stage.world, roads=(road,))
    traffic = Vehicles(heavy=(dull[0],), light=(dull[1],))
    (heavy,) = dataclasses.replace(stage, world=world, traffic=traffic).vehicles()
    assert (heavy.weight, heavy.confidence) == ("heavy", "low")
