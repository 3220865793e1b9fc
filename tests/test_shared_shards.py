"""Runs whose shards lie in a store: the same bytes, taken up anywhere, by workers that share no disk."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import numpy as np
import pytest

from pipeline.config import load_config
from pipeline.errors import BundleError, ConfigError, OutputError, WorkerMismatchError, is_transient
from pipeline.models.bundle import open_bundle
from pipeline.run import Request, Result, finish, keys, prepare, run_directly, run_shard
from tests.conftest import write_geotiff
from tests.killing import PATIENCE_S, begin, kill_when
from tests.operations.servers import stac_item
from tests.scenes.products import write_raster
from tests.servers import s3_server, unsteady

SETTINGS = [
    "engine.threads=1",
    "engine.precision=float32",
    "landcover.enabled=false",
    "tiling.tile_px=32",
    "tiling.shards=4",
]
ROWS, COLUMNS = 128, 32
NAME = "S2A_32UPD_20230601_0_L2A"


@pytest.fixture
def s3(monkeypatch):
    with s3_server(monkeypatch, "shards", "scenes") as url:
        yield url


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path) -> str:
    """The address of a store of each kind."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        return "s3://shards/all"
    return f"file://{tmp_path}/store"


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    pixels = np.random.default_rng(1).integers(1000, 2500, (4, ROWS, COLUMNS)).astype(np.uint16)
    return write_geotiff(tmp_path_factory.mktemp("scene") / f"{NAME}.tif", pixels)


def request_for(scene: Path | str, out: Path, *settings: str) -> Request:
    return Request(str(scene), out, load_config(None, [*SETTINGS, *settings]))


@pytest.fixture(scope="module")
def undisturbed(scene, tmp_path_factory) -> Result:
    """A run that knows of no store."""
    return run_directly(request_for(scene, tmp_path_factory.mktemp("undisturbed")))


def trucks(folder: Path) -> bytes:
    return (folder / "trucks.geojson").read_bytes()


def shards(store: str) -> dict[str, bytes]:
    """Names and contents of the shards in a store."""
    fs, root = fsspec.url_to_fs(f"{store}/{NAME}", skip_instance_cache=True, use_listings_cache=False)
    paths = [path for path in fs.ls(root, detail=False) if path.endswith(".npz")] if fs.exists(root) else []
    return {path.rpartition("/")[2]: fs.cat_file(path) for path in paths}


def replace_shard(store: str, name: str, content: bytes) -> None:
    fs, path = fsspec.url_to_fs(f"{store}/{NAME}/{name}", skip_instance_cache=True)
    fs.pipe_file(path, content)


def test_the_bytes_are_those_of_a_run_without_a_store(scene, undisturbed, store, tmp_path):
    result = run_directly(request_for(scene, tmp_path / "out", f"runner.store={store}"))
    assert trucks(result.folder) == trucks(undisturbed.folder)
    local = {path.name: path.read_bytes() for path in undisturbed.folder.glob(".shards/*.npz")}
    assert shards(store) == local
    assert list((result.folder / ".shards").iterdir()) == []


def test_a_second_run_computes_nothing_from_whichever_machine(scene, undisturbed, store, tmp_path, caplog):
    run_directly(request_for(scene, tmp_path / "one", f"runner.store={store}"))
    shutil.rmtree(tmp_path / "one")
    caplog.set_level("INFO", "pipeline")
    caplog.clear()
    job = prepare(request_for(scene, tmp_path / "two", f"runner.store={store}"))
    assert job.missing() == []
    assert trucks(finish(job).folder) == trucks(undisturbed.folder)
    assert "stored" not in caplog.text


@pytest.mark.parametrize("left", [0, 200, -1], ids=["none", "some", "all but one byte"])
def test_a_damaged_shard_is_computed_again(scene, undisturbed, store, tmp_path, left):
    settings = f"runner.store={store}"
    run_directly(request_for(scene, tmp_path / "one", settings))
    before = shards(store)
    name = sorted(before)[1]
    replace_shard(store, name, before[name][:left])
    result = run_directly(request_for(scene, tmp_path / "two", settings))
    assert trucks(result.folder) == trucks(undisturbed.folder)
    assert shards(store) == before


def test_shards_of_other_settings_stay_for_runs_that_may_need_them(scene, store, tmp_path):
    first = run_directly(request_for(scene, tmp_path / "one", f"runner.store={store}"))
    before = shards(store)
    run_directly(request_for(scene, tmp_path / "two", f"runner.store={store}", "tiling.shards=2"))
    assert shards(store).items() > before.items()
    again = prepare(request_for(scene, tmp_path / "one", f"runner.store={store}"))
    assert again.missing() == []
    assert list(again.keys) == first.run["shards"]


# --- workers --------------------------------------------------------------------------------------------


def process_of(*commands: str) -> list[str]:
    return [sys.executable, "-c", "\n".join(commands)]


