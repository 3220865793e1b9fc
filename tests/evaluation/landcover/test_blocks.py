"""Confusion matrices by block of ground."""

import numpy as np

from pipeline.evaluation.bootstrap import block_bootstrap
from pipeline.evaluation.landcover.blocks import accuracy_and_iou, confusion_by_block


def test_confusion_of_every_block_adds_up():
    truth = np.array([[0, 0, 5, 5], [0, 5, 5, 255], [5, 5, 0, 0]], np.uint8)
    predicted = np.array([[0, 5, 5, 5], [0, 5, 0, 0], [9, 255, 0, 0]], np.uint8)
    matrices = confusion_by_block(truth, predicted, [0, 5], block_px=2)
    assert matrices.tolist() == [
        [[2, 1], [0, 1]],
        [[0, 0], [1, 2]],
        [[2, 0], [0, 0]],
    ]  # one block has nothing
    figures = accuracy_and_iou(matrices.sum(axis=0))
    np.testing.assert_allclose(figures, [7 / 9, 4 / 6, 3 / 5])
    assert block_bootstrap(matrices, accuracy_and_iou).shape == (2, 3)
