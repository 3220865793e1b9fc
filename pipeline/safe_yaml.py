"""YAML from untrusted files, as plain data and within limits."""

from __future__ import annotations

from typing import Any

import yaml

try:  # libyaml's parser takes a tenth of the time
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

_MOST_VALUES, _DEEPEST = 1_000_000, 100


def read_yaml(text: str) -> Any:
    """Parse a YAML text; None if it is empty.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML, holds anything but plain data, is nested deeper than 100 levels, refers to itself,
        or has more than a million values once its aliases are written out.
    """
    if _written_out(text) > _MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES} values, or for themselves")
    try:
        return yaml.load(text, Loader=SafeLoader)
    except ValueError as error:  # of a date such as 2023-13-01
        raise yaml.YAMLError(str(error)) from error


def _written_out(text: str) -> float:
    """Count the values after each alias is replaced by its content; infinite for a cycle.

    Counts the parser's events. Composing the document would recurse, and libyaml ends the process if the
    document is too deep.
    """
    sizes: dict[str | None, float] = {}
    open_ones: list[tuple[str | None, float]] = [(None, 0)]
    for event in yaml.parse(text, Loader=SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((event.anchor, 1))
            sizes[event.anchor] = float("inf")  # until its end: an alias inside it is a cycle
            if len(open_ones) > _DEEPEST:
                raise yaml.YAMLError(f"it is nested deeper than {_DEEPEST} levels")
            continue
        size = 0.0
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_ones.pop()
            sizes[anchor] = size
        elif isinstance(event, yaml.ScalarEvent):
            size = sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)  # yaml.load reports an undefined alias
        outer, so_far = open_ones[-1]
        open_ones[-1] = outer, so_far + size
    return open_ones[0][1]
