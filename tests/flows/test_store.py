"""A Dask cluster whose workers have nothing in common but a store: scene, shards and layers go by address."""

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.flows.clusters import dask_cluster
from tests.flows.processes import TRUCKSCAPE, environment, started, wait_until
from tests.operations.servers import stac_item
from tests.scenes.products import write_raster
from tests.servers import s3_server

NAME = "S2A_32UPD_20230601_0_L2A"
ROWS, COLUMNS = 512, 128
SETTINGS = [
    "tiling.tile_px=128",
    "tiling.shards=4",
    "engine.precision=float32",
    "engine.threads=1",
    "landcover.probabilities=true",
]
LAYERS = ("trucks.geojson", "landcover.tif", "landcover_probability.tif")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def s3(monkeypatch):
    with s3_server(monkeypatch, "shards", "scenes", "layers"):
        yield pytest.importorskip("boto3").client("s3")


@pytest.fixture
def item(s3, tmp_path) -> Path:
    """A STAC item whose bands lie in the store."""
    for index, band in enumerate(("B02", "B03", "B04", "B08")):
        pixels = np.random.default_rng(index).integers(2000, 3500, (ROWS, COLUMNS)).astype(np.uint16)
        file = write_raster(tmp_path / "bands" / f"{band}.tif", pixels, driver="COG")
        s3.upload_file(str(file), "scenes", f"{band}.tif")
        file.unlink()
    path = tmp_path / "item.json"
    path.write_text(json.dumps(stac_item(NAME, "s3://scenes")))
    return path


def command(item: Path, out: Path, *settings: str) -> list[str]:
    flat = [text for setting in (*SETTINGS, *settings) for text in ("--set", setting)]
    return [*TRUCKSCAPE, "run", str(item), "--out", str(out), *flat]


def shards(s3) -> dict[str, tuple[str, object]]:
    """Which shards there are: (hash, when written) by name."""
    found = s3.list_objects_v2(Bucket="shards", Prefix=f"all/{NAME}/").get("Contents", [])
    return {entry["Key"]: (entry["ETag"], entry["LastModified"]) for entry in found if ".npz" in entry["Key"]}


def test_a_worker_that_is_killed_costs_its_shard_and_the_bytes_are_the_same(s3, item, tmp_path):
    """`--out` is on a disk of the flow's process alone; what it leaves is read from the store of layers."""
    alone, out, log = tmp_path / "alone", tmp_path / "out", tmp_path / "run.log"
    env = environment(tmp_path / "prefect")
    subprocess.run([*command(item, alone), "--no-prefect"], env=env, check=True, capture_output=True)
    with dask_cluster(tmp_path) as (address, (victim, survivor)):
        # All four shards wait at the workers, so that each has one in hand while its first is written.
        runner = ("runner.kind=dask", f"runner.address={address}", "runner.workers=4")
        stores = ("runner.store=s3://shards/all", "publish.url=s3://layers")
        with started(command(item, out, *runner, *stores), env, log) as process:
            wait_until(lambda: shards(s3), process, log, every_s=0.2)
            before = shards(s3)
            os.kill(victim.pid, signal.SIGKILL)
            assert process.wait(600) == 0, log.read_text()
        assert survivor.poll() is None
    assert 0 < len(before) < 4
    after = shards(s3)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
    for name in LAYERS:
        made = s3.get_object(Bucket="layers", Key=f"{NAME}/{name}")["Body"].read()
        assert made == (alone / NAME / name).read_bytes()
    local = {path.name: path.read_bytes() for path in (alone / NAME).glob(".shards/*.npz")}
    assert local == {
        key.rpartition("/")[2]: s3.get_object(Bucket="shards", Key=key)["Body"].read() for key in after
    }
    assert not list((out / NAME).glob(".shards/*"))
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    reported = [file.read_bytes() for file in (*tmp_path.glob("*.log"), out / NAME / "run.json")]
    assert not any(secret in text for text in reported)
