"""Faults made for real, one after the other; afterwards the layers are those of an undisturbed run."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from pipeline.config import load_config
from pipeline.errors import BundleError, CorruptImageError, LedgerError, OutputError
from pipeline.models.bundle import open_bundle, save_bundle, save_card
from pipeline.operations.attempt import scene_directly
from pipeline.operations.batch import run_batch
from pipeline.operations.ledger.scenes import existing_ledger
from pipeline.operations.request import BatchRequest
from pipeline.operations.scene_list import list_scenes
from pipeline.run import Request, Result, run_directly
from tests.conftest import only_on, write_geotiff
from tests.operations.servers import stac_item
from tests.scenes.products import write_raster, zip_of
from tests.scenes.raster.test_blocks import tile_of
from tests.servers import file_server

NAME = "S2A_32UPD_20230601_0_L2A"
SETTINGS = ["engine.threads=1", "engine.precision=float32", "batch.backoff_s=0"]
QUICK = [*SETTINGS, "landcover.enabled=false"]
BANDS = ("B02", "B03", "B04", "B08")
SIDE = 128


def pixels(seed: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(2000, 3500, (4, side, side)).astype(np.uint16)


def write_item(folder: Path, href: str | None = None, suffix: str = "tif") -> Path:
    """An item with its bands beside it, in COGs or lossless JPEG 2000 of four blocks."""
    blocks = {"tif": {"driver": "COG", "BLOCKSIZE": 64}, "jp2": {"tiled": True}}[suffix]
    for index, band in enumerate(BANDS):
        file = folder / NAME / f"{band}.{suffix}"
        if not file.exists():
            write_raster(file, pixels(1)[index], **blocks)
    path = folder / f"{NAME}.json"
    item = json.dumps(stac_item(NAME, f"{href or folder}/{NAME}"))
    path.write_text(item.replace(".tif", f".{suffix}"))
    return path


def digests(out: Path) -> dict[str, str]:
    """Of what must be the same whoever computes it, and whenever."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in ("trucks.geojson", "landcover.tif")
        for path in out.glob(f"*/{name}")
    }


def run(item: Path | str, out: Path, *settings: str):
    return run_directly(Request(str(item), out, load_config(None, [*QUICK, *settings])))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(write_item(folder), folder / "out")
    found = digests(folder / "out")
    assert list(found) == [f"{NAME}/trucks.geojson"]
    return found


# --- servers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["503", "close", "half", "hang"])
def test_a_server_that_fails_for_a_while(undisturbed, tmp_path, monkeypatch, fault):
    """Busy, closing the connection, breaking off in the middle, silent: whatever it is, the run goes on."""
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")
    with file_server(tmp_path) as server:
        write_item(tmp_path, server.url)
        times = 1 if fault == "hang" else 7
        server.faults = {f"/{NAME}/{band}.tif": [fault] * times for band in BANDS[:2]}
        run(f"{server.url}/{NAME}.json", tmp_path / "out")
        assert server.pending == 0
    assert digests(tmp_path / "out") == undisturbed


def damage_last_block(file: Path) -> None:
    """Noise where the last block of the full resolution is."""
    with rasterio.open(file) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
        size = int(dataset.get_tag_item("BLOCK_SIZE_1_1", "TIFF", bidx=1))
    with file.open("r+b") as raw:
        raw.seek(offset)
        raw.write(np.random.default_rng(0).bytes(size))


def damage_last_tile(file: Path) -> None:
    """Ones where the last tile of a JPEG 2000 file is."""
    data = file.read_bytes()
    start, end = tile_of(data, 3)
    file.write_bytes(data[:start] + b"\xff" * (end - start) + data[end:])


