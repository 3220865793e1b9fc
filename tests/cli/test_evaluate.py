"""`truckscape evaluate`: metrics of simulated scenes against their truth."""

import sys

import pytest

from pipeline import cli


def test_simulate_and_evaluate(capsys, monkeypatch, tmp_path):
    for arguments in (
        ["simulate", "--out", str(tmp_path / "sim"), "--size", "128", "--seed", "3"],
        [
            "evaluate",
            "trucks",
            str(tmp_path / "sim/truth/trucks.gpkg"),
            str(tmp_path / "sim/truth/trucks.gpkg"),
            "--out",
            str(tmp_path / "scores"),
        ],
        ["evaluate", "compare", *[str(tmp_path / "scores")] * 2, "--out", str(tmp_path / "compared")],
        [
            "evaluate",
            "landcover",
            str(tmp_path / "sim/truth/landcover.tif"),
            str(tmp_path / "sim/truth/landcover.tif"),
            "--out",
            str(tmp_path / "areas"),
        ],
    ):
        monkeypatch.setattr(sys, "argv", ["truckscape", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0, capsys.readouterr().err
    assert "1.000" in capsys.readouterr().out
    assert (tmp_path / "scores" / "report.html").exists()
