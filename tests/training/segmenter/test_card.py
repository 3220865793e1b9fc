"""Figures of a network on labelled scenes: what counts, against what, and how sure it is."""

from dataclasses import replace

import numpy as np
import torch

from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.models.bundle import Card
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.training.segmenter.card import land_use_metrics, measure, segment
from pipeline.training.segmenter.scenes import LabelledScene
from pipeline.validation.landcover_metrics import BOOTSTRAP_PX

CARD = Card(
    id="brightness",
    version="1",
    task="segmentation",
    architecture="unet",
    bands=("B02", "B11"),
    optional_bands=("B11",),
    mean=(0.0, 0.0),
    std=(1.0, 1.0),
    classes=DYNAMIC_WORLD[:2],
    halo=0,
    stride=1,
)


class Brightness(torch.nn.Module):
    """Class 1 where the bands together are above 0.5."""

    def forward(self, images):
        total = images.sum(dim=1)
        return torch.stack([torch.full_like(total, 0.5), total], dim=1)


def labelled(pseudo, land_use=None, side: int = 8) -> LabelledScene:
    reflectance = np.zeros((2, side, side), np.float32)
    reflectance[1, :, side // 2 :] = 0.9
    return LabelledScene(
        name="place",
        kind="place",
        reflectance=reflectance,
        valid=np.ones((side, side), bool),
        classes=pseudo,
        weights=np.ones((side, side), np.float32),
        labels=pseudo,
        trust=np.ones(256, np.float32),
        land_use=land_use,
        held_out=((0, 0, side, side),),
    )


def east(side: int) -> np.ndarray:
    return np.repeat((np.arange(side) >= side // 2).astype(np.uint8)[None], side, axis=0)


def test_segments_with_and_without_the_optional_bands():
    scene = labelled(east(8))
    np.testing.assert_array_equal(segment(Brightness(), scene, CARD), east(8))
    np.testing.assert_array_equal(segment(Brightness(), scene, CARD, tile_px=3), east(8))
    assert not segment(Brightness(), scene, CARD, without=("B11",)).any()
    half = replace(scene, valid=east(8) == 0)
    assert (segment(Brightness(), half, CARD)[:, 4:] == UNLABELLED).all()


def test_the_advantage_is_over_the_pseudo_label_on_the_same_pixels():
    side = 4 * BOOTSTRAP_PX
    truth = east(side)
    pseudo = truth.copy()
    pseudo[: side // 2] = 0  # right but for the quarter in the north-east
    got = land_use_metrics([(labelled(pseudo, truth, side), (truth, truth))], CARD)
    assert (got["accuracy"], got["pseudo_label_accuracy"], got["advantage"]) == (1.0, 0.75, 0.25)
    low, high = got["advantage_95"]
    assert 0 <= low < 0.25 < high < 0.6


def test_measures_what_was_held_out():
    pseudo = np.zeros((8, 8), np.uint8)
    land_use = np.where(east(8) == 1, 1, UNLABELLED).astype(np.uint8)
    got = measure(Brightness(), [labelled(pseudo, land_use)], CARD)["place"]
    assert got["held_out"]["accuracy"] == 0.5
    assert got["held_out_without_optional_bands"]["accuracy"] == 1.0
    assert got["land_use_held_out"]["accuracy"] == got["land_use_held_out"]["advantage"] == 1.0
    assert got["land_use_everywhere"]["pixels"] == 32
    assert measure(Brightness(), [replace(labelled(pseudo), held_out=())], CARD) == {}


def test_scenes_of_one_source_are_measured_together():
    once = measure(Brightness(), [labelled(east(8))], CARD)["place"]["held_out"]
    twice = measure(Brightness(), [labelled(east(8)), labelled(east(8))], CARD)["place"]["held_out"]
    assert (once["blocks"], twice["blocks"]) == (1, 2)
    assert twice["pixels"] == 2 * once["pixels"]


def test_without_land_use_there_is_no_advantage():
    assert set(measure(Brightness(), [labelled(east(8))], CARD)["place"]) == {
        "held_out",
        "held_out_without_optional_bands",
    }
