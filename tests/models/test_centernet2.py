"""The detector of heavy and light vehicles: peaks of a cheap map, and a deeper network on their windows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import BundleError
from pipeline.models.boxes import HEAVY, LIGHT
from pipeline.models.centernet2 import (
    MIN_VEHICLE_SCORE,
    WINDOW_REACH_PX,
    TwoStageDetector,
    centre_loss,
    cut_windows,
    peaks,
)
from pipeline.models.halo import card_anatomy
from pipeline.models.registry import build_network
from pipeline.training.detector.train import blank_card

SMALL = {"width": 8, "features": 4, "window_widths": [8, 8], "hidden": 16}
SIDE = 2 * WINDOW_REACH_PX + 1


@pytest.fixture
def detector() -> TwoStageDetector:
    torch.manual_seed(3)
    return build_network(blank_card("centernet2", SMALL))


def target(*boxes, labels=None, ignored=()) -> list[dict[str, torch.Tensor]]:
    return [
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([HEAVY] * len(boxes) if labels is None else labels, dtype=torch.int64),
            "ignored": torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
        }
    ]


def talkative(detector: TwoStageDetector) -> TwoStageDetector:
    """Untrained, but with many different peaks, as trained ones have in towns."""
    detector.eval()
    with torch.no_grad():
        detector.centres.objectness.weight.mul_(30)
        detector.centres.objectness.bias.fill_(-2)
        detector.windows.classes.weight.mul_(5)
        detector.windows.place.weight.mul_(3)
    return detector


def test_training_gives_three_losses(detector):
    losses = detector.train()(torch.randn(1, 4, 32, 32), target((10, 10, 14, 13)))
    assert sorted(losses) == ["boxes", "centres", "classes"]
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_an_image_without_vehicles_can_be_trained_on(detector):
    images = torch.randn(2, 4, 32, 32)
    losses = detector.train()(images, [*target(), *target((10, 10, 14, 13))])
    assert torch.isfinite(sum(losses.values()))
    assert torch.isfinite(sum(detector(images, [*target(), *target()]).values()))


def test_training_without_targets_is_refused(detector):
    with pytest.raises(ValueError, match="needs targets"):
        detector.train()(torch.randn(1, 4, 32, 32))


def test_what_lies_in_an_ignored_box_counts_neither_way(detector):
    losses = detector.train()(torch.randn(1, 4, 32, 32), target(ignored=[(0, 0, 32, 32)]))
    assert {name: loss.item() for name, loss in losses.items()} == {"centres": 0, "classes": 0, "boxes": 0}


def test_a_vehicle_within_an_ignored_box_is_still_one(detector):
    given = target((10, 10, 14, 13), ignored=[(0, 0, 32, 32)])
    losses = detector.train()(torch.randn(2, 4, 32, 32), [*given, *given])
    assert losses["boxes"] > 0
    assert losses["centres"] > 0


def test_the_loss_of_centres_is_that_of_the_paper():
    """One centre at even odds, a pixel of the Gaussian at half weight, one of ground, one not taught."""
    logits = torch.tensor([[[0.0, 0.0, 0.0, 9.0]]])
    spread = torch.tensor([[[1.0, 0.5, 0.0, 0.0]]])
    centre = torch.tensor([[[True, False, False, False]]])
    loss = centre_loss(logits, spread, centre, torch.tensor([[[True, True, True, False]]]))
    assert loss.item() == pytest.approx(0.25 * np.log(2) * (1 + 0.5**4 + 1))


def test_it_learns_one_image_by_heart(detector):
    torch.manual_seed(0)
    image = torch.randn(1, 4, 32, 32) * 0.1
    image[:, :, 10:13, 20:25] += 3.0
    image[:, :, 22:24, 6:8] += 1.5
    truth = target((20, 10, 25, 13), (6, 22, 8, 24), labels=[HEAVY, LIGHT])
    optimiser = torch.optim.Adam(detector.train().parameters(), 0.01)
    for _ in range(80):
        optimiser.zero_grad()
        sum(detector(image, truth).values()).backward()
        optimiser.step()
    with torch.inference_mode():
        (found,) = detector.eval()(image)
    sure = found["vehicle_scores"] > 0.5
    assert found["scores"][sure].gt(0.5).tolist() == [True, False] or found["scores"][sure].gt(
        0.5
    ).tolist() == [False, True]
    for box, heavy in zip(truth[0]["boxes"], (True, False), strict=True):
        mine = found["boxes"][sure][found["scores"][sure].gt(0.5) == heavy]
        assert (mine - box).abs().max() < 1.0


def test_a_vehicle_is_at_least_as_likely_as_a_heavy_one(detector):
    with torch.inference_mode():
        (found,) = talkative(detector)(torch.randn(1, 4, 64, 64))
    assert len(found["scores"]) > 20
    assert (found["vehicle_scores"] >= found["scores"]).all()
    assert found["vehicle_scores"].min() >= MIN_VEHICLE_SCORE


@pytest.mark.parametrize("half", [False, True])
def test_tiles_are_exact_within_the_halo(detector, half):
    """Boxes centred in the core of a tile are those of the complete image, whatever is beyond the halo."""
    card = blank_card("centernet2", SMALL)
    talkative(detector).half_precision = half
    halo, core = card.halo, 32
    image = torch.randn(1, 4, core + 2 * halo + 40, core + 2 * halo + 40)
    corner = 20
    tile = image[..., corner : corner + core + 2 * halo, corner : corner + core + 2 * halo]
    with torch.inference_mode():
        (complete,), (cut,) = detector(image), detector(tile)
    found = []
    for boxes, shift in ((complete["boxes"], 0.0), (cut["boxes"], float(corner))):
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + shift
        inside = ((centre >= corner + halo) & (centre < corner + halo + core)).all(dim=1)
        found.append((boxes[inside] + shift)[(boxes[inside, 0] + 1000 * boxes[inside, 1]).argsort()])
    assert len(found[0]) > 10
    torch.testing.assert_close(found[0], found[1], atol=0.02 if half else 1e-3, rtol=0)


def test_images_of_a_batch_do_not_matter_to_each_other(detector):
    images = [torch.randn(4, 48, 48), torch.randn(4, 48, 48)]
    talkative(detector)
    with torch.inference_mode():
        together = detector(images)
        alone = [detector([image])[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        first, second = (found["boxes"].sum(dim=1).argsort() for found in (one, other))  # equal ones may swap
        torch.testing.assert_close(one["boxes"][first], other["boxes"][second], atol=1e-3, rtol=0)
        torch.testing.assert_close(one["scores"][first], other["scores"][second], atol=1e-4, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12))
def test_peaks_are_the_maxima_of_their_neighbours(seed, height, width):
    logits = np.random.default_rng(seed).integers(-3, 4, (2, height, width)).astype(np.float32)
    best = maximum_filter(logits, (1, 3, 3), mode="nearest")
    expected = (logits == best) & (logits >= 0)
    np.testing.assert_array_equal(peaks(torch.from_numpy(logits), 0.5).numpy(), expected)


def test_pixels_that_differ_by_rounding_noise_are_both_peaks():
    assert peaks(torch.tensor([[[1.0, 1.001, 0.5]]]), 0.1).tolist() == [[[True, True, False]]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_windows_are_cut_as_from_an_image_with_a_border_of_zeros(seed, planes):
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=(2, 9, 14, 3)).astype(np.float32)
    at = np.stack([rng.integers(0, limit, 5) for limit in seen.shape[:3]], axis=1)
    padded = np.pad(seen, ((0, 0), *[(WINDOW_REACH_PX,) * 2] * 2, (0, 0)))
    expected = [padded[n, r : r + SIDE, c : c + SIDE].transpose(2, 0, 1) for n, r, c in at]
    maps = torch.from_numpy(seen)
    if planes:
        maps = maps.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    np.testing.assert_array_equal(cut_windows(maps, torch.from_numpy(at)), expected)


def test_it_costs_a_third_of_its_forerunner():
    """18 kMAC/px for the first stage, and 6.2 MMAC for a window: 30 kMAC/px with 1900 windows a Mpx."""
    card = blank_card("centernet2")
    found = card_anatomy(card, 128)
    assert found.unbounded == ()
    assert (card.halo, card.stride) == (22, 2)
    assert found.macs / 128**2 / 1000 == pytest.approx(17.7, abs=0.1)
    stage = build_network(card).eval().windows
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        stage(torch.zeros(10, 16, SIDE, SIDE), torch.zeros(10))
    assert counter.get_total_flops() / 2 / 10 / 1e6 == pytest.approx(6.2, abs=0.1)


def test_only_peaks_above_the_least_probability_are_proposed():
    detector = build_network(blank_card("centernet2", SMALL | {"min_objectness": 0.5}))
    logits = torch.tensor([[[-0.1, -3.0, 0.1, -3.0]]])[..., None]
    (found,) = detector.proposals(torch.zeros(1, 1, 4, 8), logits)
    assert found.tolist() == [[2, 0, 3, 1]]


def test_only_peaks_where_they_are_asked_for_are_proposed():
    detector = build_network(blank_card("centernet2", SMALL | {"min_objectness": 0.5}))
    logits = torch.tensor([[[1.0, -3.0, 1.0, -3.0]]])[..., None]
    where = torch.tensor([[[True, True, False, True]]])
    (found,) = detector.proposals(torch.zeros(1, 1, 4, 8), logits, where=where)
    assert found.tolist() == [[0, 0, 1, 1]]


def test_the_loss_is_least_at_the_cube_root_of_a_third_of_the_share_of_centres():
    share = 0.01
    logits = torch.linspace(-4, 0, 400)
    centre = torch.zeros(1, 1, 1, dtype=torch.bool)
    losses = [
        share * centre_loss(one.view(1, 1, 1), torch.ones(1, 1, 1), ~centre, ~centre)
        + (1 - share) * centre_loss(one.view(1, 1, 1), torch.zeros(1, 1, 1), centre, ~centre)
        for one in logits
    ]
    best = logits[torch.stack(losses).argmin()].sigmoid()
    assert best.item() == pytest.approx((share / 3) ** (1 / 3), rel=0.1)


def test_too_many_convolutions_for_a_window_are_refused():
    with pytest.raises(BundleError, match="at most 6 convolutions"):
        build_network(blank_card("centernet2", SMALL | {"window_widths": [4] * 7}))
