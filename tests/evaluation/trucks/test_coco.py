"""COCO's average precision and recall: worked examples, and those of a scene evaluated as one image."""

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.trucks.coco import coco_scores


def test_by_hand():
    """Of two boxes one is found exactly, the other with IoU 0.6; between the two is a false alarm."""
    truth = [[0, 0, 40, 40], [100, 0, 140, 40]]
    found = [[0, 0, 40, 40], [500, 0, 540, 40], [100, 10, 140, 50]]
    # At 0.5, 0.55 and 0.6 both are found: precision 1 at 51 levels, 2/3 at 50; beyond, only the first.
    both, one = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert coco_scores(found, [0.9, 0.8, 0.7], truth, [False] * 2) == pytest.approx(
        {"ap": (3 * both + 7 * one) / 10, "ap_0.5": both, "ap_0.75": one, "ar": (3 * 1 + 7 * 0.5) / 10}
    )


def test_without_references_nothing_is_defined_and_without_detections_nothing_is_found():
    box = [[0, 0, 9, 9]]
    assert np.isnan(list(coco_scores(box, [0.5], np.zeros((0, 4)), []).values())).all()
    assert np.isnan(list(coco_scores(box, [0.5], box, [True]).values())).all()
    assert set(coco_scores(np.zeros((0, 4)), [], box, [False]).values()) == {0.0}


def test_more_than_a_hundred_detections_count():
    corner = 100.0 * np.arange(300)[:, None] * [1, 1, 1, 1] + [0, 0, 30, 30]
    assert coco_scores(corner, np.linspace(0, 1, 300), corner, np.zeros(300, bool))["ar"] == 1


def test_only_boxes_of_the_same_scene_match():
    truth, found = [[0, 0, 40, 40]] * 2, [[0, 0, 40, 40]] * 2
    scores = coco_scores(found, [0.9, 0.8], truth, [False] * 2, ["a", "a"], ["a", "b"])
    assert scores["ar"] == 0.5


def as_one_image(found, scores, truth, ignored):
    def annotation(i, box, area):
        x, y, right, top = box.tolist()
        shared = {"id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": 0}
        return shared | {"bbox": [x, y, right - x, top - y], "area": area}

    sides = (
        [annotation(i, box, 1e12 if ignored[i] else 900.0) for i, box in enumerate(truth)],
        [annotation(i, box, 900.0) | {"score": float(scores[i])} for i, box in enumerate(found)],
    )
    shared = {"images": [{"id": 1}], "categories": [{"id": 1}]}
    evaluator = COCOeval_faster(*(COCO(shared | {"annotations": side}) for side in sides), iouType="bbox")
    evaluator.params.maxDets = [10_000]
    evaluator.params.areaRng = [[0, 1e10]]
    evaluator.params.areaRngLbl = ["all"]
    evaluator.evaluate()
    evaluator.accumulate()
    values = (np.asarray(evaluator.eval[name]).mean() for name in ("precision", "recall"))
    return [np.nan if value < 0 else value for value in values]


# On a lattice of 10 m equal overlaps, and overlaps of exactly a threshold, are common.
lattice_boxes = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 2), st.integers(1, 4), st.integers(1, 3)),
    min_size=1,
    max_size=8,
).map(lambda rows: np.array([[x, y, x + w, y + h] for x, y, w, h in rows], float) * 10)


@settings(deadline=None, max_examples=60)
@given(lattice_boxes, lattice_boxes, st.data())
def test_groups_of_boxes_give_what_one_image_gives(found, truth, data):
    scores = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(found), max_size=len(found)))) / 4
    ignored = data.draw(st.lists(st.booleans(), min_size=len(truth), max_size=len(truth)))
    ours = coco_scores(found, scores, truth, ignored)
    theirs = as_one_image(found, scores, truth, ignored)
    np.testing.assert_allclose([ours["ap"], ours["ar"]], theirs, atol=1e-6)
