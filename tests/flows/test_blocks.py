"""Storage that Prefect's blocks name."""

import json
import os
import subprocess
from pathlib import Path

import fsspec.config
import numpy as np
import pytest
from prefect.filesystems import LocalFileSystem, RemoteFileSystem

from flows.blocks import storage_of_blocks
from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.run import Request, run_directly
from tests.conftest import write_geotiff
from tests.flows.processes import PYTHON
from tests.servers import s3_server

OPTIONS = {"key": "who", "secret": "hidden"}


@pytest.fixture(autouse=True)
def blocks(monkeypatch):
    """Blocks as a server has them."""
    known = {
        "layers": LocalFileSystem(basepath="/data/layers"),
        "empty": LocalFileSystem(),
        "north": RemoteFileSystem(basepath="s3://bucket/north/", settings=OPTIONS),
        "south": RemoteFileSystem(basepath="s3://other/south", settings={"key": "other"}),
    }

    def load(name: str):
        if name not in known:
            raise ValueError(f"Unable to find block document named {name}")
        return known[name]

    for kind in (LocalFileSystem, RemoteFileSystem):
        monkeypatch.setattr(kind, "load", load)


def request(out: str = "/out", *settings: str) -> Request:
    return Request("scene.tif", Path(out), load_config(None, settings))


@pytest.mark.parametrize("name", ["local-file-system/layers", "LocalFileSystem/layers"])
def test_the_output_folder_may_be_a_block(name):
    with storage_of_blocks(request(name)) as found:
        assert found.out == Path("/data/layers")


@pytest.mark.parametrize("setting", ["publish.url", "runner.store"])
def test_a_store_may_be_a_block_whose_options_last_as_long_as_the_run(setting):
    part, name = setting.split(".")
    with storage_of_blocks(request("/out", f"{setting}=remote-file-system/north")) as found:
        assert getattr(getattr(found.config, part), name) == "s3://bucket/north"
        assert fsspec.config.conf["s3"] == OPTIONS
        assert json.loads(os.environ["FSSPEC_S3"]) == OPTIONS
        assert "hidden" not in found.config.model_dump_json()
    assert "secret" not in fsspec.config.conf.get("s3", {})
    assert "FSSPEC_S3" not in os.environ


def test_a_folder_of_this_machine_may_be_a_store():
    with storage_of_blocks(request("/out", "publish.url=local-file-system/layers")) as found:
        assert found.config.publish.url == "file:///data/layers"


def test_addresses_and_folders_stay_as_they_are():
    given = request("layers/north", "publish.url=s3://bucket/prefix")
    with storage_of_blocks(given) as found:
        assert found == given


@pytest.mark.parametrize(
    ("out", "settings", "message"),
    [
        ("local-file-system/gone", (), "no such block of storage.*Received: local-file-system/gone"),
        ("local-file-system/empty", (), "no basepath"),
        ("remote-file-system/north", (), "out must be a folder of the worker"),
        (
            "/out",
            ("publish.url=remote-file-system/north", "runner.store=remote-file-system/south"),
            "s3:// with other settings",
        ),
    ],
)
def test_a_block_that_can_not_be_used_is_one_line(out, settings, message):
    with pytest.raises(ConfigError, match=message), storage_of_blocks(request(out, *settings)):
        pass


def test_the_settings_of_a_block_alone_let_a_run_into_an_object_store(tmp_path, monkeypatch):
    """The environment has no credentials and no address of the store; a process inherits the block's."""
    numbers = np.random.default_rng(3).integers(1000, 2500, (4, 64, 64)).astype(np.uint16)
    scene, out = write_geotiff(tmp_path / "scene.tif", numbers), tmp_path / "out"
    stores = [f"{name}=remote-file-system/real" for name in ("publish.url", "runner.store")]
    config = load_config(None, ["landcover.enabled=false", "engine.threads=1", *stores])
    with s3_server(monkeypatch, "north") as url:
        s3 = pytest.importorskip("boto3").client("s3")
        key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        options = {"key": key, "secret": secret, "client_kwargs": {"endpoint_url": url}}
        block = RemoteFileSystem(basepath="s3://north/europe", settings=options)
        monkeypatch.setattr(RemoteFileSystem, "load", lambda name: block)
        with storage_of_blocks(Request(str(scene), out, config)) as found:
            folder = run_directly(found).folder
            script = (
                f"import fsspec; print(fsspec.open('s3://north/europe/{folder.name}/run.json').open().read())"
            )
            read = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True, check=True)
        entries = [entry["Key"] for entry in s3.list_objects_v2(Bucket="north")["Contents"]]
        stored = {entry: s3.get_object(Bucket="north", Key=entry)["Body"].read() for entry in entries}
    layers = {path for path in folder.rglob("*") if path.is_file() and path.parent.name[0] != "."}
    assert {"run.json", "trucks.gpkg"} <= {path.name for path in layers}
    for path in layers:
        assert stored[f"europe/{folder.name}/{path.relative_to(folder).as_posix()}"] == path.read_bytes()
    assert any(name.endswith(".npz") for name in stored)  # shards
    assert read.stdout.strip() == repr((folder / "run.json").read_bytes())
    assert not any(secret.encode() in text for text in stored.values())
