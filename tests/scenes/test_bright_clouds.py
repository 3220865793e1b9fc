from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.windows import Window
from scipy import ndimage

from pipeline.scenes.bright_clouds import bright_clouds, can_find_clouds, displacement, ground_displacement
from pipeline.scenes.cells import Cells
from pipeline.scenes.open import open_scene
from pipeline.scenes.scene import BANDS_10M, Scene
from tests.scenes.products import write_raster

SIDE = 240
MOVED = {"B02": 0.0, "B08": 0.4, "B03": 0.8, "B04": 1.6}
"""Pixels by which a cloud at 1800 m is displaced in each band, as MSI images them."""
CLOUD, SNOW, ROOF = (slice(30, 100),) * 2, (slice(30, 100), slice(140, 210)), (slice(200, 204),) * 2
FIELDS = {"B02": 0.06, "B03": 0.08, "B04": 0.07, "B08": 0.28}


def texture(seed: int, amplitude: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(SIDE, SIDE)), 3)
    return amplitude * noise / noise.std()


def white(seed: int, part: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Opacity and reflectance of something white with soft edges and texture."""
    mask = np.zeros((SIDE, SIDE))
    mask[part] = 1
    return ndimage.gaussian_filter(mask, 2), 0.5 + texture(seed, 0.06)


def write_scene(folder: Path, misregistered: float = 0.0) -> Scene:
    """Fields with a cloud, snow of its size and texture, a white roof of 40 m, and a nodata corner.

    All of B04 may be displaced by some columns.
    """
    images = []
    for band in BANDS_10M:
        image = FIELDS[band] + texture(1, 0.01)
        for seed, part, moved in ((2, SNOW, 0.0), (3, ROOF, 0.0), (4, CLOUD, MOVED[band])):
            opacity, bright = (
                ndimage.shift(layer, (moved, 0), mode="nearest") for layer in white(seed, part)
            )
            image = image * (1 - opacity) + bright * opacity
        if band == "B04":
            image = ndimage.shift(image, (0, misregistered), mode="nearest")
        image[-20:, :20] = 0
        images.append(np.rint(image * 1e4).astype(np.uint16))
    path = folder / "scene.tif"
    write_raster(path, np.stack(images), descriptions=BANDS_10M, scales=[1e-4] * 4, nodata=0)
    return open_scene(str(path))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("clouds"))


def whole(scene) -> np.ndarray:
    return bright_clouds(scene, Window(0, 0, SIDE, SIDE))


def test_a_cloud_is_found_by_its_parallax_and_snow_stays(scene):
    mask = whole(scene)
    assert mask[34:96, 34:96].mean() > 0.98
    mask[24:108, 24:108] = False
    assert not mask.any()


def test_nothing_is_cloud_without_parallax(scene):
    """The same bands, with the cloud where it is in B02."""
    still = replace(scene, bands=dict.fromkeys(BANDS_10M, scene.bands["B02"]))
    assert not whole(still).any()


@pytest.mark.parametrize("misregistered", [-0.7, 0.6])
def test_ground_of_misregistered_bands_is_not_cloud(tmp_path, misregistered):
    moved = write_scene(tmp_path, misregistered)
    assert ground_displacement(moved) == pytest.approx((0.0, misregistered), abs=0.15)
    mask = whole(moved)
    assert mask[34:96, 34:96].mean() > 0.98
    mask[24:108, 24:108] = False
    assert not mask.any()
    window = Window(71, 13, 40, 90)
    np.testing.assert_array_equal(bright_clouds(moved, window), whole(moved)[window.toslices()])


def test_reddish_ground_and_bright_water_are_not_cloud(scene):
    b02, b04 = scene.bands["B02"], scene.bands["B04"]
    sand = {**scene.bands, "B02": replace(b02, scale=0.8 * b02.scale)}
    assert not whole(replace(scene, bands=sand)).any()
    water = {**scene.bands, "B08": replace(b04, scale=0.7 * b04.scale)}
    assert not whole(replace(scene, bands=water)).any()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.tuples(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1)),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_clouds_do_not_depend_on_the_window(scene, start, size):
    window = Window(start[1], start[0], min(size[1], SIDE - start[1]), min(size[0], SIDE - start[0]))
    np.testing.assert_array_equal(bright_clouds(scene, window), whole(scene)[window.toslices()])


@pytest.mark.parametrize("moved", [(0.0, 0.0), (0.4, 0.0), (0.9, -0.6), (-1.5, 0.3)])
def test_displacement_is_measured(moved):
    """The oracle is a resampled image with another gain and offset."""
    first = (0.4 + texture(5, 0.05)).astype(np.float32)
    second = (0.8 * ndimage.shift(first, moved, mode="nearest") + 0.1).astype(np.float32)
    cells = Cells(8, 0, 0, Window(0, 0, SIDE, SIDE))
    found = displacement(cells, first, second, np.ones(first.shape, np.bool_))
    assert found.shape == (2, 30, 30)
    assert np.abs(found[:, 3:-3, 3:-3] - np.reshape(moved, (2, 1, 1))).max() < 0.12


def test_smooth_or_unknown_ground_is_not_displaced():
    cells = Cells(8, 0, 0, Window(0, 0, 64, 64))
    noise = np.random.default_rng(6).normal(0, 0.002, (2, 64, 64)).astype(np.float32)
    every = np.ones((64, 64), np.bool_)
    assert np.abs(displacement(cells, 0.9 + noise[0], 0.9 + noise[1], every)).max() < 0.3
    assert not displacement(cells, noise[0], noise[1], ~every).any()


def test_four_bands_are_needed(scene):
    assert can_find_clouds(scene)
    assert not can_find_clouds(replace(scene, bands={band: scene.bands[band] for band in ("B02", "B04")}))


CLEAR = (
    *("antwerp", "bangalore_L1C", "bangalore_L2A", "boadella_2020-01-13", "boadella_2020-01-28"),
    *("dsen2_T33UUB_20170527", "dsen2_T49JGM_20171022", "ireland", "needham", "pakistan_L1C_20200604"),
    *("pakistan_L2A_20200604", "pakistan_L2A_20200813", "patagonia", "sea_10000", "spyndex"),
)


@pytest.mark.parametrize("name", CLEAR)
def test_no_real_ground_is_cloud(shared_data, name):
    """Containers, white roofs, salt, sand, hazy hills, surf and Arctic ice."""
    scene = open_scene(str(shared_data / "scenes" / f"{name}.tif"))
    assert not bright_clouds(scene, Window(0, 0, scene.shape[1], scene.shape[0])).any()


@pytest.mark.parametrize(
    ("name", "rows", "cols"),
    [
        ("lommel_L1C", (400, 440), (110, 160)),
        ("dolomites", (80, 100), (855, 880)),
        ("sea_1", (20, 150), (80, 160)),
        ("sea_1", (237, 245), (40, 60)),  # a veil beside it
    ],
)
def test_real_clouds_are_found(shared_data, name, rows, cols):
    scene = open_scene(str(shared_data / "scenes" / f"{name}.tif"))
    window = Window.from_slices(rows, cols)
    assert bright_clouds(scene, window).mean() > 0.9


def test_rocks_beside_clouds_stay(shared_data):
    scene = open_scene(str(shared_data / "scenes" / "dolomites.tif"))
    assert not bright_clouds(scene, Window(100, 240, 700, 690)).any()
