"""Addresses as others may see them: signatures, tokens and passwords in them are for servers only."""

from __future__ import annotations

import logging
import re
from typing import TypeVar
from urllib.parse import urlsplit

_QUERY = re.compile(r"\?(?=[\w.~%\[\]-]+=)[^\s'\"<>)\]}]*")
_USER = re.compile(r"(?<=://)[^/\s@'\"]+@")

_E = TypeVar("_E", bound=Exception)


def without_secrets(text: str) -> str:
    """A text without the queries (`?X-Amz-Signature=...`) and users (`name:password@`) of its addresses.

    Signed addresses carry all that it takes to read what lies behind them.
    """
    return _USER.sub("", _QUERY.sub("", text))


def is_url(text: str) -> bool:
    """Whether it is an address of a web server; all else is a path."""
    return urlsplit(text).scheme in ("http", "https")


def redacted(error: _E) -> _E:
    """The same error as `without_secrets` lets it be told: as a cause it appears in tracebacks and logs."""
    plain = type(error)(without_secrets(str(error)))
    return plain.with_traceback(error.__traceback__)


def keep_secrets(*loggers: str) -> None:
    """Let what other packages log through these loggers go on without secrets."""
    for name in loggers:
        logger = logging.getLogger(name)
        if _redact not in logger.filters:
            logger.addFilter(_redact)


def _redact(record: logging.LogRecord) -> bool:
    record.msg, record.args = without_secrets(record.getMessage()), ()
    return True
