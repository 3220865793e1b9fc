"""Reference land cover from rasters, polygons and points."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin
from rasterio.windows import Window

from pipeline.errors import LabelsError
from pipeline.evaluation.landcover.labels import (
    UNLABELLED,
    PointLabels,
    PolygonLabels,
    RasterLabels,
    feature_labels,
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


def write_points(path, places, values, crs=UTM):
    """Points with a class at (column, row) of GRID, in pixels from its corner."""
    cols, rows = np.transpose(places)
    shapes = gpd.points_from_xy(600_000 + 10 * cols, 5_800_000 - 10 * rows)
    gpd.GeoDataFrame({"class": values}, geometry=shapes, crs=UTM).to_crs(crs).to_file(path)
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


@pytest.mark.parametrize("crs", [UTM, 4326])
def test_a_point_labels_the_pixel_that_it_is_on(tmp_path, crs):
    places = [(0.1, 0.9), (5.9, 3.1), (2.5, 1.5), (-0.1, 0.5), (6.1, 0.5), (600.5, 0.5)]
    path = write_points(tmp_path / "l.gpkg", places, ["water", "6", "Trees", "water", "water", "bare"], crs)
    labels = read_landcover_labels(path, GRID)
    assert isinstance(labels, PointLabels)
    assert labels.read(WHOLE).tolist() == [
        [0, 255, 255, 255, 255, 255],
        [255, 255, 1, 255, 255, 255],
        [255] * 6,
        [255, 255, 255, 255, 255, 6],
    ]
    assert labels.read(Window(2, 1, 2, 1)).tolist() == [[1, 255]]


def test_a_point_between_pixels_is_on_the_one_with_the_higher_row_and_column(tmp_path):
    places = [(0, 0), (3, 1), (4.5, 2), (5, 0.5), (6, 0), (0, 4)]
    labels = read_landcover_labels(write_points(tmp_path / "l.gpkg", places, [0, 1, 4, 6, 7, 7]), GRID)
    read = labels.read(WHOLE)
    assert [read[row, col] for row, col in [(0, 0), (1, 3), (2, 4), (0, 5)]] == [0, 1, 4, 6]
    assert (read != UNLABELLED).sum() == 4


def test_a_pixel_with_points_of_different_classes_has_no_label(tmp_path):
    places = [(0.2, 0.2), (0.8, 0.8), (1.2, 0.2), (1.8, 0.8), (2.2, 0.2), (2.8, 0.8)]
    path = write_points(tmp_path / "l.gpkg", places, ["water", "bare", "water", "water", "water", "lava"])
    with collected_warnings() as warnings:
        labels = read_landcover_labels(path, GRID)
    assert labels.read(WHOLE)[0].tolist() == [255, 0, 0, 255, 255, 255]
    assert labels.unknown_classes == ("lava",)
    assert "1 of 6 features are not used, since column class has lava (1)" in warnings[0]
    assert warnings[1:] == [
        f"{path}: Land-cover labels: 1 of 3 pixels with points are not used, since their points are of "
        "different classes."
    ]


@given(
    places=st.lists(st.tuples(st.integers(-20, 80), st.integers(-20, 60), st.integers(0, 8)), max_size=40),
    row=st.integers(0, 3),
    col=st.integers(0, 5),
)
def test_points_are_read_alike_in_any_window(places, row, col):
    """The oracle is a loop over points with coordinates in tenths of a pixel, beside its edges."""
    expected: dict[tuple[int, int], set[int]] = {}
    for x, y, value in places:
        expected.setdefault((y // 10, x // 10), set()).add(value)
    shapes = gpd.points_from_xy(
        [600_000.5 + x for x, _, _ in places], [5_799_999.5 - y for _, y, _ in places], crs=UTM
    )
    frame = gpd.GeoDataFrame({"value": [value for *_, value in places]}, geometry=shapes)
    labels = feature_labels(frame, GRID, "l.gpkg")
    whole = labels.read(WHOLE)
    for at, value in np.ndenumerate(whole):
        seen = expected.get(at, set())
        assert value == (seen.pop() if len(seen) == 1 else UNLABELLED)
    assert (labels.read(Window(col, row, 6 - col, 4 - row)) == whole[row:, col:]).all()


@pytest.mark.parametrize(
    ("columns", "message"), [({"kind": ["forest"]}, "need a column"), ({"class": ["lava"]}, "Received: lava")]
)
def test_polygons_without_a_known_class_are_refused(tmp_path, columns, message):
    gpd.GeoDataFrame(columns, geometry=[pixels(0, 0)], crs=UTM).to_file(tmp_path / "l.gpkg")
    with pytest.raises(LabelsError, match=message):
        read_landcover_labels(tmp_path / "l.gpkg", GRID)


@pytest.mark.parametrize("kind", ["raster", "polygons", "points"])
def test_labels_elsewhere_are_reported(tmp_path, kind):
    """GRID is 60 m wide; the labels begin 2,440 m to its east."""
    if kind == "raster":
        path = write_raster(
            tmp_path / "l.tif", np.zeros((4, 6), np.uint8), from_origin(602_500, 5_800_000, 10, 10)
        )
    elif kind == "points":
        path = write_points(tmp_path / "l.gpkg", [(250, 0.5)], [1])
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
        "4 of 6 features are not used, since column class has lava (2), 12 (1), null (1), none of water"
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
