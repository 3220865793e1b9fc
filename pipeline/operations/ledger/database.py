"""The database of a ledger's tables, and its errors as messages for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, URL, Connection, Dialect, TypeDecorator, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from pipeline.config import Config
from pipeline.errors import LedgerError, MissingExtraError
from pipeline.storage.out_folder import LEDGER, check_file

_BUSY_S = 60
"""Time for which SQLite waits for another writing process."""


def database_url(out: Path, config: Config) -> URL | str:
    """Return the SQLAlchemy URL as set, or that of the file in the folder; it may have a password."""
    if config.batch.ledger:
        return config.batch.ledger.get_secret_value()
    check_file(out / LEDGER)
    return URL.create("sqlite", database=str(out / LEDGER))  # as text, a ? would end the path


class LenientJson(TypeDecorator[Any]):
    """JSON; text in a file of SQLite that is none is read as it is, so that the other rows can be read."""

    impl = JSON
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Return a function that reads a value of the database."""
        process = super().result_processor(dialect, coltype)

        def read(value: Any) -> Any:
            try:
                return process(value) if process else value
            except (ValueError, TypeError, RecursionError):
                return str(value)

        return read


def _configure_sqlite(connection: Any, _record: object) -> None:
    """Read text that is no UTF-8 as bytes, where sqlite3 would refuse all rows; trust no schema."""

    def text_of(raw: bytes) -> str | bytes:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw

    connection.text_factory = text_of
    connection.execute("PRAGMA trusted_schema = OFF")


class Database:
    """A database; what fails in it is a LedgerError. Safe to use from several threads and processes."""

    def __init__(self, url: URL | str) -> None:
        """Connect lazily. Raises LedgerError for an invalid URL, MissingExtraError without the driver."""
        try:
            parsed = make_url(url)
            self.shown = parsed.render_as_string(hide_password=True)
            options = {"timeout": _BUSY_S} if parsed.get_backend_name() == "sqlite" else {}
            self.engine = create_engine(parsed, connect_args=options, pool_pre_ping=True)
            if options:
                event.listen(self.engine, "connect", _configure_sqlite)
        except (ArgumentError, ValueError) as error:  # ValueError: of a port
            raise LedgerError(
                "batch.ledger is no SQLAlchemy URL; expected e.g. postgresql+psycopg://user@host/database."
            ) from error
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise MissingExtraError(
                f"The ledger {self.shown} needs a driver that is not installed ({error}); install it."
            ) from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection for reading."""
        with self.explained(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction: complete or without effect."""
        with self.explained(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Tell what SQLAlchemy raises meanwhile as a LedgerError."""
        try:
            yield
        except (SQLAlchemyError, UnicodeError) as error:  # of a value or a damaged schema that is not UTF-8
            why = " ".join(str(getattr(error, "orig", None) or error).split())
            raise LedgerError(f"The ledger {self.shown} can't be used: {why}") from error

    def close(self) -> None:
        """Give up all connections."""
        self.engine.dispose()
