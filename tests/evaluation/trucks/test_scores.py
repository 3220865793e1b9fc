import contextlib
import io
import json
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import LineString, box

from pipeline.evaluation.trucks.metrics import truck_metrics
from pipeline.evaluation.trucks.scores import evaluate_trucks

UTM = "EPSG:32632"


X, Y = 600_000.0, 5_800_000.0


def boxes(*places, size=30.0, **columns):
    """Square boxes around places, metres from (X, Y)."""
    shapes = [box(X + x - size / 2, Y + y - size / 2, X + x + size / 2, Y + y + size / 2) for x, y in places]
    return gpd.GeoDataFrame(columns, geometry=shapes, crs=UTM)


def labels(*places, confidence=None, travel=None, speed=None):
    n = len(places)
    return boxes(
        *places,
        id=[f"r{i}" for i in range(n)],
        confidence=confidence or ["high"] * n,
        travel_deg=travel or [np.nan] * n,
        speed_kmh=speed or [np.nan] * n,
    )


def test_precision_recall_and_f1_at_three_radii():
    reference = labels((0, 0), (1000, 0), (2000, 0))
    predicted = boxes((8, 0), (1018, 0), (2028, 0), (5000, 0), score=[0.9, 0.8, 0.7, 0.6])
    evaluation = evaluate_trucks(predicted, reference)
    counts = [(s.true_positives, s.false_positives, s.false_negatives) for s in evaluation.scores.values()]
    assert counts == [(1, 3, 2), (2, 2, 1), (3, 1, 0)]
    assert evaluation.primary.precision == 0.5
    assert evaluation.primary.recall == pytest.approx(2 / 3)
    assert evaluation.primary.f1 == pytest.approx(4 / 7)


def test_what_was_not_looked_at_is_not_a_miss_but_is_told():
    reference = labels((0, 0), (1000, 0), (2000, 0))
    seen = gpd.GeoDataFrame(geometry=[box(X - 500, Y - 500, X + 1500, Y + 500)], crs=UTM)
    score = evaluate_trucks(boxes((0, 0), score=[0.9]), reference, seen=seen).primary
    assert (score.true_positives, score.false_negatives, score.not_seen) == (1, 1, 1)
    assert score.recall == 0.5
    assert score.recall_all == pytest.approx(1 / 3)


def test_uncertain_references_count_neither_way():
    reference = labels((0, 0), (1000, 0), (2000, 0), confidence=["high", "low", "ignore"])
    predicted = boxes((0, 0), (1000, 0), score=[0.9, 0.8])
    evaluation = evaluate_trucks(predicted, reference)
    assert evaluation.primary.f1 == 1
    assert evaluation.primary.ignored == 1
    assert evaluation.curves["iou_0.5"].average_precision == 1


def test_detections_far_from_every_road_are_set_aside():
    roads = gpd.GeoDataFrame(geometry=[LineString([(X - 100, Y), (X + 100, Y)])], crs=UTM)
    evaluation = evaluate_trucks(
        boxes((0, 0), (0, 200), score=[0.9, 0.8]), labels((0, 0), (0, 300)), roads=roads.to_crs(4326)
    )
    assert (evaluation.primary.f1, len(evaluation.off_road), evaluation.primary.not_seen) == (1, 1, 1)


def test_no_trucks_at_all_is_undefined_and_written_as_null():
    empty = gpd.GeoDataFrame({"score": []}, geometry=[], crs=UTM)
    metrics = truck_metrics(evaluate_trucks(empty, labels()))
    assert metrics["centres"]["20m"]["precision"] is None
    assert metrics["average_precision"]["iou_0.5"] is None
    json.dumps(metrics, allow_nan=False)
    nothing_found = evaluate_trucks(empty, labels((0, 0))).primary
    assert (nothing_found.recall, nothing_found.f1) == (0, 0)


def test_degrees_are_never_taken_for_metres():
    reference, predicted = labels((0, 0), (1000, 0)), boxes((15, 0), (1025, 0), score=[0.9, 0.8])
    evaluation = evaluate_trucks(predicted.to_crs(4326), reference.to_crs(4326))
    assert evaluation.primary.true_positives == 1
    assert evaluation.reference.crs == UTM


def test_heading_and_speed_of_matched_trucks():
    reference = labels((0, 0), (1000, 0), (2000, 0), travel=[350, 90, 180], speed=[80, 80, 80])
    predicted = boxes(
        (0, 0),
        (1000, 0),
        (2000, 0),
        score=[0.9] * 3,
        heading_deg=[10, 270, None],
        axis_deg=[10, 90, 5],
        speed_kmh=[83, 76, None],
        speed_kmh_sigma=[5, 3, None],
    )
    evaluation = evaluate_trucks(predicted, reference)
    heading, speed = evaluation.heading, evaluation.speed
    assert (heading.known, heading.median_deg, heading.flips) == (2, 100, 1)
    assert (heading.axis_known, heading.axis_median_deg) == (3, 5)
    assert (speed.known, speed.median_kmh, speed.bias_kmh) == (2, 3.5, -0.5)
    assert speed.rmse_kmh == pytest.approx(np.sqrt(12.5))
    assert speed.within_one_sigma == 0.5


