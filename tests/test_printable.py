import os

import pytest

from pipeline.printable import is_text, printable


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("S2A_MSIL2A_20230613", "S2A_MSIL2A_20230613"),
        ("München 東京\u3000(Raw) 🚚.tif", "München 東京\u3000(Raw) 🚚.tif"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a\nb\r\tc\u2028d\x85e", "a b  c d e"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("\x9b31m\x00\x7f", "\\x9b31m\\x00\\x7f"),
        (os.fsdecode(b"M\xfcnchen.tif"), "M\\xfcnchen.tif"),
        ("\ud800", "\\ud800"),
        ("exe\u202efit.tif", "exe\\u202efit.tif"),
        ("\U000e0041", "\\U000e0041"),
        (5, "5"),
    ],
)
def test_a_text_of_others_is_one_line_that_moves_no_cursor(text, line):
    assert printable(text) == line
    assert printable(line) == line


def test_names_that_can_be_written_as_utf_8():
    assert is_text("München \n")
    assert not is_text(os.fsdecode(b"M\xfcnchen"))
    assert not is_text("\ud800")
