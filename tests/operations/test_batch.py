"""Batches of small real scenes, by real processes."""

import hashlib
import importlib
import json
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pystac
import pytest

from pipeline.config import load_config
from pipeline.errors import BundleError, LedgerError, OutputError, RoadsError
from pipeline.inference import network_pool
from pipeline.operations.attempt import scene_directly
from pipeline.operations.batch import publish, run_batch
from pipeline.operations.ledger.owners import Owner
from pipeline.operations.ledger.scenes import Registration, existing_ledger, open_ledger
from pipeline.operations.request import BatchRequest
from pipeline.operations.scene_list import list_scenes, scenes_in
from pipeline.operations.search import StacSearch
from pipeline.operations.sources import Sources, find_scenes
from pipeline.run import Job, Result, finish, prepare, run_prepared_directly, run_shards, work_on
from pipeline.scenes.raster.cache import current_cache
from tests.conftest import write_geotiff
from tests.killing import KILLED, process_server
from tests.operations.servers import stac_api, stac_item
from tests.scenes.products import write_raster
from tests.servers import file_server
from tests.traffic.finished_runs import write_run
from tests.traffic.test_table import A2, FOUND

SETTINGS = ["engine.threads=1", "engine.precision=float32", "batch.backoff_s=0"]
QUICK = ("landcover.enabled=false",)
"""Where it is not about layers."""
GOOD = ("T32UPD_20230601T102031", "T32UPD_20230606T102031", "T32UPD_20230611T102031")
SERVER = process_server("pipeline.operations.batch")
PATIENCE_S = 120


def pixels(seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(1000, 2500, (4, side, side)).astype(np.uint16)


def write_scenes(folder: Path, names=GOOD) -> Path:
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate(names):
        write_geotiff(folder / f"{name}.tif", pixels(seed))
    return folder


@pytest.fixture
def incoming(tmp_path) -> Path:
    return write_scenes(tmp_path / "in")


def request(incoming: Path, out: Path, *settings: str, **given) -> BatchRequest:
    scenes = tuple(list_scenes(scenes_in(incoming)))
    return BatchRequest(scenes, out, load_config(None, [*SETTINGS, *settings]), **given)


def digests(out: Path) -> dict[str, str]:
    """Of what must be the same whoever computes it, and whenever."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in ("trucks.geojson", "landcover.tif")
        for path in out.glob(f"*/{name}")
    }


def written(out: Path) -> dict[str, int]:
    """When each scene was finished last."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/run.json")}


def log_lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    incoming = write_scenes(folder / "in")
    assert run_batch(request(incoming, folder / "out")).is_complete
    return folder / "out"


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def test_one_bad_scene_does_not_stop_the_others(incoming, undisturbed, tmp_path):
    broken = incoming / "T32UPD_20230603T102031.tif"
    write_geotiff(broken, pixels(9))
    cut_short(broken)
    out, reported = tmp_path / "out", []
    summary = run_batch(request(incoming, out), say=reported.append)
    assert summary.counts["done"] == 3
    assert not summary.is_complete
    (bad,) = summary.of("quarantined")
    assert bad.scene == broken.stem
    assert (bad.attempts, bad.is_transient) == (1, False)
    assert "truncated or damaged" in bad.reason
    assert digests(out) == digests(undisturbed)
    assert reported[0] == "4 of 4 scenes to do"
    assert len(reported) == 5
    assert any(line.startswith("2 of 4: ") for line in reported)
    catalog = pystac.Catalog.from_file(str(out / "catalog.json"))
    assert {item.id for item in catalog.get_items(recursive=True)} == set(GOOD)


@pytest.fixture
def pair(tmp_path) -> Path:
    folder = tmp_path / "pair"
    folder.mkdir()
    for seed, name in enumerate(GOOD[:2]):
        write_geotiff(folder / f"{name}.tif", pixels(seed, 256))
    return folder


PARTS = ("tiling.tile_px=128", "tiling.shards=2")


