"""The table of scenes in a ledger's database, and its migration from older versions of truckscape."""

from __future__ import annotations

from typing import Literal, get_args

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    text,
)
from sqlalchemy.exc import DBAPIError, OperationalError

from pipeline.errors import LedgerError
from pipeline.operations.ledger.database import Database, LenientJson

State = Literal["waiting", "running", "done", "quarantined", "duplicate"]
STATES: tuple[State, ...] = get_args(State)

SCENES = Table(
    "truckscape_scenes",
    MetaData(),
    Column("batch", String(200), primary_key=True),
    Column("scene", String(300), primary_key=True),
    Column("href", Text, nullable=False),
    Column("state", String(20), nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("reason", Text),
    Column("is_transient", Boolean),
    Column("input_version", String(64), nullable=False),
    Column("config_hash", String(64), nullable=False),
    Column("registered", String(32), nullable=False),
    Column("begun", String(32)),
    Column("ended", String(32)),
    Column("owner", Text),
    Column("heartbeat", Integer, nullable=False),
    Column("heartbeat_at", String(32)),
    Column("acquired", String(32), index=True),
    Column("updated", String(32), index=True),
    Column("scene_id", String(300)),
    Column("folder", Text),
    Column("outputs", LenientJson),
    Column("inputs", LenientJson),
    Column("models", LenientJson),
    Column("simulated", Boolean),
    Column("trucks", Integer),
    Column("seen_km2", Float),
    Column("road_km", Float),
    Column("megapixels", Float),
    Column("tiles", Integer),
    Column("tiles_skipped", Integer),
    Column("seconds", Float),
    Column("peak_rss_mb", Integer),
    Column("acquisition", LenientJson),
    UniqueConstraint("batch", "scene_id"),
)

RENAMED = {
    "may_pass": "is_transient",
    "stamp": "input_version",
    "recipe": "config_hash",
    "enlisted": "registered",
    "beat": "heartbeat",
    "beaten": "heartbeat_at",
}
"""Columns of older ledgers, and their names now."""
ADDED = ("acquisition",)
"""Columns that older ledgers do not have."""


def create_tables(database: Database) -> None:
    """Create the table of scenes, or rename and add columns where an older version created it.

    Raises LedgerError if columns are missing all the same, or another program takes part in the table.
    """
    refuse_foreign_schema(database, SCENES)
    try:
        SCENES.metadata.create_all(database.engine)
    except OperationalError:  # another process was faster
        SCENES.metadata.create_all(database.engine)
    for old, new in RENAMED.items():
        if old in _columns(database):
            _alter(database, f"RENAME COLUMN {old} TO {new}", new)
    names = _columns(database)
    for column in ADDED:
        if column not in names and "batch" in names and "input_version" in names:
            _alter(database, f"ADD COLUMN {column} JSON", column)
    missing = [column.name for column in SCENES.columns if column.name not in _columns(database)]
    if missing:
        raise LedgerError(
            f"The ledger {database.shown} is of another version of truckscape (no column "
            f"{', '.join(missing)}); move it away: finished scenes are found by their files."
        )


def refuse_foreign_schema(database: Database, table: Table) -> None:
    """Raise LedgerError for a view or virtual table of this name, or triggers, in a file of SQLite.

    They would compute, change or delete rows, without end if they like.
    """
    if database.engine.dialect.name != "sqlite":
        return
    query = text(
        "SELECT type, name FROM sqlite_master WHERE lower(tbl_name) = :table"
        " AND (type IN ('view', 'trigger') OR sql LIKE 'create virtual%')"
    )
    with database.reading() as connection:
        found = connection.execute(query, {"table": table.name}).first()
    if found:
        raise LedgerError(
            f"The ledger {database.shown} has a {found.type} {found.name!r} that truckscape did not make; "
            "move the file away: finished scenes are found by their files."
        )


def _alter(database: Database, change: str, new: str) -> None:
    """Change a column. One statement each, so a migration that is interrupted resumes at the next opening."""
    try:
        with database.engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {SCENES.name} {change}"))
    except DBAPIError:
        if new not in _columns(database):  # else another process was faster
            raise


def _columns(database: Database) -> set[str]:
    return {column["name"] for column in inspect(database.engine).get_columns(SCENES.name)}
