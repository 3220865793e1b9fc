import sqlite3
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from sqlalchemy import create_engine, text

from pipeline.errors import LedgerError
from pipeline.operations.ledger.owners import Owner
from pipeline.operations.ledger.scenes import Ledger

OLD = """CREATE TABLE truckscape_scenes (batch VARCHAR(200) NOT NULL, scene VARCHAR(300) NOT NULL,
href TEXT NOT NULL, state VARCHAR(20) NOT NULL, attempts INTEGER NOT NULL, reason TEXT, may_pass BOOLEAN,
stamp VARCHAR(64) NOT NULL, recipe VARCHAR(64) NOT NULL, enlisted VARCHAR(32) NOT NULL, begun VARCHAR(32),
ended VARCHAR(32), owner TEXT, beat INTEGER NOT NULL, beaten VARCHAR(32), acquired VARCHAR(32),
updated VARCHAR(32), scene_id VARCHAR(300), folder TEXT, outputs JSON, inputs JSON, models JSON,
simulated BOOLEAN, trucks INTEGER, seen_km2 FLOAT, road_km FLOAT, megapixels FLOAT, tiles INTEGER,
tiles_skipped INTEGER, seconds FLOAT, peak_rss_mb INTEGER, PRIMARY KEY (batch, scene),
UNIQUE (batch, scene_id))"""
"""The table as truckscape made it before the columns were renamed."""
ROWS = """INSERT INTO truckscape_scenes (batch, scene, href, state, attempts, reason, may_pass, stamp, recipe,
enlisted, begun, owner, beat, beaten, outputs, trucks) VALUES
('batch', 'a', '/a', 'done', 1, NULL, NULL, 's1', 'r', '2026-01-01', '2026-01-02', NULL, 3, '2026-01-03',
'{"trucks.gpkg": "a/trucks.gpkg"}', 7),
('batch', 'b', '/b', 'quarantined', 3, 'busy', TRUE, 's2', 'r', '2026-01-01', NULL, NULL, 0, NULL,
NULL, NULL),
('batch', 'c', '/c', 'running', 1, NULL, NULL, 's3', 'r', '2026-01-01', NULL, 'here 1 2 me', 5, NULL,
NULL, NULL),
('batch', 'd', '/d', 'waiting', 0, NULL, NULL, 's4', 'r', '2026-01-01', NULL, NULL, 0, NULL, NULL, NULL)"""


def make_old_ledger(url: str) -> str:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(OLD))
        connection.execute(text(ROWS))
    engine.dispose()
    return url


@pytest.fixture
def old(tmp_path):
    return make_old_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")


def opened(url: str) -> dict[str, int]:
    ledger = Ledger(url)
    try:
        return ledger.counts()
    finally:
        ledger.close()


def test_a_ledger_of_the_old_schema_keeps_every_scene(old):
    for _ in range(2):
        ledger = Ledger(old)
        a, b, c, d = ledger.entries()
        assert (a.state, a.trucks, a.outputs) == ("done", 7, {"trucks.gpkg": "a/trucks.gpkg"})
        assert (a.input_version, a.config_hash, a.registered) == ("s1", "r", "2026-01-01")
        assert (a.heartbeat, a.heartbeat_at) == (3, "2026-01-03")
        assert (b.state, b.attempts, b.reason, b.is_transient) == ("quarantined", 3, "busy", True)
        assert (c.state, c.owner, c.heartbeat) == ("running", "here 1 2 me", 5)
        assert (d.state, d.is_transient) == ("waiting", None)
        ledger.close()
    ledger = Ledger(old)
    assert ledger.claim("d", Owner("here", 1, 2, "other"))
    assert ledger.done("c", Owner("here", 1, 2, "me"), {"trucks": 1})
    ledger.close()


def test_several_processes_may_open_an_old_ledger_at_once(old):
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        counts = list(pool.map(opened, [old] * 8))
    assert counts == [{"waiting": 1, "running": 1, "done": 1, "quarantined": 1, "duplicate": 0}] * 8


def test_a_migration_that_was_interrupted_resumes(old, tmp_path):
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("ALTER TABLE truckscape_scenes RENAME COLUMN may_pass TO is_transient")
    assert sum(opened(old).values()) == 4


def test_a_ledger_of_another_version_is_named(tmp_path):
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("CREATE TABLE truckscape_scenes (batch TEXT, scene TEXT)")
    with pytest.raises(LedgerError, match="another version of truckscape"):
        Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
