"""A ledger that something else has written into: read but for the damaged row, or one clear line."""

import sqlite3

import pytest

from pipeline.errors import LedgerError
from pipeline.operations.ledger.owners import Owner
from pipeline.operations.ledger.scenes import Ledger, Registration
from pipeline.operations.ledger.watermarks import Watermark, Watermarks, earlier
from pipeline.operations.tables import ledger_page

ME = Owner("here", 1, 2, "me")
DAMAGE = (
    "reason=cast(x'94ff' as text)",
    "href=cast(x'ff' as text)",
    "owner=x'00ff'",
    "state='paused'",
    "state=3",
    "attempts='many'",
    "attempts=-1000000000000000000",
    "attempts=9223372036854775807",
    "attempts=1.5",
    "heartbeat=1e300",
    "acquired='2023-02-30'",
    "updated='yesterday'",
    "registered='0000-00-00'",
    "seconds='x'",
    "seconds=9e999",
    "seen_km2=-1.0",
    "trucks=x'01'",
    "outputs='{'",
    "outputs='[1, 2]'",
    "outputs=cast(x'7bff7d' as text)",
    "outputs='" + "[" * 100_000 + "'",
    'outputs=\'{"traffic.parquet": "../../elsewhere"}\'',
    'outputs=\'{"traffic.parquet": "/etc/passwd"}\'',
    "outputs='{\"traffic.parquet\": 1}'",
    "folder='../elsewhere'",
    "folder='/tmp'",
    'acquisition=\'{"acquired": "2023-06-01"}\'',
    "acquisition='{\"acquired\": 7}'",
    "acquisition='\"x\"'",
)


def scene(name: str) -> Registration:
    return Registration(name, f"/data/{name}", "s", "r")


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    opened.register([scene("a"), scene("b")])
    yield opened
    opened.close()


def execute(tmp_path, *statements: str) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("change", DAMAGE, ids=lambda change: change[:40])
def test_a_damaged_row_is_named_and_the_others_are_read(ledger, tmp_path, change):
    execute(tmp_path, f"UPDATE truckscape_scenes SET {change} WHERE scene = 'a'")  # noqa: S608 (of this file)
    assert [entry.scene for entry in ledger.entries()] == ["b"]
    assert ledger.entry("a") is None
    (message,) = ledger.damaged.values()
    assert message.startswith(f"ledger: the row of scene a is damaged ({change.partition('=')[0]} is ")
    assert ledger_page(ledger.entries(), ledger.counts(), all_of_them=True)
    ledger.register([scene("a"), scene("b")])
    assert [(entry.scene, entry.state) for entry in ledger.entries()] == [("a", "waiting"), ("b", "waiting")]
    assert ledger.claim("a", ME)


def test_large_numbers_that_can_be_counted_on_are_read(ledger, tmp_path):
    execute(tmp_path, "UPDATE truckscape_scenes SET attempts = 1000000000000000000 WHERE scene = 'a'")
    assert ledger.claim("a", ME).attempts == 10**18 + 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER UPDATE ON truckscape_scenes BEGIN DELETE FROM truckscape_scenes; END",
        "ALTER TABLE truckscape_scenes RENAME TO x; CREATE VIEW truckscape_scenes AS SELECT * FROM x",
        "DROP TABLE truckscape_scenes; CREATE VIRTUAL TABLE truckscape_scenes USING fts5(batch, scene)",
    ],
)
def test_what_other_programs_have_put_into_the_schema_is_refused(ledger, tmp_path, statement):
    execute(tmp_path, *statement.split("; ") if "BEGIN" not in statement else [statement])
    with pytest.raises(LedgerError, match=r"that truckscape did not make; move the file away"):
        Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")


@pytest.mark.parametrize("page", [0, 1, 2, 3])
def test_a_damaged_page_is_one_line(ledger, tmp_path, page):
    ledger.register([scene(f"scene-{number}") for number in range(200)])
    ledger.close()
    with (tmp_path / "ledger.sqlite").open("r+b") as file:
        file.seek(page * 4096 + (100 if page == 0 else 0))
        file.write(b"\xff" * 1000)
    with pytest.raises(LedgerError) as caught:
        damaged = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
        damaged.entries()
        damaged.register([scene("new")])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["acquired", "updated"])
@pytest.mark.parametrize("value", ["'x'", "7", "x'ff'", "'2023-06-01'", "cast(x'94ff' as text)"])
def test_a_watermark_that_is_no_time_is_none(tmp_path, column, value):
    marks = Watermarks(f"sqlite:///{tmp_path}/ledger.sqlite", "batch")
    marks.put("s", Watermark("2023-06-01T00:00:00Z", "2023-06-01T00:00:00Z"))
    execute(tmp_path, f"UPDATE truckscape_watermarks SET {column} = {value}")  # noqa: S608 (of this file)
    assert getattr(marks.get("s"), column) is None
    marks.close()


def test_a_watermark_goes_back_to_1970_at_most():
    assert earlier("0001-01-02T00:00:00Z", 30) == "1970-01-01T00:00:00Z"


def test_an_index_that_has_a_row_which_the_table_lacks_is_one_line(ledger, tmp_path):
    ledger.register([scene("gone")])
    file = tmp_path / "ledger.sqlite"
    with sqlite3.connect(file) as connection:
        ((root, page),) = connection.execute(
            "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size WHERE name = 'truckscape_scenes'"
        )
    content = bytearray(file.read_bytes())
    table = slice((root - 1) * page, root * page)
    content[table] = content[table].replace(b"gone", b"lost")
    ledger.close()
    file.write_bytes(content)
    with pytest.raises(LedgerError, match="is damaged: it has and takes no row of gone"):
        Ledger(f"sqlite:///{file}").register([scene("gone")])
