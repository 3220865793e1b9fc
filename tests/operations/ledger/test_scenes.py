from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import pytest

from pipeline.operations.ledger.owners import Owner
from pipeline.operations.ledger.scenes import Ledger, Registration
from tests.killing import process_server

ME, OTHER = Owner("here", 1, 2, "me"), Owner("there", 1, 2, "other")


def scene(name: str, input_version: str = "s", config_hash: str = "r") -> Registration:
    return Registration(name, f"/data/{name}", input_version, config_hash)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    yield opened
    opened.close()


def test_a_scene_goes_from_waiting_to_done(ledger):
    ledger.register([scene("a")])
    assert ledger.entry("a").state == "waiting"
    claimed = ledger.claim("a", ME)
    assert (claimed.state, claimed.attempts, claimed.owner) == ("running", 1, str(ME))
    assert ledger.done("a", ME, {"trucks": 7, "outputs": {"trucks.gpkg": "a/trucks.gpkg"}})
    entry = ledger.entry("a")
    assert (entry.state, entry.trucks, entry.owner) == ("done", 7, None)
    assert entry.outputs == {"trucks.gpkg": "a/trucks.gpkg"}
    assert entry.registered <= entry.begun <= entry.ended
    assert ledger.counts() == {"waiting": 0, "running": 0, "done": 1, "quarantined": 0, "duplicate": 0}


def test_only_one_claim_succeeds(ledger):
    ledger.register([scene("a")])
    assert ledger.claim("a", ME)
    assert ledger.claim("a", OTHER) is None
    assert ledger.claim("nobody", ME) is None


def claims_of(arguments: tuple[str, int]) -> list[str]:
    url, worker = arguments
    ledger, owner = Ledger(url), Owner("here", worker, 0, "t")
    ledger.register([scene(f"scene-{number}") for number in range(40)])
    return [f"scene-{number}" for number in range(40) if ledger.claim(f"scene-{number}", owner)]


def test_of_processes_that_claim_the_same_scenes_each_gets_others(tmp_path):
    """None has made the database before; all make it, register and claim at once."""
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    with ProcessPoolExecutor(4, process_server()) as pool:
        claims = list(pool.map(claims_of, [(url, worker) for worker in range(4)]))
    together = [name for mine in claims for name in mine]
    assert sorted(together) == sorted({f"scene-{number}" for number in range(40)})


def test_of_threads_too(ledger):
    ledger.register([scene(f"{number}") for number in range(30)])
    owners = [Owner("here", number, 0, "t") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda owner: [n for n in range(30) if ledger.claim(str(n), owner)], owners))
    assert sorted(n for mine in claims for n in mine) == list(range(30))


def test_registering_again_changes_nothing(ledger):
    ledger.register([scene("a")])
    ledger.claim("a", ME)
    ledger.register([scene("a", input_version="new"), scene("b")])
    assert ledger.entry("a").state == "running"
    assert ledger.entry("a").input_version == "s"
    assert ledger.entry("b").state == "waiting"


def test_a_new_version_waits_with_all_attempts_before_it(ledger):
    ledger.register([scene("a")])
    ledger.claim("a", ME)
    ledger.failed("a", ME, "broken", is_transient=False, quarantine=True)
    seen = ledger.entry("a")
    assert (seen.state, seen.reason, seen.is_transient) == ("quarantined", "broken", False)
    assert ledger.register_again(seen, scene("a", input_version="new"))
    again = ledger.entry("a")
    assert (again.state, again.attempts, again.reason, again.input_version) == ("waiting", 0, None, "new")
    assert not ledger.register_again(seen, scene("a", input_version="newer"))


def test_who_lost_a_claim_changes_nothing_any_more(ledger):
    ledger.register([scene("a")])
    seen = ledger.claim("a", OTHER)
    assert ledger.free(seen, "gone", quarantine=False)
    assert ledger.claim("a", ME)
    assert not ledger.done("a", OTHER, {})
    assert not ledger.failed("a", OTHER, "late", is_transient=False, quarantine=True)
    assert ledger.entry("a").owner == str(ME)
    assert ledger.entry("a").attempts == 2


def test_who_shows_life_keeps_its_scene(ledger):
    ledger.register([scene("a")])
    seen = ledger.claim("a", OTHER)
    ledger.heartbeat(OTHER)
    assert ledger.entry("a").heartbeat == 1
    assert not ledger.free(seen, "gone", quarantine=False)


def test_a_release_is_no_attempt(ledger):
    ledger.register([scene("a"), scene("b")])
    ledger.claim("a", ME)
    ledger.claim("b", OTHER)
    ledger.release(ME)
    assert (ledger.entry("a").state, ledger.entry("a").attempts) == ("waiting", 0)
    assert ledger.entry("b").state == "running"


def test_two_scenes_with_one_id_are_told_apart(ledger):
    ledger.register([scene("a"), scene("b")])
    assert ledger.identify("a", "id") is None
    assert ledger.identify("a", "id") is None
    assert ledger.identify("b", "id") == "a"


def test_batches_of_other_names_share_the_database_only(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    north, south = Ledger(url, "north"), Ledger(url, "south")
    north.register([scene("a")])
    south.register([scene("a")])
    assert north.identify("a", "id") is None
    assert south.identify("a", "id") is None
    assert north.claim("a", ME)
    assert south.entry("a").state == "waiting"


def test_rates_of_an_entry(ledger):
    ledger.register([scene("a")])
    entry = replace(ledger.entry("a"), trucks=12, road_km=8.0, megapixels=120.0, seconds=60.0)
    assert (entry.trucks_per_km, entry.megapixels_per_s) == (1.5, 2.0)
    assert ledger.entry("a").trucks_per_km is None
