"""Compare the engine and sahi's sliced prediction, same weights: `python -m benchmarks.trucks_peers`."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely

from benchmarks.peer_scene import SHARE_NEAR_ROADS, PeerScene, peer_scene, tenth_near_roads
from benchmarks.peers import Run, run
from benchmarks.results import bar, save, table
from pipeline.evaluation.labels import read_truck_labels
from pipeline.evaluation.trucks.scores import TruckEvaluation, evaluate_trucks
from pipeline.models.bundle import open_bundle
from pipeline.scenes.open import open_scene

SIZE_PX = 2048
SLICES_PX = (256, 512, 1024)
TIMES, TIMES_NEAR_ROADS = 4.0, 10.0
_CURVE = "centre_20m"


@dataclass(frozen=True)
class Quality:
    """Quality of a way's boxes, centres within 20 m."""

    best_f1: float
    at_score: float
    """The threshold of the best F1."""
    average_precision: float
    boxes: int


def main(size: int = SIZE_PX) -> None:
    """Measure, and write the section of RESULTS.md."""
    scene = peer_scene(size)
    buffer_m = tenth_near_roads(scene)
    slices = [px for px in SLICES_PX if px <= size]
    peers = [run(f"sahi, slices of {px} px", scene, "sahi", slice_px=px) for px in slices]
    half = run(f"sahi, slices of {slices[-1]} px, bfloat16", scene, "sahi", slice_px=slices[-1], half=True)
    whole = run("plain torch, the complete image at once", scene, "whole", task="trucks")
    exact = run("engine, float32", scene, "engine", task="trucks", precision="float32")
    ours = run("engine, precision auto", scene, "engine", task="trucks", precision="auto")
    near = run(
        f"engine, {SHARE_NEAR_ROADS:.0%} near roads",
        scene,
        "engine",
        task="trucks",
        precision="auto",
        roads=str(scene.roads),
        road_buffer_m=buffer_m,
    )
    best = min(peers, key=lambda item: item.seconds)

    rows = []
    for item in (*peers, half, whole, exact, ours, near):
        quality = judge(item, scene, buffer_m if item is near else None)
        rows.append(
            item.row(
                **{
                    "speed / sahi's best": f"{best.seconds / item.seconds:.1f}",
                    "best F1": f"{quality.best_f1:.3f}",
                    "at score": f"{quality.at_score:.2f}",
                    "AP": f"{quality.average_precision:.3f}",
                    "boxes": f"{quality.boxes:,}",
                }
            )
        )
    peer, engine = judge(best, scene), judge(ours, scene)
    peer_near, engine_near = judge(best, scene, buffer_m), judge(near, scene, buffer_m)
    at_card = evaluate(ours, scene, from_score=open_bundle("trucks").card.default_threshold(near_roads=False))
    lines = [
        f"The shipped truck detector on one tiled GeoTIFF of {size} x {size} px, from the file to boxes in "
        "memory (the engine also stores its shard and measures the motion of each truck). sahi: "
        "`get_sliced_prediction`, the network in float32 in plain torch on all cores, overlap 0.2 and its "
        "own merging, without the extra pass over the complete image; its fastest slices count. Both sides "
        "read the file, after a warm-up. F1 and AP: centres within 20 m of the truth, one to one. sahi's "
        "scores are those of the network. The engine's are calibrated and include the evidence of motion. So "
        f"each has its best threshold. At the card's threshold the engine's F1 is {at_card.primary.f1:.3f}.",
        "",
        *table(rows),
        "",
        f"Near roads: {SHARE_NEAR_ROADS:.0%} of the pixels are within {buffer_m:.0f} m of the scene's roads, "
        "the value of `trucks.road_buffer_m`. Only trucks and boxes there count in that row. sahi's best F1 "
        f"there is {peer_near.best_f1:.3f}.",
    ]
    bars = [
        bar("speed / sahi's, nothing skipped", best.seconds / ours.seconds, TIMES, at_most=False),
        bar(
            f"speed / sahi's, {SHARE_NEAR_ROADS:.0%} near roads",
            best.seconds / near.seconds,
            TIMES_NEAR_ROADS,
            at_most=False,
        ),
        bar("F1 minus sahi's", engine.best_f1 - peer.best_f1, 0.0, at_most=False),
        bar("F1 minus sahi's, near roads", engine_near.best_f1 - peer_near.best_f1, 0.0, at_most=False),
    ]
    figures = {
        item.name: {**item.figures(), **vars(judge(item, scene, buffer_m if item is near else None))}
        for item in (*peers, half, whole, exact, ours, near)
    }
    save("trucks_peers", "Trucks: comparison with sahi", lines, {**figures, "road_buffer_m": buffer_m}, bars)


def judge(item: Run, scene: PeerScene, buffer_m: float | None = None) -> Quality:
    """Compare a way's boxes with the truth, near roads or everywhere, at its best threshold."""
    curve = evaluate(item, scene, buffer_m).curves[_CURVE]
    both = curve.precision + curve.recall
    f1 = np.divide(2 * curve.precision * curve.recall, both, out=np.zeros(len(both)), where=both > 0)
    place = int(f1.argmax()) if len(f1) else -1
    return Quality(
        best_f1=float(f1[place]) if len(f1) else 0.0,
        at_score=float(curve.score[place]) if len(f1) else 1.0,
        average_precision=curve.average_precision,
        boxes=len(item.found["scores"]),
    )


def evaluate(
    item: Run, scene: PeerScene, buffer_m: float | None = None, from_score: float = 0.0
) -> TruckEvaluation:
    """Evaluate a way's boxes with truckscape's evaluation."""
    enough = item.found["scores"] >= from_score
    boxes, scores = item.found["boxes"][enough], item.found["scores"][enough]
    grid = open_scene(str(scene.image)).grid
    x = grid.affine.c + boxes[:, [0, 2]].T * grid.affine.a
    y = grid.affine.f + boxes[:, [3, 1]].T * grid.affine.e
    predicted = gpd.GeoDataFrame(
        {"score": scores}, geometry=shapely.box(x[0], y[0], x[1], y[1]), crs=str(grid.crs)
    )
    truth = read_truck_labels(scene.trucks, predicted.crs)
    if buffer_m is None:
        return evaluate_trucks(predicted, truth)
    return evaluate_trucks(predicted, truth, roads=gpd.read_file(scene.roads), road_buffer_m=buffer_m)


if __name__ == "__main__":
    main()
