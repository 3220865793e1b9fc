import numpy as np
import pytest

from pipeline.errors import EvaluationError
from pipeline.evaluation.landcover.accuracy import prediction_grid
from pipeline.evaluation.landcover.compare import compare_landcover
from pipeline.evaluation.landcover.labels import read_landcover_labels
from pipeline.models.legend import DYNAMIC_WORLD
from tests.evaluation.landcover.test_labels import write_points, write_raster


@pytest.fixture
def maps(tmp_path):
    """Crops (4) all over; the first map takes an upper part for trees (1), the second a left one."""
    truth = np.full((40, 60), 4, np.uint8)
    truth[:, 50:] = 255
    before, after = (np.full((40, 60), 4, np.uint8) for _ in range(2))
    before[:20] = 1
    after[:, :10] = 1
    after[39] = 255
    paths = [write_raster(tmp_path / f"{name}.tif", values) for name, values in (("a", before), ("b", after))]
    labels = read_landcover_labels(write_raster(tmp_path / "t.tif", truth), prediction_grid(paths[0]))
    return *paths, labels


def test_areas_of_each_change(maps):
    compared = compare_landcover(*maps, DYNAMIC_WORLD)
    # 50 x 39 pixels have a class in both maps and in the labels
    assert compared.hectares == pytest.approx(
        {"fixed": 8.0, "broken": 1.9, "still wrong": 2.0, "both right": 7.6}
    )
    assert compared.areas["change"].tolist() == ["fixed", "still wrong", "broken"]
    assert compared.areas["area_ha"].tolist() == pytest.approx([8.0, 2.0, 1.9])


def test_each_pixel_with_a_point_that_changes_is_an_area(maps, tmp_path):
    before, after, _ = maps
    points = write_points(tmp_path / "l.gpkg", [(20.5, 5.5), (5.5, 30.5), (20.5, 30.5)], ["crops"] * 3)
    compared = compare_landcover(
        before, after, read_landcover_labels(points, prediction_grid(before)), DYNAMIC_WORLD
    )
    assert compared.areas["change"].tolist() == ["broken", "fixed"]
    assert compared.areas["area_ha"].tolist() == pytest.approx([0.01, 0.01])


def test_figures_before_and_after(maps):
    compared = compare_landcover(*maps, DYNAMIC_WORLD)
    differences = compared.differences()
    assert list(differences) == ["accuracy", "mean_iou", "crops"]
    assert differences["accuracy"].before == pytest.approx((7.6 + 1.9) / 19.5)
    assert differences["accuracy"].after == pytest.approx((7.6 + 8) / 19.5)
    assert differences["crops"].before == differences["mean_iou"].before
    assert np.isnan(differences["accuracy"].low)  # one block of 2.56 km says nothing about chance


def test_other_grids_are_refused(maps, tmp_path):
    before, _, labels = maps
    other = write_raster(tmp_path / "other.tif", np.zeros((10, 10), np.uint8))
    with pytest.raises(EvaluationError, match="different grids"):
        compare_landcover(before, other, labels, DYNAMIC_WORLD)
