"""The end of a run: the same bytes each time, and no old shards."""

import shutil

from pipeline.run import finish, prepare, run_directly
from tests.run.conftest import request_for


def test_a_second_run_computes_nothing_and_ends_in_the_same_bytes(result, product, monkeypatch):
    before = {name: (result.folder / name).read_bytes() for name in ("trucks.geojson", "landcover.tif")}
    job = prepare(request_for(product, result.folder.parent))
    assert job.missing() == []
    again = finish(job)
    assert {name: (again.folder / name).read_bytes() for name in before} == before


def test_old_shards_go_with_a_finished_run(product, tmp_path):
    first = run_directly(request_for(product, tmp_path))
    stray = first.folder / ".shards" / f"{32 * '0'}.npz"
    shutil.copy(next((first.folder / ".shards").glob("*.npz")), stray)
    run_directly(request_for(product, tmp_path))
    assert not stray.exists()