@pytest.mark.longer
def test_two_scenes_at_once_give_the_same_bytes_as_one_after_the_other(pair, tmp_path):
    for concurrency in (1, 2):
        given = request(pair, tmp_path / str(concurrency), f"batch.concurrency={concurrency}", *PARTS)
        assert run_batch(given).counts["done"] == 2
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


@pytest.mark.longer
def test_a_scene_that_ends_leaves_blocks_budget_and_networks_to_the_other(pair, tmp_path, monkeypatch):
    # Every scene closes its networks. `pipeline.run.finish` is the function.
    monkeypatch.setattr(importlib.import_module("pipeline.run.finish"), "_SMALL_PX", 0)
    opened, open_for_real = [], network_pool._opened
    monkeypatch.setattr(network_pool, "_opened", lambda *key: opened.append(key) or open_for_real(*key))
    half, ended, states = threading.Event(), threading.Event(), []

    def work(job: Job) -> Result:
        if job.scene.id != GOOD[0]:
            assert half.wait(PATIENCE_S)
            result = run_prepared_directly(job)
            ended.set()
            return result
        with work_on(job):
            run_shards(job, [0])
            states.append((current_cache().held, current_cache().budget, len(opened)))
            half.set()
            assert ended.wait(PATIENCE_S)
            states.append((current_cache().held, current_cache().budget, len(opened)))
            run_shards(job, [1])
            return finish(job)

    def scene(request, opened, say, in_turn) -> Result:
        return in_turn(lambda: work(prepare(request)))

    assert run_batch(request(pair, tmp_path / "out", "batch.concurrency=2", *PARTS), scene).is_complete
    assert states[0] == states[1]
    assert states[0][0] == 4 * 256 * 256 * 2
    assert len(opened) == 1


def test_what_the_ledger_keeps(undisturbed):
    entries = existing_ledger(undisturbed, load_config()).entries()
    assert [entry.scene for entry in entries] == list(GOOD)
    first = entries[0]
    run = json.loads((undisturbed / GOOD[0] / "run.json").read_text())
    assert first.acquired == "2023-06-01T10:20:31Z"
    assert first.scene_id == first.folder == GOOD[0]
    assert first.inputs == run["inputs"]
    assert first.trucks == run["counts"]["trucks"]
    assert first.outputs["trucks.gpkg"] == f"{GOOD[0]}/trucks.gpkg"
    assert (first.megapixels, first.tiles) == (64 * 64 / 1e6, 1)
    assert first.seen_km2 == pytest.approx(0.64**2, abs=1e-4)
    assert first.seconds > 0
    assert first.peak_rss_mb > 100
    assert (undisturbed / "time_series.png").is_file()


def test_the_log_says_which_scene_and_shard(undisturbed):
    lines = [line for line in log_lines(undisturbed) if "stored" in line["message"]]
    assert {line["scene"] for line in lines} == set(GOOD)
    assert {line["shard"] for line in lines} == {0}
    assert all(line["time"].endswith("Z") and line["level"] == "INFO" for line in lines)


def test_what_is_done_is_skipped(incoming, tmp_path):
    out = tmp_path / "out"
    first = run_batch(request(incoming, out, *QUICK))
    before = written(out)
    again = run_batch(request(incoming, out, *QUICK, "tiling.tile_px=32", "engine.memory_mb=1000"))
    assert sorted(first.done) == sorted(GOOD)
    assert again.done == ()
    assert again.is_complete
    assert again.counts["done before, or by another batch"] == 3
    assert written(out) == before


def test_another_input_setting_or_lost_layer_is_done_again(incoming, tmp_path):
    out = tmp_path / "out"
    run_batch(request(incoming, out, *QUICK))
    write_geotiff(incoming / f"{GOOD[1]}.tif", pixels(77))
    assert run_batch(request(incoming, out, *QUICK)).done == (GOOD[1],)
    (out / GOOD[2] / "run.json").unlink()
    assert run_batch(request(incoming, out, *QUICK)).done == (GOOD[2],)
    assert len(run_batch(request(incoming, out, *QUICK, "trucks.cloud_buffer_m=200")).done) == 3


