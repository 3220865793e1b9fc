"""Displacement between B02 and B04, measured on rendered trucks and on real ones."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from pipeline.inference.motion import MOTION_MARGIN_PX, evidence, measure_displacement
from pipeline.inference.predictions import MOTION_BANDS
from pipeline.scenes.msi import BAND_DELAYS_S
from pipeline.simulation.rendering import Vehicle, add_rectangle, add_vehicle, strip_coverage

SIZE = 31
KMH_PER_PX = 10 / BAND_DELAYS_S["B04"] * 3.6
ROAD = {"B02": 0.09, "B08": 0.17, "B03": 0.10, "B04": 0.11}
MEADOW = {"B02": 0.04, "B08": 0.30, "B03": 0.07, "B04": 0.05}
WHITE = dict.fromkeys(MOTION_BANDS, 1.0)
RED = {"B02": 0.15, "B08": 1.1, "B03": 0.25, "B04": 1.0}


def road(heading_deg, rng=None, noise=0.0, width_px=3.0):
    """(4, SIZE, SIZE): a road through a meadow, and the blur of each band."""
    angle = np.deg2rad(heading_deg)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    distance = (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32)
    sigma = {band: 0.55 if rng is None else rng.uniform(0.45, 0.65) for band in MOTION_BANDS}
    image = np.empty((4, SIZE, SIZE), np.float32)
    for i, band in enumerate(MOTION_BANDS):
        share = strip_coverage(distance, width_px, sigma[band])
        image[i] = MEADOW[band] * (1 - share) + ROAD[band] * share
    if rng is not None:
        image += rng.normal(0, noise, image.shape).astype(np.float32)
    return image, sigma


def vehicle(heading_deg, speed_kmh, contrast=0.4, colour=WHITE, x=SIZE / 2, y=SIZE / 2, length_m=14.0):
    roof = {band: ROAD[band] + contrast * colour[band] for band in MOTION_BANDS}
    return Vehicle(x, y, heading_deg, speed_kmh, length_m, 2.6, roof)


def displacement(truck, order):
    return np.array(truck.direction) * order * truck.speed_kmh / KMH_PER_PX


def everywhere(image):
    return np.ones(image.shape[1:], bool)


def simulate(seed, contrast, colour=WHITE, company=False):
    """A truck on a road with noise, misregistered bands, and a box that is a little off."""
    rng = np.random.default_rng(seed)
    heading, order = rng.uniform(0, 360), int(rng.choice([-1, 1]))
    image, sigma = road(heading, rng, rng.uniform(0.002, 0.006), rng.uniform(1.5, 4))
    x, y = SIZE / 2 + rng.uniform(-0.5, 0.5, 2)
    truck = vehicle(heading, rng.normal(82, 10), contrast, colour, x, y, rng.uniform(8, 19))
    vehicles = [truck]
    if company:
        gap = rng.uniform(3, 5) * rng.choice([-1, 1])
        dx, dy = truck.direction
        vehicles.append(
            vehicle(
                heading, truck.speed_kmh, contrast * rng.uniform(0.5, 1.5), WHITE, x + gap * dx, y + gap * dy
            )
        )
    registration = rng.normal(0, 0.08, (4, 2))
    for one in vehicles:
        for i, band in enumerate(MOTION_BANDS):
            shifted = Vehicle(
                one.x + registration[i, 0],
                one.y + registration[i, 1],
                *(one.heading_deg, one.speed_kmh, one.length_m, one.width_m, one.reflectance),
            )
            add_vehicle(image[i : i + 1], [band], shifted, order, sigma)
    box = np.array(truck.box(order)) + np.tile(rng.normal(0, 0.3, 2), 2)
    return image, box, displacement(truck, order)


def measured(cases):
    """Along-track errors in km/h, their deviations, and whether the truck seems to go backwards."""
    images, boxes, truth = (np.array(column) for column in zip(*cases, strict=True))
    strip = np.concatenate(list(images), axis=2)
    boxes = boxes + np.arange(len(boxes))[:, None] * [SIZE, 0, SIZE, 0]
    found, sigma = measure_displacement(strip, everywhere(strip), boxes)
    known = np.isfinite(sigma)
    length = np.linalg.norm(truth, axis=1)
    along = (found * truth).sum(axis=1) / length
    return (along - length)[known] * KMH_PER_PX, sigma[known] * KMH_PER_PX, (along < 0)[known], known.mean()


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("heading", [0, 37, 90, 200, 315])
def test_points_from_blue_to_red(heading, order):
    image, sigma = road(heading, np.random.default_rng(1), 0.003)
    truck = vehicle(heading, 80)
    add_vehicle(image, MOTION_BANDS, truck, order, sigma)
    found, deviation = measure_displacement(image, everywhere(image), np.array([truck.box(order)]))
    assert np.abs(found[0] - displacement(truck, order)).max() < 2.5 * deviation[0]
    assert 0.1 <= deviation[0] < 0.2  # the registration of the bands stays uncertain


@pytest.mark.parametrize(
    ("contrast", "colour", "company", "median", "rmse", "known"),
    [
        (0.4, WHITE, False, 6, 10, 0.95),
        (0.4, RED, False, 8, 14, 0.85),
        (0.4, WHITE, True, 6, 12, 0.9),
        (0.2, WHITE, False, 9, 16, 0.7),
    ],
)
def test_simulated_trucks(contrast, colour, company, median, rmse, known):
    error, sigma, backwards, share = measured([simulate(i, contrast, colour, company) for i in range(48)])
    assert share >= known
    assert np.median(np.abs(error)) < median
    assert np.sqrt((error**2).mean()) < rmse
    assert backwards.mean() < 0.02
    assert 0.55 < (np.abs(error) < sigma).mean() < 0.85


def test_a_truck_may_be_darker_than_its_road():
    image, sigma = road(60, np.random.default_rng(1), 0.003)
    truck = vehicle(60, 85, contrast=-0.4)
    add_vehicle(image, MOTION_BANDS, truck, 1, sigma)
    found, _ = measure_displacement(image, everywhere(image), np.array([truck.box(1)]))
    assert np.abs(found[0] - displacement(truck, 1)).max() < 0.3


def test_what_rests_does_not_move():
    image, sigma = road(60, np.random.default_rng(2), 0.003)
    for i, band in enumerate(MOTION_BANDS):
        add_rectangle(image[i], SIZE / 2, SIZE / 2, 60, 1.4, 0.26, 0.7, sigma[band])
    found, deviation = measure_displacement(image, everywhere(image), np.array([[13.5, 14, 17.5, 17]]))
    assert np.isnan(found).all() and np.isinf(deviation).all()


def test_what_is_beside_a_faint_truck_is_not_its_motion():
    """Parked cars along the road, brighter than the truck: no speed rather than that of the cars."""
    speeds = []
    for i in range(12):
        image, sigma = road(60, np.random.default_rng(i), 0.003)
        truck = vehicle(60, 85, contrast=0.05)
        add_vehicle(image, MOTION_BANDS, truck, 1, sigma)
        for k, band in enumerate(MOTION_BANDS):
            for along in (-4.5, -0.5, 3.5):
                x, y = (
                    SIZE / 2 + along * truck.direction[0] - 1.0,
                    SIZE / 2 + along * truck.direction[1] - 1.7,
                )
                add_rectangle(image[k], x, y, 60, 0.5, 0.5, 0.5, sigma[band])
        found, _ = measure_displacement(image, everywhere(image), np.array([truck.box(1)]))
        speeds.append(np.linalg.norm(found[0]) * KMH_PER_PX)
    known = np.array(speeds)[~np.isnan(speeds)]
    assert (known > 60).all()


def test_an_empty_road_has_no_displacement():
    image = np.concatenate([road(60, np.random.default_rng(i), 0.004)[0] for i in range(16)], axis=2)
    boxes = np.array([[13.5, 14, 17.5, 17]]) + np.arange(16)[:, None] * [SIZE, 0, SIZE, 0]
    found, deviation = measure_displacement(image, everywhere(image), boxes)
    assert np.isinf(deviation).mean() > 0.6
    np.testing.assert_array_equal(np.isnan(found).any(axis=1), np.isinf(deviation))


def test_a_flat_image_has_none_either():
    image = np.full((4, SIZE, SIZE), 0.1, np.float32)
    found, deviation = measure_displacement(image, everywhere(image), np.array([[13.5, 14, 17.5, 17]]))
    assert np.isnan(found).all() and np.isinf(deviation).all()


def test_missing_pixels_leave_it_open():
    image, box, _ = simulate(3, 0.4)
    valid = everywhere(image)
    valid[int(box[1]), int(box[0])] = False
    border = box - [box[0], 0, box[0], 0]
    found, deviation = measure_displacement(image, valid, np.array([box, border]))
    assert np.isnan(found).all() and np.isnan(deviation).all()


def test_no_boxes():
    image, _ = road(0)
    found, deviation = measure_displacement(image, everywhere(image), np.zeros((0, 4)))
    assert found.shape == (0, 2) and deviation.shape == (0,)


def test_nothing_beyond_the_margin_matters():
    image, box, _ = simulate(5, 0.4, company=True)
    whole = measure_displacement(image, everywhere(image), box[None])
    x0, y0 = np.floor(box[:2]).astype(int) - MOTION_MARGIN_PX
    x1, y1 = np.ceil(box[2:]).astype(int) + MOTION_MARGIN_PX
    assert min(x0, y0) >= 0
    crop = image[:, y0:y1, x0:x1]
    part = measure_displacement(crop, everywhere(crop), (box - [x0, y0, x0, y0])[None])
    np.testing.assert_array_equal(whole[0], part[0])
    np.testing.assert_array_equal(whole[1], part[1])


def test_no_box_matters_to_another():
    images, boxes, _ = zip(*(simulate(i, 0.3, company=True) for i in range(7)), strict=True)
    strip = np.concatenate(images, axis=2)
    boxes = np.array(boxes) + np.arange(7)[:, None] * [SIZE, 0, SIZE, 0]
    together = measure_displacement(strip, everywhere(strip), boxes)
    for i in range(7):
        alone = measure_displacement(strip, everywhere(strip), boxes[i : i + 1])
        np.testing.assert_array_equal(alone[0][0], together[0][i])
        np.testing.assert_array_equal(alone[1][0], together[1][i])


def real_trucks(folder, name):
    """Displacements and deviations of the labelled trucks of a real chip, with their labels."""
    with rasterio.open(folder / f"{name}.tif") as dataset:
        index = [dataset.descriptions.index(band) + 1 for band in MOTION_BANDS]
        image = dataset.read(index).astype(np.float32) * np.float32(dataset.scales[0])
        to_pixel = ~dataset.transform
    labels = gpd.read_file(folder / f"{name}_trucks.gpkg")
    west, south, east, north = labels.geometry.bounds.to_numpy().T
    x = to_pixel.a * np.stack([west, east]) + to_pixel.c
    y = to_pixel.e * np.stack([north, south]) + to_pixel.f
    found, sigma = measure_displacement(image, everywhere(image), np.stack([x[0], y[0], x[1], y[1]], axis=1))
    speed = np.linalg.norm(found, axis=1) * KMH_PER_PX
    towards_red = np.rad2deg(np.arctan2(found[:, 0], -found[:, 1]))
    off = (towards_red - labels["travel_deg"].to_numpy() + 180) % 360 - 180
    return labels["confidence"].to_numpy(), speed, off, sigma * KMH_PER_PX


def test_real_trucks_on_the_a2(shared_data):
    confidence, speed, off, sigma = real_trucks(shared_data / "trucks", "a2_braunschweig")
    high = confidence == "high"
    assert np.abs(off[high]).max() < 10  # along travel: this part of the swath sees blue first
    assert speed[high].min() > 60 and speed[high].max() < 95
    assert sigma[high].max() < 20
    known = ~np.isnan(speed)
    assert known.mean() > 0.85 and (np.abs(off[known]) < 20).mean() > 0.85


def test_real_trucks_at_walserberg(shared_data):
    confidence, speed, off, _ = real_trucks(shared_data / "trucks", "walserberg_a8")
    high = confidence == "high"
    assert np.abs(off[high]).max() < 20  # blue first here too
    # towards the border post on the A8 they slow down
    assert speed[high].min() > 30 and speed[high].max() < 100


def test_evidence_is_how_clearly_a_truck_moves():
    moved = np.array([[3.0, 4.0], [30.0, 40.0], [np.nan, np.nan], [np.nan, np.nan]])
    assert evidence(moved, np.array([2.5, 0.1, np.inf, np.nan])).tolist() == [2.0, 8.0, 0.0, 2.0]
