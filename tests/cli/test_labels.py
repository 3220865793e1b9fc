import geopandas as gpd
from typer.testing import CliRunner

from pipeline.cli import app
from tests.labelling.runs import write_run

runner = CliRunner()


def test_there_and_back(tmp_path):
    run, out, boxes = write_run(tmp_path / "runs" / "scene"), tmp_path / "out", tmp_path / "boxes.gpkg"
    command = ["labels", "export", str(run), "--format", "yolo", "--zoom", "2", "--out", str(out)]
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "3 boxes on 1 images of 1 scenes" in done.output
    done = runner.invoke(app, ["labels", "import", str(out), "--out", str(boxes)])
    assert done.exit_code == 0, done.output
    assert len(gpd.read_file(boxes, layer="trucks")) == 3


def test_wrong_usage(tmp_path):
    run = write_run(tmp_path / "runs" / "scene")
    command = ["labels", "export", str(run), "--image-px", "32", "--out", str(tmp_path / "out")]
    done = runner.invoke(app, command)
    assert done.exit_code == 2
    command = ["labels", "import", str(run), "--out", str(tmp_path / "boxes.shp")]
    assert runner.invoke(app, command).exit_code == 2
