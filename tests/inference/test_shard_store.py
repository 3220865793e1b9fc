"""Shards in a folder, a file system and an object store: complete or absent, and kept while needed."""

import os
import pickle
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import ConfigError, OutputError, is_transient
from pipeline.inference import shard_store
from pipeline.inference.shard_store import ShardStore, open_shared
from pipeline.inference.shards import content_key, shard_name
from pipeline.storage import object_store
from tests.conftest import only_on
from tests.inference.test_shards import a_shard
from tests.servers import s3_server, unsteady

ONE, TWO, OLD = (content_key({"shard": name}) for name in ("one", "two", "old"))
DAY_S = 24 * 3600


@pytest.fixture
def s3(monkeypatch):
    with s3_server(monkeypatch, "shards") as url:
        yield url


@pytest.fixture
def folder(tmp_path):
    """A folder whose name looks like a chain of URLs."""
    return ShardStore(tmp_path / "s3:::a?key=b" / ".shards")


@pytest.fixture(params=["folder", "file", "s3"])
def store(request):
    """A store of each kind, for the shards of one scene."""
    return request.getfixturevalue("folder" if request.param == "folder" else f"in_{request.param}")


@pytest.fixture
def in_file(tmp_path):
    return ShardStore(f"file://{tmp_path}/scene")


@pytest.fixture
def in_s3(s3):
    return ShardStore("s3://shards/of/all/scene")


@pytest.fixture(params=["file", "s3"])
def shared(request):
    return request.getfixturevalue(f"in_{request.param}")


def files_of(store) -> tuple:
    """The file system, and the folder in it, of a scene's shards."""
    if isinstance(store.place, Path):
        return LocalFileSystem(), str(store.place)
    return fsspec.url_to_fs(store.place, skip_instance_cache=True)


def put(store, name: str, content: bytes) -> None:
    fs, root = files_of(store)
    fs.pipe_file(f"{root}/{name}", content)


def content(store, key: str) -> bytes:
    fs, root = files_of(store)
    return fs.cat_file(f"{root}/{shard_name(key)}")


def names(store) -> set[str]:
    fs, root = files_of(store)
    return {entry.rpartition("/")[2] for entry in fs.ls(root, detail=False, refresh=True)}


# --- any store ------------------------------------------------------------------------------------------


def test_what_is_written_is_there_and_is_what_is_read(store):
    store.claim([ONE, TWO])
    assert store.whole([ONE, TWO]) == set()
    assert store.read(ONE) is None
    store.write(ONE, a_shard())
    assert store.whole([ONE, TWO]) == {ONE}
    np.testing.assert_array_equal(store.read(ONE).status, a_shard().status)
    assert store.address(ONE).endswith(f"/{shard_name(ONE)}")


def test_two_writers_of_a_shard_write_the_same_bytes(store, tmp_path):
    store.claim([ONE])
    store.write(ONE, a_shard())
    first = content(store, ONE)
    store.write(ONE, a_shard())
    ShardStore(tmp_path).write(ONE, a_shard())
    assert content(store, ONE) == first == (tmp_path / shard_name(ONE)).read_bytes()


def test_a_damaged_shard_is_none_and_can_be_dropped(store):
    store.claim([ONE])
    store.write(ONE, a_shard())
    put(store, shard_name(ONE), content(store, ONE)[:-1])
    assert store.read(ONE) is None
    store.drop(ONE)
    assert store.whole([ONE]) == set()
    store.drop(ONE)  # by another run, meanwhile


def test_an_empty_file_is_no_shard(store):
    store.claim([ONE])
    put(store, shard_name(ONE), b"")
    assert store.whole([ONE]) == set()
    assert store.read(ONE) is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/\.shards: .*; choose another --out"):
        ShardStore(tmp_path / "file" / ".shards").claim([ONE])


# --- whole or not there ---------------------------------------------------------------------------------


