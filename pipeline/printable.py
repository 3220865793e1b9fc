"""Names and texts of others as one printable line: no control characters, no bytes that are not text."""

from __future__ import annotations

import re
import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of characters that move the cursor, change the direction of text, end a line, or are no
characters: control, format, surrogates, separators of lines and paragraphs."""
_JOINERS = "\u200c\u200d"
"""Format characters that Persian and Indic words need."""

_NOT_STORABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML, or strings of C or UTF-8, do not have."""


def is_shown(letter: str) -> bool:
    """Return whether a character appears as itself; control characters and surrogates do not."""
    return letter.isprintable() or unicodedata.category(letter) not in _HIDDEN


def printable(text: object) -> str:
    """Return a text as one line for messages, logs and terminals; it can neither move the cursor nor end it.

    White space that ends lines becomes spaces. Other characters that are not shown are written as `\\x1b`,
    and so are bytes of file names that are not UTF-8.
    """
    line = str(text)
    if line.isprintable():
        return line
    return "".join(letter if letter in _JOINERS or is_shown(letter) else _escaped(letter) for letter in line)


def _escaped(letter: str) -> str:
    if letter.isspace():
        return " "
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name, as Python has it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def is_text(name: object) -> bool:
    """Return whether a name can be written as UTF-8; names in other encodings and half surrogates can't."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def printable_lines(text: str) -> str:
    """Return a text as `printable` does, but with its ends of lines: for tracebacks and terminals."""
    return text if text.isprintable() else "\n".join(printable(line) for line in text.split("\n"))


def storable(text: str) -> str:
    """Return a text for files, but with U+FFFD for control characters and half surrogates."""
    return text if text.isprintable() else _NOT_STORABLE.sub("\ufffd", text)


def no_formula(text: str) -> str:
    """Return a label for matplotlib, which sets what is between two dollars as a formula, or fails."""
    return storable(text).replace("$", r"\$")
