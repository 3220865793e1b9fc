"""What is new since the last look, at a real STAC API and in folders."""

from dataclasses import replace

import pytest

from pipeline.config import load_config
from pipeline.errors import OutputError
from pipeline.operations.attempt import scene_directly
from pipeline.operations.batch import run_batch
from pipeline.operations.ledger.owners import Owner
from pipeline.operations.ledger.scenes import Registration, open_ledger
from pipeline.operations.ledger.watermarks import Watermark
from pipeline.operations.new_scenes import WatchedSources, find_new_scenes, run_new_scenes
from pipeline.operations.request import BatchRequest, config_hash
from pipeline.operations.search import StacSearch
from pipeline.operations.sources import Sources
from tests.operations.servers import stac_api, stac_item
from tests.operations.test_batch import GOOD, SETTINGS, write_scenes

LATEST = "2023-06-15T10:20:31Z"


ITEMS = {
    "S2A_BEFORE": ("2023-01-01T10:20:31Z", "2023-01-02T00:00:00Z"),
    "S2A_OLD": ("2023-04-01T10:20:31Z", "2023-04-02T00:00:00Z"),
    "S2A_LATE": ("2023-06-01T10:20:31Z", "2023-06-20T00:00:00Z"),
    "S2A_LATEST": (LATEST, "2023-06-16T00:00:00Z"),
    "S2A_NEW": ("2023-06-20T10:20:31Z", "2023-06-21T00:00:00Z"),
}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    items = [stac_item(name, datetime=at, updated=changed) for name, (at, changed) in ITEMS.items()]
    with stac_api(tmp_path_factory.mktemp("api"), items) as url:
        yield url


@pytest.fixture
def request_(tmp_path) -> BatchRequest:
    return BatchRequest((), tmp_path / "out", load_config(None, SETTINGS))


def names(watch: WatchedSources, mark: Watermark, request: BatchRequest) -> list[str]:
    return [scene.name for scene in find_new_scenes(watch, mark, request)]


def test_the_first_look_takes_all_or_what_is_since_a_day(api, request_):
    watch = WatchedSources(Sources(search=StacSearch(api)))
    assert names(watch, Watermark(), request_) == list(ITEMS)
    assert names(replace(watch, since="2023-02-01"), Watermark(), request_) == list(ITEMS)[1:]


def test_a_later_look_goes_back_behind_the_watermark(api, request_):
    watch, mark = WatchedSources(Sources(search=StacSearch(api))), Watermark(LATEST)
    assert names(watch, mark, request_) == ["S2A_LATE", "S2A_LATEST", "S2A_NEW"]
    assert names(replace(watch, overlap_days=1), mark, request_) == ["S2A_LATEST", "S2A_NEW"]
    assert names(replace(watch, since="2023-06-10"), mark, request_) == ["S2A_LATEST", "S2A_NEW"]


def test_a_second_look_at_a_folder_does_nothing(request_, tmp_path):
    watch = WatchedSources(Sources(folder=write_scenes(tmp_path / "in", GOOD[:1])))
    assert run_new_scenes(watch, request_, run_batch).done == GOOD[:1]
    assert run_new_scenes(watch, request_, run_batch).done == ()
    write_scenes(tmp_path / "more", GOOD[:2])
    (tmp_path / "more" / f"{GOOD[1]}.tif").rename(tmp_path / "in" / f"{GOOD[1]}.tif")
    assert run_new_scenes(watch, request_, run_batch).done == GOOD[1:2]


def test_what_a_search_finds_raises_its_watermark_even_where_scenes_fail(api, request_):
    """Their bands lie at a port where nobody listens: a cause that may pass, so they stay on the list."""
    config = load_config(None, [*SETTINGS, "batch.attempts=1"])
    request = replace(request_, config=config)
    watch = WatchedSources(
        Sources(search=StacSearch(api, area="9,51,11,53", cloud_cover=50)), since="2023-06-18"
    )
    (failed,) = run_new_scenes(watch, request, run_batch).of("quarantined")
    assert (failed.scene, failed.is_transient) == ("S2A_NEW", True)
    tried = []
    run_new_scenes(replace(watch, since="2023-07-01"), request, lambda due: tried.extend(due.scenes))
    assert [scene.name for scene in tried] == ["S2A_NEW"]


def _never(request: BatchRequest):
    raise AssertionError(request.scenes)


def test_nothing_new_and_nothing_left_is_no_batch(api, request_):
    assert (
        run_new_scenes(
            WatchedSources(Sources(search=StacSearch(api, collections=("none",)))), request_, _never
        )
        is None
    )


def test_what_was_left_by_other_settings_is_theirs(api, request_):
    request_.out.mkdir()
    ledger = open_ledger(request_.out, request_.config)
    me = Owner.this_process()
    ledger.register([Registration("mine", "/data/mine", "s", config_hash(request_))])
    ledger.register(
        [Registration("theirs", "/data/theirs", "s", "another"), Registration("done", "/d", "s", "r")]
    )
    ledger.claim("done", me)
    ledger.close()
    tried = []
    watch = WatchedSources(Sources(search=StacSearch(api, collections=("none",))))
    run_new_scenes(watch, request_, lambda due: tried.extend(due.scenes))
    assert [scene.name for scene in tried] == ["mine"]


def test_an_api_that_cant_be_asked_for_changes_costs_nothing(api, request_):
    """rustac's store in memory has no filter that it keeps to: the window finds what it found."""
    watch = WatchedSources(Sources(search=StacSearch(api)), overlap_days=1)
    mark = Watermark(LATEST, "2023-06-20T12:00:00Z")
    found = names(watch, mark, request_)
    assert {"S2A_LATEST", "S2A_NEW"} <= set(found) <= {*ITEMS} - {"S2A_BEFORE", "S2A_OLD"}


def test_a_folder_that_cant_be_made_is_one_line(request_, tmp_path):
    (tmp_path / "file").write_text("in the way")
    request = replace(request_, out=tmp_path / "file" / "out")
    with pytest.raises(OutputError, match=r"Can't write to .*choose another --out"):
        run_new_scenes(WatchedSources(Sources(folder=tmp_path)), request, scene_directly)
