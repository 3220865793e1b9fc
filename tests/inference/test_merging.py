"""Shards become one raster of each kind, and every truck is there once, whatever the order."""

import numpy as np
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from pipeline.inference.merging import SAME_TRUCK_PX, merge_shards, one_per_truck
from pipeline.inference.predictions import Detections
from pipeline.inference.shards import Shard

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


def test_a_truck_seen_by_two_tiles_is_one(tmp_path):
    merged = merge_shards(reversed(shards()), GRID, tmp_path)
    assert merged.detections.scores.tolist() == [0.9, 0.7]


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


points = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 99)),
    min_size=0,
    max_size=25,
    unique=True,
)


@given(points, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_no_two_are_near(found, random):
    def kept(rows):
        return one_per_truck(detections([(x / 4, y / 4) for x, y, _ in rows], [s / 100 for _, _, s in rows]))

    shuffled = list(found)
    random.shuffle(shuffled)
    first, second = kept(found), kept(shuffled)
    assert first.boxes.tolist() == second.boxes.tolist()
    assert first.scores.tolist() == second.scores.tolist()
    gaps = np.linalg.norm(first.centres[:, None] - first.centres[None], axis=2) + np.eye(len(first)) * 9
    assert (gaps > SAME_TRUCK_PX).all()
    # Whatever went had a better one beside it, which itself may have gone for an even better one.
    for x, y, score in found:
        beside = [
            other
            for other in found
            if other != (x, y, score) and np.hypot(other[0] - x, other[1] - y) / 4 <= SAME_TRUCK_PX
        ]
        stayed = [x / 4, y / 4] in first.centres.tolist()
        assert stayed or any(other[2] >= score for other in beside)
