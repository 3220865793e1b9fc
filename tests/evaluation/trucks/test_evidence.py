import numpy as np
import pytest

from pipeline.evaluation.trucks.evidence import (
    EVIDENCE_COLUMNS,
    can_measure,
    far_displacement,
    measure_evidence,
    surroundings_shift,
)
from pipeline.inference.predictions import MOTION_BANDS
from pipeline.scenes.msi import BAND_DELAYS_S
from pipeline.scenes.open import open_scene
from tests.conftest import write_geotiff

LAG = [BAND_DELAYS_S[band] / BAND_DELAYS_S["B04"] for band in MOTION_BANDS]
FILE_ORDER = [MOTION_BANDS.index(band) for band in ("B02", "B03", "B04", "B08")]
SIDE = 161


def ground(seed=0, level=0.08):
    """(4, S, S) in the order of `MOTION_BANDS`: a plain with a little noise."""
    noise = np.random.default_rng(seed).normal(0, 0.001, (4, SIDE, SIDE))
    return (level + noise).astype(np.float32)


def blob(image, band, x, y, height=0.1, sigma=0.8):
    rows, cols = np.mgrid[:SIDE, :SIDE]
    image[band] += height * np.exp(-((cols - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


def moving(image, x, y, dx, dy, **shape):
    """Something that B02 sees at x, y and B04 dx, dy further."""
    for band, lag in enumerate(LAG):
        blob(image, band, x + lag * dx, y + lag * dy, **shape)
    return image


def measured(tmp_path, image, *places):
    numbers = np.rint(image[FILE_ORDER] * 10_000).clip(1).astype(np.uint16)
    scene = open_scene(str(write_geotiff(tmp_path / "scene.tif", numbers)))
    xy = np.array([scene.grid.affine * (x + 0.5, y + 0.5) for x, y in places])
    return measure_evidence(scene, xy, np.full((len(places), 2), 40.0))


def test_a_truck_moves_a_parked_one_does_not(tmp_path):
    image = moving(ground(), 40, 40, 2.2, 0.0, height=0.08)
    for band in range(4):
        blob(image, band, 110, 110, 0.08)
    table = measured(tmp_path, image, (41, 40), (110, 110))
    assert list(table.columns) == list(EVIDENCE_COLUMNS)
    assert table["displacement_px"][0] == pytest.approx(2.2, abs=0.4)
    assert table["displacement_sigma_px"][0] < 0.5
    assert np.isnan(table["displacement_px"][1])
    assert np.isinf(table["displacement_sigma_px"][1])
    assert table["far_displacement_px"].isna().all()


def test_a_roof_is_bright_and_large(tmp_path):
    image = ground()
    image[:, 70:80, 70:84] += 0.2
    blob_band = [blob(image, band, 20, 20, 0.2) for band in range(4)]
    assert len(blob_band) == 4
    table = measured(tmp_path, image, (77, 75), (20, 20))
    assert table["bright_px"][0] == pytest.approx(140, abs=12)
    assert table["bright_px"][1] < 9
    assert table["brightness"][0] == pytest.approx(0.28, abs=0.01)
    assert table["contrast"][1] > 0.05


def test_water_has_a_positive_index(tmp_path):
    image = ground()
    image[MOTION_BANDS.index("B08")] = 0.02
    assert measured(tmp_path, image, (80, 80))["ndwi"][0] == pytest.approx(0.6, abs=0.05)


def test_distance_to_where_data_end(tmp_path):
    table = measured(tmp_path, ground(), (0, 80), (12, 80), (80, 80))
    assert table["no_data_m"][:2].tolist() == [10, 130]
    assert np.isnan(table["no_data_m"][2])


@pytest.mark.parametrize(("dx", "dy"), [(14, -9), (-22, 6), (0, 7)])
def test_an_aircraft_is_seen_by_each_band_alone(dx, dy):
    image = moving(ground(1), 80, 80, dx, dy)[:, 40:121, 40:121]
    valid = np.ones((81, 81), bool)
    assert far_displacement(image, valid) == pytest.approx(np.hypot(dx, dy), abs=1.5)
    seen_by_red = np.roll(image, (-dy, -dx), axis=(1, 2))  # the box is where B04 sees it
    assert far_displacement(seen_by_red, valid) == pytest.approx(np.hypot(dx, dy), abs=1.5)


def test_neither_trucks_nor_bare_ground_fit_an_aircraft():
    valid = np.ones((81, 81), bool)
    assert np.isnan(far_displacement(ground()[:, :81, :81], valid))
    assert np.isnan(far_displacement(moving(ground(), 40, 40, 2.5, 0)[:, :81, :81], valid))


@pytest.mark.parametrize("shift", [0.0, 1.0, 1.5])
def test_clouds_shift_between_the_bands_and_the_ground_does_not(shift):
    image = moving(ground(2), 80, 80, shift * 0.6, -shift * 0.8, height=0.5, sigma=9.0)
    measured_shift = surroundings_shift(image[:, 40:121, 40:121], np.ones((81, 81), bool))
    assert measured_shift == pytest.approx(shift, abs=0.15)


def test_surroundings_that_differ_between_the_bands_have_no_shift():
    noise = np.random.default_rng(3).uniform(0, 1, (4, 81, 81)).astype(np.float32)
    assert np.isnan(surroundings_shift(noise, np.ones((81, 81), bool)))


def test_a_product_tells_of_clouds_and_detectors(product):
    scene = open_scene(str(product.safe))
    rows, cols = np.mgrid[20:240:40, 20:240:40].reshape(2, -1)
    xy = np.stack(scene.grid.affine * (cols, rows), axis=1)
    table = measure_evidence(scene, xy, np.full((len(xy), 2), 30.0))
    assert table["brightness"].notna().all()
    assert table["seam_m"].dropna().isin([25, 50, 100, 200]).all()
    assert (table["cloud_m"].dropna() >= 0).all()


def test_nowhere_is_nothing_and_bands_are_asked_for(product):
    scene = open_scene(str(product.safe))
    assert len(measure_evidence(scene, np.zeros((0, 2)), np.zeros((0, 2)))) == 0
    assert can_measure(scene)
    assert not can_measure(None)
