"""YAML from untrusted files, as plain data and within limits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from pipeline.safe_json import read_given

try:  # libyaml's parser takes a tenth of the time
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

_MOST_VALUES, _DEEPEST = 1_000_000, 100
_MOST_BYTES = 16 * 10**6
_MOST_DIGITS = 400
"""Digits of a number; the largest float has 309 before its point."""
_TAG = "tag:yaml.org,2002:"
_TEXT, _MERGE, _MAP, _SEQUENCE = f"{_TAG}str", f"{_TAG}merge", f"{_TAG}map", f"{_TAG}seq"


class YamlError(Exception):
    """YAML that can't be read; the message names line and column, and has no stop at its end."""


def read_yaml_file(path: Path) -> Any:
    """Parse a YAML file of UTF-8 text; None if it is empty. Memory: 16 MB of text at most.

    Raises YamlError as `read_yaml`, or if the file is larger or no file; OSError, UnicodeDecodeError as
    reading does.
    """
    try:
        content = read_given(path, _MOST_BYTES)
    except ValueError as error:
        raise YamlError(f"it {error}") from error
    return read_yaml(content.decode("utf-8-sig"))


def read_yaml(text: str) -> Any:
    """Parse a YAML text; None if it is empty.

    Values are those of YAML 1.2's core schema: text, integers, floats (1e3, too), true and false, null, lists
    and mappings. Dates, times, `yes`, `on` and `12:30` stay text. Keys are text, as in JSON.

    Raises
    ------
    YamlError
        If it is not YAML, holds anything but plain data, has a key twice, is nested deeper than 100 levels,
        refers to itself, or has more than a million values once its aliases are written out.
    """
    try:
        if _written_out(text) > _MOST_VALUES:
            raise YamlError(f"its aliases stand for more than {_MOST_VALUES} values, or for themselves")
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _check(root)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise YamlError(_explained(error)) from error
    except ValueError as error:  # a lone surrogate, which is no text for libyaml
        raise YamlError("it has characters that are no text") from error


class _Loader(SafeLoader):
    """Loader of the core schema. PyYAML's has that of YAML 1.1, whose dates and base-60 numbers surprise."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}  # type: ignore[misc] # typeshed: of instances
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        _MAP: SafeLoader.construct_yaml_map,
        _SEQUENCE: SafeLoader.construct_yaml_seq,
    }


_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"(?P<true>true|True|TRUE)|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


def _scalar(loader: Any, node: yaml.ScalarNode, pattern: re.Pattern[str], what: str) -> re.Match[str]:
    found = pattern.fullmatch(loader.construct_scalar(node))
    if found is None:
        raise _error(node, f"{node.value[:40]!r} is not {what}")
    return found


def _null(loader: Any, node: yaml.ScalarNode) -> None:
    _scalar(loader, node, _NULL, "null")


def _boolean(loader: Any, node: yaml.ScalarNode) -> bool:
    return _scalar(loader, node, _BOOLEAN, "true or false")["true"] is not None


def _integer(loader: Any, node: yaml.ScalarNode) -> int:
    text = _scalar(loader, node, _INTEGER, "an integer")[0]
    if len(text) > _MOST_DIGITS:
        raise _error(node, f"an integer of {len(text)} digits is too long; {_MOST_DIGITS} are read")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(loader: Any, node: yaml.ScalarNode) -> float:
    text = _scalar(loader, node, _FLOAT, "a number")[0].lower()
    if text.endswith((".inf", ".nan")):
        return float(text.replace(".", ""))
    number = float(text)
    if math.isinf(number):
        raise _error(node, f"{text[:40]} is beyond the numbers of 64 bits")
    return number


def _text(loader: Any, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


for _name, _pattern, _first, _constructor in (
    ("null", _NULL, ["~", "n", "N", ""], _null),
    ("bool", _BOOLEAN, list("tTfF"), _boolean),
    ("int", _INTEGER, list("-+0123456789"), _integer),
    ("float", _FLOAT, list("-+.0123456789"), _float),
    ("merge", re.compile("<<"), ["<"], None),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern.pattern})\\Z"), _first)
    if _constructor:
        _Loader.add_constructor(f"{_TAG}{_name}", _constructor)
_Loader.add_constructor(_TEXT, _text)
_KNOWN = {_MERGE, *_Loader.yaml_constructors}


def _check(root: yaml.Node) -> None:
    """Raise YamlError for a tag that is no plain data, or a key that is given twice; keys become text."""
    open_ones, seen = [root], set()
    while open_ones:
        node = open_ones.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.tag not in _KNOWN:
            plain = "text, numbers, true, false, null, lists and mappings"
            raise _error(node, f"the tag {node.tag.replace(_TAG, '!!')[:40]} is not supported; use {plain}")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            open_ones.extend(value for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            open_ones.extend(node.value)


def _check_keys(mapping: yaml.MappingNode) -> None:
    first: dict[str, yaml.Node] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _error(key, "a key is text, not a list or mapping")
        if key.value in first:
            line = first[key.value].start_mark.line + 1
            raise _error(key, f"the key {key.value[:40]!r} is given twice, first on line {line}")
        first[key.value] = key
        if key.tag != _MERGE:
            key.tag = _TEXT


def _error(node: yaml.Node, problem: str) -> YamlError:
    return YamlError(f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}: {problem}")


def _explained(error: yaml.YAMLError) -> str:
    """Return what PyYAML says, in one line."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return " ".join(str(error).split())[:200]
    problem = getattr(error, "problem", None) or getattr(error, "context", None) or "it can't be parsed"
    why = " ".join(str(problem).split()).removeprefix("but ")[:200]
    if "cannot start any token" in why:
        why = "a tab, or another character that can't begin a value; indent with blanks"
    return f"line {mark.line + 1}, column {mark.column + 1}: {why}"


def _written_out(text: str) -> float:
    """Count the values after each alias is replaced by its content; infinite for a cycle.

    Counts the parser's events. Composing the document would recurse, and libyaml ends the process if the
    document is too deep.
    """
    sizes: dict[str | None, float] = {}
    open_ones: list[tuple[str | None, float]] = [(None, 0)]
    for event in _events(text):
        if isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((event.anchor, 1))
            sizes[event.anchor] = float("inf")  # until its end: an alias inside it is a cycle
            if len(open_ones) > _DEEPEST:
                raise YamlError(f"it is nested deeper than {_DEEPEST} levels")
            continue
        size = 0.0
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_ones.pop()
            sizes[anchor] = size
        elif isinstance(event, yaml.ScalarEvent):
            size = sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)  # the composer reports an undefined alias
        outer, so_far = open_ones[-1]
        open_ones[-1] = outer, so_far + size
    return open_ones[0][1]


def _events(text: str) -> Iterator[Any]:
    return yaml.parse(text, Loader=SafeLoader)
