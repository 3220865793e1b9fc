"""The ledger on PostgreSQL: what its tests say of SQLite holds here as well."""

from concurrent.futures import ProcessPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from pipeline.config import load_config
from pipeline.errors import LedgerError
from pipeline.operations.batch import run_batch
from pipeline.operations.checks import services
from pipeline.operations.ledger.scenes import Ledger, open_ledger
from tests.operations import test_batch
from tests.operations.ledger.test_scenes import (  # noqa: F401 collected anew, with the ledger of this module
    claims_of,
    test_a_new_version_waits_with_all_attempts_before_it,
    test_a_release_is_no_attempt,
    test_a_scene_goes_from_waiting_to_done,
    test_of_threads_too,
    test_only_one_claim_succeeds,
    test_registering_again_changes_nothing,
    test_two_scenes_with_one_id_are_told_apart,
    test_who_lost_a_claim_changes_nothing_any_more,
    test_who_shows_life_keeps_its_scene,
)
from tests.operations.ledger.test_schema import make_old_ledger, opened
from tests.operations.postgresql import PASSWORD, postgresql

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def url():
    with postgresql() as address:
        yield f"postgresql+psycopg://{address}/postgres"


@pytest.fixture
def ledger(url):
    opened = Ledger(url, f"batch-{uuid4().hex}")
    yield opened
    opened.close()


def test_of_processes_that_claim_the_same_scenes_each_gets_others(url):
    with ProcessPoolExecutor(4, test_batch.SERVER) as pool:
        claims = list(pool.map(claims_of, [(url, worker) for worker in range(4)]))
    together = [name for mine in claims for name in mine]
    assert sorted(together) == sorted({f"scene-{number}" for number in range(40)})


def do_batch(request):
    return run_batch(request).done


def test_two_batches_at_once_do_each_scene_once(url, tmp_path):
    incoming, out = test_batch.write_scenes(tmp_path / "in"), tmp_path / "out"
    settings = [*test_batch.QUICK, f"batch.ledger={url}", "batch.name=shared"]
    request = test_batch.request(incoming, out, *settings)
    with ProcessPoolExecutor(2, test_batch.SERVER) as pool:
        done = [name for names in pool.map(do_batch, [request, request]) for name in names]
    assert sorted(done) == sorted(test_batch.GOOD)
    opened = open_ledger(out, request.config)
    assert opened.counts()["done"] == 3
    opened.close()
    assert not (out / "ledger.sqlite").exists()
    assert PASSWORD not in (next(out.glob("*/run.json"))).read_text()
    (finding,) = services.ledger(request.config, out)
    assert "3 done" in finding.found


def test_a_wrong_password_is_told_without_it(url):
    wrong = url.replace(PASSWORD, "secret")
    with pytest.raises(LedgerError) as reported:
        Ledger(wrong)
    assert "password authentication failed" in str(reported.value)
    assert "secret" not in str(reported.value)
    (finding,) = services.ledger(load_config(None, [f"batch.ledger={wrong}"]), None)
    assert (finding.state, "secret" in finding.found) == ("fails", False)


def test_an_old_ledger_keeps_its_scenes_whoever_opens_it_first(url):
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("CREATE DATABASE older"))
    old = make_old_ledger(url.replace("/postgres", "/older"))
    with ProcessPoolExecutor(4, test_batch.SERVER) as pool:
        counts = list(pool.map(opened, [old] * 8))
    assert counts == [{"waiting": 1, "running": 1, "done": 1, "quarantined": 1, "duplicate": 0}] * 8
