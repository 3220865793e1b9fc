"""Proposals of a detector's first stage: the vehicles that they reach, their number, and their cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config import Engine
from pipeline.evaluation.trucks.boxes import centres, share
from pipeline.evaluation.trucks.scores import PRIMARY_RADIUS_M
from pipeline.inference.machine import half_precision
from pipeline.inference.networks import read_tile
from pipeline.inference.run_models import Models
from pipeline.models.bundle import Bundle, Card
from pipeline.models.family import dense
from pipeline.models.registry import build_network
from pipeline.open_data.resolve import located
from pipeline.report.model_comparison import Proposals
from pipeline.scenes.open import open_scene
from pipeline.scenes.plausibility import plausible
from pipeline.scenes.scene import Scene
from pipeline.tiling import plan
from pipeline.validation.observe import Observed, Place
from pipeline.validation.timing import CORE_PX

Points = NDArray[np.float64]


def measure_proposals(
    bundle: Bundle, places: Sequence[Place], observed: Sequence[Observed], engine: Engine
) -> Proposals | None:
    """Return the proposals of a bundle on places, of each of which `observed` has the truth.

    Near roads, if every place has roads, only the vehicles near them count; proposals count everywhere. None
    for a detector without proposals. Errors as those of `observe_place`.
    """
    network = bundle.load_into(build_network(bundle.card))
    if not hasattr(network, "proposals"):
        return None
    near_roads = all(truth.roads is not None for truth in observed)
    found = vehicles = proposals = pixels = macs = 0
    for place, truth in zip(map(located, places), observed, strict=True):
        scene = plausible(open_scene(place.scene, place.bands, place.values), place.values.given)
        points, cost = find_proposals(network, bundle.card, scene, engine)
        hit, there = reached(_on_map(points, scene, truth), truth, near_roads)
        found, vehicles = found + hit, vehicles + there
        proposals, macs = proposals + len(points), macs + cost
        pixels += scene.shape[0] * scene.shape[1]
    return Proposals(
        recall=share(found, vehicles),
        per_mpx=proposals / (pixels / 1e6),
        kilomacs=macs / max(1, proposals) / 1e3,
    )


@torch.inference_mode()
def find_proposals(network: nn.Module, card: Card, scene: Scene, engine: Engine) -> tuple[Points, int]:
    """Return the centres (K, 2) of all proposals in a scene, x and y in pixels, and the MACs for all of them.

    Tiles and halos are those of a run; the network runs in plain PyTorch. Clouds are not left out.
    """
    models, half = Models(Bundle(folder=Path(), card=card), None), half_precision(engine)
    found, macs = [np.zeros((0, 2))], 0.0
    for tile in plan(scene.shape, CORE_PX, card.halo, card.stride):
        image = read_tile(models, scene, tile, half=False).images[card.task]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            maps = dense(network, image.around(tile)[None])
        (boxes,) = network.proposals(*maps)  # type: ignore[operator]
        corners = boxes.double().numpy() + np.array([image.left, image.top] * 2)
        middle = (corners[:, :2] + corners[:, 2:]) / 2
        mine = tile.owns(middle, 0.0)
        found.append(middle[mine])
        macs += macs_of_boxes(network, maps) * float(mine.mean()) if len(mine) else 0.0
    return np.concatenate(found), round(macs)


def macs_of_boxes(network: nn.Module, maps: tuple[Tensor, ...]) -> int:
    """Return the multiply-accumulate operations of convolutions and matrices from maps to detections."""
    with FlopCounterMode(display=False) as counter:
        network.detections(*maps)  # type: ignore[operator]
    return int(counter.get_total_flops()) // 2


def reached(points: Points, truth: Observed, near_roads: bool) -> tuple[int, int]:
    """Return the certain heavy vehicles in the searched area with a proposal within 20 m, and all of them.

    `points` (K, 2) are the centres of proposals in the CRS of `truth`.
    """
    evaluation = truth.evaluate(near_roads)
    matching = evaluation.matching
    certain = [*matching.reference_of[matching.true_positives], *evaluation.false_negatives]
    vehicles = centres(evaluation.reference)[certain]
    if not len(points) or not len(vehicles):
        return 0, len(vehicles)
    apart, _ = KDTree(points).query(vehicles)
    return int((apart <= PRIMARY_RADIUS_M).sum()), len(vehicles)


def _on_map(points: Points, scene: Scene, truth: Observed) -> Points:
    """Return pixels (K, 2) of a scene in the CRS of the truth."""
    placed = gpd.points_from_xy(*(scene.grid.affine * tuple(points.T)), crs=scene.grid.crs)
    return centres(gpd.GeoDataFrame(geometry=placed).to_crs(truth.reference.crs))
