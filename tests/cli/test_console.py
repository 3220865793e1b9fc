"""Output for people: progress, paths, scores."""

from pathlib import Path
from types import SimpleNamespace

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
