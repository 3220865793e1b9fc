"""`truckscape simulate`: a product with its truth."""

import geopandas as gpd
from typer.testing import CliRunner

from pipeline import cli


def test_a_product_and_its_truth_are_written(tmp_path):
    line = ["simulate", "--out", str(tmp_path / "sim"), "--size", "64", "--seed", "3"]
    result = CliRunner().invoke(cli.app, line)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "sim").glob("*.SAFE"))) == 1
    assert (tmp_path / "sim" / "truth" / "trucks.gpkg").is_file()


def test_a_side_that_is_too_small_is_wrong_usage(tmp_path):
    assert CliRunner().invoke(cli.app, ["simulate", "--out", str(tmp_path), "--size", "63"]).exit_code == 2


def test_traffic_can_be_chosen(tmp_path):
    line = ["simulate", "--out", str(tmp_path), "--size", "128", "--seed", "5", "--heavy", "0"]
    result = CliRunner().invoke(cli.app, [*line, "--light-per-heavy", "9"])
    assert result.exit_code == 0, result.output
    truth = gpd.read_file(tmp_path / "truth" / "trucks.gpkg")
    assert set(truth["vehicle"]) == {"light"}


def test_dates_make_a_product_each_and_counts(tmp_path):
    line = ["simulate", "--out", str(tmp_path / "place"), "--size", "64", "--dates", "2023-06-06, 2023-06-01"]
    result = CliRunner().invoke(cli.app, [*line, "--heavy-from", "2023-06-06:0.5"])
    assert result.exit_code == 0, result.output
    assert "2023-06-01 (1 of 2)\n2023-06-06 (2 of 2)\n" in result.output
    assert [path.name[11:19] for path in sorted((tmp_path / "place").glob("*.SAFE"))] == [
        "20230601",
        "20230606",
    ]
    assert (tmp_path / "place" / "counters.csv").is_file()


def test_a_change_without_dates_is_wrong_usage(tmp_path):
    line = ["simulate", "--out", str(tmp_path / "sim"), "--heavy-from", "2023-06-01:2"]
    assert CliRunner().invoke(cli.app, line).exit_code == 2
    assert not (tmp_path / "sim").exists()