@contextmanager
def files_no_larger_than(size: int):
    """Writing on is an error, as on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@only_on("linux", "darwin", why="a limit for the size of files")
@pytest.mark.parametrize("kind", ["folder", "in_file"])
def test_a_shard_never_appears_half_written(request, kind):
    store = request.getfixturevalue(kind)
    with files_no_larger_than(300), pytest.raises(OutputError, match="File too large") as caught:
        store.write(ONE, a_shard())
    assert is_transient(caught.value)
    assert names(store) == set()


# --- tidying --------------------------------------------------------------------------------------------


def claimed_days_ago(monkeypatch, store, days: float, keys: list[str]) -> None:
    moment = time.time() - days * DAY_S
    with monkeypatch.context() as then:
        then.setattr(shard_store.time, "time", lambda: moment)
        store.claim(keys)


def test_shards_that_a_run_of_the_last_week_needs_stay(shared, monkeypatch):
    """Also where another run, of other settings, ends; and those it took up, whatever their age."""
    for key in (ONE, TWO, OLD):
        shared.write(key, a_shard())
    claimed_days_ago(monkeypatch, shared, 6, [TWO])
    shared.claim([ONE])
    shared.tidy([ONE])
    assert shared.whole([ONE, TWO, OLD]) == {ONE, TWO}


def test_what_no_run_of_the_last_week_needs_goes_with_its_note(shared, monkeypatch):
    claimed_days_ago(monkeypatch, shared, 8, [OLD, TWO])
    claimed_days_ago(monkeypatch, shared, 8, [TWO])
    shared.claim([TWO])  # a second run of the same settings, which needs them for another week
    shared.claim([ONE])
    for key in (ONE, TWO, OLD):
        shared.write(key, a_shard())
    shared.tidy([ONE])
    assert shared.whole([ONE, TWO, OLD]) == {ONE, TWO}
    assert len(names(shared)) == 4  # and two notes


def test_what_others_put_there_stays_and_what_dead_writers_left_goes(shared):
    shared.claim([ONE])
    mine, theirs = names(shared), {"notes.txt", "0123.npz", "text.needed.json", "list.needed.json"}
    for name in (*theirs, f".{OLD[:32]}.host-17.part.npz"):
        put(shared, name, b"[1]" if name.startswith("list") else b"not json")
    shared.tidy([ONE])
    assert names(shared) == mine | theirs


def test_a_folder_keeps_the_shards_of_the_run_that_ended_and_of_runs_under_way(folder):
    for key in (ONE, TWO, OLD):
        folder.claim([key])
        folder.write(key, a_shard())
    folder.release([OLD])  # that run has failed
    folder.tidy([ONE])
    assert folder.whole([ONE, TWO, OLD]) == {ONE, TWO}
    folder.tidy([TWO])
    assert names(folder) == {shard_name(TWO)}


# --- addresses and faults -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("shared/shards", "runner.store must be like s3://bucket/prefix"),
        ("s3://key:secret@shards", "with credentials in the environment. Received: 's3://shards'"),
        ("carrier-pigeon://loft", "runner.store has an unsupported protocol"),
        ("https://host/shards", "has an unsupported protocol, https"),
    ],
)
def test_addresses_that_are_refused(url, said):
    with pytest.raises(ConfigError, match=said) as caught:
        open_shared(url)
    assert "secret" not in str(caught.value)


def test_a_store_that_does_not_answer_is_told_in_one_line(s3, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        store = ShardStore("s3://shards/a")
        for way in (lambda: store.whole([ONE]), lambda: store.read(ONE), lambda: store.write(ONE, a_shard())):
            with pytest.raises(OutputError, match=r"^Shards can't be kept in s3://shards/a: ") as caught:
                way()
            assert is_transient(caught.value)
            assert "\n" not in str(caught.value)
            assert os.environ["AWS_SECRET_ACCESS_KEY"] not in repr(caught.value.__cause__)


def test_a_store_that_is_silent_is_given_up(s3, monkeypatch):
    monkeypatch.setattr(object_store, "PATIENCE_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(OutputError, match=r"s3://shards/scene: FSTimeoutError"):
            ShardStore("s3://shards/scene").write(ONE, a_shard())


def test_a_bucket_that_is_not_there_is_told_before_any_work(s3):
    with pytest.raises(OutputError, match=r"s3://nobodys/scene: .*bucket"):
        ShardStore("s3://nobodys/scene").claim([ONE])


def test_tidying_that_fails_costs_a_run_nothing_but_room(s3, monkeypatch, caplog):
    faults = ["403"]
    with unsteady(s3, faults) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        ShardStore("s3://shards/scene").tidy([ONE])
    assert not faults
    assert "old shards stay: Shards can't be kept in s3://shards" in caplog.text


@pytest.mark.longer
@pytest.mark.parametrize("fault", ["503", "500", "close"])
def test_short_faults_are_tried_again(s3, monkeypatch, fault):
    faults: list[str] = []
    with unsteady(s3, faults) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        store = ShardStore("s3://shards/scene")
        for way in (
            lambda: store.claim([ONE]),
            lambda: store.write(ONE, a_shard()),
            lambda: store.whole([ONE]),
            lambda: store.read(ONE),
            lambda: store.tidy([ONE]),
        ):
            faults.extend([fault] * 2)
            way()
            assert not faults
        np.testing.assert_array_equal(store.read(ONE).status, a_shard().status)


def test_credentials_travel_with_no_job(s3):
    store = ShardStore("s3://shards/scene")
    store.write(ONE, a_shard())
    sent = pickle.dumps(store)
    assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in sent
    assert os.environ["AWS_ACCESS_KEY_ID"].encode() not in sent
    there = pickle.loads(sent)  # noqa: S301 it is ours
    np.testing.assert_array_equal(there.read(ONE).status, a_shard().status)