def test_quarantine_ends_with_a_new_input_or_when_told(incoming, tmp_path):
    broken, out = incoming / f"{GOOD[0]}.tif", tmp_path / "out"
    whole = broken.read_bytes()
    cut_short(broken)
    assert run_batch(request(incoming, out, *QUICK)).of("quarantined")
    again = run_batch(request(incoming, out, *QUICK))
    assert [(entry.scene, entry.attempts) for entry in again.of("quarantined")] == [(GOOD[0], 1)]
    reported = run_batch(request(incoming, out, *QUICK, retry_quarantined=True))
    assert [entry.attempts for entry in reported.of("quarantined")] == [1]
    failed = [line for line in log_lines(out) if "attempt 1 failed" in line["message"]]
    assert len(failed) == 2
    broken.write_bytes(whole)
    assert run_batch(request(incoming, out, *QUICK)).done == (GOOD[0],)


def test_scenes_side_by_side_give_the_same(incoming, undisturbed, tmp_path):
    summary = run_batch(request(incoming, tmp_path / "out", "batch.concurrency=3"))
    assert sorted(summary.done) == sorted(GOOD)
    assert digests(tmp_path / "out") == digests(undisturbed)


# --- causes that pass -----------------------------------------------------------------------------------


REMOTE = ("S2A_32UPD_20230615_0_L2A", "S2A_32UPD_20230620_0_L2A")
TIMES = dict(zip(REMOTE, ("2023-06-15T10:20:31Z", "2023-06-20T10:20:31Z"), strict=True))


@pytest.fixture
def remote(tmp_path):
    """Two scenes on a server of files, their bands beside them."""
    for seed, name in enumerate(REMOTE):
        for index, band in enumerate(("B02", "B03", "B04", "B08")):
            write_raster(tmp_path / "files" / name / f"{band}.tif", pixels(seed)[index] + 1000, driver="COG")
    with file_server(tmp_path / "files") as server:
        for name in REMOTE:
            (tmp_path / "files" / f"{name}.json").write_text(
                json.dumps(stac_item(name, f"{server.url}/{name}", datetime=TIMES[name]))
            )
        yield server


def of_urls(url: str, out: Path, *settings: str) -> BatchRequest:
    scenes = tuple(list_scenes(f"{url}/{name}.json" for name in REMOTE))
    return BatchRequest(scenes, out, load_config(None, [*SETTINGS, *QUICK, *settings]))


def test_a_server_that_fails_for_a_while_is_outlasted(remote, tmp_path):
    remote.faults[f"/{REMOTE[0]}.json"] = ["503"] * 7  # more than one attempt takes
    reported: list[str] = []
    summary = run_batch(of_urls(remote.url, tmp_path / "out"), say=reported.append)
    assert summary.is_complete
    assert [entry.attempts for entry in summary.entries] == [2, 1]
    assert "attempt 1 failed, retry in 0 s" in reported[1]
    assert "can't be fetched" in reported[1]


def test_a_server_that_stays_away_is_for_the_next_batch(remote, tmp_path):
    remote.faults[f"/{REMOTE[1]}.json"] = ["503"] * 999
    batch = of_urls(remote.url, tmp_path / "out", "batch.attempts=2")
    (away,) = run_batch(batch).of("quarantined")
    assert (away.scene, away.attempts, away.is_transient) == (REMOTE[1], 2, True)
    remote.faults.clear()
    assert run_batch(batch).done == (REMOTE[1],)


def test_a_band_that_is_not_there_is_not_waited_for(remote, tmp_path):
    (tmp_path / "files" / REMOTE[0] / "B04.tif").unlink()
    (gone,) = run_batch(of_urls(remote.url, tmp_path / "out")).of("quarantined")
    assert (gone.scene, gone.attempts, gone.is_transient) == (REMOTE[0], 1, False)
    assert f"{REMOTE[0]}/B04.tif (HTTP status 404, nothing is there" in gone.reason


