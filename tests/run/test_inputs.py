"""Inputs that are replaced while a run reads them: one line, no layers, no shards of other pixels."""

import os
import shutil
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import load_config
from pipeline.errors import InputChangedError
from pipeline.inference import engine
from pipeline.run import Request, finish, prepare, run_shards
from pipeline.run.inputs import check_same, states_below, states_of, verified
from tests.conftest import write_geotiff

finish_module, prepare_module = (import_module(f"pipeline.run.{name}") for name in ("finish", "prepare"))

SETTINGS = ["landcover.enabled=false", "engine.threads=1", "tiling.tile_px=48", "tiling.shards=2"]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    numbers = np.random.default_rng(1).integers(300, 3000, (4, 96, 96)).astype(np.uint16)
    return write_geotiff(tmp_path / "scene_20230613T102031.tif", numbers)


@pytest.fixture
def request_of(scene: Path, tmp_path: Path) -> Request:
    return Request(str(scene), tmp_path / "out", load_config(None, SETTINGS))


def replace(path: Path) -> None:
    """Put another file with the same size and time in place of a file."""
    status = path.stat()
    other = path.with_suffix(".new")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    other.write_bytes(data)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def before_calling(module: object, name: str, action, monkeypatch, after: bool = False) -> None:
    """Do something before, or after, the first call of a function of a module."""
    original, done = getattr(module, name), []

    def call(*arguments, **named):
        if not after and not done:
            done.append(action())
        result = original(*arguments, **named)
        if after and not done:
            done.append(action())
        return result

    monkeypatch.setattr(module, name, call)


def test_a_file_that_is_replaced_before_it_is_computed_leaves_no_shard(request_of, scene, tmp_path):
    job = prepare(request_of)
    backup = shutil.copy2(scene, tmp_path / "backup")
    replace(scene)
    with pytest.raises(
        InputChangedError, match=r"scene_20230613T102031\.tif was changed or replaced"
    ) as error:
        run_shards(job, [0, 1])
    assert error.value.is_transient
    assert len(job.missing()) == 2
    shutil.copy2(backup, scene)  # the same content in another version
    run_shards(job, [0, 1])
    assert job.missing() == []


def test_a_file_that_is_replaced_and_put_back_while_it_is_computed_leaves_no_shard(
    request_of, scene, tmp_path, monkeypatch
):
    job = prepare(request_of)
    aside = tmp_path / "aside"

    def swap() -> None:
        shutil.copy2(scene, aside)
        replace(scene)
        aside.replace(scene)

    original = engine.predict_shards

    def predict_shards(*arguments):
        for number, shard in enumerate(original(*arguments)):
            if number == 1:
                swap()
            yield shard

    monkeypatch.setattr(engine, "predict_shards", predict_shards)
    with pytest.raises(InputChangedError):
        run_shards(job, [0, 1])
    assert job.missing() == [1]


@pytest.mark.parametrize(
    ("name", "after"),
    [("open_scene", False), ("open_scene", True), ("hashes_of", True)],
)
def test_a_file_that_is_replaced_while_a_run_is_prepared_is_found(
    request_of, scene, name, after, monkeypatch
):
    before_calling(prepare_module, name, lambda: replace(scene), monkeypatch, after)
    with pytest.raises(InputChangedError):
        prepare(request_of)


def test_a_file_that_is_replaced_while_layers_are_made_leaves_none(request_of, scene, monkeypatch):
    job = prepare(request_of)
    run_shards(job, [0, 1])
    before_calling(finish_module, "_make_products", lambda: replace(scene), monkeypatch, after=True)
    with pytest.raises(InputChangedError):
        finish(job)
    assert [path.name for path in job.folder.iterdir() if path.is_file()] == []


def test_states_are_those_of_a_file_or_of_all_in_a_folder(tmp_path):
    for name in ("a/b/one", "a/two"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert set(states_below(str(tmp_path / "a"))) == {str(tmp_path / "a/b/one"), str(tmp_path / "a/two")}
    assert set(states_below(str(tmp_path / "a/two"))) == {str(tmp_path / "a/two")}


@pytest.mark.parametrize("path", ["x" * 5000, "~nobody-of-this-name/x.tif", "a\0b", "https://host/item.json"])
def test_what_is_no_path_has_no_files(path):
    assert states_below(path) == {}
    assert states_below("https://example.org/item.json") == {}


def test_another_machine_compares_contents(tmp_path):
    path = tmp_path / "x"
    path.write_text("x")
    digests, states = {str(path): sha256(b"x").hexdigest()}, {str(path): (1, 2, 3, 4)}
    assert verified([path], digests, states) == states_of([path])
    path.write_text("y")
    for gone in (False, True):
        if gone:
            path.unlink()
        with pytest.raises(InputChangedError, match="Run again when it is complete"):
            verified([path], digests, states)


def test_only_files_that_were_seen_before_are_compared(tmp_path):
    path = tmp_path / "x"
    path.write_text("x")
    before = states_of([path])
    check_same(before, [path, tmp_path / "y"])
    path.write_text("longer")
    with pytest.raises(InputChangedError, match="x was changed"):
        check_same(before, [path])