def test_a_block_that_is_corrupt_is_named_ends_the_run_at_once_and_is_quarantined(undisturbed, tmp_path):
    item = write_item(tmp_path)
    file = tmp_path / NAME / "B03.tif"
    whole = file.read_bytes()
    damage_last_block(file)
    with pytest.raises(CorruptImageError, match=r"Band B03 can't be decoded in block row 1, column 1 "):
        run(item, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("run.json"))
    summary = batch(tmp_path, item)
    (bad,) = summary.of("quarantined")
    assert (bad.attempts, bad.is_transient) == (1, False)
    assert "Band B03 can't be decoded in block row 1, column 1" in bad.reason
    file.write_bytes(whole)
    assert batch(tmp_path, item, retry_quarantined=True).is_complete
    assert digests(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("suffix", ["tif", "jp2"])
def test_a_corrupt_block_on_a_server_is_a_transient_error_until_it_is_replaced(
    undisturbed, tmp_path, monkeypatch, suffix
):
    """GDAL's errors don't tell damage from lost bytes: the batch makes its attempts, the next one again."""
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")
    with file_server(tmp_path) as server:
        item = write_item(tmp_path, server.url, suffix)
        file = tmp_path / NAME / f"B03.{suffix}"
        whole = file.read_bytes()
        (damage_last_block if suffix == "tif" else damage_last_tile)(file)
        (bad,) = batch(tmp_path, f"{server.url}/{item.name}", "batch.attempts=2").of("quarantined")
        assert (bad.attempts, bad.is_transient) == (2, True)
        assert re.search(r"Band B03 can't be decoded.*: incomplete read of \S+/B03", bad.reason)
        file.write_bytes(whole)
        assert batch(tmp_path, f"{server.url}/{item.name}").is_complete
    assert digests(tmp_path / "out") == undisturbed


def test_a_raster_cut_short_on_a_server_is_a_transient_error_and_one_that_is_gone_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")
    with file_server(tmp_path) as server:
        item = write_item(tmp_path, server.url)
        file = tmp_path / NAME / "B03.tif"
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) * 3 // 4])
        (cut,) = batch(tmp_path, f"{server.url}/{item.name}", "batch.attempts=1").of("quarantined")
        file.unlink()
        (gone,) = batch(tmp_path, f"{server.url}/{item.name}", "batch.attempts=1").of("quarantined")
    assert [(bad.attempts, bad.is_transient) for bad in (cut, gone)] == [(1, True), (1, False)]
    assert "Band B03 can't be decoded" in cut.reason
    assert "Band B03 can't be opened" in gone.reason


@pytest.mark.longer
@pytest.mark.parametrize("fault", ["503", "close", "half"])
def test_a_server_that_fails_for_long_is_tried_again_by_each_batch(undisturbed, tmp_path, monkeypatch, fault):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    with file_server(tmp_path) as server:
        item = write_item(tmp_path, server.url)
        server.faults = {f"/{NAME}/B03.tif": [fault] * 999}
        (bad,) = batch(tmp_path, f"{server.url}/{item.name}", "batch.attempts=2").of("quarantined")
        assert (bad.attempts, bad.is_transient) == (2, True)
        assert "Band B03 can't be" in bad.reason
        assert "server or network error" in bad.reason
        server.faults.clear()
        assert batch(tmp_path, f"{server.url}/{item.name}").is_complete
    assert digests(tmp_path / "out") == undisturbed


def batch(folder: Path, href: Path | str, *settings: str, **given):
    scenes = tuple(list_scenes([str(href)]))
    return run_batch(BatchRequest(scenes, folder / "out", load_config(None, [*QUICK, *settings]), **given))