def test_a_search_and_what_it_found(remote, tmp_path):
    updated = "2023-07-01T00:00:00Z"
    items = [
        stac_item(name, f"{remote.url}/{name}", updated=updated, datetime=TIMES[name]) for name in REMOTE
    ]
    settings = load_config(None, [*SETTINGS, *QUICK])
    (tmp_path / "api").mkdir()
    with stac_api(tmp_path / "api", items) as api:
        sources = Sources(search=StacSearch(api, most=1))
        batch = BatchRequest(find_scenes(sources, settings.batch), tmp_path / "out", settings)
        summary = run_batch(batch)
    assert summary.done == (REMOTE[1],)
    assert summary.entries[0].updated == "2023-07-01T00:00:00.000Z"
    assert summary.entries[0].scene_id == REMOTE[1]


def test_pauses_double_and_others_go_on_meanwhile(incoming, tmp_path):
    began: list[tuple[str, float]] = []

    def disturbed(wanted, opened, say, in_turn):
        began.append((Path(wanted.scene).stem, time.monotonic()))
        if sum(name == GOOD[0] for name, _ in began) < 3 and GOOD[0] in wanted.scene:
            raise ConnectionResetError("by peer")
        return scene_directly(wanted, opened, say, in_turn)

    summary = run_batch(request(incoming, tmp_path / "out", *QUICK, "batch.backoff_s=0.5"), disturbed)
    assert summary.is_complete
    assert [name for name, _ in began[:3]] == list(GOOD)
    first, second, third = (moment for name, moment in began if name == GOOD[0])
    assert second - first >= 0.4
    assert third - second >= 0.8


def test_the_next_scene_is_prepared_for_while_one_has_its_turn_and_claimed_only_then(incoming, tmp_path):
    """What an orchestrator does before and after costs no scene's time, and keeps none from other batches."""
    called, waiting = [], []
    another = threading.Event()
    batch = request(incoming, tmp_path / "out", *QUICK)

    def orchestrated(wanted, opened, say, in_turn):
        called.append(Path(wanted.scene).stem)
        if len(called) > 1:
            another.set()

        def watched(work):
            def watch():
                assert another.wait(60)
                waiting.append(open_ledger(batch.out, batch.config).counts()["waiting"])
                return work()

            return in_turn(watch)

        return scene_directly(wanted, opened, say, watched)

    assert sorted(run_batch(batch, orchestrated, prefetch=1).done) == sorted(GOOD)
    assert waiting == [2, 1, 0]
    assert sorted(called) == sorted(GOOD)


def test_a_fault_of_ours_is_told_and_quarantined(incoming, tmp_path):
    def wrong(wanted, opened, say, in_turn):
        if GOOD[1] in wanted.scene:
            raise ZeroDivisionError("nobody thought of that")
        return scene_directly(wanted, opened, say, in_turn)

    (bad,) = run_batch(request(incoming, tmp_path / "out", *QUICK), wrong).of("quarantined")
    assert bad.reason == "unexpected ZeroDivisionError: nobody thought of that"
    (line,) = [line for line in log_lines(tmp_path / "out") if line["level"] == "ERROR"]
    assert line["scene"] == GOOD[1]
    assert "test_batch.py" in line["traceback"]


def test_two_scenes_that_turn_out_to_be_one(incoming, tmp_path):
    (incoming / "bands").mkdir()
    for index, band in enumerate(("B02", "B03", "B04", "B08")):
        write_raster(incoming / "bands" / f"{GOOD[0]}_{band}.tif", pixels(0)[index])
    summary = run_batch(request(incoming, tmp_path / "out", *QUICK))
    (second,) = summary.of("quarantined")
    assert "would write to the same folder" in second.reason
    assert len(summary.done) == 3


def test_the_hook_hears_of_failures(incoming, tmp_path):
    cut_short(incoming / f"{GOOD[0]}.tif")
    script = (
        "import os, pathlib; told = os.environ; "
        f"pathlib.Path({str(tmp_path / 'heard')!r}).write_text("
        "told['TRUCKSCAPE_SCENE'] + ': ' + told['TRUCKSCAPE_REASON'])"
    )
    command = json.dumps([sys.executable, "-c", script])
    run_batch(request(incoming, tmp_path / "out", *QUICK, f"batch.on_failure={command}"))
    heard = (tmp_path / "heard").read_text()
    assert heard.startswith(f"{GOOD[0]}: ")
    assert "truncated or damaged" in heard


