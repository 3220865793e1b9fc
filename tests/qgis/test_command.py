"""The command as a process: lines, progress, errors, cancelling; without QGIS."""

import sys
import time

import pytest

from qgis.plugin.command import CommandError, find_command, path_after, run_command


class Feedback:
    """Keeps what QGIS would show; cancels at a line."""

    def __init__(self, cancel_at: str | None = None) -> None:
        self.lines, self.commands, self.percentages = [], [], []
        self.cancel_at = cancel_at

    def isCanceled(self) -> bool:  # noqa: N802
        return self.cancel_at in self.lines

    def setProgress(self, progress: float) -> None:  # noqa: N802
        self.percentages.append(progress)

    def pushInfo(self, info: str) -> None:  # noqa: N802
        self.lines.append(info)

    def pushCommandInfo(self, info: str) -> None:  # noqa: N802
        self.commands.append(info)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_lines_are_passed_on_and_tiles_are_per_cent():
    feedback = Feedback()
    lines = run_command(python("print('opening é\\n1 of 4 tiles\\n4 of 4 tiles\\nlayers  /a b')"), feedback)
    assert feedback.lines == lines == ["opening é", "1 of 4 tiles", "4 of 4 tiles", "layers  /a b"]
    assert feedback.percentages == [25, 100]
    assert path_after(lines, "layers") == "/a b"
    assert path_after(lines, "report") == ""
    assert sys.executable in feedback.commands[0]


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("a\nerror: No such file: x. Name another.\n", "No such file: x. Name another."),
        ("Usage: x\n╭─ Error ──╮\n│ Invalid value for '--offset': a  │\n│ number │\n╰──╯\n",
         "Invalid value for '--offset': a number"),
        ("Killed\n\n", "truckscape ended with exit status 3. Killed"),
        ("", "truckscape ended with exit status 3. It printed nothing."),
    ],
)  # fmt: skip
def test_the_error_of_a_command_is_one_line(printed, said):
    code = f"import sys; sys.stdout.reconfigure(encoding='utf-8'); print({printed!r}, end=''); sys.exit(3)"
    with pytest.raises(CommandError) as caught:
        run_command(python(code), Feedback())
    assert str(caught.value) == said


def test_the_environment_of_qgis_stays_out(monkeypatch):
    for name in ("PYTHONPATH", "PROJ_LIB", "GDAL_DATA"):
        monkeypatch.setenv(name, "/of/qgis")
    monkeypatch.setenv("MINE", "kept")
    code = "import os; print(os.environ.get('PROJ_LIB'), os.environ.get('PYTHONPATH'), os.environ['MINE'])"
    assert run_command(python(code), Feedback()) == ["None None kept"]


def test_cancelling_ends_a_silent_command_within_seconds():
    started = time.monotonic()
    feedback = Feedback(cancel_at="ready")
    assert run_command(python("import time; print('ready', flush=True); time.sleep(60)"), feedback) == []
    assert time.monotonic() - started < 30


def test_a_command_is_that_of_the_settings_or_of_the_path(monkeypatch, tmp_path):
    program = tmp_path / "truckscape"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match=r"truckscape is not on the PATH\. Install truckscape, then name"):
        find_command()
    program.chmod(0o755)
    assert find_command() == find_command(f" {program} ") == str(program)
    with pytest.raises(CommandError, match="nothing is not a program"):
        find_command(str(tmp_path / "nothing"))


def test_a_program_that_can_not_be_started_is_one_line(tmp_path):
    program = tmp_path / "truckscape"
    program.write_bytes(b"\x7fELF not")
    program.chmod(0o755)
    with pytest.raises(CommandError, match=r"can't be started: .*Install truckscape"):
        run_command([str(program)], Feedback())
