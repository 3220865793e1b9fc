import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
import rasterio.warp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window

from pipeline.errors import (
    ConfigError,
    CorruptImageError,
    GeoreferenceError,
    MetadataError,
    MissingBandError,
    NotAProductError,
)
from pipeline.scenes.raster.read import read_classes, read_pixels, read_points
from pipeline.scenes.readers.band_folder import open_band_folder
from pipeline.scenes.readers.geotiff import open_geotiff
from pipeline.scenes.readers.naming import band_name
from pipeline.scenes.scene import BAND_NAMES, BandSource
from tests.scenes.products import CRS, ORIGIN, write_raster

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


# ---------------------------------------------------------------- reading


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


def test_a_band_of_20_m_is_interpolated_by_georeference(tmp_path):
    """The 20 m grid starts 10 m west of the 10 m grid, so centres lie 3/4 and 5/4 of a pixel in."""
    write_raster(tmp_path / "B02.tif", np.ones((1, 3), np.uint16))
    write_raster(tmp_path / "B05.tif", np.array([[1000, 2000, 4000]], np.uint16), 20, (X - 10, Y))
    pixels = read_pixels(open_band_folder(tmp_path), Window(0, 0, 3, 1), ["B05"])
    np.testing.assert_allclose(pixels.reflectance[0, 0], [0.125, 0.175, 0.25], atol=1e-7)
    assert pixels.valid.all()


def test_a_linear_ramp_stays_a_linear_ramp_at_60_m(tmp_path):
    write_raster(tmp_path / "B02.tif", np.ones((24, 24), np.uint16))
    ramp = np.add.outer(np.arange(8) * 60.0, np.arange(8) * 600.0).astype(np.float32)
    write_raster(tmp_path / "B09.tif", ramp, 60, (X - 110, Y + 70))
    values = read_pixels(open_band_folder(tmp_path), Window(0, 0, 24, 24), ["B09"]).reflectance[0]
    x, y = 5 + 10 * np.arange(24) + 110 - 30, 5 + 10 * np.arange(24) + 70 - 30
    np.testing.assert_allclose(values, np.add.outer(y, 10.0 * x), rtol=1e-5)


def test_pixels_without_data_lend_no_weight_and_stay_invalid(tmp_path):
    write_raster(tmp_path / "B02.tif", np.ones((1, 6), np.uint16))
    write_raster(tmp_path / "B05.tif", np.array([[1000, 0, 3000]], np.uint16), 20)
    pixels = read_pixels(open_band_folder(tmp_path), Window(0, 0, 6, 1), ["B05"])
    assert pixels.valid[0].tolist() == [True, True, False, False, True, True]
    np.testing.assert_allclose(pixels.reflectance[0, 0], [0.1, 0.1, 0, 0, 0.3, 0.3], atol=1e-7)


def test_beyond_the_reach_of_a_coarse_band_nothing_is_valid(tmp_path):
    write_raster(tmp_path / "B02.tif", np.ones((1, 6), np.uint16))
    write_raster(tmp_path / "B05.tif", np.array([[1000]], np.uint16), 20, (X + 20, Y))
    write_raster(tmp_path / "B06.tif", np.array([[1000]], np.uint16), 20, (X + 2000, Y))
    scene = open_band_folder(tmp_path)
    assert read_pixels(scene, Window(0, 0, 6, 1), ["B05"]).valid[0].tolist() == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    assert not read_pixels(scene, Window(0, 0, 6, 1), ["B06"]).valid.any()


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
    message = r"B03 can't .* in block row 1, column 0 \(pixel rows 64-128, columns 0-128\): .*B03\.jp2"
    with pytest.raises(CorruptImageError, match=message):
        read_pixels(scene, Window(64, 64, 64, 64), ["B02", "B03"])
    assert capfd.readouterr().err == ""


def test_a_file_that_is_no_raster_is_reported_at_once(tmp_path):
    write_raster(tmp_path / "B02.tif", np.ones((4, 4), np.uint16))
    (tmp_path / "B03.tif").write_bytes(b"II*\0 and then nothing")
    with pytest.raises(CorruptImageError, match=r"Band B03 can't be opened: .*B03\.tif"):
        open_band_folder(tmp_path)


