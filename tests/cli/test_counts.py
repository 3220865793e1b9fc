"""`truckscape evaluate counts`: from runs and a counter file to metrics and a correction."""

import json

import pytest
from typer.testing import CliRunner

from pipeline import cli
from pipeline.traffic.runs import read_runs
from tests.traffic.finished_runs import write_run
from tests.traffic.test_stations import A2, TWO
from tests.traffic.test_stretch import place


@pytest.fixture
def layers(tmp_path):
    for day in (13, 14, 15, 16):
        write_run(tmp_path / "layers" / f"s{day}", A2, TWO, acquired=f"2023-06-{day}T10:20:31+00:00")
    return tmp_path / "layers"


def counts(*arguments):
    return CliRunner().invoke(cli.app, ["evaluate", "counts", *map(str, arguments)])


def test_runs_against_a_counter(layers, tmp_path):
    rows = [
        f"3403;A;2;2306{day};{hour:02};900;-;800;-;{lorries};-;{lorries};-"
        for day, lorries in zip((13, 14, 15, 16), (70, 90, 60, 110), strict=True)
        for hour in range(1, 25)
    ]
    header = "Zst;Strklas;Strnum;Datum;Stunde;KFZ_R1;K_KFZ_R1;KFZ_R2;K_KFZ_R2;Lkw_R1;K_Lkw_R1;Lkw_R2;K_Lkw_R2"
    (tmp_path / "zst.csv").write_text("\n".join([header, *rows]))
    lon, lat = place(1000, 10, read_runs([layers]).network)
    where = ("--station", f"{lon},{lat}", "--direction", "R1=E,R2=W", "--out", tmp_path / "counts")
    refused = counts(layers, tmp_path / "zst.csv", *where)
    assert refused.exit_code == 1
    assert "--timezone" in str(refused.exception)
    where = (*where, "--timezone", "Europe/Berlin", "--fit")
    refused = counts(layers, tmp_path / "zst.csv", *where)
    assert "0 estimated" in str(refused.exception)  # its trucks are at the same places on all dates
    done = counts(layers, tmp_path / "zst.csv", *where, "--keep-recurring")
    assert done.exit_code == 0, done.output
    metrics = json.loads((tmp_path / "counts" / "counts.json").read_text())
    assert metrics["pairs"] == 8
    # 80 an hour to the east and 40 to the west, of 82.5 that are counted on average.
    assert metrics["ratio"]["value"] == pytest.approx(120 / 165, rel=1e-3)
    stored = json.loads((layers / "counter-correction.json").read_text())
    assert stored["factor"] == pytest.approx(165 / 120, rel=1e-3)
    assert (tmp_path / "counts" / "counts.png").stat().st_size > 1000


@pytest.mark.parametrize("place", ["here", "200,0", "9.1", "nan,5"])
def test_a_station_is_a_place(place, tmp_path):
    assert counts("layers", "file.csv", "--station", place, "--out", tmp_path).exit_code == 2
