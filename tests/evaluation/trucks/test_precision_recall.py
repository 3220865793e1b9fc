"""Average precision and recall: worked examples, and figure for figure those of faster-coco-eval."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.trucks.precision_recall import (
    COCO_AREAS,
    COCO_IOUS,
    RECALL_LEVELS,
    coco_score,
    precision_recall,
)


def test_by_hand():
    # Of three trucks the best and third-best detection are right: precision 1 up to recall 1/3, then 2/3 up
    # to 2/3, then nothing. At recall 0, 0.01, ..., 1 that is 34 and 33 points of 101.
    curve = precision_recall([0.9, 0.8, 0.7], [[0, 0], [2, 1]], [0.8, 0.8], [False] * 3)
    assert curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert curve.average_precision == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert curve.interpolated.tolist() == pytest.approx([1] * 34 + [2 / 3] * 33 + [0] * 34)


def test_the_published_example_of_padilla():
    """24 detections of 15 objects, "Object-Detection-Metrics" (Padilla, Netto and da Silva, 2020): their
    table of scores, whether right, and AP 24.56 % as an area, 26.84 % at eleven points."""
    scores = "95 95 91 88 84 80 78 74 71 70 67 62 54 48 45 45 44 44 43 38 35 23 18 14"
    right = [0, 2, 9, 11, 12, 13, 22]
    pairs = [[detection, truth] for truth, detection in enumerate(right)]
    curve = precision_recall(np.array(scores.split(), float) / 100, pairs, np.ones(7), [False] * 15)
    assert curve.recall[-1] == pytest.approx(7 / 15)
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    area = (np.diff(curve.recall, prepend=0) * envelope).sum()
    assert 100 * area == pytest.approx(24.56, abs=0.01)  # printed cut off: it is 24.568
    assert round(100 * curve.interpolated[::10].mean(), 2) == 26.84
    assert len(curve.interpolated) == len(RECALL_LEVELS)


def test_without_references_nothing_is_defined():
    curve = precision_recall([0.5], np.zeros((0, 2)), [], [True])
    assert np.isnan(curve.average_precision) and np.isnan(curve.interpolated).all()
    assert curve.precision.tolist() == [0]
    nothing = coco_score([[0, 0, 9, 9]], [0.5], np.zeros((0, 4)))
    assert np.isnan([nothing.average_precision, nothing.average_recall]).all()


def test_coco_by_hand():
    """Of two boxes one is found exactly, the other with IoU 0.6; between the two lies a false alarm."""
    truth = [[0, 0, 40, 40], [100, 0, 140, 40]]
    found = [[0, 0, 40, 40], [500, 0, 540, 40], [100, 10, 140, 50]]
    score = coco_score(found, [0.9, 0.8, 0.7], truth)
    # At 0.5, 0.55 and 0.6 both are found: precision 1 at 51 levels, 2/3 at 50; beyond, only the first.
    both, one = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert score.average_precision_at(0.5) == pytest.approx(both)
    assert score.average_precision_at(0.75) == pytest.approx(one)
    assert score.average_precision == pytest.approx((3 * both + 7 * one) / 10)
    assert score.average_recall == pytest.approx((3 * 1 + 7 * 0.5) / 10)


def theirs(found, scores, truth, ignored, crowd, classes, images, areas="all", most=10_000):
    """AP (T, 101, K) and AR (T, K) of faster-coco-eval, a C++ implementation of the COCO evaluation."""
    from faster_coco_eval import COCO, COCOeval_faster

    (class_p, class_r), (image_p, image_r) = classes, images

    def annotation(i, box, kind, image):
        xywh = [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]
        return {"id": i + 1, "image_id": int(image), "category_id": int(kind), "bbox": xywh}

    # COCO's own way to ignore a box without making it a crowd: an area out of the range that is asked for.
    annotations = [
        annotation(i, box, class_r[i], image_r[i])
        | {
            "area": 1e12 if ignored[i] else float((box[2] - box[0]) * (box[3] - box[1])),
            "iscrowd": int(crowd[i]),
        }
        for i, box in enumerate(truth)
    ]
    detections = [
        annotation(i, box, class_p[i], image_p[i]) | {"score": float(scores[i])}
        for i, box in enumerate(found)
    ]
    kinds = sorted({int(kind) for kind in (*class_p, *class_r)})
    pictures = sorted({int(image) for image in (*image_p, *image_r)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(
            {
                "images": [{"id": image} for image in pictures],
                "categories": [{"id": kind} for kind in kinds],
                "annotations": annotations,
            }
        )
        evaluator = COCOeval_faster(coco, coco.loadRes(detections), iouType="bbox")
        evaluator.params.maxDets = [most]
        evaluator.params.iouThrs = COCO_IOUS
        evaluator.params.areaRng = [list(COCO_AREAS[areas])]
        evaluator.params.areaRngLbl = [areas]
        evaluator.evaluate()
        evaluator.accumulate()
    precision = np.asarray(evaluator.eval["precision"])[:, :, :, 0, 0]
    recall = np.asarray(evaluator.eval["recall"])[:, :, 0, 0]
    return (np.where(values < 0, np.nan, values) for values in (precision, recall))


def agree(found, scores, truth, ignored, crowd, classes, images, areas="all", most=None):
    pytest.importorskip("faster_coco_eval")
    ours = coco_score(
        found,
        scores,
        truth,
        ignore=ignored,
        crowd=crowd,
        predicted_class=classes[0],
        reference_class=classes[1],
        predicted_image=images[0],
        reference_image=images[1],
        area_range=COCO_AREAS[areas],
        max_detections=most,
    )
    precision, recall = theirs(found, scores, truth, ignored, crowd, classes, images, areas, most or 10_000)
    np.testing.assert_allclose(ours.precision, precision, atol=1e-6)
    np.testing.assert_allclose(ours.recall, recall, atol=1e-6)
    return ours


@pytest.mark.parametrize("areas", COCO_AREAS)
@pytest.mark.parametrize("most", [None, 20])
def test_equals_faster_coco_eval_on_many_boxes(areas, most):
    """300 boxes of 8 to 130 px, three classes, four images; some ignored, some crowds."""
    rng = np.random.default_rng(list(areas.encode()))
    corner, side = rng.uniform(0, 900, (300, 2)), rng.uniform(8, 130, (300, 2))
    truth = np.c_[corner, corner + side]
    again = np.r_[0:300, 0:120]
    found = truth[again] + rng.normal(0, 4, (420, 4))
    kind, image = rng.integers(1, 4, 300), rng.integers(1, 5, 300)
    found_kind = np.where(rng.random(420) < 0.9, kind[again], 1)
    crowd = rng.random(300) < 0.05
    score = agree(
        found,
        rng.permutation(420) / 420,
        truth,
        rng.random(300) < 0.15,
        crowd,
        (found_kind, kind),
        (image[again], image),
        areas,
        most,
    )
    assert 0.01 < score.average_precision < 0.95


# On a lattice of 10 px equal overlaps, and overlaps of exactly a threshold, are common.
lattice_boxes = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(1, 4), st.integers(1, 3)),
    min_size=1,
    max_size=8,
).map(lambda rows: np.array([[x, y, x + w, y + h] for x, y, w, h in rows], float) * 10)


@settings(deadline=None, max_examples=60)
@given(lattice_boxes, lattice_boxes, st.data())
def test_equals_faster_coco_eval_where_overlaps_are_equal(found, truth, data):
    def flags(count):
        return np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))

    # Scores may be equal as well.
    scores = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(found), max_size=len(found)))) / 4
    classes = (1 + flags(len(found)), 1 + flags(len(truth)))
    images = (1 + flags(len(found)), 1 + flags(len(truth)))
    agree(found, scores, truth, flags(len(truth)), flags(len(truth)), classes, images)
