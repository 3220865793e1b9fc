import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from pipeline.config import SceneSettings
from pipeline.errors import (
    CorruptImageError,
    MissingBandError,
)
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.read import read_classes, read_pixels, read_points
from pipeline.scenes.readers.band_folder import open_band_folder
from pipeline.scenes.scene import BandSource
from tests.scenes.products import ORIGIN, write_raster

X, Y = ORIGIN


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder like Virginia's: grids of 20 m and 60 m that start off the 10 m grid, with holes in them."""
    path = tmp_path_factory.mktemp("bands")
    rng = np.random.default_rng(1)
    for band, gsd, size, shift in [
        ("B02", 10, 60, (0, 0)),
        ("B05", 20, 31, (-10, 10)),
        ("B09", 60, 11, (-10, 20)),
    ]:
        array = rng.integers(1, 5000, (size, size)).astype(np.uint16)
        array[rng.random(array.shape) < 0.1] = 0
        write_raster(path / f"T32UPD_20240615T102021_{band}.tif", array, gsd, (X + shift[0], Y + shift[1]))
    return path


def windows(side: int = 60):
    return st.tuples(st.integers(0, side - 1), st.integers(0, side - 1)).flatmap(
        lambda start: st.builds(
            Window,
            st.just(start[1]),
            st.just(start[0]),
            st.integers(1, side - start[1]),
            st.integers(1, side - start[0]),
        )
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(window=windows())
def test_every_window_shows_what_the_whole_scene_shows(folder, window):
    scene = open_band_folder(folder)
    for bands in (["B02"], ["B05"], ["B09", "B05", "B02"]):
        whole = read_pixels(scene, Window(0, 0, 60, 60), bands)
        part = read_pixels(scene, window, bands)
        rows, cols = window.toslices()
        np.testing.assert_array_equal(part.reflectance, whole.reflectance[:, rows, cols])
        np.testing.assert_array_equal(part.valid, whole.valid[rows, cols])
        assert part.grid == scene.grid[rows, cols]


def test_a_pixel_is_valid_where_all_requested_bands_are(tmp_path):
    for band, values in {"B02": [0, 5, 7], "B03": [4, 0, 7]}.items():
        write_raster(tmp_path / f"{band}.tif", np.array([values], np.uint16))
    scene = open_band_folder(tmp_path)
    both = read_pixels(scene, Window(0, 0, 3, 1), ["B03", "B02"])
    assert both.valid.tolist() == [[False, False, True]]
    np.testing.assert_allclose(both.reflectance[:, 0], [[0, 0, 0.0007], [0, 0, 0.0007]], atol=1e-8)
    assert read_pixels(scene, Window(0, 0, 3, 1), ["B02"]).valid.tolist() == [[False, True, True]]


@pytest.mark.parametrize(
    "window", [Window(0, 0, 61, 1), Window(-1, 0, 2, 2), Window(0, 0, 0, 5), Window(0.5, 0, 1, 1)]
)
def test_windows_outside_the_scene_or_between_pixels_are_refused(folder, window):
    with pytest.raises(ValueError, match="60 x 60"):
        read_pixels(open_band_folder(folder), window, ["B02"])


def test_a_missing_band_is_named_with_those_there_are(folder):
    with pytest.raises(MissingBandError, match=r"lacks B04, B8A; it has: B02, B05, B09\."):
        read_pixels(open_band_folder(folder), Window(0, 0, 1, 1), ["B02", "B04", "B8A"])


def test_threads_read_the_same_as_one(folder):
    scene = open_band_folder(folder)
    parts = [Window(col, row, 12, 12) for row in range(0, 60, 12) for col in range(0, 60, 12)] * 4
    expected = [read_pixels(scene, window, ["B05", "B02"]).reflectance for window in parts]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda window: read_pixels(scene, window, ["B05", "B02"]).reflectance, parts))
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_scene_can_be_sent_to_another_process(folder):
    scene = open_band_folder(folder)
    read_pixels(scene, Window(0, 0, 4, 4), ["B02"])
    copy = pickle.loads(pickle.dumps(scene))  # noqa: S301
    assert copy == scene
    np.testing.assert_array_equal(
        read_pixels(copy, Window(0, 0, 4, 4), ["B05"]).reflectance,
        read_pixels(scene, Window(0, 0, 4, 4), ["B05"]).reflectance,
    )


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    path = write_raster(tmp_path / "B02.tif", np.full((4, 4), 100, np.uint16))
    scene = open_band_folder(tmp_path)
    assert read_pixels(scene, Window(0, 0, 4, 4), ["B02"]).reflectance.max() == pytest.approx(0.01)
    other = write_raster(tmp_path / "new.tif", np.full((4, 4), 300, np.uint16))
    other.replace(path)
    assert read_pixels(scene, Window(0, 0, 4, 4), ["B02"]).reflectance.max() == pytest.approx(0.03)


