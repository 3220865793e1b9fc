"""Output for people: progress, paths, scores."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.table import Table

from pipeline import cli
from pipeline.cli import console


def test_without_a_terminal_progress_is_a_line_for_every_tenth(capsys):
    job = SimpleNamespace(
        shards=[range(15), range(5), range(9)], missing=lambda: [0, 1], scene=SimpleNamespace(id="scene")
    )
    with console.progress(job) as (say, on_tile):
        say("reading [bands]")
        for _ in range(20):
            on_tile(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["reading [bands]", *(f"{done} of 20 tiles" for done in range(2, 21, 2))]


def test_paths_with_brackets_are_printed_as_they_are(capsys):
    console.say_path("layers", Path("/out/[b]x"))
    assert capsys.readouterr().out == "layers  /out/[b]x\n"


def test_scores_have_their_intervals_and_a_report(capsys):
    console.print_scores(
        {"f1": 0.5, "interval_95": {"f1": (0.25, 0.75)}, "pixels": 12, "exact": True}, Path("out")
    )
    words = capsys.readouterr().out.split()
    assert words == ["f1", "0.500", "(0.250", "to", "0.750)", "pixels", "12", "report", "out/report.html"]


NAMES = ("[red]x", "[/]", "[/b] :smile:", "a #1?%41&'ü", "{braces} $x$ `y` | z")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_as_they_are(capsys, monkeypatch, name):
    table = Table(name)
    table.add_row(name)
    table.caption = name
    console.say(name)
    console.say_page(table)
    console.note(name)
    run = {"simulated": True, "scene": f"{name} {'x' * 90}"}
    folder = Path("/out") / name
    summary = {"warnings": name}
    console.print_result(
        SimpleNamespace(run=run, folder=folder, report=folder / "report.html", summary=lambda: summary)
    )
    console.print_scores({"note": name, "x": 1}, folder)
    output = capsys.readouterr()
    assert output.out.count(name) == 4 + 2 + 2 + 2
    assert f"{name} {'x' * 90} (simulated)" in output.out
    assert output.err == f"{name}\n"
    job = SimpleNamespace(shards=[range(2)], missing=lambda: [0], scene=SimpleNamespace(id=name))
    for is_terminal in ("", "1"):
        monkeypatch.setenv("TTY_COMPATIBLE", is_terminal)
        with console.progress(job) as (say, on_tile), console.status(name):
            say(name)
            on_tile(2)
        assert name in capsys.readouterr().err


def test_an_error_is_printed_as_it_is(capsys, monkeypatch):
    monkeypatch.delenv("TRUCKSCAPE_DEBUG", raising=False)
    monkeypatch.setattr("sys.argv", ["truckscape", "run", "/missing/[/] [red]x", "--out", "o"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "/missing/[/] [red]x" in capsys.readouterr().err
