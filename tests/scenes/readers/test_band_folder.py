"""Folders of band files: which files are bands, and what is refused."""

import shutil
from datetime import UTC, date, datetime

import numpy as np
import pytest
import rasterio
import rasterio.warp
from rasterio.windows import Window

from pipeline.errors import (
    CorruptImageError,
    GeoreferenceError,
    MissingBandError,
    NotAProductError,
)
from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.readers.band_folder import open_band_folder
from pipeline.scenes.scene import BAND_NAMES, BANDS_10M
from tests.scenes.products import STEM, numbers, write_raster


def test_a_file_that_is_no_raster_is_reported_at_once(tmp_path):
    write_raster(tmp_path / "B02.tif", np.ones((4, 4), np.uint16))
    (tmp_path / "B03.tif").write_bytes(b"II*\0 and then nothing")
    with pytest.raises(CorruptImageError, match=r"Band B03 can't be opened: .*B03\.tif"):
        open_band_folder(tmp_path)


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
    assert scene.acquired == date(2016, 1, 12)
    assert {file.name for file in scene.files} == {"T18SVG_20160111_B02.tif", "T18SVG_20160111_B10.tif"}


def test_of_two_files_for_a_band_the_finer_is_taken(tmp_path):
    write_raster(tmp_path / "T32UPD_B02_10m.tif", np.ones((2, 2), np.uint16))
    write_raster(tmp_path / "T32UPD_B02_20m.tif", np.ones((1, 1), np.uint16), 20)
    assert open_band_folder(tmp_path).bands["B02"].href.endswith("B02_10m.tif")


@pytest.mark.parametrize("names", [("B02.tif", "B2.tif"), ("B02.jp2", "B02.tif"), ("B02_10m.tif", "B02.tif")])
def test_two_files_of_one_band_are_refused(tmp_path, names):
    """They may differ, and nothing says which is meant."""
    for name in names:
        write_raster(tmp_path / name, np.ones((64, 64), np.uint16))
    with pytest.raises(NotAProductError, match="two files of B02 at 10 m; leave one: B02"):
        open_band_folder(tmp_path)


@pytest.mark.parametrize(
    ("tags", "other"),
    [
        ({"acquired": "2024-06-15T10:20:21Z"}, {"acquired": "2024-06-18T10:20:21Z"}),
        ({"platform": "Sentinel-2A"}, {"platform": "sentinel-2b"}),
    ],
)
def test_bands_whose_tags_state_two_scenes_are_refused(tmp_path, tags, other):
    write_raster(tmp_path / "B02.tif", np.ones((2, 2), np.uint16), tags=tags)
    for third in ({}, tags):
        write_raster(tmp_path / "B03.tif", np.ones((2, 2), np.uint16), tags=third)
        assert open_band_folder(tmp_path).bands
    write_raster(tmp_path / "B04.tif", np.ones((2, 2), np.uint16), tags=other)
    with pytest.raises(NotAProductError, match=r"one scene; B04\.tif has the tag"):
        open_band_folder(tmp_path)


@pytest.mark.parametrize("suffix", ["tif", "jp2"])
@pytest.mark.parametrize("band", ["B02", "B11", "SCL"])
def test_an_empty_file_is_reported_at_once(tmp_path, band, suffix):
    write_raster(tmp_path / "B04.tif", np.ones((2, 2), np.uint16))
    (tmp_path / f"{band}.{suffix}").touch()
    with pytest.raises(CorruptImageError, match=f"Band {band} can't be opened"):
        open_band_folder(tmp_path)


def test_folders_that_are_no_scene_are_refused(tmp_path):
    with pytest.raises(NotAProductError, match="No Sentinel-2 band file"):
        open_band_folder(tmp_path)
    write_raster(tmp_path / "A_B05.tif", np.ones((2, 2), np.uint16), 20)
    with pytest.raises(
        MissingBandError, match=r"10 m grid needs one of B02, B03, B04, B08 at 10 m; .* has: B05"
    ):
        open_band_folder(tmp_path)
    write_raster(tmp_path / "B_B02.tif", np.ones((2, 2), np.uint16))
    with pytest.raises(NotAProductError, match=r"with one scene is expected; .* has 2: A, B"):
        open_band_folder(tmp_path)


def test_bands_in_two_coordinate_systems_are_refused(tmp_path):
    write_raster(tmp_path / "B02.tif", np.ones((2, 2), np.uint16))
    write_raster(tmp_path / "B03.tif", np.ones((2, 2), np.uint16), crs="EPSG:32633")
    with pytest.raises(GeoreferenceError, match="EPSG:32633"):
        open_band_folder(tmp_path)


def test_virginia_is_georeferenced_not_stacked(shared_data):
    """Against GDAL's own warper as an independent interpolation."""
    scene = open_band_folder(shared_data / "landcover" / "virginia")
    assert (scene.level, scene.acquired, tuple(scene.bands)) == (
        "L1C",
        date(2016, 1, 12),
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


def test_downloads_of_eo_browser(tmp_path):
    stem = "2023-06-13-00:00_2023-06-13-23:59_Sentinel-2_L2A"
    for band in ("B02", "B08"):
        path = write_raster(tmp_path / f"{stem}_{band}_(Raw).tif", np.full((2, 2), 0.1, np.float32))
        path.rename(path.with_suffix(".tiff"))
    scene = open_band_folder(tmp_path)
    assert (scene.id, list(scene.bands), scene.acquired) == (stem, ["B02", "B08"], date(2023, 6, 13))


def test_a_folder_names_files_that_only_name_their_band(tmp_path):
    folder = tmp_path / "S2A_MSIL2A_20230613T102031_N0509_R065_T32UPD_20230613T140011"
    write_raster(folder / "B02.tif", np.ones((2, 2), np.uint16))
    scene = open_band_folder(folder)
    assert scene.acquired == datetime(2023, 6, 13, 10, 20, 31, tzinfo=UTC)
    assert (scene.tile, scene.baseline, scene.other_offset) == ("32UPD", "05.09", -0.1)


def test_files_of_macos_and_colours_of_scl_do_no_harm(tmp_path):
    for band in BANDS_10M:
        write_raster(tmp_path / f"{STEM}_{band}.tif", numbers(band))
        (tmp_path / f"._{STEM}_{band}.tif").write_bytes(b"\0\5\x16\7")
    scl = write_raster(
        tmp_path / f"{STEM}_SCL.tif", np.full((120, 120), 4, np.uint8), 20, photometric="palette"
    )
    with rasterio.open(scl, "r+") as dataset:
        dataset.write_colormap(1, {4: (0, 160, 0, 255)})
    scene = open_band_folder(tmp_path)
    assert sorted(scene.bands) == sorted(BANDS_10M)
    assert scene.scl.href == str(scl)
