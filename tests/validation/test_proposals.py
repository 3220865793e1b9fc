"""Proposals of a first stage: exact maps, so that vehicles reached and costs can be counted by hand."""

from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import torch
from rasterio.transform import from_origin
from shapely import LineString, box
from torch import nn

from pipeline.config import Engine
from pipeline.models.bundle import save_bundle
from pipeline.models.registry import build_network
from pipeline.scenes.open import open_scene
from pipeline.training.detector.train import blank_card
from pipeline.validation.observe import Observed, Place
from pipeline.validation.proposals import find_proposals, macs_of_boxes, measure_proposals, reached
from tests.conftest import write_geotiff
from tests.validation.test_card_metrics import observed

ENGINE = Engine(threads=1, precision="float32")
SMALL = {
    "faster_rcnn": {"channels": [4, 4, 4], "features": 4, "head": 8},
    "fast_rcnn": {"channels": [4, 4, 4], "features": 4, "head": 8},
    "rcnn": {"widths": [4, 8], "crop_px": 8, "head": 8},
    "centernet2": {"width": 8, "features": 4, "window_widths": [8], "hidden": 8},
}


@pytest.fixture(scope="module")
def scene_file(tmp_path_factory):
    """Asphalt with two vehicles: a blue spot, and a red one two pixels to the east of it."""
    numbers = np.full((4, 96, 96), 1000, np.uint16)
    for row, col in ((20, 30), (70, 50)):
        numbers[0, row, col] = numbers[2, row, col + 2] = 3000
    return write_geotiff(tmp_path_factory.mktemp("scene") / "scene.tif", numbers)


def card_of(family):
    return blank_card(family, SMALL[family])


def truth_of(scene, places, far=()) -> Observed:
    """Heavy vehicles of 3 x 1 px at pixels (column, row), a light one at (30, 40), and a road along all."""
    affine = from_origin(600000, 5800000, 10, 10)
    pixels = [*places, *far, (30, 40)]
    truth = observed({}, [])
    geometry = [box(*(affine * (x, y + 1)), *(affine * (x + 3, y))) for x, y in pixels]
    kinds = ["heavy"] * (len(pixels) - 1) + ["light"]
    labels = gpd.GeoDataFrame(
        {"id": [str(i) for i in range(len(pixels))], "confidence": "high", "vehicle": kinds},
        geometry=geometry,
        crs="EPSG:32632",
    ).assign(travel_deg=90.0, speed_kmh=80.0)
    seen = gpd.GeoDataFrame(geometry=[box(599000, 5799000, 601000, 5801000)], crs="EPSG:32632")
    lines = [LineString([affine * (0, y + 0.5), affine * (96, y + 0.5)]) for _, y in places]
    return replace(truth, reference=labels, seen=seen, roads=gpd.GeoDataFrame(geometry=lines, crs=seen.crs))


@pytest.mark.parametrize("family", SMALL)
def test_proposals_of_tiles_are_those_of_the_complete_image(family, scene_file, monkeypatch):
    torch.manual_seed(2)
    card, scene = card_of(family), open_scene(str(scene_file))
    network = build_network(card).eval()
    if family == "centernet2":
        nn.init.zeros_(network.centres.objectness.bias)
    if family == "faster_rcnn":
        nn.init.constant_(network.rpn.head.cls_logits.bias, 1.0)
    complete, macs = find_proposals(network, card, scene, ENGINE)
    monkeypatch.setattr("pipeline.validation.proposals.CORE_PX", 48)
    tiled, _ = find_proposals(network, card, scene, ENGINE)
    assert len(complete) > 0 and macs > 0
    assert {tuple(one) for one in tiled.round(2)} == {tuple(one) for one in complete.round(2)}


def test_spots_of_blue_and_red_are_proposed_between_them(scene_file):
    card = card_of("rcnn")
    found, _ = find_proposals(build_network(card).eval(), card, open_scene(str(scene_file)), ENGINE)
    assert sorted(found.tolist()) == [[31.5, 20.5], [51.5, 70.5]]


def test_a_vehicle_is_reached_within_20_m_once_and_only_if_it_counts():
    truth = observed({}, [0, 1000, 2000, 5000])  # the last is far from roads
    light = replace(truth, reference=truth.reference.assign(vehicle=["heavy", "heavy", "light", "heavy"]))
    points = np.array([[0.0, 19.9], [0.0, -5.0], [1000.0, 20.1], [2000.0, 0.0], [5000.0, 0.0]])
    assert reached(points, truth, near_roads=True) == (2, 3)
    assert reached(points, light, near_roads=True) == (1, 2)
    assert reached(points, light, near_roads=False) == (2, 3)
    assert reached(np.zeros((0, 2)), truth, near_roads=True) == (0, 3)


def test_operations_of_the_second_stage_are_those_of_its_layers():
    network = build_network(card_of("faster_rcnn")).eval()
    nn.init.constant_(network.rpn.head.cls_logits.bias, 1.0)
    with torch.inference_mode():
        maps = network.dense(torch.zeros(1, 4, 32, 32))
        (boxes,) = network.proposals(*maps)
        found = macs_of_boxes(network, maps)
    pooled = 4 * 5 * 5
    assert found == len(boxes) * (pooled * 8 + 8 * 8 + 8 * 2 + 8 * 8)


def test_recall_number_and_cost_are_those_of_all_places(scene_file, tmp_path):
    card = card_of("rcnn")
    bundle = save_bundle(tmp_path / "rcnn", card, build_network(card).state_dict())
    place = Place(name="a", scene=str(scene_file))
    truth = truth_of(place, [(30, 20), (50, 70), (10, 60)])
    found = measure_proposals(bundle, [place, place], [truth, truth], ENGINE)
    assert (found.recall, found.per_mpx) == (pytest.approx(2 / 3), pytest.approx(4 / (2 * 96**2 / 1e6)))
    crop = 4 * 4 * 9 * 64 + 4 * 8 * 9 * 16  # two convolutions, at 8 and at 4 px
    assert found.kilomacs == pytest.approx((crop + 8 * 4 * 8 + 8 * 3 + 8 * 12) / 1e3)


def test_a_detector_in_one_stage_has_no_proposals(tmp_path):
    card = blank_card("yolo", {"channels": [4, 4, 4], "features": 4})
    bundle = save_bundle(tmp_path / "yolo", card, build_network(card).state_dict())
    assert measure_proposals(bundle, [], [], ENGINE) is None
