"""YAML as plain data, also from strangers: what a few lines of aliases would blow up is refused."""

from __future__ import annotations

from typing import Any

import yaml

try:  # libyaml's parser takes a tenth of the time
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

_MOST_VALUES, _DEEPEST = 1_000_000, 100


def read_yaml(text: str) -> Any:
    """What a text says; None if nothing.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML, holds anything but plain data, is nested deeper than 100 levels, refers to itself,
        or has more than a million values once its aliases are written out.
    """
    if _written_out(text) > _MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES} values, or for themselves")
    return yaml.load(text, Loader=SafeLoader)


def _written_out(text: str) -> float:
    """How many values there are if each alias is replaced by what it stands for; no end of them in a circle.

    Told from what the parser meets, one after the other: to put it together takes a call for each level, and
    those of libyaml end the process where they are too many.
    """
    sizes: dict[str | None, float] = {}
    open_ones: list[tuple[str | None, float]] = [(None, 0)]
    for event in yaml.parse(text, Loader=SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((event.anchor, 1))
            sizes[event.anchor] = float("inf")  # until it is known, which it is not for a part of itself
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
            size = sizes.get(event.anchor, 1)  # one that stands for nothing is told later
        outer, so_far = open_ones[-1]
        open_ones[-1] = outer, so_far + size
    return open_ones[0][1]
