"""Text for users is plain, standard English: words that readers all over the world stumble over stay out."""

import ast
import re
from pathlib import Path

import pytest
import typer

from pipeline import cli

HOUSE = Path(__file__).resolve().parents[1]
BANNED = re.compile(
    r"\b(lest|anew|neither way|looked (?:at|for)|is told|are told|told of|tells of|to mend|is mended|mended"
    r"|goes on where|at most so many|by itself|of its own)\b",
    re.IGNORECASE,
)


def found_in(text: str) -> list[str]:
    return [match.group() for match in BANNED.finditer(" ".join(text.split()))]


def helps() -> dict[str, str]:
    """Help of every command, with that of its options."""
    found, todo = {}, [((), typer.main.get_command(cli.app))]
    while todo:
        name, command = todo.pop()
        options = [getattr(option, "help", None) or "" for option in command.params]
        found[" ".join(name) or "truckscape"] = "\n".join([command.help or "", *options])
        todo += [((*name, sub), below) for sub, below in getattr(command, "commands", {}).items()]
    return found


def messages(path: Path) -> list[str]:
    """Literals of errors that a module raises and of lines that it logs."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    calls = [
        node
        for node in nodes
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id.endswith("Error"))
            or (isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "log")
        )
    ]
    return [
        part.value
        for call in calls
        for part in ast.walk(call)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]


@pytest.mark.parametrize(("command", "text"), helps().items(), ids=helps())
def test_help(command, text):
    assert not found_in(text)


def test_messages():
    modules = [*(HOUSE / "pipeline").rglob("*.py"), *(HOUSE / "flows").rglob("*.py")]
    found = {str(path.relative_to(HOUSE)): found_in("\n".join(messages(path))) for path in modules}
    assert {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize(
    "path",
    [
        *(HOUSE / "pipeline" / "report").glob("*.j2"),
        *(HOUSE / "docs").glob("*.md"),
        *(HOUSE / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    ],
    ids=lambda path: path.name,
)
def test_pages(path):
    assert not found_in(path.read_text(encoding="utf-8"))


def test_a_word_is_found_across_a_line_break():
    assert found_in("what is looked\n   for") == ["looked for"]
