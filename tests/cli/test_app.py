"""The command line as people meet it: help, one clear line for each mistake, exit statuses."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
import typer
from typer.testing import CliRunner

from pipeline import __version__, cli

HEAVY = ("torch", "scipy", "rasterio", "geopandas", "pandas", "shapely", "matplotlib", "prefect", "lightning")


def truckscape(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )


def refused(capsys, monkeypatch, *arguments: str) -> str:
    """The one line that a command ends with, exit status 1, nothing on standard output."""
    monkeypatch.setattr(sys, "argv", ["truckscape", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    streams = capsys.readouterr()
    assert end.value.code == 1
    assert streams.out == ""
    *before, line = streams.err.strip().splitlines()
    assert not [other for other in before if not other.startswith("opening ")]
    assert line.startswith("error: ")
    return line


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_a_path_that_the_system_refuses_is_one_line(capsys, monkeypatch, tmp_path, scene):
    name, out = "x" * 5000, str(tmp_path / "out")
    for line in (
        ("run", name, "--out", out),
        ("run", "~nosuchuser/x", "--out", out),
        ("run", scene, "--out", name),
        ("run", scene, "--out", "/vsimem/out"),
        ("run", scene, "--out", out, "--config", name),
        ("batch", "--list", name, "--out", out),
        ("evaluate", "areas", name, "--out", out),
        ("evaluate", "trucks", name, f"{scene}:{name}", "--out", out),
        ("evaluate", "areas", "", "--out", out),
        ("evaluate", "trucks", "/", scene, "--out", out),
        ("models", "show", name),
        ("status", name),
    ):
        said = refused(capsys, monkeypatch, *line)
        assert "unexpected" not in said
        assert len(said) < 6000


COMMANDS = dict(commands(typer.main.get_command(cli.app)))
QUESTION_WORDS = ("What", "Whether", "How", "Where", "Which", "If", "When", "In ", "To ")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_an_example_and_each_option_a_help_text(name):
    command = COMMANDS[name]
    assert f"`truckscape {name}" in command.help
    texts = {option.name: option.help for option in command.params}
    assert all(texts.values()), texts
    for text in (command.help, *texts.values()):
        assert text[0].isupper() and not text.startswith(QUESTION_WORDS), text
    assert CliRunner().invoke(cli.app, [*name.split(), "--help"]).exit_code == 0


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["run", "--help"], ["models", "--help"], ["models", "list"]]
)
def test_what_needs_no_pixels_imports_nothing_heavy(words):
    """Help must come at once; what counts is what is imported, for seconds depend on the machine."""
    code = (
        "import sys\nfrom pipeline.cli import app\n"
        f"try:\n    app({words!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('imported:', *({set(HEAVY)!r} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "imported:\n"


def test_the_version_is_the_packages():
    assert CliRunner().invoke(cli.app, ["--version"]).output == f"truckscape {__version__}\n"


def test_wrong_usage_is_status_2():
    assert truckscape("run").returncode == 2
    assert truckscape("fly").returncode == 2


def test_debug_shows_where(tmp_path):
    done = truckscape("--debug", "run", "/nowhere", "--out", str(tmp_path / "out"), "--no-prefect")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_what_happens_is_told_to_a_log(scene, tmp_path, monkeypatch, capsys):
    """A line of JSON each, with the scene and the shard; a failure too."""
    log = tmp_path / "log.jsonl"
    quick = ["--set", "landcover.enabled=false", "--set", "engine.threads=1", "--no-prefect"]
    line = ["run", scene, "--out", str(tmp_path / "out"), *quick]
    assert CliRunner().invoke(cli.app, ["--log", str(log), *line]).exit_code == 0
    reported = [json.loads(text) for text in log.read_text().splitlines()]
    first, *others = reported  # the scene is not open yet
    assert first["message"].startswith("opening ")
    assert {one["scene"] for one in others} == {"scene"}
    assert [one["shard"] for one in reported if "stored" in one["message"]] == [0]
    assert "report" in [one["message"] for one in reported]
    monkeypatch.setenv("TRUCKSCAPE_LOG", str(log))
    refused(capsys, monkeypatch, "run", "nowhere", "--out", str(tmp_path / "out"))
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["level"] == "ERROR"
    assert last["message"].startswith("failed: No such file or folder: nowhere")


def test_a_log_on_standard_error(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["truckscape", "--log", "-", "run", "nowhere", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        cli.main()
    logged, shown = capsys.readouterr().err.strip().splitlines()
    assert json.loads(logged)["level"] == "ERROR"
    assert shown.startswith("error: ")
