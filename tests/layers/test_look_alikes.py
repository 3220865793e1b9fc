"""Detections that are no trucks without roads: on water, or without motion and alone."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from pipeline.layers.look_alikes import all_around, look_alike_reasons


def detections(places, speeds):
    boxes = [shapely.box(x - 15, -15, x + 15, 15) for x in places]
    return gpd.GeoDataFrame({"speed_kmh": np.array(speeds, float)}, geometry=boxes, crs="EPSG:32632")


def test_without_motion_only_what_is_near_a_moving_truck_passes():
    found = detections([0, 499, 1001, 9000], [80, np.nan, np.nan, 40])
    counted, land = np.ones(4, bool), np.zeros(4, bool)
    assert look_alike_reasons(found, counted, land).tolist() == ["", "", "no_motion", ""]


@pytest.mark.parametrize("given", ["weak", "on water"])
def test_what_is_weak_or_on_water_is_no_company(given):
    found = detections([0, 100], [80, np.nan])
    counted = np.array([given != "weak", True])
    water = np.array([given == "on water", False])
    assert look_alike_reasons(found, counted, water)[1] == "no_motion"
    assert look_alike_reasons(found, counted, water)[0] == ("water" if water[0] else "")


def test_no_detection_has_no_reason():
    assert len(look_alike_reasons(detections([], []), np.zeros(0, bool), np.zeros(0, bool))) == 0


def test_water_all_around_is_no_bridge(tmp_path):
    """A bridge a pixel wide crosses water: it, and what is beside it, is not surrounded."""
    classes = np.zeros((20, 20), np.uint8)
    classes[:, 10] = 6
    profile = {"driver": "GTiff", "height": 20, "width": 20, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "c.tif", "w", **profile, crs="EPSG:32632", transform=Affine(10, 0, 0, 0, -10, 200)
    ) as raster:
        raster.write(classes, 1)
    places = np.array([[105.0, 100], [95, 100], [85, 100], [5, 195], [-5, 100]])
    assert all_around(tmp_path / "c.tif", places, 0).tolist() == [False, False, True, True, False]
