"""Results of a scene in an S3-compatible store: the record last, credentials nowhere."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import load_config
from pipeline.errors import ConfigError, OutputError, is_transient
from pipeline.run import Request, prepare, run_directly
from pipeline.storage import object_store
from pipeline.storage.publish import publish, publish_beside, unpublish_beside
from tests.conftest import write_geotiff
from tests.operations.servers import stac_item
from tests.scenes.products import write_raster
from tests.servers import s3_server

SETTINGS = ["landcover.enabled=false", "engine.threads=1", "engine.precision=float32"]


def pixels(seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(1000, 2500, (4, side, side)).astype(np.uint16)


@pytest.fixture
def s3(monkeypatch):
    with s3_server(monkeypatch, "layers"):
        yield pytest.importorskip("boto3").client("s3")


def keys(s3) -> list[str]:
    return [found["Key"] for found in s3.list_objects_v2(Bucket="layers").get("Contents", [])]


def body(s3, key: str) -> bytes:
    return s3.get_object(Bucket="layers", Key=key)["Body"].read()


def write_run(folder: Path, **files: str) -> Path:
    """A finished folder with these files (`a_b` is a/b), as its record says."""
    names = {name.replace("__", "/"): text for name, text in files.items()}
    for name, text in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "run.json").write_text(json.dumps({"scene": folder.name, "outputs": sorted(names)}))
    return folder


def test_a_folder_is_copied_without_what_is_hidden(s3, tmp_path):
    run = write_run(tmp_path / "scene", trucks="5", evaluation__report="page")
    (run / ".shards").mkdir()
    (run / ".shards" / "a.npz").touch()
    assert publish(run, "s3://layers/europe/") == "s3://layers/europe/scene"
    assert keys(s3) == [f"europe/scene/{name}" for name in ("evaluation/report", "run.json", "trucks")]
    assert body(s3, "europe/scene/run.json") == (run / "run.json").read_bytes()


def test_the_record_comes_last_and_an_old_one_goes_first(tmp_path):
    """A store that fails in the middle is left without a record; the next attempt ends as if nothing was."""
    url, there = f"file://{tmp_path}/there", tmp_path / "there" / "scene"
    run = write_run(tmp_path / "scene", a="1", b="2", c="3")
    publish(run, url)
    (run / "c").unlink()
    (there / "b").unlink()
    (there / "b").mkdir()  # where a file is to be written
    write_run(run, a="new", b="new")
    with pytest.raises(OutputError, match="can't be published to file://") as caught:
        publish(run, url)
    assert is_transient(caught.value)
    assert sorted(path.name for path in there.iterdir()) == ["a", "b", "c"]
    (there / "b").rmdir()
    publish(run, url)
    assert sorted(path.name for path in there.iterdir()) == ["a", "b", "c", "run.json"]
    assert (there / "b").read_text() == "new"


def test_what_is_there_already_is_left_alone_and_what_others_put_there_too(s3, tmp_path):
    run = write_run(tmp_path / "scene", a="1", b="2")
    publish(run, "s3://layers")
    s3.put_object(Bucket="layers", Key="scene/notes.txt", Body=b"mine")
    s3.put_object(Bucket="layers", Key="scene/a", Body=b"marked")
    publish(run, "s3://layers")
    assert body(s3, "scene/a") == b"marked"
    (run / "b").unlink()
    publish(write_run(run, a="2"), "s3://layers")
    assert keys(s3) == ["scene/a", "scene/notes.txt", "scene/run.json"]


def test_a_record_of_somebody_else_names_nothing_outside(s3, tmp_path):
    s3.put_object(Bucket="layers", Key="other", Body=b"not yours")
    s3.put_object(
        Bucket="layers", Key="scene/run.json", Body=b'{"outputs": ["../other", "/layers/other", 5]}'
    )
    publish(write_run(tmp_path / "scene", a="1"), "s3://layers")
    assert keys(s3) == ["other", "scene/a", "scene/run.json"]


def test_what_lies_beside_the_scenes(s3, tmp_path):
    (tmp_path / "traffic.parquet").mkdir()
    for name in ("catalog.json", "traffic.parquet/one.parquet", "traffic.parquet/two.parquet"):
        (tmp_path / name).write_text(name)
    publish_beside(tmp_path, [tmp_path / "catalog.json", tmp_path / "traffic.parquet"], "s3://layers/x")
    assert keys(s3) == [f"x/{name}" for name in ("catalog.json", "traffic.parquet/one.parquet",
                                                "traffic.parquet/two.parquet")]  # fmt: skip


def test_a_folder_is_a_store_too(tmp_path):
    run = write_run(tmp_path / "scene", a="1", evaluation__b="2")
    publish(run, f"file://{tmp_path}/there")
    assert (tmp_path / "there" / "scene" / "evaluation" / "b").read_text() == "2"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("layers/europe", "publish.url must be like s3://bucket/prefix"),
        ("s3://key:secret@layers", "with credentials in the environment. Received: 's3://layers'"),
        ("carrier-pigeon://loft", "has an unsupported protocol, carrier-pigeon; supported are abfs, "),
        ("zip://x", "has an unsupported protocol, zip;"),
        ("reference://", "has an unsupported protocol, reference;"),
        ("ftp://127.0.0.1:1/x", "has an unsupported protocol, ftp;"),
        ("memory://x", "has an unsupported protocol, memory;"),
        ("https://host/x", "has an unsupported protocol, https;"),
        ("simplecache::s3://layers", "publish.url must be like s3://bucket/prefix"),
        ("file://host/x", "must have an absolute path after the protocol"),
        ("file:///", "must have an absolute path after the protocol"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("s3://buck et/x", "names no bucket"),
        ("s3://bucket:99999/x", "names no bucket"),
        ("s3://[", "names no bucket"),
        ("s3://layers/../other", r"must have no \.\. in its path"),
        ("s3://layers/" + "x" * 9000, "is no address: it has 9012 characters"),
        ("sftp://host:port/x", "is no address: its port is no number"),
        ("webhdfs:///x", "is no address: it names no host"),
    ],
)
def test_addresses_that_are_refused_before_any_work(tmp_path, url, said):
    scene = write_geotiff(tmp_path / "scene.tif", pixels(1))
    with pytest.raises(ConfigError, match=said) as caught:
        prepare(Request(str(scene), tmp_path / "out", load_config(None, [f"publish.url={url}"])))
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"publish\.url=s3://bucket/prefix copies"):
        prepare(Request(str(scene), Path("s3://layers/europe")))


def test_without_a_way_in_the_error_says_so_and_no_more(s3, tmp_path, monkeypatch):
    run = write_run(tmp_path / "scene", a="1")
    with pytest.raises(OutputError, match=r"s3://nobodys: .*bucket.*; check bucket, endpoint") as caught:
        publish(run, "s3://nobodys")
    assert not is_transient(caught.value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(OutputError, match=r"(?i)Unable to locate credentials; check") as caught:
        publish(run, "s3://layers")
    assert not is_transient(caught.value)


def test_a_store_that_is_silent_is_given_up(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "PATIENCE_S", 1.0)
    run = write_run(tmp_path / "scene", a="1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        for operation in (publish_beside, unpublish_beside):
            with pytest.raises(OutputError, match=r"s3://layers: FSTimeoutError") as caught:
                operation(tmp_path, [run / "a"], "s3://layers")
            assert is_transient(caught.value)
        with pytest.raises(OutputError, match="FSTimeoutError"):
            publish(run, "s3://layers")


def test_a_run_reads_from_a_store_and_writes_to_it_and_tells_nobody_how(s3, tmp_path, caplog):
    """Bands in S3, layers to S3; neither the keys nor the signature of an address are in anything written."""
    caplog.set_level("DEBUG", "pipeline")
    bands = pixels(1)
    for index, band in enumerate(("B02", "B03", "B04", "B08")):
        file = write_raster(tmp_path / "bands" / f"{band}.tif", bands[index] + 1000, driver="COG")
        s3.upload_file(str(file), "layers", f"bands/{band}.tif")
    item = tmp_path / "item.json"
    item.write_text(json.dumps(stac_item("S2A_32UPD_20230601_0_L2A", "s3://layers/bands")))
    config = load_config(None, [*SETTINGS, "publish.url=s3://layers/runs"])
    result = run_directly(Request(str(item), tmp_path / "out", config))
    assert {"runs/catalog.json", "runs/collection.json"} < set(keys(s3))
    for name in ("run.json", "item.json", "trucks.gpkg", "report.html"):
        assert body(s3, f"runs/{result.folder.name}/{name}") == (result.folder / name).read_bytes()
    secrets = [os.environ["AWS_SECRET_ACCESS_KEY"].encode(), os.environ["AWS_ACCESS_KEY_ID"].encode()]
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert not any(secret in file.read_bytes() for secret in secrets), file
    assert not any(secret.decode() in caplog.text for secret in secrets)
