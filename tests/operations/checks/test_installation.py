from importlib import metadata

import pytest

from pipeline.config import load_config
from pipeline.operations.checks import installation

CONFIG = load_config()


def test_what_the_tests_run_on_is_well():
    findings = [*installation.python(), *installation.packages(), *installation.drivers(CONFIG)]
    assert {finding.state for finding in findings} == {"ok"}


def test_ranges_come_from_the_installed_package_where_there_is_no_source(monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "PROJECT", tmp_path / "pyproject.toml")
    assert [finding.state for finding in installation.packages()] == ["ok"]
    assert [finding.state for finding in installation.python()] == ["ok"]


def test_each_package_out_of_its_range_is_told_with_what_mends_it():
    version = metadata.version("rich")
    findings = installation.packages([f"rich>{version}", "no-such-package>=1", "numpy>=2"])
    assert [finding.state for finding in findings] == ["fails", "fails"]
    assert findings[0].found == f"rich {version} is not >{version}"
    assert findings[0].fix == f"pip install 'rich>{version}'"
    assert findings[1].found == "no-such-package is not installed"


def test_an_old_python():
    (finding,) = installation.python(">=9")
    assert finding.state == "fails"


def test_an_extra_fails_only_where_the_settings_need_it():
    declared = {"base": [], "dask": ["no-such-package>=1"]}
    (line,) = installation.extras(CONFIG, declared)
    assert line.state == "ok"
    _, finding = installation.extras(load_config(None, ["runner.kind=dask"]), declared)
    assert (finding.state, finding.fix) == ("fails", "pip install 'truckscape[dask]'")
    assert "no-such-package is not installed" in finding.found


@pytest.mark.parametrize(
    ("extra", "setting"),
    [
        ("ray", "runner.kind=ray"),
        ("pmtiles", "export.formats=pmtiles"),
        ("postgresql", "batch.ledger=postgresql+psycopg://h/d"),
    ],
)
def test_settings_that_need_an_extra(extra, setting):
    states = [
        f.state for f in installation.extras(load_config(None, [setting]), {extra: ["no-such-package"]})
    ]
    assert states == ["ok", "fails"]


def test_an_installed_extra_of_a_wrong_version_is_a_warning():
    _, finding = installation.extras(CONFIG, {"clouds": ["rich<1"]})
    assert finding.state == "warning"
