import threading
import time

from pipeline.config import load_config
from pipeline.operations import doctor
from pipeline.operations.checks import models, services
from pipeline.operations.checks.finding import ok


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
    assert all(finding.fix for finding in findings.values() if finding.state != "ok")
