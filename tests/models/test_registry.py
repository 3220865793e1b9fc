"""Families are chosen by a card; one from outside is one object in the list."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.config import Engine
from pipeline.errors import BundleError
from pipeline.inference.engine import Search, predict_shards
from pipeline.inference.run_models import Models
from pipeline.models import registry
from pipeline.models.bundle import save_bundle
from pipeline.models.family import Family
from pipeline.models.halo import with_halo
from pipeline.models.registry import FAMILIES, build_network, find_family
from pipeline.scenes.open import open_scene
from pipeline.simulation.simulate import simulate
from pipeline.tiling import plan
from pipeline.training.detector.train import blank_card
from tests.models.test_fcos import card


class BrightSpots(nn.Module):
    """Detector of pixels that are brighter than the mean of the bands by a threshold: 3 px boxes."""

    def __init__(self, bands: int, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.mean = nn.Conv2d(bands, 1, 1, bias=False)
        nn.init.constant_(self.mean.weight, 1 / bands)

    def dense(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.mean(images).permute(0, 2, 3, 1),)

    def detections(self, *maps: Tensor, where: Tensor | None = None) -> list[dict[str, Tensor]]:
        found = []
        for brightness in maps[0][..., 0].float():
            row, col = torch.nonzero(brightness > self.threshold, as_tuple=True)
            corner = torch.stack([col - 1.0, row - 1.0, col + 2.0, row + 2.0], dim=1)
            found.append({"boxes": corner, "scores": brightness[row, col].sigmoid()})
        return found


def test_a_detector_family_from_outside_runs_on_a_scene(tmp_path, monkeypatch):
    family = Family("bright_spots", "detection", BrightSpots, {"threshold": 0.5})
    monkeypatch.setattr(registry, "FAMILIES", [*FAMILIES, family])
    given = with_halo(
        card(architecture="bright_spots", arguments={}, mean=(0.0,) * 4, std=(0.3,) * 4, halo=0, stride=1)
    )
    assert (given.halo, given.stride) == (8, 1)
    bundle = save_bundle(tmp_path / "bundle", given, build_network(given).state_dict())
    scene = open_scene(str(simulate(tmp_path / "product", 128, 3).safe))
    models = Models(bundle, None)

    def boxes(tile_px: int) -> set[tuple[float, ...]]:
        tiles = plan(scene.shape, tile_px, models.halo, models.stride)
        (shard,) = predict_shards(scene, [tiles], models, Search(), Engine(threads=1, precision="float32"))
        return {tuple(box) for box in shard.detections.boxes.tolist()}

    assert boxes(128) == boxes(64)
    assert boxes(128)


def test_a_card_s_arguments_replace_the_family_s():
    family = Family("bright_spots", "detection", BrightSpots, {"threshold": 0.9})
    assert family.build(card(arguments={})).threshold == 0.9
    assert family.build(card(arguments={"threshold": 0.5})).threshold == 0.5


def test_names_are_unique_within_a_task():
    keys = [(family.task, family.name) for family in FAMILIES]
    assert len(set(keys)) == len(keys)


def test_an_unknown_architecture_is_named_with_those_of_its_task():
    with pytest.raises(
        BundleError, match=r"architecture unet for detection\. Known: rcnn, fast_rcnn, faster_rcnn"
    ):
        find_family("detection", "unet")


def test_an_unknown_architecture_is_named():
    with pytest.raises(BundleError, match=r"Unknown architecture ssd .* Known: rcnn, fast_rcnn, faster_rcnn"):
        build_network(blank_card().model_copy(update={"architecture": "ssd"}))


def test_unknown_arguments_are_refused():
    with pytest.raises(BundleError, match="faster_rcnn can't be built with"):
        build_network(blank_card(arguments={"depth": 50}))
