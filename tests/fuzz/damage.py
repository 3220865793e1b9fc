"""Damage to bytes, JSON and XML of any content: each function returns a damaged copy."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 0.5, 65535, 65536, -(2**31), 2**31, 2**63, 10**30, 1e-300, 1e12, 1e308, -1e308,
    3.4028234663852886e38, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TEXTS = (
    "", " ", "..", "../../beside/secret.txt", "/etc/passwd", "catalog.json", "ledger.sqlite", "a/b",
    "x" * 5000,
    "\ud800", "\x00", "\x1b[31mred", "[red]markup[/]", "<script>alert(1)</script>", '=HYPERLINK("x")', "+1",
    "@x",
    "| a | b |\n|---|---|", "nan", "2001-99-99", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "1e400",
    "~nobody/x", "!x!", "CON", "\u202e.tif", "None", "0x10", "١٢٣", "file:///etc/passwd", "http://[::1",
)  # fmt: skip
OTHER_KINDS: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"a": {"b": []}}, [None], [1, "x", {}])


def absurd(rng: random.Random) -> Any:
    """Return a value that nobody expects."""
    return copy.deepcopy(rng.choice(rng.choice((NUMBERS, TEXTS, OTHER_KINDS))))


def flip_bytes(data: bytes, rng: random.Random, begin: int = 0, end: int | None = None) -> bytes:
    """Change one to eight bytes of a range."""
    damaged, end = bytearray(data), len(data) if end is None else min(end, len(data))
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(begin, end)
        damaged[place] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
    return bytes(damaged)


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Cut the end off, mostly a short one."""
    return data[: _cut(data, rng)]


def zero_end(data: bytes, rng: random.Random) -> bytes:
    """Replace the end by zeros, as an interrupted download into a reserved file leaves it."""
    begin = _cut(data, rng)
    return data[:begin] + bytes(len(data) - begin)


def _cut(data: bytes, rng: random.Random) -> int:
    share = rng.choice((0.0, 0.02, 0.5, 0.9, 0.99)) if rng.random() < 0.7 else rng.random()
    return min(int(len(data) * share), len(data) - rng.choice((1, 2, 16)))


def zero_span(data: bytes, rng: random.Random) -> bytes:
    """Replace a span by zeros."""
    begin = rng.randrange(len(data))
    length = rng.choice((4, 64, 512, 4096))
    return data[:begin] + bytes(min(length, len(data) - begin)) + data[begin + length :]


def repeat_span(data: bytes, rng: random.Random) -> bytes:
    """Insert a span a second time."""
    begin, length = rng.randrange(len(data)), rng.choice((1, 4, 64, 1024))
    return data[: begin + length] + data[begin:]


def remove_span(data: bytes, rng: random.Random) -> bytes:
    """Leave a span out."""
    begin, length = rng.randrange(len(data)), rng.choice((1, 4, 64, 1024))
    return data[:begin] + data[begin + length :]


def extreme_integer(data: bytes, rng: random.Random, end: int | None = None) -> bytes:
    """Replace four bytes by a number that counters and offsets rarely are."""
    place = rng.randrange(max(1, min(end or len(data), len(data)) - 4))
    number = rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 0x10000000))
    return data[:place] + number.to_bytes(4, rng.choice(("little", "big"))) + data[place + 4 :]


def other_content(data: bytes, rng: random.Random) -> bytes:
    """Return content of another kind, such as the page of a server that wanted a password."""
    return rng.choice(
        (
            b"",
            b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>401</body></html>",
            b"{}",
            b"null",
            b"[" * 100_000,
            b"\x00" * 4096,
            b"PK\x05\x06" + bytes(18),
            b"SQLite format 3\x00" + bytes(84),
            bytes(rng.randrange(256) for _ in range(512)),
            data[::-1],
            "\ufeff".encode("utf-16") + data[:200],
        )
    )


BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flip_bytes": flip_bytes,
    "truncate": truncate,
    "zero_end": zero_end,
    "zero_span": zero_span,
    "repeat_span": repeat_span,
    "remove_span": remove_span,
    "extreme_integer": extreme_integer,
    "other_content": other_content,
}
"""Damage that fits any file."""


