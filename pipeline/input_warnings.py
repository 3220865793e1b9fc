"""Warnings about inputs, logged at once and collected for the record of a run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pipeline.printable import printable
from pipeline.redaction import without_secrets

log = logging.getLogger(__name__)

_COLLECTED: ContextVar[list[str] | None] = ContextVar("collected", default=None)


def warn(message: str) -> None:
    """Log a warning about an input; a run that is under way also records and shows it.

    The message says what was seen, what was expected, and which option puts it right.
    """
    text = " ".join(printable(without_secrets(message)).split())
    collected = _COLLECTED.get()
    if collected is not None:
        if text in collected:
            return
        collected.append(text)
    log.warning("%s", text)


@contextmanager
def collected_warnings(earlier: Iterable[str] = ()) -> Iterator[list[str]]:
    """Collect the warnings of this context, and of threads that run in a copy of it, after `earlier` ones.

    Each text is logged and collected once.
    """
    collected = list(earlier)
    token = _COLLECTED.set(collected)
    try:
        yield collected
    finally:
        _COLLECTED.reset(token)
