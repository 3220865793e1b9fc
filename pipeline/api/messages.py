"""Messages of errors with the names of the API in place of the command line's options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import TruckscapeError

_SETTING = re.compile(r"--set (\w+\.\w+)=([^\s,;)]*[^\s,;.)])")
_NUMBER = re.compile(r"--(scale|offset|nodata) (-?\d(?:[\w.+-]*\w)?)")
_TEXT = re.compile(r"--(acquired|nodata|roads) (\d(?:[\w.:+-]*\w)?|none|overpass)\b")
_NAME = re.compile(r"--(scale|offset|nodata|acquired|bands|roads|out)\b")


@contextmanager
def python_names() -> Iterator[None]:
    """Rewrite the messages of errors in the block: `--scale 0.0001` becomes `scale=0.0001`."""
    try:
        yield
    except TruckscapeError as error:
        error.args = (in_python(str(error)),)
        raise


def in_python(message: str) -> str:
    """Return a message with arguments of Python in place of options of the command line."""
    text = _SETTING.sub(r'settings={"\1": \2}', message)
    text = _TEXT.sub(r'\1="\2"', _NUMBER.sub(r"\1=\2", text))
    return _NAME.sub(r"\1=", text)
