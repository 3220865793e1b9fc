"""Reference land cover from rasters and polygons."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin
from rasterio.windows import Window

from pipeline.errors import LabelsError
from pipeline.evaluation.landcover.labels import (
    UNLABELLED,
    PolygonLabels,
    RasterLabels,
    read_landcover_labels,
)
from pipeline.input_warnings import collected_warnings
from tests.evaluation.test_labels import pixels

UTM = "EPSG:32632"
GRID = GeoBox((4, 6), from_origin(600_000, 5_800_000, 10, 10), UTM)
WHOLE = Window(0, 0, 6, 4)


def write_raster(path, values, transform=GRID.affine, crs=UTM, nodata=UNLABELLED):
    values = np.asarray(values)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=values.shape[1],
        height=values.shape[0],
        count=1,
        dtype=values.dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
    ) as target:
        target.write(values, 1)
    return path


def test_a_label_raster_on_the_same_grid_is_read_as_it_is(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(4, 6) % 9
    labels = read_landcover_labels(write_raster(tmp_path / "l.tif", values), GRID)
    assert isinstance(labels, RasterLabels)
    assert (labels.read(WHOLE) == values).all()
    assert (labels.read(Window(2, 1, 3, 2)) == values[1:3, 2:5]).all()


@pytest.mark.parametrize("nodata", [UNLABELLED, None])
def test_a_label_raster_on_another_grid_is_brought_over_by_nearest(tmp_path, nodata):
    values = np.array([[1, 2], [6, 4]], dtype=np.uint8)
    coarse = from_origin(600_020, 5_800_000, 20, 20)
    labels = read_landcover_labels(write_raster(tmp_path / "l.tif", values, coarse, nodata=nodata), GRID)
    expected = [[255, 255, 1, 1, 2, 2]] * 2 + [[255, 255, 6, 6, 4, 4]] * 2
    assert labels.read(WHOLE).tolist() == expected


def test_polygons_by_osm_land_use_and_the_smaller_one_wins(tmp_path):
    frame = gpd.GeoDataFrame(
        {"fclass": ["water", "forest", "park"], "name": ["Lake", "Wood", "Park"]},
        geometry=[pixels(1, 1, 2, 1), pixels(0, 0, 4, 3), pixels(4, 0, 2, 4)],
        crs=UTM,
    )
    frame.to_crs(4326).to_file(tmp_path / "l.gpkg")
    labels = read_landcover_labels(tmp_path / "l.gpkg", GRID)
    assert isinstance(labels, PolygonLabels)
    assert labels.read(WHOLE).tolist() == [
        [1, 1, 1, 1, 255, 255],
        [1, 0, 0, 1, 255, 255],
        [1, 1, 1, 1, 255, 255],
        [255] * 6,
    ]
    assert labels.read(Window(0, 3, 6, 1)).tolist() == [[255] * 6]


@pytest.mark.parametrize(
    ("name", "values"),
    [("class", [6, 8]), ("class", ["built", "snow_and_ice"]), ("name", ["Built", "snow and ice"])],
)
def test_polygons_by_value_or_name(tmp_path, name, values):
    frame = gpd.GeoDataFrame({name: values}, geometry=[pixels(0, 0), pixels(5, 3)], crs=UTM)
    frame.to_file(tmp_path / "l.gpkg")
    read = read_landcover_labels(tmp_path / "l.gpkg", GRID).read(WHOLE)
    assert (read[0, 0], read[3, 5], (read != UNLABELLED).sum()) == (6, 8, 2)


@pytest.mark.parametrize(
    ("columns", "message"), [({"kind": ["forest"]}, "need a column"), ({"class": ["lava"]}, "Received: lava")]
)
def test_polygons_without_a_known_class_are_refused(tmp_path, columns, message):
    gpd.GeoDataFrame(columns, geometry=[pixels(0, 0)], crs=UTM).to_file(tmp_path / "l.gpkg")
    with pytest.raises(LabelsError, match=message):
        read_landcover_labels(tmp_path / "l.gpkg", GRID)


@pytest.mark.parametrize("kind", ["raster", "polygons"])
def test_labels_elsewhere_are_reported(tmp_path, kind):
    """GRID is 60 m wide; the labels begin 2,440 m to its east."""
    if kind == "raster":
        path = write_raster(
            tmp_path / "l.tif", np.zeros((4, 6), np.uint8), from_origin(602_500, 5_800_000, 10, 10)
        )
    else:
        path = tmp_path / "l.gpkg"
        gpd.GeoDataFrame({"class": [1]}, geometry=[pixels(250, 0)], crs=UTM).to_file(path)
    with collected_warnings() as warnings:
        labels = read_landcover_labels(path, GRID)
    assert len(warnings) == 1
    assert (
        f"Land-cover labels {path}: 0 of 1 features meet the scene; the nearest is 2.4 km to the east"
        in warnings[0]
    )
    assert (labels.read(WHOLE) == UNLABELLED).all()


def test_classes_that_are_not_used_are_named_with_their_counts(tmp_path):
    frame = gpd.GeoDataFrame(
        {"CLASS": ["water", "lava", "lava", "12", "Trees", None]},
        geometry=[pixels(col, 0) for col in range(6)],
        crs=UTM,
    )
    frame.to_file(tmp_path / "l.gpkg")
    with collected_warnings() as warnings:
        labels = read_landcover_labels(tmp_path / "l.gpkg", GRID)
    assert labels.read(WHOLE)[0].tolist() == [0, 255, 255, 255, 1, 255]
    (warning,) = warnings
    assert (
        "4 of 6 polygons are not used, since column class has lava (2), 12 (1), null (1), none of water"
        in warning
    )
    frame.rename(columns={"CLASS": "clas"}).assign(name="built").to_file(tmp_path / "m.gpkg")
    with collected_warnings() as warnings:
        read_landcover_labels(tmp_path / "m.gpkg", GRID)
    assert "column clas is not read; if it is meant to be class, rename it." in warnings[0]


def test_unusable_label_rasters_are_refused(tmp_path):
    values = np.zeros((4, 6), np.uint8)
    with pytest.raises(LabelsError, match="no CRS"):
        read_landcover_labels(write_raster(tmp_path / "a.tif", values, crs=None), GRID)
    with pytest.raises(LabelsError, match="is float32"):
        read_landcover_labels(write_raster(tmp_path / "b.tif", values.astype("float32")), GRID)
    profile = {"driver": "GTiff", "count": 3, "height": 4, "width": 6, "dtype": "uint8", "crs": UTM}
    with rasterio.open(tmp_path / "rgb.tif", "w", **profile, transform=GRID.affine) as file:
        file.write(np.stack([values] * 3))
    with pytest.raises(LabelsError, match=r"one band of classes\. .* has 3; .* gdal_translate -b 1"):
        read_landcover_labels(tmp_path / "rgb.tif", GRID)
