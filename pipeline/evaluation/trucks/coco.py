"""COCO's average precision and recall of truck boxes, by faster-coco-eval."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.evaluation.trucks.matching import Pairs, same_class

_TOO_LARGE = 1e12
"""Area of ignored references. COCO ignores references outside of the range of areas, too."""


def coco_scores(
    predicted: ArrayLike,
    scores: ArrayLike,
    reference: ArrayLike,
    ignored: ArrayLike,
    predicted_scene: ArrayLike | None = None,
    reference_scene: ArrayLike | None = None,
) -> dict[str, float]:
    """Return `ap` (IoU 0.50 to 0.95), `ap_0.5`, `ap_0.75` and `ar` of boxes (N, 4) against boxes (M, 4).

    Boxes are x_min, y_min, x_max, y_max; `ignored` is (M,), scenes are (N,) and (M,). All detections count:
    there is no limit of 100 an image. Equal scores are taken scene by scene, in the order of the detections.
    NaN without references that count. Memory grows with the number of boxes, as COCO's table of overlaps is
    made for each group of boxes that touch.

    Source: Lin et al., "Microsoft COCO: common objects in context", ECCV 2014.
    """
    from faster_coco_eval import COCO, COCOeval_faster  # takes a quarter of a second to import

    p, r = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (predicted, reference))
    group = _groups(p, r, predicted_scene, reference_scene)
    # Ranks instead of scores: the order of equal scores does not depend on the groups.
    scene = np.unique([0] * len(p) if predicted_scene is None else predicted_scene, return_inverse=True)[1]
    rank = np.argsort(np.lexsort((scene, -np.asarray(scores, dtype=np.float64))))
    area = np.where(np.asarray(ignored, dtype=bool), _TOO_LARGE, _areas(r))
    references = [
        {**_annotation(i, box, group[len(p) + i]), "area": float(area[i]), "iscrowd": 0}
        for i, box in enumerate(r)
    ]
    detections = [
        {**_annotation(i, box, group[i]), "area": float(_areas(box)), "score": float(len(p) - rank[i])}
        for i, box in enumerate(p)
    ]
    shared = {"images": [{"id": number} for number in range(int(group.max(initial=0)) + 1)]}
    shared["categories"] = [{"id": 1}]
    evaluator = COCOeval_faster(
        *(COCO({**shared, "annotations": part}) for part in (references, detections)), iouType="bbox"
    )
    evaluator.params.maxDets = [max(1, int(np.bincount(group[: len(p)]).max(initial=0)))]
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0.0, _TOO_LARGE / 2]], ["all"]
    evaluator.evaluate()
    evaluator.accumulate()
    precision, recall = (np.asarray(evaluator.eval[name]) for name in ("precision", "recall"))
    if (recall < 0).any():  # COCO's mark for no references
        precision, recall = np.full_like(precision, np.nan), np.full_like(recall, np.nan)
    ious = evaluator.params.iouThrs
    parts = {"ap": precision, "ap_0.5": precision[ious == 0.5], "ap_0.75": precision[ious == 0.75]}
    return {name: float(values.mean()) for name, values in {**parts, "ar": recall}.items()}


def _groups(p: NDArray[np.float64], r: NDArray[np.float64], *scenes: ArrayLike | None) -> NDArray[np.intp]:
    """Return (N + M,): numbers of the groups of boxes, of one scene, that are connected by touching."""
    i, j = shapely.STRtree(np.asarray(shapely.box(*r.T))).query(np.asarray(shapely.box(*p.T)))
    pairs = same_class(Pairs(i, j, np.zeros(len(i))), *scenes)
    total = len(p) + len(r)
    edges = (np.ones(len(pairs.fit), bool), (pairs.prediction, len(p) + pairs.reference))
    return np.asarray(connected_components(coo_array(edges, shape=(total, total)), directed=False)[1])


def _annotation(index: int, box: NDArray[np.float64], group: int) -> dict[str, object]:
    x, y, right, top = box.tolist()
    return {"id": index + 1, "image_id": int(group), "category_id": 1, "bbox": [x, y, right - x, top - y]}


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
