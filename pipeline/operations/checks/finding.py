"""The result of a check."""

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
    fix: str | None = None
    """Suggested fix, if something is wrong."""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, fix: str) -> Finding:
    """Return a finding of something that works, but perhaps not as intended."""
    return Finding(check, "warning", found, fix)


def fails(check: str, found: str, fix: str) -> Finding:
    """Return a finding with which a run would fail."""
    return Finding(check, "fails", found, fix)
