"""Conversions of published files, each against numbers that are known."""

import json
import sys
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from safetensors.numpy import save

from pipeline.errors import MissingExtraError, OpenDataError
from pipeline.open_data.convert import copy, patches, polygons, stack

FINE, COARSE = from_origin(600000, 5800000, 10, 10), from_origin(600000, 5800000, 20, 20)


def write_raster(path, values, transform=FINE):
    """A GeoTIFF of (C, H, W) or (H, W); without a transform it has no CRS either."""
    values = values.reshape(-1, *values.shape[-2:])
    shape = dict(zip(("count", "height", "width"), values.shape, strict=True))
    place = {"crs": "EPSG:32632", "transform": transform} if transform else {}
    with rasterio.open(path, "w", driver="GTiff", dtype=values.dtype, **shape, **place) as target:
        target.write(values)
    return path


def read(path):
    """Return the values of a GeoTIFF and its metadata."""
    with rasterio.open(path) as raster:
        further = {name: getattr(raster, name) for name in ("descriptions", "scales")}
        return raster.read(), SimpleNamespace(**raster.profile, **further, tags=raster.tags())


def test_copy_takes_the_part(tmp_path):
    (tmp_path / "a").write_text("x")
    copy([tmp_path / "a"], tmp_path / "b")
    assert (tmp_path / "b").read_text() == "x"
    assert not (tmp_path / "a").exists()


def test_bands_are_chosen_named_and_scaled(tmp_path):
    many = write_raster(tmp_path / "many.tif", np.arange(1, 13, dtype="uint16").reshape(3, 2, 2))
    one = write_raster(tmp_path / "one.tif", np.full((2, 2), 99, "uint16"))
    stack(
        [many, one],
        tmp_path / "out.tif",
        {"B04": [0, 3], "B02": [0, 1], "B08": [1, 1]},
        tags={"level": "L1C"},
    )
    values, raster = read(tmp_path / "out.tif")
    assert values[:, 0, 0].tolist() == [9, 1, 99]
    assert raster.descriptions == ("B04", "B02", "B08")
    assert raster.scales == (1e-4,) * 3
    assert (raster.nodata, raster.dtype, raster.tags["level"]) == (0, "uint16", "L1C")
    assert (raster.transform, raster.crs.to_epsg()) == (FINE, 32632)


def test_the_offset_is_taken_off_but_data_is_never_nodata(tmp_path):
    bands = np.array([[[1500, 900, 0, 0]], [[1001, 2000, 1500, 0]]], "uint16")
    stack(
        [write_raster(tmp_path / "a.tif", bands)],
        tmp_path / "out.tif",
        {"B02": [0, 1], "B03": [0, 2]},
        offset=1000,
    )
    assert read(tmp_path / "out.tif")[0].tolist() == [[[500, 1, 1, 0]], [[1, 1000, 500, 0]]]


def test_another_value_without_data(tmp_path):
    bands = np.array([[[9999, 5, 9999]], [[9999, 9999, 7]]], "uint16")
    stack(
        [write_raster(tmp_path / "a.tif", bands)],
        tmp_path / "out.tif",
        {"B02": [0, 1], "B03": [0, 2]},
        empty=9999,
    )
    assert read(tmp_path / "out.tif")[0].tolist() == [[[0, 5, 9999]], [[0, 9999, 7]]]


def test_coarse_bands_are_interpolated_by_their_place(tmp_path):
    """A plane stays a plane, between the centres of the outer pixels."""
    x, y = np.meshgrid(np.arange(8) * 20 + 10, np.arange(6) * 20 + 10)
    coarse = write_raster(tmp_path / "c.tif", (1000 + 2 * x + 3 * y).astype("uint16"), COARSE)
    fine = write_raster(tmp_path / "f.tif", np.ones((12, 16), "uint16"))
    stack([fine, coarse], tmp_path / "out.tif", {"B02": [0, 1], "B05": [1, 1]})
    x, y = np.meshgrid(np.arange(16) * 10 + 5, np.arange(12) * 10 + 5)
    np.testing.assert_array_equal(
        read(tmp_path / "out.tif")[0][1, 1:-1, 1:-1], (1000 + 2 * x + 3 * y)[1:-1, 1:-1]
    )


def test_arrays_without_a_place_get_one(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]))
    stack(
        [tmp_path / "a.json"],
        tmp_path / "out.tif",
        {"B03": [0, 2]},
        crs="EPSG:32633",
        transform=[10, 0, 7, 0, -10, 8],
    )
    values, raster = read(tmp_path / "out.tif")
    assert values.tolist() == [[[5, 6], [7, 8]]]
    assert (raster.crs.to_epsg(), raster.transform[2], raster.transform[5]) == (32633, 7, 8)


def test_columns_first_and_coarse_without_a_place(tmp_path):
    place = {"crs": "EPSG:32633", "transform": [10, 0, 0, 0, -10, 0]}
    fine, coarse = np.arange(1, 25, dtype="uint16").reshape(4, 6), np.full((2, 3), 40, "uint16")
    parts = [
        write_raster(tmp_path / name, values, None)
        for name, values in {"f.tif": fine, "c.tif": coarse}.items()
    ]
    stack(
        parts,
        tmp_path / "out.tif",
        {"B02": [0, 1], "B05": [1, 1]},
        transposed=True,
        **place,
    )
    values, _ = read(tmp_path / "out.tif")
    assert values[0].tolist() == fine.T.tolist()
    assert values[1, 1:-1, 1:-1].tolist() == [[40, 40]] * 4


