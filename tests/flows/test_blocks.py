"""Storage that Prefect's blocks name. Blocks of a real server: test_scene.py."""

import json
import os
from pathlib import Path

import fsspec.config
import pytest
from prefect.filesystems import LocalFileSystem, RemoteFileSystem

from flows.blocks import storage_of_blocks
from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.run import Request

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