def test_one_pixel_is_a_scene(tmp_path):
    for band, gsd in {"B02": 10, "B05": 20, "B01": 60}.items():
        write_raster(tmp_path / f"{band}.tif", np.full((1, 1), 500, np.uint16), gsd)
    pixels = read_pixels(open_band_folder(tmp_path), Window(0, 0, 1, 1), ["B02", "B05", "B01"])
    np.testing.assert_allclose(pixels.reflectance.ravel(), [0.05, 0.05, 0.05], atol=1e-7)


def test_internal_masks_are_honoured(tmp_path):
    path = tmp_path / "scene.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", width=2, height=1, count=1, dtype="uint16", crs=CRS,
            transform=Affine(10, 0, X, 0, -10, Y),
        ) as dataset,
    ):  # fmt: skip
        dataset.write(np.array([[[500, 600]]], np.uint16))
        dataset.write_mask(np.array([[255, 0]], np.uint8))
        dataset.descriptions = ["B02"]
    assert read_pixels(open_geotiff(path), Window(0, 0, 2, 1), ["B02"]).valid.tolist() == [[True, False]]


def test_a_fourth_band_of_8_bits_is_not_taken_for_opacity(tmp_path):
    array = np.full((4, 1, 2), 51, np.uint8)
    array[3, 0, 0] = 0
    names = ("B04", "B03", "B02", "B08")
    path = write_raster(tmp_path / "x.tif", array, descriptions=names, scales=(1 / 255,) * 4)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    pixels = read_pixels(open_geotiff(path), Window(0, 0, 2, 1), names)
    assert pixels.valid.all()
    np.testing.assert_allclose(pixels.reflectance[:, 0], [[0.2, 0.2]] * 3 + [[0, 0.2]], atol=1e-6)


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


# ---------------------------------------------------------------- opening


@pytest.mark.parametrize(
    ("text", "name"),
    [("B2", "B02"), ("B02", "B02"), ("b08", "B08"), ("B8A", "B8A"), ("b8a", "B8A"), ("Band 4", "B04"),
     ("B12_20m", "B12"), ("B13", None), ("B0", None), ("red", None), ("", None), (None, None),
     ("B08A", "B8A")],
)  # fmt: skip
def test_band_names_as_people_write_them(text, name):
    assert band_name(text) == name


def test_geotiff_with_descriptions_scale_and_nodata(tmp_path):
    path = write_raster(
        tmp_path / "S2A_MSIL2A_20170613T101031_T33UUP.tif",
        np.array([[[0, 255]], [[51, 102]], [[1, 2]]], np.uint8),
        descriptions=("b4", "B8A", "clouds"),
        scales=(1 / 255, 1 / 255, 1.0),
        nodata=255,
    )
    with pytest.raises(MissingBandError, match="lacks B02"):
        read_pixels(open_geotiff(path), Window(0, 0, 1, 1), ["B02"])
    scene = open_geotiff(path)
    assert list(scene.bands) == ["B04", "B8A"]
    assert (scene.level, scene.platform, scene.tile) == ("L2A", "sentinel-2a", "33UUP")
    assert scene.acquired == datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC)
    pixels = read_pixels(scene, Window(0, 0, 2, 1), ["B8A", "B04"])
    assert pixels.valid.tolist() == [[True, False]]
    np.testing.assert_allclose(pixels.reflectance[:, 0], [[0.2, 0], [0, 0]], atol=1e-6)


def test_geotiff_bands_named_by_the_user(tmp_path):
    path = write_raster(tmp_path / "scene.tif", np.arange(1, 5, dtype=np.uint16).reshape(2, 1, 2) * 1000)
    with pytest.raises(NotAProductError, match="--bands"):
        open_geotiff(path)
    scene = open_geotiff(path, bands=["B4", "b02"])
    np.testing.assert_allclose(
        read_pixels(scene, Window(0, 0, 2, 1), ["B02", "B04"]).reflectance[:, 0],
        [[0.3, 0.4], [0.1, 0.2]],
        atol=1e-7,
    )
    for bands in (["B04"], ["B04", "purple"], ["B04", "B04"]):
        with pytest.raises(ConfigError):
            open_geotiff(path, bands=bands)


