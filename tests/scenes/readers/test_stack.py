"""Stacks with bands that are no reflectance: opacity, data masks, classes, quality; and names in tags."""

import logging

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from pipeline.errors import ConfigError, NotAProductError
from pipeline.scenes.raster.read import read_classes, read_pixels
from pipeline.scenes.readers.band_folder import open_band_folder
from pipeline.scenes.readers.geotiff import open_geotiff
from tests.scenes.products import write_raster

ALL = Window(0, 0, 3, 1)


def stack(tmp_path, planes, descriptions=None, dtype=np.uint16, opacity=None, tags=None, **profile):
    array = np.array(planes, dtype)[:, None, :]
    path = write_raster(tmp_path / "scene.tif", array, descriptions=descriptions, **profile)
    with rasterio.open(path, "r+") as dataset:
        if opacity:
            colours = [ColorInterp.gray, *[ColorInterp.undefined] * (len(array) - 1)]
            colours[opacity - 1] = ColorInterp.alpha
            dataset.colorinterp = colours
        for index, own in (tags or {}).items():
            dataset.update_tags(index, **own)
    return path


def valid(scene):
    bands = list(scene.bands)
    return read_pixels(scene, ALL, bands).valid[0].tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_opacity_of_any_depth_is_a_mask(tmp_path, dtype, interleave):
    planes = [[10, 20, 30], [11, 21, 31], [1, 0, 255 if dtype == np.uint8 else 32767]]
    path = stack(tmp_path, planes, ("B02", "B03", None), dtype, opacity=3, interleave=interleave)
    scene = open_geotiff(path)
    assert list(scene.bands) == ["B02", "B03"]
    assert valid(scene) == [True, False, True]


@pytest.mark.parametrize("name", ["dataMask", "DATAMASK", "data_mask", "alpha", "Alpha", "valid_mask"])
def test_a_data_mask_is_known_by_its_description(tmp_path, name):
    scene = open_geotiff(stack(tmp_path, [[10, 20, 30], [1, 0, 1]], ("B02", name)))
    assert list(scene.bands) == ["B02"]
    assert valid(scene) == [True, False, True]


def test_two_masks_mask_both(tmp_path):
    planes = [[10, 20, 30], [1, 0, 1], [65535, 65535, 0]]
    scene = open_geotiff(stack(tmp_path, planes, ("B02", "dataMask", None), opacity=3))
    assert valid(scene) == [True, False, False]


def test_a_data_mask_is_warped_with_its_scene(tmp_path):
    array = np.full((2, 30, 30), 2000, np.float32)
    array[1] = 0
    array[1, :, 15:] = 1
    path = write_raster(
        tmp_path / "x.tif",
        array,
        gsd=1e-4,
        origin=(10.0, 52.0),
        crs="EPSG:4326",
        descriptions=("B02", "dataMask"),
    )
    scene = open_geotiff(path)
    rows, cols = scene.shape
    there = read_pixels(scene, Window(0, 0, cols, rows), ["B02"]).valid
    assert not there[:, :9].any()
    assert there[5:-5, 13:18].all()


@pytest.mark.parametrize(
    "name",
    ["QA60", "MSK_CLDPRB", "MSK_SNWPRB", "AOT", "WVP", "TCI_R", "probability", "cloud_mask", "mask", "NDVI"],
)
def test_quality_bands_are_left_out(tmp_path, name):
    scene = open_geotiff(stack(tmp_path, [[10, 20, 30], [1, 0, 1]], ("B2", name)))
    assert list(scene.bands) == ["B02"]
    assert scene.bands["B02"].mask is None
    assert valid(scene) == [True, True, True]
    if name != "NDVI":
        with pytest.raises(ConfigError, match=rf"--bands names band 2 .* B08, but .* '{name}'"):
            open_geotiff(stack(tmp_path, [[10, 20, 30], [1, 0, 1]], ("B2", name)), ["B02", "B08"])
    assert list(
        open_geotiff(stack(tmp_path, [[10, 20, 30], [1, 0, 1]], ("B2", name)), ["B02", "-"]).bands
    ) == ["B02"]


def test_a_mask_that_does_not_say_what_it_masks_is_said(tmp_path, caplog):
    path = stack(tmp_path, [[10, 20, 30], [1, 0, 1], [0, 0, 0]], ("B2", "my_mask", "cloud_mask"))
    open_geotiff(path)
    assert "band 'my_mask' " in caplog.text
    assert "--bands B02,mask,-" in caplog.text
    caplog.clear()
    open_geotiff(path, ["B02", "-", "-"])
    assert caplog.text == ""


