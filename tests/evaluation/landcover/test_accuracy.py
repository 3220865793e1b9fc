import json

import geopandas as gpd
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyproj import Transformer
from rasterio.transform import from_origin
from rasterio.windows import Window
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

from pipeline.errors import LabelsError, VectorFileError
from pipeline.evaluation.landcover import accuracy
from pipeline.evaluation.landcover.accuracy import evaluate_landcover, prediction_grid
from pipeline.evaluation.landcover.labels import read_landcover_labels
from pipeline.models.legend import DYNAMIC_WORLD
from tests.evaluation.landcover.test_labels import write_points, write_raster
from tests.evaluation.test_labels import GRID, UTM, pixels

VRT = """<VRTDataset rasterXSize="2" rasterYSize="2"><SRS>EPSG:32632</SRS>
<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename>{}</SourceFilename>
<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""


def compare(tmp_path, predicted, labelled):
    path = write_raster(tmp_path / "p.tif", np.asarray(predicted, np.uint8))
    truth = write_raster(tmp_path / "t.tif", np.asarray(labelled, np.uint8))
    return evaluate_landcover(path, read_landcover_labels(truth, prediction_grid(path)), DYNAMIC_WORLD)


def test_a_map_of_six_pixels(tmp_path):
    result = compare(tmp_path, [[0, 0, 1], [1, 255, 4]], [[0, 1, 1], [1, 1, 255]])
    assert result.pixels == 4
    assert result.accuracy == 0.75
    assert result.users_accuracy[[0, 1]].tolist() == [0.5, 1.0]
    assert result.producers_accuracy[[0, 1]].tolist() == [1.0, pytest.approx(2 / 3)]
    assert result.iou[[0, 1]].tolist() == [0.5, pytest.approx(2 / 3)]
    assert result.f1[[0, 1]].tolist() == [pytest.approx(2 / 3), pytest.approx(0.8)]
    assert np.isnan(result.iou[2:]).all()
    assert result.mean_iou == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.hectares.sum() == pytest.approx(0.04)


def test_equals_torchmetrics_and_does_not_depend_on_the_blocks(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    predicted, labelled = rng.integers(0, 9, (2, 70, 30))
    whole = compare(tmp_path, predicted, labelled)
    monkeypatch.setattr(accuracy, "BLOCK_ROWS", 16)
    assert (compare(tmp_path, predicted, labelled).matrix == whole.matrix).all()
    p, t = torch.tensor(predicted), torch.tensor(labelled)
    assert (whole.matrix == multiclass_confusion_matrix(p, t, 9).numpy()).all()
    assert whole.iou == pytest.approx(multiclass_jaccard_index(p, t, 9, average="none").numpy())


def test_metrics_are_plain_json(tmp_path):
    metrics = compare(tmp_path, [[0, 1]], [[0, 1]]).metrics()
    assert metrics["classes"]["snow and ice"]["iou"] is None
    assert metrics["classes"]["water"]["labelled_ha"] == pytest.approx(0.01)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_labels_of_another_place_are_told_and_nothing_is_made_up(tmp_path):
    metrics = compare(tmp_path, [[0, 1]], [[255, 255]]).metrics()
    assert "nothing could be measured" in metrics["note"]
    assert metrics["pixels"] == 0
    figures = ("accuracy", "mean_iou", "mean_f1", "kappa", "quantity_disagreement", "boundary_f1")
    assert [metrics[name] for name in figures] == [None] * 6
    assert metrics["interval_95"]["accuracy"] == [None, None]
    assert metrics["confusion_matrix"]["row_shares"][0] == [None] * 9


def test_values_that_are_no_class_count_neither_way_and_are_told(tmp_path):
    result = compare(tmp_path, [[0, 77, 1, 255]], [[0, 1, 99, 99]])
    assert result.pixels == 1
    assert result.metrics()["unknown_class_pixels"] == {"labels": 2, "predicted": 1}


def test_classes_of_polygons_that_are_unknown_are_told(tmp_path):
    path = write_raster(tmp_path / "p.tif", np.zeros((4, 6), np.uint8))
    frame = gpd.GeoDataFrame(
        {"fclass": ["water", "park", "park"]}, geometry=[pixels(0, 0), pixels(1, 0), pixels(2, 0)], crs=UTM
    )
    frame.to_file(tmp_path / "l.gpkg")
    labels = read_landcover_labels(tmp_path / "l.gpkg", prediction_grid(path))
    metrics = evaluate_landcover(path, labels, DYNAMIC_WORLD).metrics()
    assert (metrics["pixels"], metrics["unknown_classes"]) == (1, ["park"])


def test_points_have_an_interval_from_the_blocks_that_they_are_in(tmp_path, monkeypatch):
    """100 points in blocks of their own, 90 of them right: the interval is that of a proportion."""
    monkeypatch.setattr(accuracy, "BLOCK_PX", 4)
    path = write_raster(tmp_path / "p.tif", np.zeros((40, 40), np.uint8))
    places = [(4 * (i % 10) + 1.5, 4 * (i // 10) + 2.5) for i in range(100)]
    points = write_points(tmp_path / "l.gpkg", places, [6] * 10 + [0] * 90)
    metrics = evaluate_landcover(
        path, read_landcover_labels(points, prediction_grid(path)), DYNAMIC_WORLD
    ).metrics()
    assert (metrics["pixels"], metrics["accuracy"], metrics["interval_blocks"]["count"]) == (100, 0.9, 100)
    assert metrics["interval_95"]["accuracy"] == pytest.approx([0.84, 0.96], abs=0.011)


def test_a_file_without_polygons_measures_nothing(tmp_path):
    path = write_raster(tmp_path / "p.tif", np.zeros((4, 6), np.uint8))
    (tmp_path / "l.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    labels = read_landcover_labels(tmp_path / "l.geojson", prediction_grid(path))
    metrics = evaluate_landcover(path, labels, DYNAMIC_WORLD).metrics()
    assert (metrics["pixels"], metrics["accuracy"]) == (0, None)


def test_shares_of_rows_and_columns(tmp_path):
    matrix = compare(tmp_path, [[0, 0, 1, 1]], [[0, 1, 1, 1]]).metrics()["confusion_matrix"]
    assert matrix["row_shares"][1][:2] == pytest.approx([1 / 3, 2 / 3])
    assert matrix["column_shares"][0][:2] == [0.5, 0]
    assert matrix["column_shares"][1][:2] == [0.5, 1]


def test_intervals_are_drawn_from_blocks_of_ground(tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, "BLOCK_PX", 4)
    labelled = np.zeros((16, 16), np.uint8)
    predicted = labelled.copy()
    predicted[:, 8:] = 1  # eight of sixteen blocks are all wrong
    result = compare(tmp_path, predicted, labelled)
    assert result.blocks.shape == (16, 9, 9)
    metrics = result.metrics()
    assert metrics["interval_blocks"] == {"count": 16, "side_m": 40}
    low, high = metrics["interval_95"]["accuracy"]
    # A sixteenth of a binomial of 16 and 1/2: its 2.5 and 97.5 % quantiles are 4 and 12.
    assert (low, high) == (4 / 16, 12 / 16)
    assert metrics["classes"]["water"]["interval_95"]["producers_accuracy"] == [low, high]
    assert metrics["classes"]["trees"]["interval_95"]["iou"] == [0, 0]
    assert metrics["classes"]["crops"]["interval_95"]["iou"] == [None, None]


def test_one_block_says_nothing_about_how_blocks_vary(tmp_path):
    metrics = compare(tmp_path, [[0, 1]], [[0, 0]]).metrics()
    assert metrics["accuracy"] == 0.5
    assert metrics["interval_95"]["accuracy"] == [None, None]


@settings(max_examples=8)
@given(
    arrays(np.uint8, (2, 23, 17), elements=st.sampled_from([0, 1, 2, 255])),
    st.integers(1, 24),
    st.integers(3, 30),
    st.sampled_from([10.0, 20.0, 45.0]),
)
def test_nothing_depends_on_the_strips_or_blocks(tmp_path_factory, maps, rows, block, tolerance_m):
    folder = tmp_path_factory.mktemp("maps")
    path, truth = (write_raster(folder / f"{i}.tif", values) for i, values in enumerate(maps))
    labels = read_landcover_labels(truth, prediction_grid(path))
    whole = evaluate_landcover(path, labels, DYNAMIC_WORLD, tolerance_m)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "BLOCK_ROWS", rows)
        patch.setattr(accuracy, "BLOCK_PX", block)
        parts = evaluate_landcover(path, labels, DYNAMIC_WORLD, tolerance_m)
    assert (parts.matrix == whole.matrix).all()
    assert (parts.boundaries.counts == whole.boundaries.counts).all()


def test_labels_of_another_crs_are_taken_at_the_centres_whatever_the_strips(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    path = write_raster(tmp_path / "p.tif", np.zeros((240, 240), np.uint8))
    grid = prediction_grid(path)
    x, y = to_zone_33(*(grid.affine * (0, 0)))
    values = rng.integers(0, 9, (600, 600)).astype(np.uint8)
    truth = write_raster(tmp_path / "t.tif", values, from_origin(x - 2000, y + 2000, 10, 10), "EPSG:32633")
    labels = read_landcover_labels(truth, grid)
    whole = labels.read(Window(0, 0, 240, 240))
    col, row = np.meshgrid(np.arange(240) + 0.5, np.arange(240) + 0.5)
    there_x, there_y = to_zone_33(*(grid.affine * (col, row)))
    at = ((y + 2000 - there_y) // 10).astype(int), ((there_x - x + 2000) // 10).astype(int)
    assert (whole == values[at]).all()
    matrix = evaluate_landcover(path, labels, DYNAMIC_WORLD).matrix
    monkeypatch.setattr(accuracy, "BLOCK_ROWS", 37)
    assert (evaluate_landcover(path, labels, DYNAMIC_WORLD).matrix == matrix).all()


def to_zone_33(x, y):
    return Transformer.from_crs(32632, 32633, always_xy=True).transform(x, y)


@pytest.mark.parametrize("recipe", ["no raster", VRT])
def test_a_prediction_that_is_no_raster_is_refused(tmp_path, recipe):
    write_raster(tmp_path / "private.tif", np.ones((2, 2), np.uint8))
    (tmp_path / "p.tif").write_text(recipe.format(tmp_path / "private.tif"))
    with pytest.raises(LabelsError, match="can't be read as a raster"):
        prediction_grid(tmp_path / "p.tif")
    with pytest.raises(VectorFileError, match="Land-cover labels can't be read"):
        read_landcover_labels(tmp_path / "p.tif", GRID)


def test_pseudo_labels_of_brandenburg_against_its_osm_land_use(shared_data):
    folder = shared_data / "landcover" / "brandenburg"
    pseudo = folder / "dynamicworld_pseudolabel.tif"
    labels = read_landcover_labels(folder / "osm_landuse_west.gpkg", prediction_grid(pseudo))
    result = evaluate_landcover(pseudo, labels, DYNAMIC_WORLD)
    assert result.pixels == int((labels.read(Window(0, 0, 1536, 768)) != 255).sum())
    assert 0.3 < result.accuracy < 1