def paths_of(tree: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a JSON document, inner ones too."""
    members = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in members:
        yield (*here, key)
        yield from paths_of(value, (*here, key))


def damage_json(tree: Any, rng: random.Random) -> tuple[Any, tuple[Any, ...], Any]:
    """Remove, replace or repeat one value; returns the tree, the path, and the new value (None: removed)."""
    damaged = copy.deepcopy(tree)
    path = rng.choice([*paths_of(damaged)])
    parent = damaged
    for key in path[:-1]:
        parent = parent[key]
    if rng.random() < 0.2:
        del parent[path[-1]]
        return damaged, path, None
    value = parent[path[-1]]
    new = rng.choice((absurd(rng), absurd(rng), absurd(rng), [value] * 3, {"x": value}, str(value)))
    parent[path[-1]] = new
    return damaged, path, new


def json_text(tree: Any, rng: random.Random) -> str:
    """Return JSON, now and then in ways that few parsers see: NaN, numbers of 5000 digits, nesting."""
    text = json.dumps(tree)
    if rng.random() < 0.1:
        text = re.sub(
            r"\d+\.\d+", rng.choice(("9" * 5000, "1e999", "-0", "NaN")), text, count=rng.choice((0, 1))
        )
    if rng.random() < 0.05:
        text = text.replace('"', "'", 2)
    return text


_ELEMENT = re.compile(r"<([A-Za-z_:][\w:.-]*)(?:\s[^<>]*)?>[^<>]*</\1>")
_ATTRIBUTE = re.compile(r'\b([\w:]+)="([^"]*)"')


def elements(text: str) -> list[re.Match[str]]:
    """Return the leaves of an XML text that have a start and an end."""
    return [*_ELEMENT.finditer(text)]


def _escaped(value: Any) -> str:
    text = str(value).encode("utf-8", "replace").decode().replace("\x00", "&#0;").replace("\x1b", "")
    return text.replace("&", "&amp;").replace("<", "&lt;")


def xml_value(text: str, rng: random.Random) -> str:
    """Replace the text of one element."""
    found = rng.choice(elements(text))
    begin, end = text.index(">", found.start()) + 1, text.rindex("</", found.start(), found.end())
    return text[:begin] + _escaped(absurd(rng)) + text[end:]


def xml_attribute(text: str, rng: random.Random) -> str:
    """Replace the value of one attribute."""
    found = rng.choice([*_ATTRIBUTE.finditer(text)])
    value = _escaped(absurd(rng)).replace('"', "&quot;")
    return text[: found.start(2)] + value + text[found.end(2) :]


def xml_remove(text: str, rng: random.Random) -> str:
    """Remove one element."""
    found = rng.choice(elements(text))
    return text[: found.start()] + text[found.end() :]


def xml_repeat(text: str, rng: random.Random) -> str:
    """Write one element twice, the second time with another value now and then."""
    found = rng.choice(elements(text))
    again = xml_value(found[0], rng) if rng.random() < 0.5 else found[0]
    return text[: found.end()] + again + text[found.end() :]


def xml_swap(text: str, rng: random.Random) -> str:
    """Swap two elements."""
    a, b = sorted(rng.sample(elements(text), 2), key=re.Match.start)
    return text[: a.start()] + b[0] + text[a.end() : b.start()] + a[0] + text[b.end() :]


def xml_rename(text: str, rng: random.Random) -> str:
    """Give an element another name."""
    found = rng.choice(elements(text))
    name = rng.choice(("x", found[1] + "S", found[1].lower(), "n1:" + found[1].split(":")[-1]))
    return text[: found.start()] + found[0].replace(found[1], name) + text[found.end() :]


def xml_entities(text: str, rng: random.Random) -> str:
    """Add entities: of a file, or a bomb."""
    declared = rng.choice(
        (
            '<!ENTITY x SYSTEM "file:///etc/hostname">',
            '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">'
            '<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;"><!ENTITY x "&e;&e;&e;">',
        )
    )
    head, _, rest = text.partition("?>")
    found = rng.choice(elements(rest))
    begin = rest.index(">", found.start()) + 1
    return f"{head}?>\n<!DOCTYPE r [{declared}]>{rest[:begin]}&x;{rest[begin:]}"


XML: dict[str, Callable[[str, random.Random], str]] = {
    "value": xml_value,
    "attribute": xml_attribute,
    "remove": xml_remove,
    "repeat": xml_repeat,
    "swap": xml_swap,
    "rename": xml_rename,
    "entities": xml_entities,
}
"""Damage that fits any XML document."""


def encode_xml(text: str, rng: random.Random) -> bytes:
    """Return the document in an encoding, which its declaration may contradict."""
    encoding = rng.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32"))
    if rng.random() < 0.5:
        text = text.replace("UTF-8", rng.choice(("UTF-16", "ISO-8859-1", "KOI8-R", "no-such", "UTF-7")), 1)
    return text.encode(encoding, "replace")
