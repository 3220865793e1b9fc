"""What chips are drawn from: each part does what it says, exactly where that can be told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.simulation.chips import lookalikes, sky, streets, traffic
from pipeline.simulation.chips.ground import Ground, cut, inside, patchwork, turned
from pipeline.simulation.chips.instrument import MAX_MISREGISTRATION_PX, observe
from pipeline.simulation.chips.palette import CHIP_BANDS, ROOFS, any_world, colour, fractal
from pipeline.simulation.rendering import Vehicle, car_reflectance

SIZE = 64


def grey(level: float = 0.1) -> np.ndarray:
    return np.full((4, SIZE, SIZE), level, np.float32)


def white_truck(**other) -> Vehicle:
    values = {"x": 32.0, "y": 32.0, "heading_deg": 90.0, "speed_kmh": 80.0, "length_m": 16.5, "width_m": 2.5}
    return Vehicle(**values | {"reflectance": dict.fromkeys(CHIP_BANDS, 0.6)} | other)


def test_a_patchwork_has_parcels_of_many_spectra():
    image = patchwork(np.random.default_rng(0), SIZE)
    assert image.shape == (4, SIZE, SIZE)
    assert image[3].std() > 0.02


@given(st.integers(0, 200))
def test_vehicles_turn_with_their_ground(seed):
    rng = np.random.default_rng(seed)
    image = np.zeros((4, 16, 16), np.float32)
    row, col = rng.integers(0, 16, 2)
    image[:, row, col] = 1
    found = turned(rng, Ground(image, np.array([[col, row, col + 1, row + 1]], np.float32)))
    x, y = found.trucks[0, :2].astype(int)
    assert found.reflectance[0, y, x] == 1


def test_a_cut_keeps_the_vehicles_whose_centre_is_in_it():
    ground = Ground(grey(), np.array([[9, 9, 13, 13], [30, 30, 33, 33]], np.float32))
    part = cut(ground, 10, 10, 16)
    np.testing.assert_array_equal(part.trucks, [[0, 0, 3, 3]])


def test_boxes_are_clipped_to_the_chip():
    np.testing.assert_array_equal(
        inside(np.array([[-1, 2, 3, 5], [-3, 2, 1, 5]], np.float32), 8), [[0, 2, 3, 5]]
    )


@given(st.floats(0, 360), st.floats(-0.02, 0.02), st.floats(-20, 20), st.floats(-3, 3))
def test_a_place_on_an_arc_has_the_distance_that_it_was_asked_for(heading, curvature, s, d):
    arc = streets.Arc(32, 32, heading, curvature)
    x, y, _ = arc.place(s, d)
    col, row = int(np.floor(x)), int(np.floor(y))
    if 0 <= col < SIZE and 0 <= row < SIZE:
        _, across = arc.coordinates(SIZE)
        assert across[row, col] == pytest.approx(d, abs=0.75)  # within a pixel's half diagonal


def test_a_truck_stands_out_by_its_area_and_colour():
    under = np.full(4, 0.1, np.float32)
    shown = traffic.contrast(white_truck(), under, 0.01)
    assert shown == pytest.approx(0.5 * 16.5 * 2.5 / 100 * 0.75 / 0.01, rel=1e-3)
    assert traffic.contrast(white_truck(reflectance=dict.fromkeys(CHIP_BANDS, 0.1)), under, 0.01) < 1e-6


@pytest.mark.parametrize(
    ("speed", "contrast", "light", "opacity", "firm"),
    [
        (80, 2, 1, 0, True),
        (80, 0.9, 1, 0, False),
        (80, 2, 0.4, 0, False),
        (80, 9, 1, 0.5, False),
        (20, 9, 1, 0, False),
    ],
)
def test_only_what_anyone_could_tell_is_firm(speed, contrast, light, opacity, firm):
    one = traffic.Moving(white_truck(speed_kmh=speed), contrast, truck=True)
    assert one.firm(light, opacity) is firm
    assert one.doubtful


def test_a_faint_car_and_a_standing_truck_are_ground():
    assert not traffic.Moving(white_truck(length_m=4.5), 0.3, truck=False).doubtful
    assert traffic.Moving(white_truck(length_m=4.5), 1.5, truck=False).doubtful
    assert not traffic.Moving(white_truck(speed_kmh=0), 5, truck=True).doubtful


def test_vehicles_drive_on_the_side_of_their_world():
    rng = np.random.default_rng(4)
    for _ in range(20):
        world, street = any_world(rng), streets.any_street(rng, SIZE)
        for one in traffic.add_traffic(rng, grey(), world, street):
            x, y = one.vehicle.x, one.vehicle.y
            if 0 <= x < SIZE and 0 <= y < SIZE:
                along, across = street.arc.coordinates(SIZE)
                here = np.deg2rad(
                    street.arc.heading_deg + np.rad2deg(street.arc.curvature * along[int(y), int(x)])
                )
                forward = np.cos(here - np.deg2rad(one.vehicle.heading_deg)) > 0
                if abs(across[int(y), int(x)]) > 1:
                    assert (across[int(y), int(x)] > 0) == (forward == (world.driving_side > 0))


def test_a_car_shows_less_of_its_paint_than_a_truck():
    assert car_reflectance({"B02": 0.54})["B02"] == pytest.approx(0.4 * 0.54 + 0.6 * 0.04)


@pytest.mark.parametrize("name", ROOFS)
def test_roofs_have_the_reflectance_of_their_colour(name):
    rng = np.random.default_rng(0)
    low, high = ROOFS[name]
    for _ in range(20):
        assert (colour(rng, name) > np.array(low) - 0.15).all()
        assert (colour(rng, name) < np.array(high) + 0.15).all()


@pytest.mark.parametrize(
    "draw", [lookalikes.add_buildings, lookalikes.add_parked, lookalikes.add_train, lookalikes.add_aircraft]
)
def test_look_alikes_are_drawn(draw):
    rng = np.random.default_rng(1)
    changed = 0
    for _ in range(20):
        image = grey()
        draw(rng, image, any_world(rng))
        changed += bool(np.abs(image - 0.1).max() > 0.02)
    assert changed >= 12


def test_what_stands_is_at_one_place_in_every_band():
    image = grey(0.0)
    lookalikes._stand(image, any_world(np.random.default_rng(3)), (30.2, 20.7, 40.0), 1.6, 0.26, np.ones(4))
    for band in image:
        assert ndimage.center_of_mass(band) == pytest.approx(
            (20.2, 29.7), abs=0.02
        )  # pixel centres are at .5


def test_a_cloud_is_shifted_from_band_to_band_by_its_height():
    rng = np.random.default_rng(0)
    opacity = np.zeros((SIZE, SIZE), np.float32)
    opacity[28:36, 28:36] = 1
    image = grey(0.0)
    sky._cover(image, opacity, np.ones(4, np.float32), 4.0, 0.0)
    rows = [ndimage.center_of_mass(band)[0] for band in image]
    assert rows[2] - rows[0] == pytest.approx(4.0, abs=0.01)
    assert rows[1] - rows[0] == pytest.approx(4.0 * 0.527 / 1.005, abs=0.02)
    shadow = sky.cloud_shadow(rng, SIZE)
    assert 0.2 <= shadow.min() <= shadow.max() <= 1


def test_contrails_cross_the_chip_in_every_band():
    rng = np.random.default_rng(0)
    image = grey(0.0)
    opacity = sky.add_contrail(rng, image, any_world(rng))
    assert opacity.max() > 0.01
    assert (image.max(axis=(1, 2)) > 0.01).all()


def test_bands_are_at_most_three_tenths_of_a_pixel_apart():
    ramp = np.tile(np.linspace(0.1, 0.4, SIZE, dtype=np.float32), (4, SIZE, 1))
    step = 0.3 / (SIZE - 1)
    for seed in range(30):
        seen = observe(np.random.default_rng(seed), ramp.copy(), 0.0)
        if len(np.unique(seen)) < 1000:
            continue  # in few bits
        inner = seen[:, 8:-8, 8:-8]
        slope = (inner[..., -1] - inner[..., 0]).mean(1) / (inner.shape[2] - 1)
        middle = inner.mean(axis=(1, 2))
        still = slope / step * 0.25
        if np.allclose(slope / step, middle / 0.25, atol=0.02):  # without haze, a shift is all that is left
            assert (np.abs(middle - still) / slope <= MAX_MISREGISTRATION_PX + 0.05).all()


def test_fractal_noise_has_unit_deviation():
    assert fractal(np.random.default_rng(0), SIZE, 4.0).std() == pytest.approx(1, abs=1e-4)
