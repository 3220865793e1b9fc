"""Training of the screener: what cells are told, how the threshold is chosen, what the card admits."""

import numpy as np
import pytest
import torch

from pipeline.errors import TrainingError
from pipeline.models.bundle import open_bundle
from pipeline.models.registry import build_network
from pipeline.simulation.chips.chip import HEAVY, LIGHT
from pipeline.training.screener import ScreenerTraining, cell_targets, collate, train_screener

NONE = np.zeros((0, 4), np.float32)


def boxes(*rows) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_the_cell_that_holds_the_middle_of_a_truck_is_its_own():
    truth, weight = cell_targets(boxes((10, 17, 14, 21)), NONE, 64)
    assert truth.sum() == truth[2, 1] == 1
    assert weight[2, 1] == 4
    assert (np.delete(weight.ravel(), 2 * 8 + 1) == 1).all()


def test_cells_that_a_truck_merely_touches_may_say_either():
    truth, weight = cell_targets(boxes((13, 17, 18, 21)), NONE, 64)  # middle at x = 15.5
    assert (truth[2, 1], weight[2, 1]) == (1, 4)
    assert (truth[2, 2], weight[2, 2]) == (0, 0)
    assert (weight == 1).sum() == 62


def test_ambiguous_boxes_are_ignored():
    truth, weight = cell_targets(NONE, boxes((10, 17, 14, 21)), 64)
    assert not truth.any()
    assert (weight == 0).sum() == 1


def test_light_vehicles_are_ignored():
    image = torch.zeros((4, 64, 64))
    target = {
        "boxes": torch.tensor([[10.0, 17, 14, 21], [42, 17, 46, 21]]),
        "labels": torch.tensor([LIGHT, HEAVY]),
        "ignored": torch.zeros((0, 4)),
    }
    _, truth, weight = collate([(image, target)])
    assert (truth[0, 2, 5], truth.sum()) == (1, 1)
    assert (weight[0, 2, 1], (weight == 0).sum()) == (0, 1)


def test_trucks_at_the_border_stay_inside():
    truth, _ = cell_targets(boxes((62, 62, 64, 64), (0, 0, 1, 1)), NONE, 64)
    assert truth[7, 7] == truth[0, 0] == 1


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    settings = ScreenerTraining(
        simulated_px=192,
        widths=(4, 4, 4),
        steps=3,
        batch=2,
        threshold_seeds=(42, 43),
        measure_seeds=(44,),
        speed_with=None,
        threads=1,
    )
    return train_screener(settings, tmp_path_factory.mktemp("screener"))


def test_a_training_ends_in_a_bundle_that_loads(bundle):
    again = open_bundle(str(bundle.folder))
    again.load_into(build_network(again.card))
    assert again.card.task == "screening"
    assert (again.card.halo, again.card.stride) == (64, 64)


def test_the_card_states_what_is_lost_and_saved(bundle):
    figures = bundle.card.quality["simulated_scenes"]
    assert figures["seeds"] == [44]
    assert figures["blocks"] == 9
    assert 0 <= figures["blocks_rejected"] <= 1
    assert figures["trucks_in_rejected_blocks"] <= figures["trucks"]


def test_a_seed_serves_once(tmp_path):
    settings = ScreenerTraining(simulated=(7,), threshold_seeds=(8,), measure_seeds=(7, 8))
    with pytest.raises(TrainingError, match=r"In two of them: \[7, 8\]"):
        train_screener(settings, tmp_path)
