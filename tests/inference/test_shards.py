"""Shards are found again by what made them, and are whole or not there."""

import io

import numpy as np
import pytest

from pipeline.errors import OutputError
from pipeline.inference.predictions import Detections
from pipeline.inference.shards import Shard, content_key, is_whole, read_shard, shard_name, write_shard

DETECTIONS = Detections(
    np.array([[1.0, 2.0, 4.5, 5.0]]), np.array([0.9]), np.array([[2.1, -0.3]]), np.array([0.2])
)


def a_shard(landcover: bool = True) -> Shard:
    status = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
    return Shard(6, status, status + 1 if landcover else None, DETECTIONS, 5, 2)


@pytest.mark.parametrize("landcover", [True, False])
def test_what_is_written_is_what_is_read(tmp_path, landcover):
    shard = a_shard(landcover)
    write_shard(tmp_path / "a.npz", shard)
    back = read_shard(tmp_path / "a.npz")
    assert back is not None
    assert (back.first_row, back.tiles_total, back.tiles_skipped) == (6, 5, 2)
    np.testing.assert_array_equal(back.status, shard.status)
    assert (back.landcover is None) == (not landcover)
    for name in ("boxes", "scores", "displacement", "displacement_sigma"):
        np.testing.assert_array_equal(getattr(back.detections, name), getattr(DETECTIONS, name))


def test_the_same_shard_makes_the_same_bytes(tmp_path):
    for name in "ab":
        write_shard(tmp_path / f"{name}.npz", a_shard())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_nothing_stays_beside_a_shard(tmp_path):
    write_shard(tmp_path / "a.npz", a_shard())
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_a_missing_shard_is_none(tmp_path):
    assert read_shard(tmp_path / "none.npz") is None
    assert not is_whole(tmp_path / "none.npz")


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_a_damaged_shard_counts_as_missing(tmp_path, keep):
    write_shard(tmp_path / "a.npz", a_shard())
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:keep])
    assert read_shard(tmp_path / "a.npz") is None
    assert not is_whole(tmp_path / "a.npz")


def test_a_shard_is_found_whole_without_reading_it(tmp_path):
    write_shard(tmp_path / "a.npz", a_shard())
    assert is_whole(tmp_path / "a.npz")


def test_a_flipped_bit_is_seen_when_the_shard_is_read_if_not_before(tmp_path):
    write_shard(tmp_path / "a.npz", a_shard())
    damaged = bytearray((tmp_path / "a.npz").read_bytes())
    damaged[damaged.index(b"status.npy") + 60] ^= 1
    (tmp_path / "a.npz").write_bytes(damaged)
    assert read_shard(tmp_path / "a.npz") is None


def test_an_archive_of_something_else_is_no_shard(tmp_path):
    np.savez(tmp_path / "a.npz", status=np.zeros((3, 4), np.uint8))
    assert not is_whole(tmp_path / "a.npz")
    assert read_shard(tmp_path / "a.npz") is None


def test_anyone_can_open_a_shard_with_numpy_and_it_is_compressed(tmp_path):
    status = np.ones((500, 400), np.uint8)
    write_shard(tmp_path / "a.npz", Shard(0, status, None, Detections.empty(), 1, 0))
    with np.load(io.BytesIO((tmp_path / "a.npz").read_bytes())) as arrays:
        np.testing.assert_array_equal(arrays["status"], status)
    assert (tmp_path / "a.npz").stat().st_size < 5000


def test_a_pickle_is_not_opened(tmp_path):
    np.savez(tmp_path / "a.npz", rows=np.array([object()], dtype=object), allow_pickle=True)
    assert read_shard(tmp_path / "a.npz") is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_shard(tmp_path / "file" / "a.npz", a_shard())


def test_a_key_depends_on_every_part_and_on_no_order():
    key = content_key({"scene": "a", "tiles": [[0, 0]]})
    assert key == content_key({"tiles": [[0, 0]], "scene": "a"})
    assert key != content_key({"scene": "a", "tiles": [[0, 1]]})
    assert shard_name(key) == f"{key[:32]}.npz"
