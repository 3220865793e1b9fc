"""Functions whose parameters are the fields of a value: the same fields for commands and flows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

CLOUD_COVER = (0, 100)
"""Per cent."""
MOST = (1, 1_000_000)
OVERLAP_DAYS = (0, 36_500)
"""Bounds of numbers that are options of commands and parameters of flows."""

Fields = TypeVar("Fields")
T = TypeVar("T")


def fields_of(kind: Callable[..., Fields]) -> Callable[[Callable[[Fields], T]], Callable[..., T]]:
    """Decorate a function of one value, a dataclass or pydantic model, so that it takes the value's fields.

    Typer and Prefect read parameters, their types and defaults from the signature of a function.
    """

    def decorate(function: Callable[[Fields], T]) -> Callable[..., T]:
        @wraps(function)
        def with_fields(*values: Any, **named: Any) -> T:
            return function(kind(*values, **named))

        with_fields.__signature__ = inspect.signature(kind, eval_str=True)  # type: ignore[attr-defined]
        return with_fields

    return decorate