def test_a_zip_cut_short_is_quarantined_and_the_whole_one_done(product, tmp_path):
    path = zip_of(product.safe, tmp_path / f"{product.safe.stem}.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (bad,) = batch(tmp_path, path).of("quarantined")
    assert (bad.attempts, bad.is_transient) == (1, False)
    assert "incomplete download?" in bad.reason
    path.write_bytes(whole)
    assert batch(tmp_path, path).is_complete
    assert len(digests(tmp_path / "out")) == 1


def test_what_signs_an_address_is_in_nothing_that_is_written(undisturbed, tmp_path):
    """Item and bands by signed addresses, some of which lead nowhere; a batch of a good and a bad scene."""
    secret = "X-Amz-Credential=AKIAIOSFODNN7EXAMPLE&X-Amz-Signature=topsecret"
    out, reported = tmp_path / "work" / "out", []
    with file_server(tmp_path / "files") as server:
        item = write_item(tmp_path / "files", server.url)
        tree = json.loads(item.read_text())
        for asset in tree["assets"].values():
            asset["href"] += f"?{secret}"
        item.write_text(json.dumps(tree))
        tree["assets"]["red"]["href"] = f"{server.url}/none.tif?{secret}"
        (tmp_path / "files" / "bad.json").write_text(json.dumps(tree | {"id": "bad"}))
        scenes = tuple(list_scenes(f"{server.url}/{name}.json?{secret}" for name in (NAME, "bad")))
        config = load_config(None, [*QUICK, "batch.attempts=1"])
        summary = run_batch(BatchRequest(scenes, out, config), say=reported.append)
    assert [entry.state for entry in summary.entries] == ["done", "quarantined"]
    assert digests(out) == undisturbed
    for file in (path for path in out.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert b"topsecret" not in content, file
        assert b"AKIAIOSFODNN7EXAMPLE" not in content, file
    assert not any("topsecret" in line for line in reported)


# --- disks ----------------------------------------------------------------------------------------------


needs_mount = only_on("linux", why="a tmpfs")


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A file system of its own for a while."""
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"needs to mount a tmpfs: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        # A thread that is about to end may have a file open for a moment longer.
        subprocess.run(["umount", "--lazy", place], check=True)


def remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", place], check=True)


@needs_mount
@pytest.mark.parametrize("size", ["64k", "300k"])
def test_a_full_disk_is_said_in_one_line_and_a_larger_one_ends_the_run(undisturbed, tmp_path, size):
    """Full while shards are written, and while layers are."""
    item = write_item(tmp_path)
    with small_disk(tmp_path / "disk", size):
        out = tmp_path / "disk" / "out"
        with pytest.raises(OutputError) as caught:
            run(item, out)
        assert "\n" not in str(caught.value)
        assert not list(out.rglob("run.json"))
        assert not list(out.rglob("*.part*"))
        remount(tmp_path / "disk", "size=100m")
        run(item, out)
        assert digests(out) == undisturbed


@needs_mount
def test_a_read_only_disk_is_said_before_any_work(undisturbed, tmp_path):
    item = write_item(tmp_path)
    with small_disk(tmp_path / "disk", "100m"):
        out = tmp_path / "disk" / "out"
        remount(tmp_path / "disk", "ro")
        with pytest.raises(OutputError, match=r"Read-only file system.*choose another --out"):
            run(item, out)
        remount(tmp_path / "disk", "rw")
        run(item, out)
        before = digests(out)
        remount(tmp_path / "disk", "ro")
        with pytest.raises(OutputError, match="Read-only file system"):
            run(item, out)
        assert digests(out) == before == undisturbed
        assert (out / NAME / "run.json").is_file()


@needs_mount
def test_a_disk_that_fills_under_the_ledger_keeps_no_scene_from_the_next_batch_of_the_process(
    undisturbed, tmp_path
):
    """Then the claim can't be given back, and the process that has it lives on, as a schedule's does."""
    item, disk = write_item(tmp_path), tmp_path / "disk"

    def filling(request: Request, *how: Any) -> Result:
        def fill(work: Callable[[], Result]) -> Result:
            def filled() -> Result:
                with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
                    while True:
                        filler.write(bytes(4096))
                return work()

            return in_turn(filled)

        *others, in_turn = how
        return scene_directly(request, *others, fill)

    with small_disk(disk, "1m"):
        request = BatchRequest(tuple(list_scenes([str(item)])), disk / "out", load_config(None, QUICK))
        with pytest.raises(LedgerError, match=r"The ledger .* can't be used: database or disk is full"):
            run_batch(request, filling)
        (disk / "filler").unlink()
        remount(disk, "size=100m")
        assert existing_ledger(request.out, request.config).counts()["running"] == 1
        assert run_batch(request).done == (NAME,)
        assert digests(request.out) == undisturbed


# --- clocks ---------------------------------------------------------------------------------------------


@pytest.mark.longer
def test_the_time_zone_changes_nothing(undisturbed, tmp_path):
    item = write_item(tmp_path)
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "run",
        str(item),
        "--out",
        str(tmp_path / "out"),
        "--no-prefect",
    ]
    options = [part for setting in QUICK for part in ("--set", setting)]
    subprocess.run(
        [*command, *options], check=True, capture_output=True, env={**os.environ, "TZ": "Pacific/Kiritimati"}
    )
    assert digests(tmp_path / "out") == undisturbed
    record = json.loads((tmp_path / "out" / NAME / "run.json").read_text())
    assert record["acquired"] == "2023-06-15T10:20:31+00:00"
    assert abs(datetime.fromisoformat(record["finished"]) - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_clock_that_is_set_back_or_forth_changes_no_layer_and_no_duration(
    undisturbed, tmp_path, monkeypatch
):
    item = write_item(tmp_path)
    begun = time.time()
    for name, jump_s in (("back", -86400.0), ("forth", 86400.0)):
        calls = iter([begun])
        monkeypatch.setattr(time, "time", lambda calls=calls, jump_s=jump_s: next(calls, begun + jump_s))
        result = run(item, tmp_path / name)
        assert digests(tmp_path / name) == undisturbed
        assert all(0 <= seconds < 600 for seconds in result.run["seconds"].values())


# --- models ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights",
    [
        (2**60).to_bytes(8, "little") + b"{}",
        (2**27).to_bytes(8, "little") + b'{"a":' * 1000,
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[999999999999],"data_offsets":[0,9]}}',
    ],
)
def test_weights_whose_header_is_oversized_or_lies_end_the_run_before_it_begins(tmp_path, weights):
    """Also where the card vouches for them."""
    shipped = open_bundle("trucks")
    bundle = save_bundle(tmp_path / "hostile", shipped.card, {})
    bundle.weights.write_bytes(weights)
    digest = hashlib.sha256(weights).hexdigest()
    save_card(bundle.folder, bundle.card.model_copy(update={"weights_sha256": digest}))
    scene = write_geotiff(tmp_path / "scene.tif", pixels(1))
    with pytest.raises(BundleError, match="is not a safetensors file"):
        run(scene, tmp_path / "out", f"trucks.bundle={bundle.folder}")
    bundle.weights.write_bytes(weights + b"x")
    with pytest.raises(BundleError, match="do not match its card"):
        run(scene, tmp_path / "out", f"trucks.bundle={bundle.folder}")
