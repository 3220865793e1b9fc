"""Tiles: cores cover a scene exactly once, windows start where the network's strides do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from pipeline.tiling import Tile, parts, plan, round_up, shard, strips

shapes = st.tuples(st.integers(1, 90), st.integers(1, 90))
sides, halos, strides = st.integers(6, 64), st.integers(0, 50), st.integers(1, 32)


@st.composite
def plans(draw):
    return plan(draw(shapes), draw(sides), draw(halos), draw(strides))


def test_a_plan_by_hand():
    first, second = plan((10, 20), tile_px=16, halo=3, stride=4)
    assert first.core == Window(0, 0, 12, 10)  # half of the width, rounded up to the stride
    assert first.window == Window(0, 0, 16, 10)  # 12 + 4: the halo is rounded up to the stride, then clipped
    assert first.core_in_window == (slice(0, 10), slice(0, 12))
    assert second.core == Window(12, 0, 8, 10)
    assert second.window == Window(8, 0, 12, 10)
    assert second.core_in_window == (slice(0, 10), slice(4, 12))


@given(shapes, sides, halos, strides)
def test_cores_cover_the_scene_exactly_once(shape, side, halo, stride):
    times = np.zeros(shape, int)
    for tile in plan(shape, side, halo, stride):
        rows, cols = tile.core.toslices()
        assert times[rows, cols].size == tile.height * tile.width > 0
        times[rows, cols] += 1
    assert (times == 1).all()


@given(shapes, sides, halos, strides)
def test_windows_start_at_multiples_of_the_stride_and_are_clipped(shape, side, halo, stride):
    for tile in plan(shape, side, halo, stride):
        top, left, bottom, right = edges(tile.window)
        assert top % stride == left % stride == 0
        assert (top, left) >= (0, 0)
        assert bottom <= shape[0]
        assert right <= shape[1]
        core_top, core_left, core_bottom, core_right = edges(tile.core)
        # On every side the whole halo, or the scene's border.
        assert top == 0 or core_top - top >= halo
        assert left == 0 or core_left - left >= halo
        assert bottom == shape[0] or bottom - core_bottom >= halo
        assert right == shape[1] or right - core_right >= halo


@given(shapes, sides, halos, strides)
def test_what_is_cut_from_a_window_is_the_core(shape, side, halo, stride):
    scene = np.arange(shape[0] * shape[1]).reshape(shape)
    for tile in plan(shape, side, halo, stride):
        seen = scene[tile.window.toslices()]
        assert np.array_equal(seen[tile.core_in_window], scene[tile.core.toslices()])


@given(plans(), st.integers(0, 2**32 - 1))
def test_every_point_is_claimed_though_each_tile_sees_it_elsewhere(tiles, seed):
    rng = np.random.default_rng(seed)
    size = np.array([tiles[0].scene_width, tiles[0].scene_height])
    inside = rng.uniform(0, size, (20, 2))
    points = np.concatenate([inside, np.round(inside)])  # whole numbers lie on borders between cores
    claimed = [tile.owns(points + rng.uniform(-0.4, 0.4, points.shape), 0.5) for tile in tiles]
    assert np.any(claimed, axis=0).all()


def test_what_is_beside_a_core_is_claimed_up_to_the_margin():
    left, right = plan((8, 16), tile_px=8, halo=0, stride=1)
    points = np.array([(0, 0), (7.4, 4), (7.5, 4), (8, 4), (8.5, 8.5), (8.6, 4), (16, 8), (-0.6, 4)])
    assert left.owns(points, 0.5).tolist() == [True, True, True, True, True, False, False, False]
    assert right.owns(points, 0.5).tolist() == [False, False, True, True, True, True, True, False]
    assert left.owns(np.zeros((0, 2)), 0.5).tolist() == []


@given(plans(), st.integers(1, 12))
@settings(max_examples=60)
def test_shards_hold_whole_strips_in_order_and_none_is_empty(tiles, count):
    shards = shard(tiles, count)
    assert [tile for group in shards for tile in group] == tiles
    assert all(shards)
    assert len(shards) == min(count, len(strips(tiles)))
    rows = [{tile.row for tile in group} for group in shards]
    assert sum(map(len, rows)) == len(set().union(*rows))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_strips_are_contiguous_rows_of_the_scene():
    groups = strips(list(reversed(plan((20, 20), tile_px=8, halo=0, stride=1))))
    assert [{tile.row for tile in group} for group in groups] == [{0}, {7}, {14}]
    assert [len(group) for group in groups] == [3, 3, 3]


@pytest.mark.parametrize(
    ("shape", "cores"),
    [
        ((1, 1), [(0, 0, 1, 1)]),
        ((512, 512), [(0, 0, 512, 512)]),
        ((513, 512), [(0, 0, 272, 512), (272, 0, 241, 512)]),
        ((513, 513), [(0, 0, 272, 272), (0, 272, 272, 241), (272, 0, 241, 272), (272, 272, 241, 241)]),
        ((1, 513), [(0, 0, 1, 272), (0, 272, 1, 241)]),
    ],
)
def test_scenes_of_one_pixel_and_of_a_tile_and_one(shape, cores):
    tiles = plan(shape, tile_px=512, halo=112, stride=16)
    assert [(tile.row, tile.col, tile.height, tile.width) for tile in tiles] == cores


def test_a_granule():
    tiles = plan((10980, 10980), tile_px=512, halo=112, stride=16)
    assert len(tiles) == 22 * 22
    assert max(tile.window.width for tile in tiles) == 512 + 2 * 112
    assert len(shard(tiles, 4)) == 4


def test_sides_are_rounded_up_to_the_stride():
    assert {tile.col for tile in plan((1, 100), tile_px=30, halo=0, stride=16)} == {0, 32, 64, 96}
    assert [round_up(value, 16) for value in (0, 1, 16, 17)] == [0, 16, 16, 32]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((0, 5), 8, 0, 1), r"at least one row and column\. Received: shape=\(0, 5\)"),
        (((5, 5), 0, 0, 1), "Received: tile_px=0, halo=0, stride=1"),
        (((5, 5), 8, -1, 1), "Received: tile_px=8, halo=-1, stride=1"),
        (((5, 5), 8, 0, 0), "Received: tile_px=8, halo=0, stride=0"),
    ],
)
def test_impossible_plans_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        plan(*arguments)


def test_no_shards_are_refused():
    with pytest.raises(ValueError, match=r"at least one shard\. Received: count=0"):
        shard(plan((5, 5), 8, 0, 1), 0)


def edges(window: Window) -> tuple[int, int, int, int]:
    return (
        window.row_off,
        window.col_off,
        window.row_off + window.height,
        window.col_off + window.width,
    )


# --- parts of a tile ------------------------------------------------------------------------------------


def wanted(shape: tuple[int, int], *places: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for row, col in places:
        mask[row, col] = True
    return mask


TILE = Tile(128, 256, 200, 256, 48, 1000, 1000)


def test_one_wanted_pixel_needs_one_block():
    (part,) = parts(TILE, wanted((200, 256), (70, 130)), 64, 48)
    assert (part.row, part.col, part.height, part.width) == (128 + 64, 256 + 128, 64, 64)
    assert (part.halo, part.scene_height, part.scene_width) == (48, 1000, 1000)


def test_nothing_wanted_needs_nothing_and_everything_needs_the_tile():
    assert parts(TILE, np.zeros((200, 256), bool), 64, 48) == []
    assert parts(TILE, np.ones((200, 256), bool), 64, 48) == [TILE]


def test_parts_far_apart_are_searched_apart_and_near_ones_together():
    corners = wanted((200, 256), (0, 0), (199, 255))
    assert len(parts(TILE, corners, 64, 8)) == 2
    assert len(parts(TILE, corners, 64, 500)) == 1  # two halos would be more than the tile


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.sampled_from([16, 64]),
    st.integers(0, 60),
    st.integers(0, 99),
)
def test_parts_hold_all_that_is_wanted_once_and_on_the_grid_of_blocks(rows, cols, side, halo, seed):
    tile = Tile(64, 128, rows, cols, halo, 300, 400)
    rng = np.random.default_rng(seed)
    mask = rng.uniform(size=(rows, cols)) < rng.choice([0.0, 0.001, 0.01])
    covered = np.zeros((rows, cols), int)
    for part in parts(tile, mask, side, halo):
        assert (part.row - tile.row) % side == (part.col - tile.col) % side == 0
        top, left = part.row - tile.row, part.col - tile.col
        covered[top : top + part.height, left : left + part.width] += 1
    assert covered.max(initial=0) <= 1
    assert covered[mask].all()
