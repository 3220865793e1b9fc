from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.features import rasterize
from rio_cogeo.cogeo import cog_validate

from pipeline.errors import OutputError
from pipeline.layers.columns import LANDCOVER, LANDCOVER_WITH_CONFIDENCE
from pipeline.layers.landcover import polygonise, write_cog, write_probability_cog
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


def write_steps(path: Path, steps: np.ndarray) -> Path:
    """A raster of probabilities, bands first."""
    bands, rows, cols = steps.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=bands, height=rows, width=cols, crs="EPSG:32632",
        transform=GRID, nodata=255, tiled=True, blockxsize=256, blockysize=256, interleave="band",
    ) as target:  # fmt: skip
        target.write(steps.astype(np.uint8))
    return path


@pytest.mark.parametrize("legend", [LEGEND, LEGEND[:3], LEGEND[:1]], ids=len)
def test_probabilities_are_a_cog_with_a_band_for_each_class(tmp_path, legend):
    steps = np.arange(len(legend) * 600 * 600).reshape(len(legend), 600, 600) % 201
    cog = tmp_path / "landcover_probability.tif"
    write_probability_cog(write_steps(tmp_path / "steps.tif", steps), cog, legend)
    assert cog_validate(cog, strict=False, quiet=True)[:2] == (True, [])
    with rasterio.open(cog) as dataset:
        assert (dataset.read() == steps).all()
        assert dataset.descriptions == tuple(entry.name for entry in legend)
        assert dataset.scales == (0.005,) * len(legend)
        assert dataset.nodatavals == (255,) * len(legend)
        assert dataset.colorinterp[0] == ColorInterp.gray
        assert dataset.transform == GRID


def test_overviews_of_probabilities_are_the_mean_of_pixels_with_a_class(tmp_path):
    steps = np.full((2, 600, 600), 40)
    steps[:, ::2, ::2] = 80
    steps[:, 1::2, :100] = 255
    write_probability_cog(write_steps(tmp_path / "steps.tif", steps), tmp_path / "cog.tif", LEGEND[:2])
    with rasterio.open(tmp_path / "cog.tif", overview_level=0) as overview:
        small = overview.read()
    assert set(np.unique(small[:, :, :50])) == {60}
    assert set(np.unique(small[:, :, 50:])) == {50}


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


def test_confidence_is_the_mean_probability_of_the_polygons_own_class(tmp_path):
    source = write_classes(tmp_path / "classes.tif", np.array([[1, 1, 0], [1, 2, 0], [255, 2, 2]]))
    steps = np.zeros((9, 3, 3))
    steps[1] = [[200, 150, 9], [100, 41, 9], [255, 9, 9]]
    steps[0, :2, 2] = 101, 102
    steps[2] = [[9, 9, 9], [9, 120, 9], [255, 100, 81]]
    steps[:, 2, 0] = 255
    soft = write_steps(tmp_path / "steps.tif", steps)
    layer = polygonise(source, LEGEND, probabilities=soft)
    assert tuple(layer.columns) == LANDCOVER_WITH_CONFIDENCE.names
    assert layer[["class", "confidence"]].values.tolist() == [[1, 0.75], [0, 0.508], [2, 0.502]]
    merged = polygonise(source, LEGEND, min_area_m2=300, probabilities=soft)
    assert merged[["class", "confidence"]].values.tolist() == [[1, round(468 / 1000, 3)], [2, 0.502]]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 600), st.integers(1, 40), st.sampled_from([0, 400, 2000]), st.integers(0, 2**32 - 1))
def test_confidence_is_what_rasterised_polygons_have(tmp_path, rows, cols, min_area_m2, seed):
    """By another way: polygons are burnt on the grid, and the probabilities of their pixels averaged."""
    rng = np.random.default_rng(seed)
    classes = np.repeat(rng.choice([0, 3, 8, 255], (rows, -(-cols // 4))), 4, axis=1)[:, :cols]
    steps = np.where(classes == 255, 255, rng.integers(0, 201, (9, rows, cols)))
    source = write_classes(tmp_path / "classes.tif", classes)
    soft = write_steps(tmp_path / "steps.tif", steps)
    layer = polygonise(source, LEGEND, min_area_m2, 0, soft)
    if not len(layer):
        assert (classes == 255).all()
        return
    numbered = rasterize(
        zip(layer.geometry, range(len(layer)), strict=True),
        (rows, cols),
        fill=-1,
        transform=GRID,
        dtype="int32",
    )
    for number, row in enumerate(layer.itertuples()):
        expected = steps[layer["class"][number]][numbered == number].mean() / 200
        assert row.confidence == pytest.approx(expected, abs=0.000501)


def test_all_nodata_gives_an_empty_layer_with_all_columns(tmp_path):
    layer = polygonise(write_classes(tmp_path / "classes.tif", np.full((3, 2), 255)), LEGEND, 500, 10)
    assert len(layer) == 0
    assert tuple(layer.columns) == LANDCOVER.names
    assert layer.crs.to_epsg() == 32632
    soft = write_steps(tmp_path / "steps.tif", np.full((9, 3, 2), 255))
    layer = polygonise(tmp_path / "classes.tif", LEGEND, 500, 10, soft)
    assert (len(layer), tuple(layer.columns)) == (0, LANDCOVER_WITH_CONFIDENCE.names)


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
