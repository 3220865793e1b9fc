"""JSON from untrusted files, as plain data and within limits."""

from __future__ import annotations

import json
import os
import select
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 16 * 2**20
"""STAC items and records of runs are far smaller."""
_DEEPEST = 100
_PIPE_S, _PIPE_BYTES = 10.0, 2**16


def read_limited(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of a file. A pipe, a socket or a device is not waited for.

    Raises
    ------
    OSError
        If it can't be read.
    ValueError
        If it is no file, or larger than `most_bytes`; the message continues a name: "is ...".
    """
    if path.is_dir():  # opened, it would be an error of a number
        raise ValueError("is no file but a folder")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("is no file but a pipe, socket or device")
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"is larger than {most_bytes / 1e6:.0f} MB")
    return content


def read_given(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of a file that the user names; it may be a pipe, as of `<(command)` in a shell.

    A pipe or device without a word for 10 s is not waited for. Raises OSError, ValueError as `read_limited`.
    """
    if path.is_file() or path.is_dir() or not hasattr(os, "O_NONBLOCK"):
        return read_limited(path, most_bytes)
    content = bytearray()
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0) as file:
        while len(content) <= most_bytes:
            if not select.select([file], [], [], _PIPE_S)[0]:
                raise ValueError(f"is a pipe or device from which nothing came in {_PIPE_S:g} s")
            chunk = file.read(_PIPE_BYTES)
            if not chunk:
                return bytes(content)
            content += chunk
    raise ValueError(f"is larger than {most_bytes / 1e6:.0f} MB")


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """Read a JSON file. Raises OSError, ValueError as `read_limited` and `parse_json`."""
    return parse_json(read_limited(path, most_bytes))


def read_json_object(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Read a JSON file that holds an object. Raises OSError, ValueError."""
    document = read_json(path, most_bytes)
    if not isinstance(document, dict):
        raise ValueError("is no JSON object")
    return document


def parse_json(content: bytes | str) -> Any:
    """Parse a JSON text; bytes are UTF-8.

    Raises
    ------
    ValueError
        If it is not JSON, or nested deeper than 100 levels; the message continues a name: "is ...".
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise ValueError("is not JSON text (not UTF-8)") from error
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"is nested deeper than {_DEEPEST} levels") from error
    except ValueError as error:  # also of numbers with thousands of digits
        raise ValueError("is not JSON") from error
    if _is_deep(document):
        raise ValueError(f"is nested deeper than {_DEEPEST} levels")
    return document


def _is_deep(document: Any) -> bool:
    """Return whether copying or writing the document could exhaust the stack."""
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(_DEEPEST):
        values = (one.values() if isinstance(one, dict) else one for one in level)
        level = [value for within in values for value in within if isinstance(value, dict | list)]
        if not level:
            return False
    return True
