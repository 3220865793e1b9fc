"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "fails"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    check: str
    state: State
    found: str
    mend: str | None = None
    """How to mend it, where something is wrong."""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, mend: str) -> Finding:
    """It works, but perhaps not as wished."""
    return Finding(check, "warning", found, mend)


def fails(check: str, found: str, mend: str) -> Finding:
    """A run would fail."""
    return Finding(check, "fails", found, mend)