def test_eight_bits_without_nodata(tmp_path):
    part = write_raster(tmp_path / "a.tif", np.array([[3.0, 155.0]], "float32"))
    stack([part], tmp_path / "out.tif", {"B04": [0, 1]}, dtype="uint8", scale=1 / 255, nodata=None)
    values, raster = read(tmp_path / "out.tif")
    assert values.tolist() == [[[3, 155]]]
    assert (raster.dtype, raster.nodata, raster.scales) == ("uint8", None, (1 / 255,))


def test_coarse_bands_that_are_doubled_and_off_their_place(tmp_path):
    """Band B05 is a plane of 20 m pixels, each written four times, and begins one pixel too far west."""
    x, y = np.meshgrid(np.arange(8) * 20, np.arange(6) * 20)
    doubled = (1000 + 2 * x + 3 * y).repeat(2, axis=0).repeat(2, axis=1)
    part = write_raster(tmp_path / "a.tif", np.stack([np.ones_like(doubled), doubled]).astype("uint16"))
    moved = [20, 0, 600010, 0, -20, 5800000]
    bands = {"B02": [0, 1], "B05": [0, 2]}
    stack([part], tmp_path / "out.tif", bands, coarse_step=2, coarse_transform=moved, window=[2, 3, 8, 9])
    values, raster = read(tmp_path / "out.tif")
    assert (raster.transform[2], raster.transform[5], values.shape) == (600030, 5799980, (2, 8, 9))
    # The centre of the first 20 m pixel is 20 m east and 10 m south of the corner of the file.
    x, y = np.meshgrid(35 + np.arange(9) * 10 - 20, 25 + np.arange(8) * 10 - 10)
    np.testing.assert_array_equal(values[1], 1000 + 2 * x + 3 * y)


def test_reflectance_becomes_numbers(tmp_path):
    part = write_raster(tmp_path / "a.tif", np.array([[0.25, 0.0005]], "float32"))
    stack([part], tmp_path / "out.tif", {"B02": [0, 1]}, factor=2000, offset=100)
    assert read(tmp_path / "out.tif")[0].tolist() == [[[400, 1]]]


@pytest.mark.parametrize("band", [[0, 2], [1, 1]])
def test_a_part_that_does_not_fit_is_named(tmp_path, band):
    parts = [write_raster(tmp_path / "a.tif", np.ones((2, 2), "uint16")), tmp_path / "b.tif"]
    parts[1].write_text("no raster")
    with pytest.raises(OpenDataError, match=rf"{parts[band[0]].name} can't be read by this GDAL"):
        stack(parts, tmp_path / "out.tif", {"B02": band})
    assert not (tmp_path / "out.tif").exists()


@pytest.fixture
def database(tmp_path):
    """An LMDB of the patches a, b, c, d: 4 x 4 pixels of B02, 2 x 2 of B05, each of one value."""
    lmdb = pytest.importorskip("lmdb")
    path = tmp_path / "data.mdb"
    with (
        lmdb.open(str(path), subdir=False, map_size=10**6) as opened,
        opened.begin(write=True) as transaction,
    ):
        for value, key in enumerate("abcd", start=1):
            bands = {"B02": np.full((4, 4), value, "uint16"), "B05": np.full((2, 2), 10 * value, "uint16")}
            transaction.put(key.encode(), save(bands))
    return path


def test_patches_side_by_side(database, tmp_path):
    place = {"crs": "EPSG:32633", "transform": [10, 0, 600000, 0, -10, 5800000]}
    patches([database], tmp_path / "out.tif", [["a", "b"], ["c", "d"]], ["B02", "B05"], scale=1e-4, **place)
    values, raster = read(tmp_path / "out.tif")
    quarters = np.array([[1, 2], [3, 4]]).repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(values, [quarters, 10 * quarters])
    assert (raster.transform, raster.descriptions, raster.nodata) == (FINE, ("B02", "B05"), 0)


@pytest.mark.parametrize(("key", "band"), [("e", "B02"), ("a", "B03")])
def test_a_patch_or_band_that_is_missing(database, tmp_path, key, band):
    with pytest.raises(OpenDataError, match=r"data\.mdb can't be read, or lacks a patch"):
        patches(
            [database], tmp_path / "o.tif", [[key]], [band], crs="EPSG:32633", transform=[10, 0, 0, 0, -10, 0]
        )


def test_the_reader_of_patches_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'truckscape\[train\]'"):
        patches(
            [tmp_path / "a"],
            tmp_path / "o.tif",
            [["a"]],
            ["B02"],
            crs="EPSG:32633",
            transform=[10, 0, 0, 0, -10, 0],
        )


def test_polygons_west_of_a_line_once_each(tmp_path):
    frame = gpd.GeoDataFrame(
        {"id": ["a", "a", "b", "c"], "kind": ["wood", "lake", "farm", "farm"], "more": [1, 2, 3, 4]},
        geometry=[shapely.box(x, 0, x + 10, 10) for x in (0, 0, 50, 95)],
        crs="EPSG:32633",
    )
    frame.to_file(tmp_path / "a.gpkg")
    polygons(
        [tmp_path / "a.gpkg"], tmp_path / "out.gpkg", ["id", "kind"], unique="id", west_of=100, layer="uses"
    )
    found = gpd.read_file(tmp_path / "out.gpkg", layer="uses")
    assert found.drop(columns="geometry").to_numpy().tolist() == [["a", "wood"], ["b", "farm"]]
    assert found.crs == frame.crs
    with pytest.raises(OpenDataError, match=r"b\.gpkg can't be read"):
        polygons([tmp_path / "b.gpkg"], tmp_path / "c.gpkg", ["id"], unique="id", west_of=0, layer="a")
