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

MOST_SEED = 2**32 - 1
"""Largest seed that all generators of random numbers take."""

Fields = TypeVar("Fields")
T = TypeVar("T")


def fields_of(kind: Callable[..., Fields]) -> Callable[[Callable[[Fields], T]], Callable[..., T]]:
    """Decorate a function of one value, a dataclass or pydantic model, so that it takes the value's fields.

    Typer and Prefect read parameters, their types and defaults from the signature of a function. Prefect
    reads their descriptions from its docstring in Google's format, to which those of a pydantic model are
    added.
    """

    def decorate(function: Callable[[Fields], T]) -> Callable[..., T]:
        @wraps(function)
        def with_fields(*values: Any, **named: Any) -> T:
            return function(kind(*values, **named))

        with_fields.__signature__ = inspect.signature(kind, eval_str=True)  # type: ignore[attr-defined]
        described = [f"    {name}: {text}" for name, text in _descriptions(kind).items()]
        if described:
            with_fields.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Args:", *described])
        return with_fields

    return decorate


def _descriptions(kind: Callable[..., Any]) -> dict[str, str]:
    fields = getattr(kind, "__pydantic_fields__", {})
    return {name: " ".join(field.description.split()) for name, field in fields.items() if field.description}
