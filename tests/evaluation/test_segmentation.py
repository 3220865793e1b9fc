import json

import numpy as np
import pytest
import torch
from rasterio.windows import Window
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

from pipeline.errors import LabelsError
from pipeline.evaluation import segmentation
from pipeline.evaluation.labels import read_landcover_labels
from pipeline.evaluation.segmentation import evaluate_landcover, prediction_grid
from pipeline.models.segmenter import DYNAMIC_WORLD
from tests.evaluation.test_labels import write_raster


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
    monkeypatch.setattr(segmentation, "BLOCK_ROWS", 16)
    assert (compare(tmp_path, predicted, labelled).matrix == whole.matrix).all()
    p, t = torch.tensor(predicted), torch.tensor(labelled)
    assert (whole.matrix == multiclass_confusion_matrix(p, t, 9).numpy()).all()
    assert whole.iou == pytest.approx(multiclass_jaccard_index(p, t, 9, average="none").numpy())


def test_metrics_are_plain_json(tmp_path):
    metrics = compare(tmp_path, [[0, 1]], [[0, 1]]).metrics()
    assert metrics["classes"]["snow and ice"]["iou"] is None
    assert metrics["classes"]["water"]["labelled_ha"] == pytest.approx(0.01)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_labels_of_another_place_leave_nothing_to_compare(tmp_path):
    with pytest.raises(LabelsError, match="Nothing to compare"):
        compare(tmp_path, [[0, 1]], [[255, 255]])


def test_a_prediction_that_is_no_raster_is_refused(tmp_path):
    (tmp_path / "p.tif").write_text("no raster")
    with pytest.raises(LabelsError, match="can't be read as a raster"):
        prediction_grid(tmp_path / "p.tif")


def test_pseudo_labels_of_brandenburg_against_its_osm_land_use(shared_data):
    folder = shared_data / "landcover" / "brandenburg"
    pseudo = folder / "dynamicworld_pseudolabel.tif"
    labels = read_landcover_labels(folder / "osm_landuse_west.gpkg", prediction_grid(pseudo))
    result = evaluate_landcover(pseudo, labels, DYNAMIC_WORLD)
    assert result.pixels == int((labels.read(Window(0, 0, 1536, 768)) != 255).sum())
    assert 0.3 < result.accuracy < 1
