"""Viewing angles in the metadata of the simulated product."""

import geopandas as gpd
import numpy as np
import pytest

from pipeline.scenes.detectors import detector_at
from pipeline.scenes.readers.safe import open_safe
from pipeline.simulation import product_metadata
from pipeline.simulation.simulate import simulate
from pipeline.simulation.world.atmosphere import LINE_OF_SIGHT_KM
from pipeline.simulation.world.layout import plan_world


def test_viewing_angles_give_the_order_of_the_truth(tmp_path):
    made = simulate(tmp_path, 300, 7)
    trucks = gpd.read_file(made.trucks, layer="trucks")
    msi = open_safe(made.safe).msi
    at = trucks.geometry.centroid
    assert set(trucks["msi_detector"] % 2) == {0, 1}
    for x, y, detector, order in zip(at.x, at.y, trucks["msi_detector"], trucks["band_order"], strict=True):
        assert detector_at(msi, x, y) == detector
        assert msi.band_order(detector) == order
        assert msi.delay_s(detector) == pytest.approx(1.005 if order == "blue_first" else -1.005, rel=0.03)


@pytest.mark.parametrize("parity", [1, -1])
def test_lines_of_sight_are_those_of_real_products(parity):
    granule = product_metadata.Granule(plan_world(1024, 1))
    detector = next(number for number in granule.detectors() if (number % 2 == 1) == (parity == 1))
    along = {}
    for band in ("B02", "B04"):
        zenith, azimuth = np.deg2rad(list(granule.viewing_angles(band, detector).values()))
        along[band] = np.nanmean(786 * np.tan(zenith) * np.cos(azimuth))
    assert along["B04"] - along["B02"] == pytest.approx(parity * LINE_OF_SIGHT_KM["B04"])
    assert LINE_OF_SIGHT_KM["B04"] == pytest.approx(-7.3, abs=0.1)
