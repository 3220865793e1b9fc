"""Shards become one raster of each kind, and every truck is there once, whatever the order."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from pipeline.inference.merge import SAME_TRUCK_PX, merge_shards, one_per_truck
from pipeline.inference.predictions import Detections, MinScores
from pipeline.inference.shards import Shard
from pipeline.models.bundle import Calibration

GRID = GeoBox.from_bbox((600000, 5799960, 600040, 5800010), "EPSG:32632", resolution=10)


def detections(centres, scores) -> Detections:
    centres = np.array(centres, dtype=float).reshape(-1, 2)
    boxes = np.concatenate([centres - 1.5, centres + 1.5], axis=1)
    nothing = np.full(len(boxes), np.nan)
    return Detections(boxes, np.array(scores, dtype=float), np.stack([nothing, nothing], 1), nothing)


def shards() -> list[Shard]:
    upper = np.full((2, 4), 1, np.uint8)
    lower = np.full((3, 4), 3, np.uint8)
    return [
        Shard(0, upper, upper + 4, detections([(1, 1)], [0.9]), 2, 0),
        Shard(2, lower, lower + 4, detections([(1.2, 1.1), (3, 4)], [0.8, 0.7]), 3, 3),
    ]


def test_rasters_are_laid_below_each_other(tmp_path):
    merged = merge_shards(shards(), GRID, tmp_path)
    assert (merged.tiles_total, merged.tiles_skipped) == (5, 3)
    with rasterio.open(merged.status_raster) as status, rasterio.open(merged.landcover_raster) as landcover:
        assert status.read(1).tolist() == [[1] * 4] * 2 + [[3] * 4] * 3
        assert landcover.read(1).tolist() == [[5] * 4] * 2 + [[7] * 4] * 3
        assert landcover.nodata == 255
        assert status.crs.to_epsg() == 32632
        assert status.transform == GRID.affine


def test_pixels_are_counted_by_class_and_probabilities_summed(tmp_path):
    upper, lower = shards()
    lower.landcover[0, 1] = 255
    steps = [np.stack([shard.landcover * 9, np.full_like(shard.landcover, 200)]) for shard in (upper, lower)]
    steps[1][:, 0, 1] = 255
    soft = [replace(shard, probabilities=part) for shard, part in zip((upper, lower), steps, strict=True)]
    merged = merge_shards(soft, GRID, tmp_path)
    with rasterio.open(merged.probability_raster) as raster:
        assert raster.nodata == 255
        np.testing.assert_array_equal(raster.read(), np.concatenate(steps, axis=1))
    assert {value: count for value, count in enumerate(merged.class_pixels) if count} == {5: 8, 7: 11, 255: 1}
    assert merged.probability_sums.tolist() == [8 * 45 + 11 * 63, 19 * 200]
    plain = merge_shards([upper, lower], GRID, tmp_path)
    assert (plain.probability_raster, plain.probability_sums) == (None, None)


def test_a_truck_seen_by_two_tiles_is_one(tmp_path):
    merged = merge_shards(reversed(shards()), GRID, tmp_path)
    assert merged.detections.scores.tolist() == [0.9, 0.7]


def test_calibration_decides_what_stays_and_which_box_of_a_truck(tmp_path):
    """The second box of the truck moves more clearly and overtakes the first; a third is too unlikely."""
    found = Detections(
        np.array([[0.0, 0, 2, 2], [0.25, 0, 2.25, 2], [0, 3, 2, 5]]),
        np.array([0.6, 0.5, 0.3]),
        np.array([[0.0, 0], [0, 2], [0, 0]]),
        np.array([0.5, 0.5, 0.5]),
    )
    shard = Shard(0, np.ones((5, 4), np.uint8), None, found, 1, 0)
    plain = merge_shards([shard], GRID, tmp_path)
    assert plain.detections.scores.tolist() == [0.6, 0.3]
    moved = merge_shards([shard], GRID, tmp_path, Calibration(motion=0.5), min_scores=MinScores(0.4))
    np.testing.assert_allclose(moved.detections.scores, 1 / (1 + np.exp(-0.5 * 4)))
    np.testing.assert_array_equal(moved.detections.boxes, found.boxes[1:2])


def test_scores_of_any_vehicle_have_their_calibration_and_are_never_below_those_of_heavy_ones(tmp_path):
    found = replace(detections([(1, 1), (3, 3)], [0.5, 0.4]), vehicle_scores=np.array([0.9, 0.5]))
    shard = Shard(0, np.ones((5, 4), np.uint8), None, found, 1, 0)
    merged = merge_shards([shard], GRID, tmp_path, Calibration(), MinScores(), Calibration(offset=-1.0))
    assert merged.detections.scores.tolist() == pytest.approx([0.5, 0.4])
    fallen = 9 / np.e / (9 / np.e + 1)  # odds of 0.9, divided by e
    assert merged.detections.vehicle_scores.tolist() == pytest.approx([fallen, 0.4])
    same = merge_shards([shard], GRID, tmp_path, Calibration())
    assert same.detections.vehicle_scores.tolist() == pytest.approx([0.9, 0.5])


def test_a_light_vehicle_stays_by_its_own_score_alone(tmp_path):
    """A heavy one, a light one that is surely a vehicle, and what is neither."""
    found = replace(
        detections([(1, 1), (3, 3), (1, 4)], [0.5, 0.1, 0.1]), vehicle_scores=np.array([0.6, 0.9, 0.3])
    )
    shard = Shard(0, np.ones((5, 4), np.uint8), None, found, 1, 0)
    both, heavy = (
        merge_shards([shard], GRID, tmp_path, Calibration(), least).detections.vehicle_scores.tolist()
        for least in (MinScores(0.4, 0.8), MinScores(0.4))
    )
    assert both == pytest.approx([0.6, 0.9])
    assert heavy == pytest.approx([0.6])


def test_without_a_segmenter_there_is_no_landcover_raster(tmp_path):
    bare = [Shard(s.first_row, s.status, None, s.detections, 1, 0) for s in shards()]
    merged = merge_shards(bare, GRID, tmp_path)
    assert merged.landcover_raster is None
    assert [path.name for path in tmp_path.iterdir()] == ["status.part.tif"]


def test_no_trucks_at_all():
    assert len(one_per_truck(Detections.empty())) == 0


def test_the_best_of_a_pair_stays_and_distant_ones_both_do():
    kept = one_per_truck(detections([(5, 5), (5.3, 5), (9, 5), (9.6, 5)], [0.6, 0.9, 0.5, 0.4]))
    assert kept.centres.tolist() == [[5.3, 5], [9, 5], [9.6, 5]]


def by_the_rule(boxes: list[tuple[float, float, float]], reach: float) -> list[int]:
    """Which of (score, y, x) stay if one after the other, the best first, claims its place."""
    stays: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: (-boxes[i][0], *boxes[i][1:])):
        _, y, x = boxes[index]
        if all(np.hypot(boxes[other][1] - y, boxes[other][2] - x) > reach for other in stays):
            stays.append(index)
    return stays


# Few places and few scores: chains, crowds, boxes at exactly the same place and exactly equal scores abound.
points = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 12), st.integers(0, 12)), min_size=0, max_size=40, unique=True
)


def at(points) -> Detections:
    """Trucks at quarters of a pixel, scores in tenths, from (score, y, x)."""
    return detections([(x / 4, y / 4) for _, y, x in points], [score / 10 for score, *_ in points])


@settings(max_examples=300)
@given(points)
def test_what_stays_is_what_the_rule_says_one_by_one(found):
    kept = one_per_truck(at(found))
    expected = [found[index] for index in by_the_rule(found, SAME_TRUCK_PX * 4)]
    assert kept.boxes.tolist() == at(sorted(expected, key=lambda point: point[1:])).boxes.tolist()


@given(points, st.randoms(use_true_random=False))
def test_the_order_they_come_in_does_not_matter(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    first, second = one_per_truck(at(found)), one_per_truck(at(shuffled))
    assert first.boxes.tolist() == second.boxes.tolist()
    assert first.scores.tolist() == second.scores.tolist()


@given(points, st.integers(0, 2**32 - 1))
def test_rounding_noise_changes_neither_what_stays_nor_the_order(found, seed):
    """Another tiling sums in another order: 1e-4 px and 1e-5 of a score mean nothing, least among equals."""
    rng = np.random.default_rng(seed)
    calm = at(found)
    noisy = replace(
        calm,
        boxes=calm.boxes + rng.uniform(-1e-4, 1e-4, calm.boxes.shape),
        scores=calm.scores + rng.uniform(-1e-5, 1e-5, calm.scores.shape),
    )
    expected, got = one_per_truck(calm), one_per_truck(noisy)
    assert len(got) == len(expected)
    np.testing.assert_allclose(got.boxes, expected.boxes, atol=2e-4)
    np.testing.assert_allclose(got.scores, expected.scores, atol=2e-5)


@given(points, st.integers(0, 2**32 - 1))
def test_what_several_tiles_see_counts_once(found, seed):
    rng = np.random.default_rng(seed)
    calm = at(found)
    again = replace(calm, boxes=calm.boxes + rng.uniform(-1e-4, 1e-4, calm.boxes.shape))
    once, twice = one_per_truck(calm), one_per_truck(Detections.concatenate([again, calm]))
    assert len(once) == len(twice)
    np.testing.assert_allclose(twice.boxes, once.boxes, atol=2e-4)


def test_of_a_chain_the_middle_goes_only_for_a_better_one_that_stays():
    def stays(*scores: float) -> list[float]:
        return one_per_truck(detections([(5, 5), (5.4, 5), (5.8, 5)], scores)).centres[:, 0].tolist()

    assert stays(0.9, 0.8, 0.7) == [5, 5.8]
    assert stays(0.8, 0.9, 0.7) == [5.4]
    assert stays(0.7, 0.8, 0.9) == [5, 5.8]
    assert stays(0.9, 0.9, 0.9) == [5, 5.8]


def test_of_two_at_the_same_height_the_left_one_comes_first():
    """Rounding noise in y must not decide; seen with tiles of 16 px against the whole scene."""
    kept = one_per_truck(detections([(9, 5.00001), (2, 5.00003), (4, 5)], [0.5, 0.6, 0.7]))
    assert kept.centres[:, 0].tolist() == [2, 4, 9]


def test_a_long_chain_of_falling_scores_is_every_second_box():
    count = 2001
    kept = one_per_truck(detections([(0.375 * i, 5) for i in range(count)], np.linspace(1, 0.1, count)))
    assert kept.centres[:, 0].tolist() == [0.375 * i for i in range(0, count, 2)]
