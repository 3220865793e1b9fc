"""Logs as JSON lines, each labelled with its scene and shard."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError
from pipeline.printable import printable_lines
from pipeline.redaction import without_secrets

_LABELS: ContextVar[dict[str, Any]] = ContextVar("labels", default={})  # noqa: B039 (never changed in place)


@contextmanager
def labelled(**labels: Any) -> Iterator[None]:
    """Label every log line that is written in this context: `scene`, `shard`."""
    token = _LABELS.set({**_LABELS.get(), **labels})
    try:
        yield
    finally:
        _LABELS.reset(token)


@contextmanager
def log_to(path: Path | None) -> Iterator[None]:
    """Append log records of `pipeline` from INFO on to a file, one JSON object a line; None: standard error.

    Several processes may write to the same file, and it may be rotated. On a full disk lines are lost; one
    warning goes to standard error. Raises OutputError if the file can't be opened.
    """
    handler: logging.Handler
    try:
        # A half of a surrogate pair has no bytes in UTF-8; its escape is JSON's, too.
        handler = (
            _LogFile(path, encoding="utf-8", errors="backslashreplace") if path else logging.StreamHandler()
        )
    except OSError as error:
        raise OutputError(f"The log can't be written: {path} ({error.strerror})") from error
    handler.setFormatter(JsonLines())
    handler.addFilter(_label)
    with contextlib.closing(handler), collected("pipeline", handler):
        yield


@contextmanager
def collected(name: str, handler: logging.Handler) -> Iterator[None]:
    """Send records of a logger and its children, from INFO on, to one handler.

    A handler that collects the parent logger gets them, too; others don't.
    """
    logger = logging.getLogger(name)
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = logger.parent is not None and not logger.parent.propagate
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _LogFile(WatchedFileHandler):
    """A log file that never raises on a full disk, which would hide the error that is being logged."""

    _is_reported = False

    def _open(self) -> Any:
        stream = super()._open()
        with open(self.baseFilename, "rb") as file:  # noqa: PTH123 (as its base class has it)
            if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read() != b"\n":
                stream.write("\n")  # the disk was full in the middle of a line
        return stream

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._is_reported:
            self._is_reported = True
            sys.stderr.write(f"The log can't be written: {self.baseFilename} ({error.strerror})\n")

    def close(self) -> None:
        """Close the file; lines that could not be written are lost."""
        with contextlib.suppress(OSError):
            super().close()


class PlainLines(logging.Formatter):
    """Formatter for terminals: the message, without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; see the class."""
        return printable_lines(super().format(record))


class JsonLines(logging.Formatter):
    """Formatter of one JSON line a record: time (UTC), level, logger, message, labels, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; see the class."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
            **getattr(record, "labels", {}),
        }
        if record.exc_info:
            line["traceback"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def _label(record: logging.LogRecord) -> bool:
    record.labels = _LABELS.get()
    return True
