import json
import threading
import time

from typer.testing import CliRunner

from pipeline import cli
from pipeline.config import load_config
from pipeline.operations import doctor
from pipeline.operations.checks import installation, models, services
from pipeline.operations.checks.finding import fails, ok


def test_a_check_that_breaks_down_and_one_that_hangs(monkeypatch, tmp_path):
    over = threading.Event()
    monkeypatch.setattr(models, "models", lambda config: 1 / 0)
    monkeypatch.setattr(services, "prefect", lambda: [ok("prefect", "never")] if over.wait(60) else [])
    monkeypatch.setattr(doctor, "ELSEWHERE_S", 0.1)
    begun = time.monotonic()
    findings = {finding.check: finding for finding in doctor.examine(load_config(), tmp_path)}
    over.set()
    assert time.monotonic() - begun < 50
    assert findings["models"].found.startswith("ZeroDivisionError")
    assert findings["prefect"].found == "no answer within 0.1 s"
    assert all(finding.mend for finding in findings.values() if finding.state != "ok")


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
    assert "to mend it: pip install 'x>2'" in said.output
    reported = json.loads(CliRunner().invoke(cli.app, [*line, "--json"]).output)
    assert {
        "check": "packages",
        "state": "fails",
        "found": "[x] is old",
        "mend": "pip install 'x>2'",
    } in reported
