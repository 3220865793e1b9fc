"""Shards: computed once, and again where damaged."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from pipeline.models.bundle import Calibration
from pipeline.run import Job, finish, merged, prepare, run_shard
from tests.run.conftest import request_for
from tests.run.test_keys import trucks_only


def shard_files(job: Job) -> list[Path]:
    return [Path(job.store.address(key)) for key in job.keys]


def test_only_what_is_missing_is_computed_again(result, product):
    job = prepare(request_for(product, result.folder.parent))
    kept, lost = shard_files(job)[:2]
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    assert job.missing() == [1]
    for index in range(2):
        run_shard(job, index)
    assert kept.stat().st_mtime_ns == stamp
    assert job.missing() == []


def test_a_shard_damaged_on_the_disk_is_computed_again_and_nobody_has_to_delete_it(result, product):
    before = {name: (result.folder / name).read_bytes() for name in ("trucks.geojson", "landcover.tif")}
    job = prepare(request_for(product, result.folder.parent))
    turned, gone = shard_files(job)[:2]
    whole = turned.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    turned.write_bytes(damaged)
    gone.unlink()
    again = finish(job)
    assert {name: (again.folder / name).read_bytes() for name in before} == before
    assert turned.read_bytes() == whole


def test_blocks_are_announced_for_a_limited_number_of_tiles(monkeypatch):
    predict = import_module("pipeline.run.predict")
    monkeypatch.setattr(predict, "_MOST_TILES", 5)
    job = SimpleNamespace(shards=["abc", "de", "f", "ghijklm", "n"])
    assert list(predict._parts(job, [0, 1, 2, 3, 4])) == [[0, 1], [2], [3], [4]]


def test_scores_of_the_layer_are_calibrated(product, tmp_path, calibrated):
    """A calibration moves the scores as its formula says, and nothing else."""
    scores = []
    for calibration in (Calibration(), Calibration(temperature=2.0, offset=-0.3)):
        config = trucks_only(
            f"trucks.bundle={calibrated(calibration=calibration)}", "trucks.score_threshold=0"
        )
        scores.append(merged(prepare(request_for(product, tmp_path, config=config))).detections.scores)
    assert len(scores[0]) > 0
    log_odds = np.log(scores[0] / (1 - scores[0]))
    np.testing.assert_allclose(scores[1], 1 / (1 + np.exp(-(log_odds / 2 - 0.3))), rtol=1e-6)
