"""Text of users in Markdown."""

import pytest

from pipeline.report.markdown import code, plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("S2A_MSIL2A_20230613", "S2A_MSIL2A_20230613"),
        ("_x_ a_b", r"\_x\_ a_b"),
        ("[a](http://b) | *c*", r"\[a\](http\://b) \| \*c\*"),
        ("<img> #1 `d`\n\ne", r"\<img\> \#1 \`d\` e"),
        (12, "12"),
    ],
)
def test_text_reads_as_it_is(text, expected):
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/a b/[c]", "`/a b/[c]`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("a|b\nc", "`a\\|b c`")],
)
def test_code_reads_as_it_is(text, expected):
    assert code(text) == expected
