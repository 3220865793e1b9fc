"""Scenes as torchgeo data sets."""

import numpy as np

from pipeline.training.detector.imagery import SceneImagery

BANDS = ("B02", "B03", "B04", "B08")
WEST, NORTH = 600000, 5800000


def test_imagery_is_a_torchgeo_dataset(scene):
    imagery = SceneImagery(str(scene), BANDS)
    assert imagery.res == (10, 10) and imagery.crs.to_epsg() == 32632
    sample = imagery[WEST + 990 : WEST + 1040, NORTH - 30 : NORTH + 20]
    assert sample["image"].shape == (4, 5, 5)
    np.testing.assert_allclose(sample["image"][0, 2], [0.1, 0.2, 0.2, 0.2, 0.1])
    assert sample["valid"].tolist() == [[False] * 5] * 2 + [[True] * 5] * 3  # beyond the scene: no data
