"""Vehicles have the sizes, paints and contrasts of their kinds."""

import numpy as np
import pytest

from pipeline.simulation.rendering import Vehicle
from pipeline.simulation.world import fleet
from pipeline.simulation.world.spectra import BANDS, MATERIALS, PAINTS


@pytest.mark.parametrize(
    ("name", "median_m", "heavy"),
    [("car", 4.4, 0), ("van", 5.9, 0), ("rigid lorry", 9.2, 0.7), ("articulated lorry", 16.3, 1),
     ("lorry with trailer", 18.3, 1), ("bus", 12.1, 1)],
)  # fmt: skip
def test_lengths_are_those_of_the_kind_and_eight_metres_are_heavy(name, median_m, heavy):
    lengths, widths = fleet.sizes(fleet.KINDS[name], 4000, np.random.default_rng(0)).T
    assert np.median(lengths) == pytest.approx(median_m, abs=0.25)
    assert (lengths >= 8).mean() == pytest.approx(heavy, abs=0.05)
    assert fleet.heavy_share(fleet.KINDS[name]) == pytest.approx((lengths >= 8).mean(), abs=0.025)
    # Directive 96/53/EC
    assert lengths.max() <= 18.75 and widths.max() <= 2.6


def test_a_car_is_far_fainter_than_the_fourth_of_a_lorry():
    """Glass and gaps are dark, and many cars are too."""
    rng = np.random.default_rng(1)
    road = MATERIALS["asphalt"].spectrum

    def median(name):
        kind = fleet.KINDS[name]
        looks = zip(fleet.sizes(kind, 500, rng).tolist(), fleet.paints(kind, 500, rng), strict=True)
        return np.median([fleet.contrast(Vehicle(0, 0, 0, 80, *size, paint), road) for size, paint in looks])

    assert median("car") < median("articulated lorry") / 15
    assert median("car") < median("van") < median("articulated lorry") / 3


def test_contrast_is_that_of_the_second_best_band_or_a_third_of_the_best():
    def lorry(paint):
        return Vehicle(0, 0, 0, 80, 16.0, 2.5, dict(zip(BANDS, PAINTS[paint], strict=True)))

    road = MATERIALS["asphalt"].spectrum
    assert fleet.contrast(lorry("white"), road) == pytest.approx((0.75 - 0.082 + 0.002) * 0.4, abs=0.002)
    # a red lorry shows in red only
    assert fleet.contrast(lorry("red"), road) == pytest.approx((0.42 - 0.082) / 3 * 0.4)
    four = ("B02", "B03", "B04", "B08")
    surface = [road[BANDS.index(band)] for band in four]
    assert fleet.contrast(lorry("red"), surface, four) == fleet.contrast(lorry("red"), road)


def test_parts_are_on_their_lorry_and_move_with_it():
    rng = np.random.default_rng(2)
    lorry = Vehicle(5, 5, 30, 80, 18.4, 2.5, dict.fromkeys(BANDS, 0.5), "lorry with trailer")
    found = [part for _ in range(50) for part in fleet.parts(lorry, rng)]
    assert len(found) > 60
    for part in found:
        away = 10 * float(np.hypot(part.x - 5, part.y - 5))
        assert away + part.length_m / 2 <= 9.2 + 1e-6
        assert (part.speed_kmh, part.heading_deg, part.kind) == (80, 30, "")
    car = Vehicle(5, 5, 30, 80, 4.4, 1.8, {}, "car")
    assert not any(fleet.parts(car, rng) for _ in range(20))
