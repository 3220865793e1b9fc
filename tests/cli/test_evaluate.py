"""`truckscape evaluate`: metrics of simulated scenes against their truth."""

import sys

import pytest
from typer.testing import CliRunner

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


def rates(*arguments):
    return CliRunner().invoke(cli.app, ["evaluate", "rates", *map(str, arguments)])


def test_rates_between_sets_of_dates_and_over_time(tmp_path):
    table = tmp_path / "table.csv"
    rows = [f"A7,north,2023-06-{day:02},{day},{day},2" for day in range(1, 29)]
    table.write_text("\n".join(["road,direction,date,expected,trucks,km", *rows]))
    sets = ("--between", "2023-06-01..2023-06-14", "--and", "2023-06-15..2023-06")
    compared = rates(table, *sets, "--out", tmp_path / "compared")
    assert compared.exit_code == 0, compared.output
    assert "1 of 1 roads and directions changed" in compared.output
    assert (tmp_path / "compared" / "rates.csv").read_text().startswith("road,direction,dates_first,")
    assert rates(table, "--out", tmp_path / "trends").exit_code == 0
    assert ",per_year," in (tmp_path / "trends" / "trends.csv").read_text()


def test_one_set_of_dates_is_wrong_usage(tmp_path):
    assert rates("table.csv", "--between", "Mon", "--out", tmp_path).exit_code == 2
