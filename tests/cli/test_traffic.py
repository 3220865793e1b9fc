"""`truckscape traffic`: finished runs by road."""

import json

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from pipeline import cli
from pipeline.traffic.agreement import Correction
from tests.traffic.finished_runs import write_run
from tests.traffic.test_table import A2, FOUND


def invoke(*line):
    return CliRunner().invoke(cli.app, ["traffic", *map(str, line)])


def test_runs_become_a_table(tmp_path):
    write_run(tmp_path / "runs" / "a", A2, FOUND)
    write_run(tmp_path / "runs" / "without", A2, FOUND, scene="w", counts={})
    result = invoke(tmp_path / "runs", "--out", tmp_path / "traffic")
    assert result.exit_code == 0, result.output
    assert "1 acquisitions, 1 roads, 4 trucks" in result.stdout
    assert f"not used: {tmp_path / 'runs' / 'without'}: a run without roads" in result.stderr
    names = {
        "index.html",
        "traffic.csv",
        "traffic.xlsx",
        "traffic_roads.parquet",
        "trucks.gpkg",
        "trucks.parquet",
    }
    assert {path.name for path in (tmp_path / "traffic").iterdir()} == names


def test_flows_are_corrected(tmp_path):
    write_run(tmp_path / "runs" / "a", A2, FOUND)
    made = Correction(2.0, 1.8, 2.2, 9, "heavy", "trucks-2", 80.0, 40.0)
    (tmp_path / "c.json").write_text(json.dumps(made.as_json()))
    flows = []
    for more in ((), ("--correction", tmp_path / "c.json")):
        assert invoke(tmp_path / "runs", "--out", tmp_path / "traffic", *more).exit_code == 0
        flows.append(pd.read_csv(tmp_path / "traffic" / "traffic.csv")["flow_per_hour"])
    np.testing.assert_allclose(flows[1], flows[0] * 2, atol=0.2)


def test_a_folder_without_runs_is_one_line(tmp_path):
    result = invoke(tmp_path, "--out", tmp_path / "traffic")
    assert "has no finished run" in str(result.exception)
    assert invoke("--out", tmp_path).exit_code == 2


def test_recurring_detections_do_not_count_unless_asked_for(tmp_path):
    for day in range(1, 6):
        write_run(tmp_path / "runs" / str(day), A2, FOUND.iloc[:1], acquired=f"2023-06-0{day}T10:20:31+00:00")
    result = invoke(tmp_path / "runs", "--out", tmp_path / "traffic")
    assert "5 trucks on the map, 5 of them recurring, at 1 places" in result.stdout
    assert "5 acquisitions, 1 roads, 0 trucks" in result.stdout
    kept = invoke(tmp_path / "runs", "--out", tmp_path / "traffic", "--keep-recurring")
    assert "5 acquisitions, 1 roads, 5 trucks" in kept.stdout


def test_the_folder_of_a_run_is_not_written_over(tmp_path):
    folder = write_run(tmp_path / "a", A2, FOUND)
    before = (folder / "trucks.gpkg").read_bytes()
    result = invoke(folder, "--out", folder)
    assert "is the folder of a run" in str(result.exception)
    assert (folder / "trucks.gpkg").read_bytes() == before
