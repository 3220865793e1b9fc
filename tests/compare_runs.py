"""Compare the layers of two runs, byte by byte but for what tells when and how fast they were made.

    python -m tests.compare_runs BEFORE AFTER

Both are folders as `--out` of `truckscape run`, such as `runs/demo/layers` before and after a change. Prints
every difference; exit status 1 if there is one. Ignored are times, seconds, memory, package versions, keys
of shards, and checksums of files that differ for these reasons alone.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

VOLATILE = {
    "created",
    "datetime_written",
    "file:checksum",
    "file:size",
    "finished",
    "packages",
    "peak_rss_mb",
    "processing:datetime",
    "processing:software",
    "seconds",
    "shards",
    "updated",
}
"""Members of JSON that differ between two runs of the same code, or name its version."""
_TIMES = re.compile(
    rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z| UTC)?"
    rb'|<tr><th scope="row">[\w -]+</th><td class="number">\d+\.\d</td></tr>'  # seconds of a stage
)


def differences(before: Path, after: Path) -> Iterator[str]:
    """Yield a line for each file that is in one folder only, or differs."""
    old, new = _files(before), _files(after)
    yield from (f"{name}: only before" for name in sorted(old - new))
    yield from (f"{name}: only after" for name in sorted(new - old))
    for name in sorted(old & new):
        a, b = before / name, after / name
        if a.read_bytes() != b.read_bytes():
            yield from (f"{name}: {what}" for what in _difference(a, b))


def _files(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts)}


def _difference(a: Path, b: Path) -> Iterator[str]:
    if a.suffix in (".json", ".geojson"):
        yield from _json_difference(
            "", json.loads(a.read_text(encoding="utf-8")), json.loads(b.read_text(encoding="utf-8"))
        )
    elif a.suffix == ".gpkg":
        old, new = set(_dump(a)), set(_dump(b))
        yield from (f"- {line[:150]}" for line in sorted(old - new)[:5])
        yield from (f"+ {line[:150]}" for line in sorted(new - old)[:5])
    elif a.suffix == ".html":
        old_page, new_page = (_TIMES.sub(b"", path.read_bytes()).splitlines() for path in (a, b))
        changed = [(x, y) for x, y in zip(old_page, new_page, strict=False) if x != y]
        yield from (f"{x[:120]!r} -> {y[:120]!r}" for x, y in changed[:5])
        if len(old_page) != len(new_page):
            yield f"{len(old_page)} -> {len(new_page)} lines"
    else:
        yield "other bytes"


def _json_difference(where: str, a: Any, b: Any) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({*a, *b} - VOLATILE):
            yield from _json_difference(f"{where}/{key}", a.get(key), b.get(key))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _json_difference(f"{where}/{index}", x, y)
    elif a != b and not (where.startswith("/links") and str(a).startswith("file:")):
        yield f"{where}: {str(a)[:80]} -> {str(b)[:80]}"


def _dump(path: Path) -> Iterator[str]:
    """Rows of all tables as text; the time of the last change is left out."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
        tables = [row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in base.execute(f"PRAGMA table_info('{table}')")]
            kept = [column for column in columns if column not in ("last_change", "update_time")]
            names = ", ".join(f'"{column}"' for column in kept)
            for row in base.execute(f'SELECT {names} FROM "{table}"'):  # noqa: S608 names of the file itself
                yield f"{table}: {row!r}"


def main() -> None:
    """Entry point."""
    before, after = map(Path, sys.argv[1:])
    found = list(differences(before, after))
    print("\n".join(found) or "the same")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