# --- other batches --------------------------------------------------------------------------------------


def done_by(batch: BatchRequest, out) -> None:
    out.put(run_batch(batch).done)


@pytest.mark.longer
def test_two_batches_at_once_do_no_scene_twice(incoming, undisturbed, tmp_path):
    names = [f"T32UPD_202307{day:02d}T102031" for day in range(1, 4)]
    write_scenes(incoming, names)
    batch, results = request(incoming, tmp_path / "out", *QUICK), SERVER.Queue()
    processes = [SERVER.Process(target=done_by, args=(batch, results)) for _ in range(2)]
    for process in processes:
        process.start()
    done = [results.get(timeout=PATIENCE_S) for _ in processes]
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    assert sorted([*done[0], *done[1]]) == sorted([*names, *GOOD])
    assert len(written(tmp_path / "out")) == 6
    assert all(entry.attempts == 1 for entry in open_ledger(tmp_path / "out", batch.config).entries("done"))


def kill_in_the_middle(batch: BatchRequest, moment) -> None:
    process = SERVER.Process(target=run_batch, args=(batch,))
    process.start()
    deadline = time.monotonic() + PATIENCE_S
    while not moment() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == KILLED


def test_a_batch_that_is_killed_and_started_again_does_what_is_missing(incoming, undisturbed, tmp_path):
    out = tmp_path / "out"
    batch = request(incoming, out, "batch.lease_s=3600")
    second = out / GOOD[1]
    kill_in_the_middle(batch, (second / ".shards").is_dir)
    ledger = open_ledger(out, batch.config)
    assert ledger.counts() == {"waiting": 1, "running": 1, "done": 1, "quarantined": 0, "duplicate": 0}
    before = written(out)
    again = run_batch(batch)  # at once, whatever the lease
    assert again.is_complete
    assert again.done == (GOOD[2], GOOD[1])  # what was cut off comes last
    assert {name: when for name, when in written(out).items() if name in before} == before
    assert digests(out) == digests(undisturbed)
    assert ledger.entry(GOOD[1]).attempts == 2


def test_a_scene_that_ends_its_process_each_time_is_quarantined(incoming, tmp_path):
    batch = request(incoming, tmp_path / "out", *QUICK, "batch.attempts=2")
    ledger = open_ledger_of(batch)
    gone = Owner(Owner.this_process().host, os.getpid(), 1, "earlier")
    ledger.register([Registration(s.name, s.href, s.input_version, "r") for s in batch.scenes])
    ledger.claim(GOOD[0], gone)
    ledger.free(ledger.entry(GOOD[0]), "once", quarantine=False)
    ledger.claim(GOOD[0], gone)
    (entry,) = run_batch(batch).of("quarantined")
    assert entry.reason == "its process ended in the middle of it, 2 times"
    assert entry.is_transient is False


def open_ledger_of(batch: BatchRequest):
    batch.out.mkdir(parents=True)
    return open_ledger(batch.out, batch.config)


def test_what_a_dead_batch_left_is_done_with_the_settings_of_now(incoming, tmp_path):
    batch = request(incoming, tmp_path / "out", *QUICK)
    ledger = open_ledger_of(batch)
    gone = Owner(Owner.this_process().host, os.getpid(), 1, "earlier")
    ledger.register(
        [Registration(s.name, "elsewhere", s.input_version, "other settings") for s in batch.scenes[:1]]
    )
    ledger.claim(GOOD[0], gone)
    assert run_batch(batch).is_complete
    assert ledger.entry(GOOD[0]).href == batch.scenes[0].href
    assert run_batch(batch).done == ()


