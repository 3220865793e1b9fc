from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rio_cogeo.cogeo import cog_validate

from pipeline.errors import OutputError
from pipeline.layers.columns import LANDCOVER
from pipeline.layers.landcover import polygonise, write_cog
from pipeline.models.legend import LegendClass

LEGEND = [
    LegendClass(value=value, name=name, colour=colour)
    for value, (name, colour) in enumerate(
        {
            "water": "#419BDF", "trees": "#397D49", "grass": "#88B053", "flooded vegetation": "#7A87C6",
            "crops": "#E49635", "shrub and scrub": "#DFC35A", "built": "#C4281B", "bare": "#A59B8F",
            "snow and ice": "#B39FE1",
        }.items()
    )
]  # fmt: skip
GRID = Affine(10, 0, 500_000, 0, -10, 5_800_000)


def write_classes(path: Path, classes: np.ndarray) -> Path:
    rows, cols = classes.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=rows, width=cols, crs="EPSG:32632",
        transform=GRID, tiled=True, blockxsize=256, blockysize=256,
    ) as target:  # fmt: skip
        target.write(classes.astype(np.uint8), 1)
    return path


@pytest.mark.parametrize(
    "classes",
    [np.array([[4]]), np.full((600, 700), 255), np.arange(600 * 1100).reshape(600, 1100) // 90_000],
    ids=["one pixel", "all nodata", "with overviews"],
)
def test_cog_is_valid_and_keeps_the_pixels(tmp_path, classes):
    cog = tmp_path / "landcover.tif"
    write_cog(write_classes(tmp_path / "classes.tif", classes), cog, LEGEND)
    assert cog_validate(cog, strict=False, quiet=True)[:2] == (True, [])
    with rasterio.open(cog) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.nodata == 255
        assert dataset.crs.to_epsg() == 32632
        assert dataset.transform == GRID
        assert (dataset.read(1) == classes).all()
        assert dataset.colormap(1)[6] == (196, 40, 27, 255)
        assert dataset.tags(1)["CLASS_3"] == "flooded vegetation"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.tif", "landcover.tif"]


def test_overviews_take_the_most_frequent_class(tmp_path):
    classes = np.full((600, 600), 6)
    classes[::2, ::2] = 0
    write_cog(write_classes(tmp_path / "classes.tif", classes), tmp_path / "cog.tif", LEGEND)
    with rasterio.open(tmp_path / "cog.tif", overview_level=0) as overview:
        assert set(np.unique(overview.read(1))) == {6}


def test_the_same_classes_give_the_same_bytes(tmp_path):
    source = write_classes(tmp_path / "classes.tif", np.arange(600 * 600).reshape(600, 600) // 90_000)
    for name in ("one.tif", "two.tif"):
        write_cog(source, tmp_path / name, LEGEND)
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "two.tif").read_bytes()


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    source = write_classes(tmp_path / "classes.tif", np.array([[1]]))
    with pytest.raises(OutputError, match="cannot be written"):
        write_cog(source, tmp_path / "missing" / "landcover.tif", LEGEND)


def test_polygons_carry_class_name_colour_and_area(tmp_path):
    classes = np.array([[0, 0, 255], [0, 4, 4]])
    layer = polygonise(write_classes(tmp_path / "classes.tif", classes), LEGEND)
    assert tuple(layer.columns) == LANDCOVER.names
    assert layer.crs.to_epsg() == 32632
    assert layer.drop(columns="geometry").values.tolist() == [
        [0, "water", "#419BDF", 300.0],
        [4, "crops", "#E49635", 200.0],
    ]
    assert layer.geometry[1].equals(shapely.box(500_010, 5_799_980, 500_030, 5_799_990))


def test_areas_below_the_least_go_to_the_largest_neighbour(tmp_path):
    source = write_classes(tmp_path / "classes.tif", np.array([[0, 0, 0, 1, 1], [0, 0, 4, 1, 1]]))
    assert polygonise(source, LEGEND, min_area_m2=100).area_m2.tolist() == [500.0, 400.0, 100.0]
    assert polygonise(source, LEGEND, min_area_m2=101).area_m2.tolist() == [600.0, 400.0]


def test_all_nodata_gives_an_empty_layer_with_all_columns(tmp_path):
    layer = polygonise(write_classes(tmp_path / "classes.tif", np.full((3, 2), 255)), LEGEND, 500, 10)
    assert len(layer) == 0
    assert tuple(layer.columns) == LANDCOVER.names
    assert layer.crs.to_epsg() == 32632


def test_a_class_outside_the_legend_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Received in classes.tif: \[9\]"):
        polygonise(write_classes(tmp_path / "classes.tif", np.array([[9]])), LEGEND)


@pytest.mark.parametrize("simplify_m", [0, 15])
def test_real_land_cover_is_a_valid_coverage(shared_data, simplify_m):
    raster = shared_data / "landcover" / "brandenburg" / "dynamicworld_pseudolabel.tif"
    layer = polygonise(raster, LEGEND, min_area_m2=500, simplify_m=simplify_m)
    assert layer.geometry.is_valid.all()
    assert shapely.coverage_is_valid(layer.geometry.values)
    assert layer.area_m2.min() == 500
    if simplify_m:
        assert layer.area.tolist() == pytest.approx(layer.area_m2.tolist(), rel=2e-4)
    else:
        assert layer.area.tolist() == layer.area_m2.tolist()
    assert layer.area_m2.sum() == 1536 * 768 * 100
    with rasterio.open(raster) as source:
        share = np.bincount(source.read(1).ravel()) / (1536 * 768)
    by_class = layer.groupby("class").area_m2.sum() / (1536 * 768 * 100)
    assert np.abs(by_class - share).max() < 0.01
