"""Trucks and land cover of scenes and arrays, without files."""

import tempfile
from concurrent.futures import ThreadPoolExecutor

import geopandas as gpd
import numpy as np
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal

import truckscape as ts
from pipeline.layers.columns import TRUCKS_AMONG_VEHICLES
from tests.api.conftest import BANDS, FAST


def boxes(trucks: gpd.GeoDataFrame) -> np.ndarray:
    """Bounds of the trucks (N, 4), in pixels of 10 m."""
    return shapely.bounds(trucks.geometry.to_numpy()) / 10


@pytest.fixture
def private(tmp_path, monkeypatch):
    """The folder in which temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_trucks_of_a_scene_are_those_of_its_run(scene, roads, result):
    found = ts.detect(scene, roads=roads, settings={"engine.threads": 1})
    expected = result.layers["trucks"]
    assert len(found) > 3
    assert_geodataframe_equal(found, expected, check_less_precise=True)


def test_the_trucks_of_an_array_are_those_of_the_run(array, roads, result):
    found = ts.detect(array, roads=roads, settings=FAST)
    expected = result.layers["trucks"]
    assert len(found) == len(expected)
    np.testing.assert_allclose(boxes(found), boxes(expected), atol=0.01)
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-3)


def test_an_array_of_numpy_needs_its_place(array, scene, roads, private):
    grid = array.odc.geobox
    place = {"bands": BANDS, "transform": grid.affine, "crs": grid.crs, "acquired": scene.acquired}
    found = ts.detect(array.values.astype(np.float64), **place, roads=roads, settings=FAST)
    assert_geodataframe_equal(found, ts.detect(array, roads=roads, settings=FAST))
    assert list(private.iterdir()) == []


def test_roads_in_another_crs(array, roads):
    found = ts.detect(array, roads=roads.to_crs(4326), settings=FAST)
    np.testing.assert_array_equal(boxes(found), boxes(ts.detect(array, roads=roads, settings=FAST)))


def test_digital_numbers_with_their_scale(array, roads):
    numbers = np.round((array.values + 0.1) * 10_000)
    grid = array.odc.geobox
    place = {"bands": BANDS, "transform": grid.affine, "crs": grid.crs, "roads": roads, "settings": FAST}
    found = ts.detect(numbers, scale=1e-4, offset=-0.1, **place)
    np.testing.assert_allclose(boxes(found), boxes(ts.detect(array, roads=roads, settings=FAST)), atol=0.01)
    with pytest.raises(ts.RadiometryError, match=r"digital numbers.*give scale=0.0001"):
        ts.detect(numbers, **place)


def test_missing_bands_are_named(array, private):
    with pytest.raises(ts.BundleError, match=r"Model trucks needs band B08, which array lacks"):
        ts.detect(array.sel(band=["B02", "B03", "B04"]), settings=FAST)
    assert list(private.iterdir()) == []


def test_nothing_found_is_an_empty_layer(array):
    nothing = array.where(array.isnull(), 0.08).astype(np.float32)
    found = ts.detect(nothing, settings=FAST)
    assert list(found.columns) == list(TRUCKS_AMONG_VEHICLES.names)
    assert (len(found), found.crs.to_epsg()) == (0, array.odc.geobox.crs.epsg)


def test_an_array_without_data_is_an_empty_layer(array):
    found = ts.detect(array * np.nan, settings=FAST)
    assert list(found.columns) == list(TRUCKS_AMONG_VEHICLES.names)
    assert len(found) == 0


def test_threads_share_a_scene(scene, roads):
    def detect(_: int) -> gpd.GeoDataFrame:
        return ts.detect(scene, roads=roads, settings=FAST)

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(detect, range(2))
    assert_geodataframe_equal(one, other)


def test_progress_counts_tiles(scene):
    calls = []
    ts.detect(scene, settings=FAST, progress=lambda *call: calls.append(call))
    assert calls[0] == ("checking the scene and its files", 0, 0)
    tiles = [done for step, done, total in calls if step == "networks over tiles" and total == 4]
    assert tiles == sorted(tiles)
    assert tiles[-1] == 4


def test_an_error_of_the_callback_ends_the_call(scene, private):
    def stop(step: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ts.detect(scene, settings=FAST, progress=stop)
    assert list(private.iterdir()) == []


def test_arguments_of_arrays_are_not_for_scenes(scene):
    with pytest.raises(ts.ArrayError, match=r"crs= is for arrays"):
        ts.detect(scene, crs=32632)
    with pytest.raises(ts.ArrayError, match=r"given where a scene is opened"):
        ts.detect(scene, scale=1e-4)


def test_unknown_settings_and_models(scene):
    with pytest.raises(ts.ConfigError, match=r"trucks\.score_threshold"):
        ts.detect(scene, settings={"trucks.score_treshold": 0.5})
    with pytest.raises(ts.BundleError, match=r"No model bundle at nothing"):
        ts.detect(scene, model="nothing")
    with pytest.raises(ts.BundleError, match=r"needs a model for detection; landcover is for segmentation"):
        ts.detect(scene, model="landcover")


@pytest.mark.parametrize("given", [None, [[[0.1]]], 7])
def test_what_is_neither_scene_nor_array(given):
    with pytest.raises(ts.ArrayError, match=r"a pystac.Item or an array of NumPy or xarray is expected"):
        ts.detect(given)


def test_classes_are_those_of_the_run(scene, result):
    import rasterio

    found = ts.landcover(scene, settings={"engine.threads": 1})
    with rasterio.open(result.files["landcover.tif"]) as dataset:
        np.testing.assert_array_equal(found, dataset.read(1))
    assert found.dtype == np.uint8
    assert found.attrs["flag_meanings"].split()[:2] == ["water", "trees"]
    assert found.odc.geobox == scene.data.grid


def test_probabilities_sum_to_one_and_name_classes(array):
    found = ts.landcover(array, probabilities=True, settings={"engine.threads": 1})
    assert found.dims == ("class", "y", "x")
    assert found.sel({"class": "water"}).shape == (256, 256)
    known = ~np.isnan(found.values).any(axis=0)
    assert known.any()
    np.testing.assert_allclose(found.values.sum(axis=0)[known], 1, atol=0.03)
    classes = ts.landcover(array, settings={"engine.threads": 1})
    np.testing.assert_array_equal(classes.values == 255, ~known)
