"""YAML as plain data, and what strangers could do with it."""

import pytest

from pipeline.safe_yaml import YamlError, read_yaml, read_yaml_file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("[1, 2.5, true, null, x]", [1, 2.5, True, None, "x"]),
        ("[1e3, -1.5E-2, .5, 5., 0x1f, 0o17, 010, 08]", [1000.0, -0.015, 0.5, 5.0, 31, 15, 10, 8]),
        ("[.inf, -.Inf]", [float("inf"), -float("inf")]),
        ("[yes, on, no, 12:30, 1_000, '1']", ["yes", "on", "no", "12:30", "1_000", "1"]),
        ("[2001-01-01, 2001-99-99, 2001-01-01T00:00:00+99:99, 0000-01-01]", None),
        ("{on: 1, 1.0: 2, null: 3, 2001-01-01: 4}", {"on": 1, "1.0": 2, "null": 3, "2001-01-01": 4}),
        ("!!str 2001-01-01", "2001-01-01"),
        ("!!int '7'", 7),
        ("!!float 7", 7.0),
        ("\ufeffa: 1", {"a": 1}),
        ("a:\t1", {"a": 1}),
        ("{a: &a [1, 2], b: *a, c: {<<: {d: *a}}}", {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}),
        ("[&a {x: 1, y: 2}, &b {<<: *a, y: 3}, {<<: *b, x: 4}]", None),
    ],
)
def test_plain_data(text, value):
    found = read_yaml(text)
    if text.startswith("[2001"):
        value = text.strip("[]").split(", ")
    elif text.startswith("[&a"):
        value = [{"x": 1, "y": 2}, {"x": 1, "y": 3}, {"x": 4, "y": 3}]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!int x", "line 1, column 4: 'x' is not an integer"),
        ("!!int ''", "line 1, column 1: '' is not an integer"),
        ("!!bool x", "'x' is not true or false"),
        ("!!float x", "'x' is not a number"),
        ("!!null x", "'x' is not null"),
        ("!!int [1]", "line 1, column 1"),
        ("!!map x", "line 1, column 1"),
        ("!!timestamp 2001-99-99", "the tag !!timestamp is not supported; use text, numbers"),
        ("a:\n  - !!binary aGk=", "line 2, column 5: the tag !!binary"),
        ("!!binary ä", "the tag !!binary"),
        ("!!set {a, b}", "the tag !!set"),
        ("!!omap [a: 1]", "the tag !!omap"),
        ("!!pairs [a: 1]", "the tag !!pairs"),
        ("!mine x", "the tag !mine"),
        ("!!python/object/apply:os.system [echo]", "the tag !!python/object/apply:os.system"),
        ("9" * 5000, "an integer of 5000 digits is too long"),
        ("1" * 400 + ".0", "is beyond the numbers of 64 bits"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is given twice, first on line 1"),
        ("{1: a, '1': b}", "the key '1' is given twice"),
        ("[&a {x: 1}, {<<: *a, <<: *a}]", "the key '<<' is given twice"),
        ("{<<: 1}", "line 1, column 6: expected a mapping"),
        ("{[1]: 2}", "a key is text"),
        ("? {a: 1}\n: 2", "a key is text"),
        ("*a", "undefined alias"),
        ("a: 1\n---\nb: 2", "line 2, column 1: found another document"),
        ("a:\n\tb: 1", "line 2, column 1: a tab, or another character that can't begin a value; indent"),
        ("a: \x00", "unacceptable character"),
        ("a: \ud800", "characters that are no text"),
        ("a:\n\t- 1", "line 2, column 1"),
        ("[1", "did not find expected"),
        ("&a [*a]", "or for themselves"),
        ("&a {b: {c: *a}}", "or for themselves"),
    ],
)
def test_what_is_no_plain_data_is_refused_in_one_line_with_its_place(text, said):
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def lines(levels: int) -> str:
    """Each list holds the one before ten times."""
    below = [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]" for level in range(1, levels)]
    return "\n".join(["l0: &l0 [lol]", *below])


def test_aliases_that_would_fill_the_memory_are_refused():
    assert len(read_yaml(lines(4))["l3"]) == 10
    with pytest.raises(YamlError, match="aliases stand for more than 1000000 values"):
        read_yaml(lines(12))


def test_depth_without_end_is_refused():
    """libyaml's composer would end the process, without a word."""
    assert read_yaml("[" * 90 + "]" * 90)
    with pytest.raises(YamlError, match="deeper than 100 levels"):
        read_yaml("[" * 100_000)


def test_files(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml_file(path) == {"a": 1}
    path.write_bytes("a: 1".encode("utf-16"))
    with pytest.raises(UnicodeDecodeError):
        read_yaml_file(path)
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: only its beginning may be read
    with pytest.raises(YamlError, match="larger than 16 MB"):
        read_yaml_file(path)
