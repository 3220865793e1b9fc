import sys

import pytest

from pipeline import environment
from pipeline.environment import Repair
from pipeline.operations.checks import surroundings


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    for name in environment.PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setattr(environment, "_repairs", [])


def test_nothing_is_wrong():
    findings = [*surroundings.environment(), *surroundings.prefect_home(), *surroundings.proxies()]
    assert [finding.state for finding in findings] == ["ok", "ok", "ok"]


def test_what_was_ignored_is_reported_with_its_fix(monkeypatch):
    repair = Repair("gdal", "Ignored: PROJ_LIB=/usr/share/proj.", "unset PROJ_LIB")
    monkeypatch.setattr(environment, "_repairs", [repair])
    (finding,) = surroundings.environment()
    assert (finding.check, finding.state, finding.fix) == ("gdal", "warning", "unset PROJ_LIB")


def test_a_home_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file" / "prefect"))
    (finding,) = surroundings.prefect_home()
    assert (finding.state, "PREFECT_HOME" in finding.fix) == ("warning", True)


def test_a_socks_proxy_needs_packages(monkeypatch):
    monkeypatch.setenv("all_proxy", "socks5://me:secret@proxy:1080")
    monkeypatch.setattr(surroundings, "find_spec", lambda name: None)
    shown, missing = surroundings.proxies()
    assert "secret" not in shown.found
    assert missing.fix == "pip install PySocks socksio"
    monkeypatch.setenv("all_proxy", "http://proxy:3128")
    assert [finding.state for finding in surroundings.proxies()] == ["ok"]


def test_packages_of_elsewhere_and_names_that_are_not_utf8(monkeypatch, tmp_path):
    (tmp_path / "numpy").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    class Spec:
        origin = str(tmp_path / "numpy" / "__init__.py")

    monkeypatch.setattr(surroundings, "find_spec", lambda name: Spec if name == "numpy" else None)
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    first, second = surroundings.environment()
    assert "PYTHONPATH brings numpy of elsewhere" in first.found
    assert "PYTHONUTF8" in second.fix
