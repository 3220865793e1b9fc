"""YAML as plain data, and what strangers could do with it."""

import pytest
import yaml

from pipeline.safe_yaml import read_yaml


def test_plain_data():
    assert read_yaml("a: [1, 2.5, yes, null, 2023-06-01x]") == {"a": [1, 2.5, True, None, "2023-06-01x"]}
    assert read_yaml("") is None


def test_aliases_stand_for_what_they_name():
    assert read_yaml("{a: &a [1, 2], b: *a, c: {<<: {d: *a}}}") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": [1, 2]},
    }


def lines(levels: int) -> str:
    """Each list holds the one before ten times."""
    below = [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]" for level in range(1, levels)]
    return "\n".join(["l0: &l0 [lol]", *below])


def test_aliases_that_would_fill_the_memory_are_refused():
    assert len(read_yaml(lines(4))["l3"]) == 10
    with pytest.raises(yaml.YAMLError, match="aliases stand for more than 1000000 values"):
        read_yaml(lines(12))


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: {c: *a}}"])
def test_what_holds_itself_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="or for themselves"):
        read_yaml(text)


def test_what_is_no_plain_data_is_refused():
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
        read_yaml("!!python/object/apply:os.system [echo]")


def test_depth_without_end_is_refused():
    """libyaml's composer would end the process, without a word."""
    assert read_yaml("[" * 90 + "]" * 90)
    with pytest.raises(yaml.YAMLError, match="deeper than 100 levels"):
        read_yaml("[" * 100_000)
