import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.functional import classification

from pipeline.evaluation.landcover import confusion_matrix

MATRICES = arrays(np.int64, (4, 4), elements=st.integers(0, 50))


def test_disagreement_by_hand():
    """Two classes: 10 + 6 pixels agree, 3 of the first are mapped as the second, 1 the other way."""
    matrix = [[10, 3], [1, 6]]
    assert confusion_matrix.accuracy(matrix) == pytest.approx(16 / 20)
    assert confusion_matrix.quantity_disagreement(matrix) == pytest.approx(2 / 20)  # 13 labelled, 11 mapped
    assert confusion_matrix.allocation_disagreement(matrix) == pytest.approx(2 / 20)  # one pair swapped
    chance = (13 * 11 + 7 * 9) / 400
    assert confusion_matrix.kappa(matrix) == pytest.approx((0.8 - chance) / (1 - chance))


def test_classes_in_each_others_place_are_all_allocation():
    assert confusion_matrix.allocation_disagreement([[0, 5], [5, 0]]) == 1
    assert confusion_matrix.quantity_disagreement([[0, 5], [5, 0]]) == 0


@given(MATRICES)
def test_quantity_and_allocation_are_all_that_is_wrong(matrix):
    together = confusion_matrix.quantity_disagreement(matrix) + confusion_matrix.allocation_disagreement(
        matrix
    )
    assert together == pytest.approx(1 - confusion_matrix.accuracy(matrix), nan_ok=True)


@settings(max_examples=30)
@given(MATRICES)
def test_equals_torchmetrics(matrix):
    truth, mapped = np.divmod(np.repeat(np.arange(16), matrix.ravel()), 4)
    if not len(truth):
        return
    p, t = torch.tensor(mapped), torch.tensor(truth)
    for ours, theirs in (
        (confusion_matrix.users_accuracy, classification.multiclass_precision),
        (confusion_matrix.producers_accuracy, classification.multiclass_recall),
        (confusion_matrix.iou, classification.multiclass_jaccard_index),
        (confusion_matrix.f1, classification.multiclass_f1_score),
    ):
        # Theirs is 0 where ours says that there is nothing to say.
        expected = theirs(p, t, num_classes=4, average="none").numpy()
        assert np.nan_to_num(ours(matrix)) == pytest.approx(expected, abs=1e-6)
    kappa = classification.multiclass_cohen_kappa(p, t, num_classes=4).item()
    assert float(confusion_matrix.kappa(matrix)) == pytest.approx(kappa, abs=1e-5, nan_ok=True)
    assert float(confusion_matrix.accuracy(matrix)) == pytest.approx((p == t).double().mean().item())


@settings(max_examples=20)
@given(arrays(np.int64, (3, 4, 4), elements=st.integers(0, 50)))
def test_many_matrices_at_once_are_as_one_by_one(matrices):
    for figure in (
        confusion_matrix.accuracy,
        confusion_matrix.f1,
        confusion_matrix.kappa,
        confusion_matrix.row_shares,
    ):
        one_by_one = np.stack([figure(matrix) for matrix in matrices])
        assert figure(matrices) == pytest.approx(one_by_one, nan_ok=True)


def test_what_is_not_defined_is_nan():
    nothing = np.zeros((2, 2))
    for figure in (
        confusion_matrix.accuracy,
        confusion_matrix.kappa,
        confusion_matrix.iou,
        confusion_matrix.column_shares,
    ):
        assert np.isnan(figure(nothing)).all()
    assert confusion_matrix.mean_over(np.array([True, True, False]), np.array([0.5, np.nan, 1])) == 0.5
