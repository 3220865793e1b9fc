"""Names and other text of users in Markdown, as it reads and not as markup."""

from __future__ import annotations

import re

from pipeline.printable import printable

_SPECIAL = re.compile(r"[\\`*\[\]<>|~&#!$@]|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])|^[-+=.)](?=\s|$)")
"""Characters with a meaning; an underscore has none between letters. Addresses become links without any."""


def plain(text: object) -> str:
    """Return a text that Markdown shows as it is, on one line, also in a cell of a table."""
    return _SPECIAL.sub(r"\\\g<0>", printable(" ".join(str(text).split())))


def code(text: object) -> str:
    """Return a text as a code span, also in a cell of a table."""
    line = printable(" ".join(str(text).split()))
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}".replace("|", "\\|")