def test_a_truncated_jpeg_2000_is_reported_when_its_band_is_read(tmp_path, caplog, capfd):
    good = np.random.default_rng(0).integers(1, 5000, (128, 128)).astype(np.uint16)
    for band in ("B02", "B03"):
        write_raster(tmp_path / f"{band}.jp2", good)
    broken = tmp_path / "B03.jp2"
    data = broken.read_bytes()
    broken.write_bytes(data[: len(data) * 2 // 3])
    scene = open_band_folder(tmp_path)
    np.testing.assert_allclose(
        read_pixels(scene, Window(0, 0, 128, 128), ["B02"]).reflectance[0], good / 1e4, atol=1e-6
    )
    with pytest.raises(CorruptImageError, match=r"Band B03 is damaged: .*B03\.jp2\. Fetch it again"):
        read_pixels(scene, Window(64, 64, 64, 64), ["B02", "B03"])
    assert capfd.readouterr().err == ""


def test_one_pixel_is_a_scene(tmp_path):
    for band, gsd in {"B02": 10, "B05": 20, "B01": 60}.items():
        write_raster(tmp_path / f"{band}.tif", np.full((1, 1), 500, np.uint16), gsd)
    pixels = read_pixels(open_band_folder(tmp_path), Window(0, 0, 1, 1), ["B02", "B05", "B01"])
    np.testing.assert_allclose(pixels.reflectance.ravel(), [0.05, 0.05, 0.05], atol=1e-7)


def test_classes_come_from_the_pixel_that_holds_the_centre(folder, tmp_path):
    scene = open_band_folder(folder)
    path = write_raster(tmp_path / "scl.tif", np.array([[4, 8], [9, 3]], np.uint8), 20, (X - 10, Y + 10))
    source = BandSource("SCL", str(path), nodata=0.0, gsd=20.0)
    expected = [[4, 8, 8, 0], [9, 3, 3, 0], [9, 3, 3, 0], [0, 0, 0, 0]]
    assert read_classes(scene, source, Window(0, 0, 4, 4)).tolist() == expected
    assert read_classes(scene, source, Window(1, 1, 2, 3)).tolist() == [row[1:3] for row in expected[1:]]
    assert not read_classes(scene, source, Window(30, 30, 4, 4)).any()


def test_points_come_from_the_pixel_that_holds_them(tmp_path):
    array = np.arange(1, 1001, dtype=np.uint16).reshape(20, 50)
    source = BandSource("MASK", str(write_raster(tmp_path / "mask.jp2", array)))
    rng = np.random.default_rng(2)
    rows, cols = rng.uniform(-3, 23, 200), rng.uniform(-3, 53, 200)
    inside = (rows >= 0) & (rows < 20) & (cols >= 0) & (cols < 50)
    expected = np.zeros(200, int)
    expected[inside] = array[rows[inside].astype(int), cols[inside].astype(int)]
    assert read_points(source, X + 10 * cols, Y - 10 * rows, block=16).tolist() == expected.tolist()


def test_bands_can_be_left_out_of_a_scene(folder):
    scene = open_band_folder(folder)
    smaller = replace(scene, bands={"B02": scene.bands["B02"]})
    assert read_pixels(smaller, Window(0, 0, 2, 2), ["B02"]).reflectance.shape == (1, 2, 2)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-4, -0.1), (0.01, 0.0)])
def test_zeros_in_all_bands_have_no_data_in_some_they_have(tmp_path, scale, offset):
    planes = np.array([[[0, 0, 5, 65535]], [[0, 0, 6, 65535]], [[0, 7, 0, 65535]]], np.float32)
    path = write_raster(tmp_path / "x.tif", planes, descriptions=("B02", "B03", "B04"))
    own = SceneSettings(scale=scale, offset=offset)
    scene = open_scene(str(path), settings=own)
    window = Window(0, 0, 4, 1)
    for bands in (["B02", "B03", "B04"], ["B02", "B03"], ["B04"]):
        assert read_pixels(scene, window, bands).valid[0].tolist() == [False, True, True, False]
    np.testing.assert_allclose(
        read_pixels(scene, window, ["B04"]).reflectance[0, 0, 1], 7 * scale + offset, atol=1e-6
    )
    given = own.model_copy(update={"nodata": "none"})
    assert read_pixels(open_scene(str(path), settings=given), window, ["B02"]).valid.all()


def test_zeros_of_integers_have_no_data_in_any_band(tmp_path):
    planes = np.array([[[0, 0, 5, 65535]], [[0, 3, 6, 65535]]], np.uint16)
    scene = open_scene(str(write_raster(tmp_path / "x.tif", planes, descriptions=("B02", "B03"))))
    valid = read_pixels(scene, Window(0, 0, 4, 1), ["B02", "B03"]).valid
    assert valid[0].tolist() == [False, False, True, False]