def test_a_worker_elsewhere_keeps_its_scene_while_it_lives(incoming, tmp_path):
    batch = request(incoming, tmp_path / "out", *QUICK, "batch.lease_s=1")
    ledger = open_ledger_of(batch)
    elsewhere = Owner("another machine", 1, 1, "t")
    ledger.register([Registration(s.name, s.href, s.input_version, "r") for s in batch.scenes])
    ledger.claim(GOOD[0], elsewhere)
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.2):
            ledger.heartbeat(elsewhere)

    heart = threading.Thread(target=live)
    heart.start()
    try:
        summary = run_batch(batch)
    finally:
        over.set()
        heart.join()
    assert sorted(summary.done) == sorted(GOOD[1:])
    assert [entry.scene for entry in summary.of("running")] == [GOOD[0]]
    silent = run_batch(batch)  # nobody beats any more
    assert silent.done == (GOOD[0],)


def test_who_is_told_to_stop_gives_its_scenes_back(incoming, tmp_path):
    def interrupted(wanted, opened, say, in_turn):
        raise KeyboardInterrupt

    batch = request(incoming, tmp_path / "out", *QUICK)
    with pytest.raises(KeyboardInterrupt):
        run_batch(batch, interrupted)
    entries = open_ledger(batch.out, batch.config).entries()
    assert {(entry.state, entry.attempts) for entry in entries} == {("waiting", 0)}


# --- ledgers and folders --------------------------------------------------------------------------------


def test_the_ledger_may_lie_elsewhere(incoming, tmp_path):
    url = f"sqlite:///{tmp_path}/shared.sqlite"
    batch = request(incoming, tmp_path / "out", *QUICK, f"batch.ledger={url}")
    assert len(run_batch(replace(batch, scenes=batch.scenes[:1])).done) == 1
    assert not (tmp_path / "out" / "ledger.sqlite").exists()
    assert existing_ledger(tmp_path / "out", batch.config).counts()["done"] == 1
    run = (tmp_path / "out" / GOOD[0] / "run.json").read_text()
    assert "shared.sqlite" not in run


def test_folders_that_can_not_be_used(incoming, tmp_path):
    with pytest.raises(LedgerError, match="No batch ran into"):
        existing_ledger(tmp_path, load_config())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Can't write to"):
        run_batch(request(incoming, tmp_path / "file"))


def test_what_would_fail_with_every_scene_fails_at_once(incoming, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RoadsError, match="Roads not found"):
        run_batch(request(incoming, out, roads=tmp_path / "none.gpkg"))
    with pytest.raises(BundleError):
        run_batch(request(incoming, out, f"trucks.bundle={tmp_path}/none"))
    assert not list(out.glob("*/run.json"))


def test_opening_is_noted_before_the_work(incoming, tmp_path):
    """What is wrong with a scene shows before its layers are touched."""
    ids: list[str] = []

    def noting(wanted, opened, say, in_turn):
        def noted(job: Job) -> None:
            opened(job)
            ids.append(job.scene.id)

        return scene_directly(wanted, noted, say, in_turn)

    batch = request(incoming, tmp_path / "out", *QUICK)
    run_batch(replace(batch, scenes=batch.scenes[:1]), noting)
    assert ids == [GOOD[0]]


def test_traffic_by_road_is_written_beside_the_scenes(tmp_path, caplog):
    """Of the runs that fit; a folder of which none does has no such files, and the batch ends well."""
    for place in ("good", "older"):
        (write_run(tmp_path / place / "scene", A2, FOUND) / "item.json").touch()
        (tmp_path / place / "traffic.parquet").mkdir()
    (tmp_path / "older" / "scene" / "detections.parquet").unlink()
    names = {"traffic.csv", "traffic.xlsx", "traffic_roads.parquet"}
    for place, expected in {"good": names, "older": set()}.items():
        ledger = open_ledger(tmp_path / place, load_config(None, []))
        assert names & set(publish(tmp_path / place, ledger)) == expected
        assert {path.name for path in (tmp_path / place).iterdir()} & names == expected
        ledger.close()
    assert "no traffic by road" in caplog.text