def coco_average_precision(truth, ignore, found, score, iou):
    """AP of faster-coco-eval, a C++ implementation of the COCO evaluation, without a cap on detections."""
    from faster_coco_eval import COCO, COCOeval_faster

    def xywh(b):
        return [float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])]

    # COCO's own way to ignore a box without making it a crowd: an area out of the range that is asked for.
    annotations = [
        {
            "id": i + 1,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": xywh(b),
            "area": 1e9 if flag else 1,
        }
        for i, (b, flag) in enumerate(zip(truth, ignore, strict=True))
    ]
    detections = [
        {"image_id": 1, "category_id": 1, "bbox": xywh(b), "score": float(s)}
        for b, s in zip(found, score, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": annotations}
        coco = COCO(dataset)
        evaluator = COCOeval_faster(coco, coco.loadRes(detections), iouType="bbox")
        evaluator.params.maxDets = [10_000]
        evaluator.params.iouThrs = np.array([iou])
        evaluator.params.areaRng = [[0, 1e8]]
        evaluator.params.areaRngLbl = ["all"]
        evaluator.evaluate()
        evaluator.accumulate()
    precision = np.asarray(evaluator.eval["precision"])
    return float(precision[precision > -1].mean())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("iou", [0.25, 0.5])
def test_average_precision_is_coco_s_beyond_a_hundred_detections(seed, iou):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 1500, (150, 2))
    truth = np.c_[corner, corner + rng.uniform(25, 60, (150, 2))]
    shift = np.tile(rng.normal(0, 7, (210, 2)), 2)
    found = np.concatenate([truth, truth[:60]]) + shift + rng.uniform(-4, 4, (210, 4))
    score = rng.permutation(len(found)) / len(found)
    ignore = rng.random(150) < 0.2
    reference = gpd.GeoDataFrame(
        {
            "id": np.arange(150).astype(str),
            "confidence": np.where(ignore, "low", "high"),
            "travel_deg": np.nan,
            "speed_kmh": np.nan,
        },
        geometry=[box(*b) for b in truth],
        crs=UTM,
    )
    predicted = gpd.GeoDataFrame({"score": score}, geometry=[box(*b) for b in found], crs=UTM)
    ours = evaluate_trucks(predicted, reference).curves[f"iou_{iou:g}"].average_precision
    assert ours == pytest.approx(coco_average_precision(truth, ignore, found, score, iou), abs=1e-9)


def test_agrees_with_the_independent_scorer(shared_data, tmp_path):
    scorer = shared_data.parent / "accept" / "score_trucks.py"
    if not scorer.is_file():
        pytest.skip(f"needs {scorer}")
    rng = np.random.default_rng(5)
    along = np.arange(40) * 55.0
    truth = labels(
        *[(x, rng.uniform(-8, 8)) for x in along],
        confidence=list(rng.choice(["high", "medium", "low"], 40)),
        travel=[90.0] * 40,
    )
    kept = rng.random(40) < 0.8
    places = [(x + rng.normal(0, 9), rng.normal(0, 9)) for x in along[kept]]
    places += [(rng.uniform(0, 2200), rng.uniform(-25, 25)) for _ in range(12)]
    places += [(rng.uniform(0, 2200), 400.0) for _ in range(3)]
    predicted = boxes(
        *places, score=rng.random(len(places)), heading_deg=rng.choice([88.0, 93.0, 271.0], len(places))
    )
    roads = gpd.GeoDataFrame(geometry=[LineString([(X - 50, Y), (X + 2300, Y)])], crs=UTM)
    for name, frame in (("p.geojson", predicted.to_crs(4326)), ("t.gpkg", truth), ("r.gpkg", roads)):
        frame.to_file(tmp_path / name)
    run = subprocess.run(
        [sys.executable, scorer, "p.geojson", "t.gpkg", "r.gpkg"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
    )
    theirs = json.loads(run.stdout)
    ours = evaluate_trucks(gpd.read_file(tmp_path / "p.geojson"), truth, roads=roads)
    score = ours.primary
    assert (score.true_positives, score.false_positives, score.false_negatives) == (
        theirs["tp"],
        theirs["fp"],
        theirs["fn"],
    )
    assert [score.precision, score.recall, score.f1] == pytest.approx([theirs[k] for k in ("P", "R", "F1")])
    assert len(ours.off_road) == theirs["off_road"]
