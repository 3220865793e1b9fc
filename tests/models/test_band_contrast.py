"""Proposals from image features: pairs of a blue and a red spot."""

import pytest
import torch

from pipeline.models.band_contrast import MOST_SHIFT_PX, BandContrast, spot_pairs
from pipeline.models.boxes import HEAVY
from tests.models.vehicles import HEAVY_BOX, LIGHT_BOX, planted


def spots(blue=(), red=(), size=24) -> torch.Tensor:
    contrast = torch.zeros(size, size, 2)
    for band, places in enumerate((blue, red)):
        for row, col in places:
            contrast[row, col, band] = 2.0
    return contrast


def test_a_blue_and_a_red_spot_are_one_box_around_both():
    boxes = spot_pairs(spots(blue=[(10, 8)], red=[(11, 10)]), 1.0)
    assert boxes.tolist() == [[7.25, 9.25, 11.75, 12.75]]


@pytest.mark.parametrize("contrast", [spots(), spots(blue=[(10, 8)]), spots(red=[(10, 8)])])
def test_one_spot_alone_is_no_proposal(contrast):
    assert spot_pairs(contrast, 1.0).shape == (0, 4)


@pytest.mark.parametrize(("apart", "count"), [(MOST_SHIFT_PX, 1), (MOST_SHIFT_PX + 1, 0)])
def test_spots_that_are_far_apart_are_no_pair(apart, count):
    assert len(spot_pairs(spots(blue=[(10, 8)], red=[(10, 8 + apart)]), 1.0)) == count


def test_contrast_below_the_least_is_no_spot():
    assert len(spot_pairs(spots(blue=[(10, 8)], red=[(10, 10)]), 2.1)) == 0


def test_boxes_end_with_the_image():
    boxes = spot_pairs(spots(blue=[(0, 0)], red=[(0, 1)]), 1.0)
    assert boxes.tolist() == [[0.0, 0.0, 2.75, 1.75]]


def test_grey_images_have_no_contrast():
    grey = torch.rand(1, 1, 32, 32).expand(1, 4, 32, 32)
    assert BandContrast()(grey).abs().max() < 1e-4


def test_planted_vehicles_are_proposed():
    image, _ = planted()
    boxes = spot_pairs(BandContrast()(image)[0].permute(1, 2, 0), 1.0)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    for box in (HEAVY_BOX, LIGHT_BOX):
        centre = torch.tensor([box[0] + box[2], box[1] + box[3]]) / 2
        assert (middle - centre).norm(dim=1).min() < 1.5


def test_most_simulated_trucks_are_proposed():
    from pipeline.models.normalise import normalise
    from pipeline.training.detector.chips import simulated_traffic
    from pipeline.training.detector.train import blank_card

    scene = simulated_traffic(256, 11)
    image = normalise(scene.reflectance, scene.reflectance.any(axis=0), blank_card("rcnn"))
    boxes = spot_pairs(BandContrast()(image[None])[0].permute(1, 2, 0), 1.0)
    trucks = torch.from_numpy(scene.boxes[scene.labels == HEAVY])
    apart = torch.cdist(*((one[:, :2] + one[:, 2:]) / 2 for one in (trucks, boxes)))
    assert (apart.amin(dim=1) <= 2).float().mean() > 0.75
    assert len(boxes) < 0.05 * 256**2