def test_what_the_numbers_mean_where_no_scale_is_tagged(tmp_path):
    def one(dtype, **profile):
        array = np.array([[0, 1]], dtype)
        path = write_raster(tmp_path / f"{np.dtype(dtype)}.tif", array, descriptions=("B02",), **profile)
        return open_geotiff(path).bands["B02"]

    assert (one(np.uint16).scale, one(np.uint16).nodata) == (1e-4, 0.0)
    assert (one(np.int16, nodata=-1).scale, one(np.int16, nodata=-1).nodata) == (1e-4, -1.0)
    assert (one(np.float32).scale, one(np.float32).nodata) == (1.0, None)
    with pytest.raises(MetadataError, match="8 bits and no scale"):
        one(np.uint8)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"crs": None}, "No coordinate reference system"),
        ({"crs": "EPSG:4326", "gsd": 2e-4, "origin": (10, 52)}, "these have 13.7 x 22.3 m on the ground"),
        ({"crs": "EPSG:3857", "gsd": 10, "origin": (1.5e6, 6.8e6)}, "these have .* on the ground"),
        ({"gsd": 30}, "pixels of 10 m, these have 30 x 30 m"),
        ({"transform": Affine(8, 6, X, 6, -8, Y)}, "without rotation"),
        ({"transform": Affine(10, 0, X, 0, 10, Y)}, "north-up"),
    ],
)
def test_unusable_georeference_is_refused(tmp_path, profile, message):
    path = write_raster(tmp_path / "x.tif", np.ones((2, 2), np.uint16), descriptions=("B02",), **profile)
    with pytest.raises(GeoreferenceError, match=message):
        open_geotiff(path)


def test_folder_takes_its_tags_and_ignores_other_files(tmp_path):
    array = np.ones((2, 2), np.uint16)
    for band in ("B02", "B10"):
        tags = {"acquired": "2016-01-12", "level": "L1C"}
        write_raster(tmp_path / f"T18SVG_20160111_{band}.tif", array, 10 if band == "B02" else 60, tags=tags)
    write_raster(tmp_path / "dynamicworld_pseudolabel.tif", array.astype(np.uint8))
    (tmp_path / "osm_landuse.gpkg").write_bytes(b"anything")
    (tmp_path / "T18SVG_20160111_B02.jp2.aux.xml").write_text("<x/>")
    scene = open_band_folder(tmp_path)
    assert (scene.id, list(scene.bands), scene.level, scene.tile) == (
        "T18SVG_20160111",
        ["B02", "B10"],
        "L1C",
        "18SVG",
    )
    assert scene.acquired == datetime(2016, 1, 12, tzinfo=UTC)
    assert {file.name for file in scene.files} == {"T18SVG_20160111_B02.tif", "T18SVG_20160111_B10.tif"}


def test_of_two_files_for_a_band_the_finer_is_taken(tmp_path):
    write_raster(tmp_path / "T32UPD_B02_10m.tif", np.ones((2, 2), np.uint16))
    write_raster(tmp_path / "T32UPD_B02_20m.tif", np.ones((1, 1), np.uint16), 20)
    assert open_band_folder(tmp_path).bands["B02"].href.endswith("B02_10m.tif")


def test_folders_that_are_no_scene_are_refused(tmp_path):
    with pytest.raises(NotAProductError, match="No Sentinel-2 band file"):
        open_band_folder(tmp_path)
    write_raster(tmp_path / "A_B05.tif", np.ones((2, 2), np.uint16), 20)
    with pytest.raises(
        MissingBandError, match=r"10 m grid needs one of B02, B03, B04, B08 at 10 m; .* has: B05"
    ):
        open_band_folder(tmp_path)
    write_raster(tmp_path / "B_B02.tif", np.ones((2, 2), np.uint16))
    with pytest.raises(NotAProductError, match=r"holds one scene; .* holds 2: A, B"):
        open_band_folder(tmp_path)