def test_a_worker_needs_the_store_and_the_scene_and_no_disk_of_the_run(s3, tmp_path):
    """A process of its own, in a folder that goes as soon as it runs, and with another home."""
    bands = np.random.default_rng(1).integers(2000, 3500, (4, ROWS, COLUMNS)).astype(np.uint16)
    client = pytest.importorskip("boto3").client("s3")
    for index, band in enumerate(("B02", "B03", "B04", "B08")):
        file = write_raster(tmp_path / f"{band}.tif", bands[index], driver="COG")
        client.upload_file(str(file), "scenes", f"{band}.tif")
        file.unlink()
    item = tmp_path / "item.json"
    item.write_text(json.dumps(stac_item(NAME, "s3://scenes")))
    job = prepare(request_for(item, tmp_path / "out", "runner.store=s3://shards"))
    parcel = pickle.dumps(job)
    for secret in (os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_ACCESS_KEY_ID"]):
        assert secret.encode() not in parcel
    item.unlink()
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        process_of(
            "import os, pickle, sys",
            "import torch",  # its oneMKL can't be loaded from a folder that is gone
            "from pipeline.run import run_shard",
            "os.rmdir(os.getcwd())",
            "print(run_shard(pickle.load(sys.stdin.buffer), 2))",
        ),
        input=parcel,
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().split() == [job.store.address(job.keys[2])]
    assert job.missing() == [0, 1, 3]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "elsewhere").exists()


def test_a_shipped_bundle_is_the_workers_own_and_any_other_is_at_the_same_path(tmp_path, monkeypatch):
    shipped = open_bundle("trucks")
    shutil.copytree(shipped.folder, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps((shipped, open_bundle("mine")))
    assert str(shipped.folder).encode() not in sent
    monkeypatch.setattr("pipeline.models.bundle.SHIPPED", Path("/opt/truckscape/bundles"))
    arrived = pickle.loads(sent)  # noqa: S301 it is ours
    assert [bundle.folder for bundle in arrived] == [
        Path("/opt/truckscape/bundles/trucks"),
        tmp_path / "mine",
    ]
    assert arrived[0].card == shipped.card


def test_a_worker_that_would_compute_something_else_writes_nothing(scene, tmp_path, monkeypatch):
    job = prepare(request_for(scene, tmp_path, f"runner.store=file://{tmp_path}/unlike"))
    ours = keys.versions(["torch"])["torch"]
    monkeypatch.setattr(keys, "version", lambda name: "0.1" if name == "torch" else version(name))
    with pytest.raises(
        WorkerMismatchError, match=rf"run: torch 0\.1 instead of {re.escape(ours)}\."
    ) as caught:
        run_shard(job, 0)
    assert not is_transient(caught.value)
    assert job.missing() == [0, 1, 2, 3]


def test_a_worker_with_other_weights_under_the_same_name_writes_nothing(scene, tmp_path):
    shutil.copytree(open_bundle("trucks").folder, tmp_path / "mine")
    settings = (f"runner.store=file://{tmp_path}/weights", f"trucks.bundle={tmp_path / 'mine'}")
    job = prepare(request_for(scene, tmp_path / "out", *settings))
    card = tmp_path / "mine" / "card.yaml"
    digest = open_bundle("trucks").card.weights_sha256
    card.write_text(card.read_text().replace(digest, digest[::-1]))
    with pytest.raises(BundleError, match="is not what the run began with"):
        run_shard(job, 0)
    assert job.missing() == [0, 1, 2, 3]


def run(scene: Path, out: Path, store: str) -> None:
    run_directly(request_for(scene, out, f"runner.store={store}"))


@pytest.mark.parametrize("store", ["file"], indirect=True)
def test_a_run_that_is_killed_is_taken_up_on_another_machine(scene, undisturbed, store, tmp_path, caplog):
    """One that has neither its folder nor anything else of it but the store."""
    folder = Path(urlsplit(store).path) / NAME
    process = begin(run, scene, tmp_path / "one", store)
    kill_when(process, lambda: len(list(folder.glob("[!.]*.npz"))) >= 2)
    shutil.rmtree(tmp_path / "one")
    kept = shards(store)
    assert 2 <= len(kept) < 4
    caplog.set_level("INFO", "pipeline")
    result = run_directly(request_for(scene, tmp_path / "two", f"runner.store={store}"))
    assert caplog.text.count(" stored") == 4 - len(kept)
    assert trucks(result.folder) == trucks(undisturbed.folder)
    assert shards(store).items() > kept.items()


# --- what can go wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("shared/shards", "runner.store must be like s3://bucket/prefix"),
        ("s3://key:secret@shards", "with credentials in the environment. Received: 's3://shards'"),
        ("https://host/shards", "runner.store has an unsupported protocol, https"),
    ],
)
def test_addresses_that_are_refused_before_any_work(scene, tmp_path, url, said):
    with pytest.raises(ConfigError, match=said):
        prepare(request_for(scene, tmp_path / "out", f"runner.store={url}"))
    assert not (tmp_path / "out").exists()


def test_a_store_that_lets_nobody_in_ends_the_run_before_it_begins(scene, s3, tmp_path, monkeypatch):
    with unsteady(s3, ["403"] * 9) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(OutputError, match=rf"^Shards can't be kept in s3://shards/{NAME}: ") as caught:
            prepare(request_for(scene, tmp_path, "runner.store=s3://shards"))
    assert not is_transient(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_who_is_let_in_and_how_is_told_nobody(scene, s3, tmp_path, caplog):
    caplog.set_level("DEBUG", "pipeline")
    run_directly(request_for(scene, tmp_path, "runner.store=s3://shards"))
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    kept = [*written, *shards("s3://shards").values(), caplog.text.encode()]
    for secret in (os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_ACCESS_KEY_ID"]):
        assert not any(secret.encode() in content for content in kept)
