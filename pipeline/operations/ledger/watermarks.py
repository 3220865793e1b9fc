"""Watermarks of scheduled searches, in a table beside the ledger's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import URL, Column, MetaData, String, Table, select
from sqlalchemy.exc import IntegrityError

from pipeline.operations.ledger.damage import is_moment
from pipeline.operations.ledger.database import Database
from pipeline.operations.ledger.schema import refuse_foreign_schema

WATERMARKS = Table(
    "truckscape_watermarks",
    MetaData(),
    Column("batch", String(200), primary_key=True),
    Column("search", String(64), primary_key=True),
    Column("acquired", String(32)),
    Column("updated", String(32)),
)


_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)
"""Difference of clocks that is no error."""


@dataclass(frozen=True)
class Watermark:
    """The latest that a search has found, by the catalogue's own times.

    Times are RFC 3339 in UTC. Those in the future do not count: after one wrong item, no search would find
    anything.
    """

    acquired: str | None = None
    updated: str | None = None
    """Time of the catalogue's last change."""

    def raised(self, acquired: str | None, updated: str | None) -> Watermark:
        """Return the watermark raised to that of the results."""
        return Watermark(_later(self.acquired, acquired), _later(self.updated, updated))


class Watermarks:
    """The watermarks of one batch in the database of its ledger. Every method may raise LedgerError."""

    def __init__(self, url: URL | str, batch: str) -> None:
        self.batch = batch
        self._database = Database(url)
        with self._database.explained():
            refuse_foreign_schema(self._database, WATERMARKS)
            WATERMARKS.metadata.create_all(self._database.engine)

    def get(self, search: str) -> Watermark:
        """Return the watermark of a search; empty before the first one, and for what is no time."""
        query = select(WATERMARKS.c.acquired, WATERMARKS.c.updated).where(
            WATERMARKS.c.batch == self.batch, WATERMARKS.c.search == search
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return Watermark(
            *(moment if is_moment(moment) and _is_past(moment) else None for moment in row or ())
        )

    def put(self, search: str, mark: Watermark) -> None:
        """Note how far a search has come. Two that do so at once leave one of their marks: both are safe."""
        row = {"acquired": mark.acquired, "updated": mark.updated}
        change = (
            WATERMARKS.update()
            .where(WATERMARKS.c.batch == self.batch, WATERMARKS.c.search == search)
            .values(row)
        )
        with self._database.writing() as connection:
            if connection.execute(change).rowcount == 0:
                try:
                    connection.execute(WATERMARKS.insert(), {"batch": self.batch, "search": search, **row})
                except IntegrityError:
                    return

    def close(self) -> None:
        """Give up all connections."""
        self._database.close()


def earlier(moment: str, days: float) -> str:
    """Return the time some days before another, from 1970 on."""
    try:
        found = max(datetime.fromisoformat(moment) - timedelta(days=days), _EARLIEST)
    except OverflowError:
        found = _EARLIEST
    return found.isoformat().replace("+00:00", "Z")


def _later(one: str | None, other: str | None) -> str | None:
    moments = [moment for moment in (one, other) if moment and _is_past(moment)]
    return max(moments, key=datetime.fromisoformat) if moments else None


def _is_past(moment: str) -> bool:
    return datetime.fromisoformat(moment) <= datetime.now(UTC) + _AHEAD
