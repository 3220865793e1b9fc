"""Two runs are compared by what they say, not by when they were made."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.compare_runs import differences


def write_run(folder: Path, trucks: int, finished: str) -> Path:
    folder.mkdir()
    record = {"counts": {"trucks": trucks}, "finished": finished, "seconds": {"predict": trucks}}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "report.html").write_text(f"<p>{trucks} trucks</p>\n<p>{finished}</p>\n")
    with closing(sqlite3.connect(folder / "trucks.gpkg")) as base, base:
        base.execute("CREATE TABLE trucks (id INTEGER, last_change TEXT)")
        base.executemany("INSERT INTO trucks VALUES (?, ?)", [(n, finished) for n in range(trucks)])
    return folder


@pytest.fixture
def before(tmp_path) -> Path:
    return write_run(tmp_path / "before", 2, "2023-06-01T10:00:00Z")


def test_times_are_no_difference(before, tmp_path):
    after = write_run(tmp_path / "after", 2, "2024-01-01T11:30:00Z")
    assert list(differences(before, after)) == []


def test_counts_rows_pages_and_files_are(before, tmp_path):
    after = write_run(tmp_path / "after", 3, "2024-01-01T11:30:00Z")
    (after / "extra.csv").write_text("")
    found = "\n".join(differences(before, after))
    for line in (
        "extra.csv: only after",
        "/counts/trucks: 2 -> 3",
        "trucks.gpkg: + trucks: (2,)",
        "3 trucks",
    ):
        assert line in found