def test_the_user_names_bands_masks_and_what_to_leave_out(tmp_path):
    planes = [[10, 20, 30], [7, 8, 9], [100, 200, 300], [1, 1, 0], [4, 8, 9]]
    path = stack(tmp_path, planes)
    scene = open_geotiff(path, ["B04", "-", "b2", "mask", "SCL"])
    assert list(scene.bands) == ["B04", "B02"]
    pixels = read_pixels(scene, ALL, ["B02", "B04"])
    np.testing.assert_allclose(pixels.reflectance[:, 0], [[0.01, 0.02, 0], [0.001, 0.002, 0]], atol=1e-7)
    assert pixels.valid[0].tolist() == [True, True, False]
    assert read_classes(scene, scene.scl, ALL)[0].tolist() == [4, 8, 9]
    assert scene.level == "L2A"
    for bands in (["-"] * 5, ["B04", "B03"], ["B04", "-", "B02", "NDVI", "-"], ["B04", "B04", "-", "-", "-"]):
        with pytest.raises((ConfigError, NotAProductError), match="--bands"):
            open_geotiff(path, bands)


def test_names_that_do_not_fit_are_answered_with_those_of_the_file(tmp_path):
    path = stack(tmp_path, [[1, 2, 3]] * 3, ("red", None, "dataMask"))
    with pytest.raises(NotAProductError, match=r"describes them as: red, \(nothing\), dataMask"):
        open_geotiff(path)
    with pytest.raises(
        ConfigError, match=r"each of the 3 bands.*- to leave it out.*B04,B03\. The file .*red, "
    ):
        open_geotiff(path, ["B04", "B03"])
    assert valid(open_geotiff(path, ["B04", "B03", "-"])) == [True] * 3


def test_a_left_out_mask_is_still_a_mask(tmp_path):
    path = stack(tmp_path, [[10, 20, 30], [1, 0, 1]], ("red", "dataMask"))
    assert valid(open_geotiff(path, ["B04", "-"])) == [True, False, True]


def test_a_band_marked_as_opacity_by_mistake_can_be_named(tmp_path, caplog):
    path = stack(tmp_path, [[10, 20, 30], [11, 0, 31]], opacity=2)
    scene = open_geotiff(path, ["B04", "B08"])
    assert list(scene.bands) == ["B04", "B08"]
    assert "marked as opacity, but read as B08" in caplog.text


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_classes_in_a_stack_give_clouds(tmp_path, dtype):
    scene = open_geotiff(stack(tmp_path, [[10, 20, 30], [4, 8, 0]], ("B2", "SCL"), dtype))
    assert read_classes(scene, scene.scl, ALL)[0].tolist() == [4, 8, 0]


@pytest.mark.parametrize("values", [[4, 8, 12], [0.0004, 0.0008, 0], [4, 6.5, 8], [400, 800, 0]])
def test_what_is_named_classes_and_holds_none_is_ignored(tmp_path, values, caplog):
    scene = open_geotiff(stack(tmp_path, [[10, 20, 30], values], ("B2", "SCL"), np.float32))
    assert scene.scl is None
    assert "clouds are not masked" in caplog.text


@pytest.mark.parametrize(
    "tags",
    [
        {0: {"long_name": "('B4', 'B8A')"}},
        {0: {"band_names": "B4,B8A"}},
        {1: {"BANDNAME": "B4"}, 2: {"BANDNAME": "B8A"}},
        {1: {"name": "B04"}, 2: {"long_name": "B8A, central wavelength 865 nm"}},
    ],
)
def test_names_in_tags(tmp_path, tags):
    path = stack(tmp_path, [[10, 20, 30]] * 2, tags=tags)
    assert list(open_geotiff(path).bands) == ["B04", "B8A"]


def test_bands_left_out_are_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        open_geotiff(stack(tmp_path, [[10, 20, 30]] * 3, ("B2", "QA60", None)))
    assert "left out QA60, band 3" in caplog.text


def test_opacity_and_classes_in_a_folder_of_band_files(tmp_path):
    array = np.array([[[10, 20, 30]], [[65535, 0, 1]]], np.uint16)
    for band in ("B02", "B03"):
        path = write_raster(tmp_path / f"x_{band}.tif", array)
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    write_raster(tmp_path / "x_SCL.tif", np.array([[4, 8, 9]], np.uint8))
    scene = open_band_folder(tmp_path)
    assert list(scene.bands) == ["B02", "B03"]
    assert valid(scene) == [True, False, True]
    assert read_classes(scene, scene.scl, ALL)[0].tolist() == [4, 8, 9]
    assert scene.level == "L2A"


@pytest.mark.parametrize("text", ["Band {}", "band_{}", "band{}"])
def test_descriptions_that_only_count_are_no_names(tmp_path, text):
    """Band 4 of red, green, blue and infrared is not B04."""
    planes = [[700, 800, 900]] * 5
    path = stack(tmp_path, planes, [*(text.format(number) for number in range(1, 5)), "dataMask"])
    with pytest.raises(NotAProductError, match="count its bands"):
        open_geotiff(path)
    assert list(open_geotiff(path, ["B04", "B03", "B02", "B08", "-"]).bands) == ["B04", "B03", "B02", "B08"]
    named = stack(tmp_path, planes[:4], [text.format(number) for number in (2, 3, 4, 8)])
    assert list(open_geotiff(named).bands) == ["B02", "B03", "B04", "B08"]
