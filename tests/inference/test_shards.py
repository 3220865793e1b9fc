"""Shards: keys, and files that are complete or count as damaged."""

import io
from dataclasses import replace

import numpy as np
import pytest

from pipeline.inference.predictions import Detections
from pipeline.inference.shards import Shard, content_key, read_shard, save_shard, shard_name

DETECTIONS = Detections(
    np.array([[1.0, 2.0, 4.5, 5.0]]), np.array([0.9]), np.array([[2.1, -0.3]]), np.array([0.2])
)


def a_shard(landcover: bool = True) -> Shard:
    status = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
    return Shard(6, status, status + 1 if landcover else None, DETECTIONS, 5, 2)


def saved(shard: Shard) -> bytes:
    file = io.BytesIO()
    save_shard(file, shard)
    return file.getvalue()


@pytest.mark.parametrize("landcover", [True, False])
def test_a_shard_survives_saving(landcover):
    shard = a_shard(landcover)
    back = read_shard(io.BytesIO(saved(shard)))
    assert back is not None
    assert (back.first_row, back.tiles_total, back.tiles_skipped) == (6, 5, 2)
    np.testing.assert_array_equal(back.status, shard.status)
    assert (back.landcover is None) == (not landcover)
    for name in ("boxes", "scores", "displacement", "displacement_sigma"):
        np.testing.assert_array_equal(getattr(back.detections, name), getattr(DETECTIONS, name))


def test_a_shard_keeps_probabilities():
    probabilities = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    soft = replace(a_shard(), probabilities=probabilities)
    np.testing.assert_array_equal(read_shard(io.BytesIO(saved(soft))).probabilities, probabilities)
    assert read_shard(io.BytesIO(saved(a_shard()))).probabilities is None


def test_a_shard_keeps_scores_of_any_vehicle():
    found = replace(DETECTIONS, vehicle_scores=np.array([0.95]))
    back = read_shard(io.BytesIO(saved(replace(a_shard(), detections=found))))
    assert back.detections.vehicle_scores.tolist() == [0.95]
    assert read_shard(io.BytesIO(saved(a_shard()))).detections.vehicle_scores is None


def test_the_same_shard_makes_the_same_bytes():
    assert saved(a_shard()) == saved(a_shard())


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_a_truncated_shard_is_damaged(keep):
    assert read_shard(io.BytesIO(saved(a_shard())[:keep])) is None


def test_a_shard_with_a_flipped_bit_is_damaged():
    damaged = bytearray(saved(a_shard()))
    damaged[damaged.index(b"status.npy") + 60] ^= 1
    assert read_shard(io.BytesIO(damaged)) is None


def test_an_archive_of_something_else_is_no_shard():
    file = io.BytesIO()
    np.savez(file, status=np.zeros((3, 4), np.uint8))
    assert read_shard(io.BytesIO(file.getvalue())) is None


def test_numpy_opens_a_shard_which_is_compressed():
    status = np.ones((500, 400), np.uint8)
    content = saved(Shard(0, status, None, Detections.empty(), 1, 0))
    with np.load(io.BytesIO(content)) as arrays:
        np.testing.assert_array_equal(arrays["status"], status)
    assert len(content) < 5000


def test_a_pickle_is_not_opened():
    file = io.BytesIO()
    np.savez(file, rows=np.array([object()], dtype=object), allow_pickle=True)
    assert read_shard(io.BytesIO(file.getvalue())) is None


def test_a_key_depends_on_every_part_and_on_no_order():
    key = content_key({"scene": "a", "tiles": [[0, 0]]})
    assert key == content_key({"tiles": [[0, 0]], "scene": "a"})
    assert key != content_key({"scene": "a", "tiles": [[0, 1]]})
    assert shard_name(key) == f"{key[:32]}.npz"
