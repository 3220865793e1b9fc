"""Removal of credentials from text: signatures, tokens and passwords in addresses."""

from __future__ import annotations

import logging
import re
from typing import TypeVar

_QUERY = re.compile(r"\?(?=[\w.~%\[\]-]+=)[^\s'\"<>)\]}]*")
_USER = re.compile(r"(?<=://)[^/\s@'\"]+@")

_SHOWN = 100
"""Characters of a wrong value in a message."""

_WEB = re.compile(r"https?:", re.IGNORECASE)

_E = TypeVar("_E", bound=Exception)


def without_secrets(text: str) -> str:
    """Return a text without the queries (`?X-Amz-Signature=...`) and users (`name:password@`) of its URLs.

    A signed URL grants access to everybody who has it.
    """
    return _USER.sub("", _QUERY.sub("", text))


def shown(value: object) -> str:
    """Return a value as messages show it: on one line, short, without credentials."""
    try:
        text = without_secrets(str(value))
        text = repr(text) if isinstance(value, str) else text
    except ValueError:  # Python writes no integers of more than 4300 digits
        return "an integer of thousands of digits"
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def is_url(text: str) -> bool:
    """Return whether a text is meant as the URL of a web server; anything else is a path."""
    return _WEB.match(text) is not None


def redacted(error: _E) -> _E:
    """Return an error without credentials in its message, to be a cause in tracebacks and logs."""
    plain = type(error)(without_secrets(str(error)))
    return plain.with_traceback(error.__traceback__)


def keep_secrets(package: str) -> None:
    """Remove credentials from what a package logs, before the handlers of the application have it."""
    logger = logging.getLogger(package)
    if not any(isinstance(handler, _Redaction) for handler in logger.handlers):
        logger.addHandler(_Redaction())


class _Redaction(logging.Handler):
    """A record is one object, which goes from the loggers of a package up to those of the application."""

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = without_secrets(record.getMessage()), ()