def test_bands_in_two_coordinate_systems_are_refused(tmp_path):
    write_raster(tmp_path / "B02.tif", np.ones((2, 2), np.uint16))
    write_raster(tmp_path / "B03.tif", np.ones((2, 2), np.uint16), crs="EPSG:32633")
    with pytest.raises(GeoreferenceError, match="EPSG:32633"):
        open_band_folder(tmp_path)


# ---------------------------------------------------------------- real files


def test_the_a2_chip(shared_data):
    scene = open_geotiff(shared_data / "trucks" / "a2_braunschweig.tif")
    assert (scene.id, scene.shape, list(scene.bands)) == (
        "a2_braunschweig",
        (66, 133),
        ["B04", "B03", "B02", "B08"],
    )
    with rasterio.open(scene.href) as dataset:
        expected = dataset.read([3, 1]) / 255
        assert GeoBox.from_rio(dataset) == scene.grid
    pixels = read_pixels(scene, Window(0, 0, 133, 66), ["B02", "B04"])
    np.testing.assert_allclose(pixels.reflectance, expected, atol=1e-6)
    assert pixels.valid.all()


def test_virginia_is_georeferenced_not_stacked(shared_data):
    """Against GDAL's own warper as an independent interpolation."""
    scene = open_band_folder(shared_data / "landcover" / "virginia")
    assert (scene.level, scene.acquired, tuple(scene.bands)) == (
        "L1C",
        datetime(2016, 1, 12, tzinfo=UTC),
        BAND_NAMES,
    )
    window = Window(700, 801, 120, 90)
    pixels = read_pixels(scene, window, ["B02", "B05", "B01"])
    for i, band in enumerate(["B02", "B05", "B01"]):
        with rasterio.open(scene.bands[band].href) as dataset:
            expected = np.zeros((90, 120), np.float32)
            rasterio.warp.reproject(
                dataset.read(1).astype(np.float32),
                expected,
                src_transform=dataset.transform,
                src_crs=dataset.crs,
                dst_transform=pixels.grid.affine,
                dst_crs=dataset.crs,
                resampling=rasterio.warp.Resampling.bilinear,
            )
        np.testing.assert_allclose(pixels.reflectance[i], expected / 1e4, atol=2e-5)


def test_brandenburg(shared_data):
    scene = open_band_folder(shared_data / "landcover" / "brandenburg")
    assert (scene.id, scene.tile, scene.level) == ("T33UUU_20170216T102101", "33UUU", "L1C")
    assert scene.acquired == datetime(2017, 2, 16, 10, 21, 1, tzinfo=UTC)
    assert scene.shape == (768, 1536)
    assert all(source.nodata == 0 for source in scene.bands.values())
    assert len(scene.files) == 13


def test_a_truncated_copy_of_a_real_file(shared_data, tmp_path):
    real = shared_data / "landcover" / "brandenburg"
    for band in ("B02", "B03"):
        shutil.copy(real / f"T33UUU_20170216T102101_{band}.jp2", tmp_path)
    broken = tmp_path / "T33UUU_20170216T102101_B03.jp2"
    broken.write_bytes(broken.read_bytes()[:200_000])
    scene = open_band_folder(tmp_path)
    assert read_pixels(scene, Window(1000, 600, 200, 100), ["B02"]).valid.all()
    with pytest.raises(CorruptImageError, match="B03"):
        read_pixels(scene, Window(1000, 600, 200, 100), ["B02", "B03"])


def test_bands_can_be_left_out_of_a_scene(folder):
    scene = open_band_folder(folder)
    smaller = replace(scene, bands={"B02": scene.bands["B02"]})
    assert read_pixels(smaller, Window(0, 0, 2, 2), ["B02"]).reflectance.shape == (1, 2, 2)
