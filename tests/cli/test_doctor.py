"""`truckscape doctor`: a table, JSON, and an exit status."""

import json

from typer.testing import CliRunner

from pipeline import cli
from pipeline.operations.checks import installation, models
from pipeline.operations.checks.finding import fails, ok


def test_the_command(monkeypatch, tmp_path):
    """The checks have tests of their own; here two of them speak for all."""
    monkeypatch.setattr(models, "models", lambda config: [ok("models", "all well")])
    line = ["doctor", "--out", str(tmp_path)]
    said = CliRunner().invoke(cli.app, line)
    assert said.exit_code == 0, said.output
    assert "all well" in said.output
    monkeypatch.setattr(
        installation, "packages", lambda: [fails("packages", "[x] is old", "pip install 'x>2'")]
    )
    said = CliRunner().invoke(cli.app, line)
    assert said.exit_code == 1
    assert "fix: pip install 'x>2'" in said.output
    reported = json.loads(CliRunner().invoke(cli.app, [*line, "--json"]).output)
    assert {
        "check": "packages",
        "state": "fails",
        "found": "[x] is old",
        "fix": "pip install 'x>2'",
    } in reported
