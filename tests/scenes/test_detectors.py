"""The detector that saw a place: footprint rasters, polygons, angle grids."""

import pickle

import numpy as np
from defusedxml.ElementTree import fromstring, parse
from shapely.geometry import Point

from pipeline.scenes.detectors import detector_at, detectors_at
from pipeline.scenes.msi import (
    AngleNodes,
    MsiGeometry,
    angle_nodes,
    footprint_polygons,
)
from tests.scenes.products import ORIGIN, angle_grid, tile_xml, write_raster
from tests.scenes.test_msi import gml

X, Y = ORIGIN


def test_footprint_raster_tells_to_the_pixel(tmp_path):
    mask = np.zeros((80, 80), np.uint8)
    mask[:, :30], mask[:, 30:70] = 6, 7
    geometry = MsiGeometry(footprint=str(write_raster(tmp_path / "MSK_DETFOO_B02.jp2", mask)))
    xs = X + np.array([299.9, 300.1, 699.9, 700.1, -0.1, 5000])
    assert detectors_at(geometry, xs, np.full(6, Y - 400)).tolist() == [6, 7, 7, 0, 0, 0]
    assert detector_at(geometry, X + 5, Y - 5) == 6
    assert detector_at(geometry, X + 795, Y - 5) is None
    assert detectors_at(geometry, np.array([]), np.array([])).tolist() == []
    assert detector_at(pickle.loads(pickle.dumps(geometry)), X + 5, Y - 5) == 6  # noqa: S301


def test_footprint_polygons_before_baseline_04():
    polygons = footprint_polygons(
        fromstring(gml(d05=(X, Y - 900, X + 500, Y), d06=(X + 480, Y - 900, X + 900, Y)))
    )
    assert [detector for detector, _ in polygons] == [5, 6]
    assert polygons[0][1].contains(Point(X + 1, Y - 1))
    geometry = MsiGeometry(polygons=polygons)
    xs = X + np.array([100, 490, 600, 1000])
    assert detectors_at(geometry, xs, np.full(4, Y - 10.0)).tolist() == [5, 0, 6, 0]


def test_angle_grids_tell_roughly():
    """Detector 5 in the two left columns of nodes, 6 in the two right ones, both in the middle one."""
    five, six = np.zeros((3, 5), bool), np.zeros((3, 5), bool)
    five[:, :3], six[:, 2:4] = True, True
    xml = fromstring(tile_xml(angle_grid(1, 5, 1e4, five) + angle_grid(1, 6, 1e4, six)))
    nodes = angle_nodes(xml)
    assert nodes == AngleNodes(X, Y, 5000.0, ((5, 5, -1, 6, 0),) * 3)
    geometry = MsiGeometry(nodes=nodes)
    xs = X + np.array([2500, 7500, 12500, 17500, 30000, -1])
    assert detectors_at(geometry, xs, np.full(6, Y - 7500.0)).tolist() == [5, 0, 0, 6, 0, 0]


def test_angle_grids_of_a_real_product_agree_with_the_nodes(shared_data):
    xml = parse(shared_data / "metadata" / "n0509" / "MTD_TL.xml").getroot()
    nodes = angle_nodes(xml)
    assert (nodes.x, nodes.y, nodes.step) == (300000, 9400000, 5000)
    geometry = MsiGeometry(nodes=nodes)
    rng = np.random.default_rng(0)
    found = detectors_at(
        geometry, 300000 + rng.uniform(0, 109800, 4000), 9400000 - rng.uniform(0, 109800, 4000)
    )
    assert set(found) <= {0, 3, 4, 5, 6, 7, 8, 9}
    assert 0.5 < (found > 0).mean() < 0.9


def test_without_any_footprint_the_detector_is_unknown():
    assert detectors_at(MsiGeometry(), np.array([X]), np.array([Y])).tolist() == [0]
    assert detector_at(MsiGeometry(), X, Y) is None
