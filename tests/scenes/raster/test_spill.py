"""Arrays put aside come back as they were, and the room they took is used again."""

import os
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scenes.raster.spill import Spill
from tests.conftest import only_on


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "drop"]), st.integers(1, 3))))
def test_what_is_there_is_what_was_put_last(steps):
    spill, expected = Spill(), {}
    for number, (name, step, side) in enumerate(steps):
        if step == "drop":
            spill.drop(name)
            expected.pop(name, None)
        else:
            spill.put(name, np.full((1, side, side), number, np.uint16))
            expected.setdefault(name, (number, side))
    for name in "abc":
        array = spill.get(name)
        assert (array is not None) == (name in expected)
        if array is not None:
            number, side = expected[name]
            np.testing.assert_array_equal(array, np.full((1, side, side), number, np.uint16))
    spill.close()


def test_room_is_used_again():
    spill = Spill()
    for number in range(10):
        spill.put(number, np.full((1, 64, 64), number, np.uint16))
        spill.drop(number)
    assert os.fstat(spill._at(0).fileno()).st_size == 64 * 64 * 2
    spill.close()


def test_a_full_disk_keeps_nothing_and_fails_nothing(tmp_path):
    class FullDisk(FileIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    spill = Spill()
    with FullDisk(tmp_path / "spill", "w+") as spill._file:
        spill.put("a", np.zeros((1, 8, 8), np.uint16))
        assert spill.get("a") is None
    spill._file = None
    spill.put("a", np.ones((1, 8, 8), np.uint16))
    assert spill.get("a").all()
    spill.close()


@only_on("linux", why="/proc")
@pytest.mark.parametrize("variable", ["", "set"])
def test_the_file_lies_where_large_temporary_files_belong_and_has_no_name(variable, tmp_path, monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    folder = "/var/tmp"
    if variable:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        folder = str(tmp_path)
    spill = Spill()
    path = str(Path(f"/proc/self/fd/{spill._at(0).fileno()}").readlink())
    assert path.startswith(folder)
    assert path.endswith("(deleted)")
    spill.close()
